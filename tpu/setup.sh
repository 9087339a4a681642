#!/usr/bin/env bash
# Copies this checkout to every host of the TPU and installs it there.
set -euo pipefail
: "${NAME:?name of the TPU}" "${ZONE:?zone}" "${PROJECT:?project}"
cd "$(dirname "$0")/.."
archive=$(mktemp --suffix=.tar.gz)
trap 'rm -f "$archive"' EXIT
git archive --format=tar.gz -o "$archive" HEAD
where=(--project="$PROJECT" --zone="$ZONE" --worker=all)
gcloud compute tpus tpu-vm scp "$archive" "$NAME":lrl_jax.tar.gz "${where[@]}"
gcloud compute tpus tpu-vm ssh "$NAME" "${where[@]}" --command='
  set -e
  mkdir -p lrl_jax && tar xzf lrl_jax.tar.gz -C lrl_jax && cd lrl_jax
  python3 -m venv .venv
  .venv/bin/pip install -q -U pip
  .venv/bin/pip install -q -c constraints.txt -e ".[tpu,hub]"
  .venv/bin/lrl --version'
