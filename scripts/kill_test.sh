#!/usr/bin/env bash
# Kills a small run again and again, and flips a bit in each of its files: nothing may be lost or silently
# used. KILLS (100), SEED (0), PROCESSES (1) and FLIPS (all; 0 for none) say how much; KEEP=folder keeps it.
# scripts/kill_test/ says what is compared. A run is some 40 s on two cores, a kill some 15 s, a flip 8 s.
set -euo pipefail
ROOT=$(cd "$(dirname "$0")/.." && pwd)
PYTHON=${PYTHON:-$([ -x "$ROOT/.venv/bin/python" ] && echo "$ROOT/.venv/bin/python" || echo python3)}
PYTHONPATH=$ROOT:$ROOT/tests exec "$PYTHON" -P -m scripts.kill_test \
  --kills "${KILLS:-100}" --seed "${SEED:-0}" --processes "${PROCESSES:-1}" \
  ${FLIPS:+--flips "$FLIPS"} ${KEEP:+--keep "$KEEP"}
