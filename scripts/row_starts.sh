#!/usr/bin/env bash
# Bits per byte at step 0 and at step 50 for ways to start new rows, over seeds: a probe for each
# seed, kept as runs/NAME/probe-SEED.json. Other recipes and sizes: RECIPE=... PIECES=... and
# overrides as arguments.
set -euo pipefail
cd "$(dirname "$0")/.."
# Large pages for large buffers: a third more tokens a second on CPUs (docs/log.md).
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}
LRL=${LRL:-$([ -x .venv/bin/lrl ] && echo .venv/bin/lrl || echo lrl)}
NAME=${NAME:-row_starts}
for seed in ${SEEDS:-0 1 2}; do
  $LRL vocab probe "${RECIPE:-configs/quickstart.yaml}" name="$NAME" seed="$seed" "$@" \
    --pieces "${PIECES:-768}" --steps "${STEPS:-50}" \
    --rows "${ROWS:-subword_mean,random_normal,token_distillation}"
  cp "runs/$NAME/probe/probe.json" "runs/$NAME/probe-$seed.json"
done
