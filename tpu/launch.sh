#!/usr/bin/env bash
# Runs `lrl launch VERB ...` from this checkout; neither JAX nor the package has to be installed here.
# It takes .venv, else a Python that has the few libraries which read recipes, else it makes
# .venv-launch with them. NAME, ZONE, PROJECT, TYPE and SLICES of the environment stand for options.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH}
check='import sys; assert sys.version_info >= (3, 11)
import etils.epath, langcodes, language_data, pydantic, rich, ruamel.yaml'

python='' old=''
for one in "$here/.venv/bin/python" "$here/.venv-launch/bin/python" python3 python3.13 python3.12 python3.11; do
  if "$one" -c "$check" > /dev/null 2>&1; then python=$one; break; fi
  if "$one" -c "${check%%$'\n'*}" > /dev/null 2>&1; then old=${old:-$one}; fi
done
if [ -z "$python" ]; then
  [ -n "$old" ] || { echo "tpu/launch.sh: want Python 3.11 or newer here, and found none" >&2; exit 2; }
  "$old" -m venv "$here/.venv-launch"
  python=$here/.venv-launch/bin/python
  "$python" -m pip install --quiet "etils[epath]" langcodes language_data pydantic rich ruamel.yaml
fi
verb=$1
shift
exec "$python" -m lrl_jax.cli launch "$verb" ${NAME:+--name "$NAME"} ${ZONE:+--zone "$ZONE"} \
  ${PROJECT:+--project "$PROJECT"} ${TYPE:+--type "$TYPE"} ${SLICES:+--node-count "$SLICES"} "$@"
