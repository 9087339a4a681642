#!/usr/bin/env bash
# Runs `lrl run RECIPE [a.b=c ...]` on every host of the TPU and passes its exit code on.
# Where JAX_COMPILATION_CACHE_DIR is set (gs://...), compiled steps are kept there for the next start.
set -euo pipefail
: "${NAME:?name of the TPU}" "${ZONE:?zone}" "${PROJECT:?project}"
[ $# -ge 1 ] || { echo "usage: tpu/run.sh RECIPE [a.b=c ...]" >&2; exit 2; }
quoted=$(printf '%q ' .venv/bin/lrl run "$@")
cache=${JAX_COMPILATION_CACHE_DIR:+$(printf 'JAX_COMPILATION_CACHE_DIR=%q ' "$JAX_COMPILATION_CACHE_DIR")}
gcloud compute tpus tpu-vm ssh "$NAME" --project="$PROJECT" --zone="$ZONE" --worker=all \
  --command="cd lrl_jax && $cache$quoted"
