#!/usr/bin/env bash
# Laws of translation data that train their own points, and whether their allocation is worth it: a
# base of English and Korean learns two languages, each from several amounts of pairs; then both
# together on one budget, as the laws allocate it and in equal parts (after arXiv 2308.04948, sections
# 4 and 5). Stop it at any moment; run again, and it goes on. docs/laws.md has the numbers.
set -euo pipefail
cd "$(dirname "$0")/.."
# Large pages for large buffers: a third more tokens a second on CPUs (docs/log.md).
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}
# Cells differ in their data alone, so that all but the first find their programs compiled.
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$PWD/runs/laws/compiled}
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0
BIN=$([ -x .venv/bin/lrl ] && echo .venv/bin/ || echo "")
BASE=${BASE:-runs/quickstart/export}
BUDGET=${BUDGET:-540}
if [ ! -e "$BASE" ]; then
  "${BIN}lrl" run configs/quickstart_base.yaml
  "${BIN}lrl" run configs/quickstart.yaml
fi
"${BIN}python" scripts/laws/world.py runs/laws_world
"${BIN}lrl" laws run scripts/laws/recipe.yaml base.model="$BASE" --languages qaa_Cyrl,kor_Hang \
  --pairs "${PAIRS:-90,156,270,468,810}" --seeds "${LADDER_SEEDS:-1}"
"${BIN}lrl" laws allocate runs/laws/laws/laws.json --budget "$BUDGET" \
  --dataset qaa_Cyrl=cyrillic --dataset kor_Hang=korean --write runs/laws/allocation.yaml
"${BIN}python" scripts/laws/compare.py scripts/laws/recipe.yaml runs/laws/laws/laws.json \
  "$BUDGET" "${SEEDS:-0,1,2}" qaa_Cyrl=cyrillic kor_Hang=korean base.model="$BASE"
