# Sourced by the scripts that read public data: goes to the checkout, and sets DATA, the folder that
# scripts/get_data.py fills, and LRL. It ends the script (3) where DATA lacks a file.
#
#   source "$(dirname "$0")/public_data.sh" FILE [MORE ARGUMENTS OF get_data.py]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
DATA=${DATA:-${LRL_TEST_DATA:-test_data}}
[ -e "$DATA/$1" ] || {
  echo "no $DATA/$1: python scripts/get_data.py --to $DATA${2:+ ${*:2}} fetches it; data elsewhere: DATA=FOLDER $0" >&2
  exit 3
}
# Large pages for large buffers: a third more tokens a second on CPUs (docs/log.md).
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}
LRL=${LRL:-$([ -x .venv/bin/lrl ] && echo .venv/bin/lrl || echo lrl)}
