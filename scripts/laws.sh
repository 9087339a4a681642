#!/usr/bin/env bash
# Laws of translation data that train their own points, and whether their allocation is worth it: a
# base that translates into Korean learns two languages, each from several amounts of pairs; then both
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
[ -e runs/laws_world ] || "${BIN}python" scripts/laws/world.py runs/laws_world
"${BIN}lrl" run scripts/laws/base.yaml
failed=0
tolerate() { # exit code of what may leave a cell that failed, and says so
  [ "$1" = 1 ] || exit "$1"
  failed=1
}
"${BIN}lrl" laws run scripts/laws/recipe.yaml --languages qaa_Cyrl,kor_Hang \
  --pairs "${PAIRS:-40,80,160,320,480}" --seeds "${LADDER_SEEDS:-2}" || tolerate "$?"
"${BIN}python" -m scripts.laws.compare configs/mini/allocation.yaml runs/laws/laws/laws.json ||
  tolerate "$?"
exit "$failed"
