#!/usr/bin/env bash
# An English Llama from nothing, then Korean: the two recipes of `make quickstart`.
set -euo pipefail
cd "$(dirname "$0")/.."
LRL=${LRL:-$([ -x .venv/bin/lrl ] && echo .venv/bin/lrl || echo lrl)}
$LRL run configs/quickstart_base.yaml
$LRL run configs/quickstart.yaml
