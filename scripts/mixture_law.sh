#!/usr/bin/env bash
# The law of a mixture on the sample world: small runs of one stage, their law, and the mixture that
# it favours, trained beside the recipe's own and the even one: three seeds each that no small run
# had, at equal bytes. Minutes on two cores; run it again to go on where it was stopped. Arguments
# are overrides of the recipe, such as train.batch_size=16.
set -euo pipefail
cd "$(dirname "$0")/.."
# Large pages for large buffers: a third more tokens a second on CPUs (docs/log.md).
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}
LRL=${LRL:-$([ -x .venv/bin/lrl ] && echo .venv/bin/lrl || echo lrl)}
OUT=${OUT:-runs/mixture_law}
BASE=${BASE:-runs/quickstart_base/export}
STUDY=(configs/quickstart.yaml base.model="$BASE" --stage continue --steps "${STEPS:-60}"
  --equal bytes "$@")

[ -d "$BASE" ] || $LRL run configs/quickstart_base.yaml
$LRL laws mixture run "${STUDY[@]}" --runs "${RUNS:-20}" --out "$OUT/study"
$LRL laws mixture fit "$OUT/study/mixtures.csv" --out "$OUT/law"
$LRL laws mixture best "$OUT/law/mixture_law.json" \
  --target kor_Hang=1 --hold eng_Latn="${HOLD:-1}" --write "$OUT/best.yaml"
$LRL laws mixture run "${STUDY[@]}" --runs 2 --seeds "${SEEDS:-3}" --also "$OUT/best.yaml" \
  --out "$OUT/check" seed=100

# m000 is the recipe's own mixture, m001 the even one.
awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) if ($i ~ /^(loss\.|bytes)/) shown[++count] = i }
  { line = $1; for (i = 1; i <= count; i++) line = line "\t" $shown[i]; print line }' \
  "$OUT/check/mixtures.csv"
