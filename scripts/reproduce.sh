#!/usr/bin/env bash
# Four papers in miniature: trains the studies of configs/mini on the sample world, and writes
# docs/reproduction.md with a verdict for each of six directions.
#
#   scripts/reproduce.sh                      # all, three seeds: within 90 minutes on two idle cores
#   scripts/reproduce.sh taco replay          # some: vocabulary starts translation allocation taco replay
#   PAGE=/tmp/page.md scripts/reproduce.sh    # the page elsewhere
#
# Stop it at any moment and run it again: nothing that is finished is trained twice. A cell that fails does
# not end it; the page says which failed and why, and the exit code is 1.
set -euo pipefail
cd "$(dirname "$0")/.."
# Large pages for large buffers: a third more tokens a second on CPUs (docs/log.md).
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}
# Cells of one shape find their programs compiled.
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$PWD/runs/mini/compiled}
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0
LRL=${LRL:-$([ -x .venv/bin/lrl ] && echo .venv/bin/lrl || echo lrl)}
PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
PAGE=${PAGE:-docs/reproduction.md}
WORLD=runs/mini_world
failed=0

base() { # recipe and overrides of a model that studies begin with
  $LRL run "$@"
}
study() { # name of a file of configs/mini
  local code=0
  $LRL study run "configs/mini/$1.yaml" --on here --retry || code=$?
  tolerate "$code"
}
tolerate() { # exit code of what may leave a cell that failed
  case $1 in
    0) ;;
    1) failed=1 ;;            # a cell failed; others went on
    *) exit "$1" ;;           # asked to stop, or the study itself is wrong
  esac
}
KOREAN='data.datasets.korean={kind: text, path: ["sample:mono.kor"], language: kor_Hang}'
MIXED='train.stages.0.mixture={paragraphs: 0.5, sentences: 0.25, tasks: 0.05, korean: 0.2}'
bytes_base() { base configs/quickstart_base.yaml name=mini_bytes_base "$KOREAN" "$MIXED"; }

vocabulary() {
  bytes_base
  study vocabulary_bytes
  study vocabulary_flops
}
starts() {
  bytes_base
  base configs/quickstart_base.yaml
  base configs/quickstart_base.yaml name=mini_small_base "$KOREAN" "$MIXED" base.shape.hidden_size=48 \
    base.shape.num_hidden_layers=2 base.shape.intermediate_size=128 base.shape.num_key_value_heads=4
  study starts
  study bases
}
translation() {
  base configs/quickstart_base.yaml
  study translation
  allocation # its ladder gives the law
}
allocation() {
  local code=0
  scripts/laws.sh || code=$? # the ladder, its laws, and configs/mini/allocation.yaml
  tolerate "$code"
}
taco() {
  base configs/mini/recipes/taco_base.yaml
  study taco
}
replay() {
  base configs/quickstart_base.yaml
  study replay
  base configs/mini/recipes/bilingual_base.yaml
  study instructions
}

ALL=(vocabulary starts translation allocation taco replay)
CHOSEN=("${@:-${ALL[@]}}")
for direction in "${CHOSEN[@]}"; do
  [[ " ${ALL[*]} " == *" $direction "* ]] || {
    echo "no direction $direction; there are: ${ALL[*]}" >&2
    exit 2
  }
done
$PYTHON -m scripts.mini.world "$WORLD"
for direction in "${CHOSEN[@]}"; do
  echo "reproduce: $direction, $(date -u +%H:%M:%S)"
  "$direction"
done
$PYTHON -m scripts.mini.page runs "$PAGE"
exit "$failed"
