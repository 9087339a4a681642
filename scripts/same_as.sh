#!/usr/bin/env bash
# Compares what a user gets from this working tree with what BASE gives, a revision or the path of a
# checkout: run it before and after every refactor. scripts/same_as/ says what is compared.
set -euo pipefail
ROOT=$(cd "$(dirname "$0")/.." && pwd)
PYTHON=${PYTHON:-$([ -x "$ROOT/.venv/bin/python" ] && echo "$ROOT/.venv/bin/python" || echo python3)}
PYTHONPATH=$ROOT exec "$PYTHON" -P -m scripts.same_as "$@"
