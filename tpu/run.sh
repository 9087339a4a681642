#!/usr/bin/env bash
# Runs `lrl run RECIPE [a.b=c ...]` on every host of the TPU and passes its exit code on.
set -euo pipefail
: "${NAME:?name of the TPU}" "${ZONE:?zone}" "${PROJECT:?project}"
[ $# -ge 1 ] || { echo "usage: tpu/run.sh RECIPE [a.b=c ...]" >&2; exit 2; }
quoted=$(printf '%q ' "$@")
gcloud compute tpus tpu-vm ssh "$NAME" --project="$PROJECT" --zone="$ZONE" --worker=all \
  --command="cd lrl_jax && .venv/bin/lrl run $quoted"
