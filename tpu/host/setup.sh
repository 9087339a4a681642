#!/usr/bin/env bash
# Installs lrl_jax on this host, in ~/lrl_jax, with a Python of its own; a second time it does little.
# It runs from the archive that tpu/setup.sh brought, unpacked in ~/lrl_jax.new. What the images of
# TPUs have as python3 (3.10 on Ubuntu 22.04) is only used to fetch uv.
# usage: setup.sh EXTRAS
# Lines that begin with "lrl-host" are read by `lrl launch` (lrl_jax/cli/machines/hosts.py).
set -euo pipefail
UV=0.13.9     # the version this was tried with
PYTHON=3.12   # what constraints.txt is for
NEED=8        # GiB that the packages, their cache and a compiled step take (.venv: 4)
LEAST=100     # MiB below which a failure is one of the disk

echo "lrl-host clock $(date +%s)"
free() { df --output=avail -k "$HOME" | tail -n 1 | tr -d ' '; }
ended() {
  code=$?
  if [ "$code" != 0 ] && [ "$(free)" -lt $((LEAST << 10)) ]; then
    echo "$(hostname): its disk is full; free some space in $HOME" >&2
    code=9
  fi
  echo "lrl-host code $code"
}
trap ended EXIT

new=$(cd "${0%/*}/../.." && pwd)
home=$HOME/lrl_jax
if [ ! -f "$new/constraints.txt" ]; then
  echo "$new: is no checkout of lrl_jax" >&2
  exit 1
fi
if [ -x "$home/tpu/host/job.sh" ] && "$home/tpu/host/job.sh" alive > /dev/null; then
  echo "$(hostname): a run is under way here, so nothing was changed"
  exit 0
fi
if [ ! -x "$home/.venv/bin/lrl" ] && [ "$(free)" -lt $((NEED << 20)) ]; then
  echo "$(hostname): $(($(free) >> 20)) GiB are free on its disk, and $NEED are wanted" >&2
  exit 9
fi
mkdir -p "$home"
if [ "$new" != "$home" ]; then
  cp -R "$new/." "$home/"
  case $new in */lrl_jax.new) rm -rf "$new" ;; esac # what was unpacked, and no folder of yours
fi
cd "$home"
if [ ! -x .uv/bin/uv ]; then
  python3 -m pip --version > /dev/null || sudo apt-get install -qq -y python3-pip
  python3 -m pip install --quiet --target .uv "uv==$UV"
fi
[ -x .venv/bin/python ] || .uv/bin/uv venv --quiet --python "$PYTHON" .venv
.uv/bin/uv pip install --quiet --python .venv/bin/python -c constraints.txt -e ".[$1]"
.venv/bin/lrl --version
