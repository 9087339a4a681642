#!/usr/bin/env bash
# Does translation align the middle layers (arXiv 2308.04948)? scripts/alignment.py trains and measures;
# BASE is the English model it begins with.
set -euo pipefail
cd "$(dirname "$0")/.."
# Large pages for large buffers: a third more tokens a second on CPUs (docs/log.md).
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}
LRL=${LRL:-$([ -x .venv/bin/lrl ] && echo .venv/bin/lrl || echo lrl)}
PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
BASE=${BASE:-runs/quickstart_base/export}
[ -d "$BASE" ] || $LRL run configs/quickstart_base.yaml
$PYTHON -m scripts.alignment --base "$BASE" "$@"
