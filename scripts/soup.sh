#!/usr/bin/env bash
# The mean of three seeds beside its parts (model soups, arXiv 2203.05482): trains the quickstart three times
# from one base, in other orders of its rows, merges the exports, and measures all four by the recipe.
# Other recipes, seeds and overrides: RECIPE=... SEEDS="0 1" scripts/soup.sh train.batch_size=8
set -euo pipefail
cd "$(dirname "$0")/.."
# Large pages for large buffers: a third more tokens a second on CPUs (docs/log.md).
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}
# Seeds differ in their rows alone, so that all but the first find their programs compiled.
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$PWD/runs/soup/compiled}
LRL=${LRL:-$([ -x .venv/bin/lrl ] && echo .venv/bin/lrl || echo lrl)}
RECIPE=${RECIPE:-configs/quickstart.yaml}
parts=() models=()
[ "$RECIPE" != configs/quickstart.yaml ] || $LRL run configs/quickstart_base.yaml
for seed in ${SEEDS:-0 1 2}; do
  $LRL run "$RECIPE" name="soup_seed$seed" seed="$seed" "$@"
  parts+=("runs/soup_seed$seed") models+=(--model "runs/soup_seed$seed")
done
[ -e runs/soup/mean ] || $LRL merge "${parts[@]}" --out runs/soup/mean
$LRL evaluate "$RECIPE" "${models[@]}" --model runs/soup/mean --out runs/soup/scores
