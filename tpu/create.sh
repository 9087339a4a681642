#!/usr/bin/env bash
# Asks for a TPU as a queued resource and waits until it is ready. `--spot` takes spare capacity.
set -euo pipefail
: "${NAME:?name of the TPU}" "${ZONE:?zone}" "${TYPE:?accelerator type, such as v5litepod-64}" "${PROJECT:?project}"
case "$TYPE" in # the software that each generation wants (cloud.google.com/tpu/docs/runtimes)
  v5litepod-*) version=v2-alpha-tpuv5-lite ;;
  v5p-*) version=v2-alpha-tpuv5 ;;
  v6e-*) version=v2-alpha-tpuv6e ;;
  *) version=tpu-ubuntu2204-base ;;
esac
VERSION=${VERSION:-$version}
gcloud compute tpus queued-resources create "$NAME" --node-id="$NAME" --project="$PROJECT" \
  --zone="$ZONE" --accelerator-type="$TYPE" --runtime-version="$VERSION" "$@"
while :; do
  state=$(gcloud compute tpus queued-resources describe "$NAME" --project="$PROJECT" \
    --zone="$ZONE" --format='value(state.state)')
  echo "$(date +%H:%M:%S) $NAME $state"
  case "$state" in
    ACTIVE) exit 0 ;;
    FAILED | SUSPENDED) echo "the request ended as $state; see the quota page of $PROJECT" >&2; exit 1 ;;
  esac
  sleep 30
done
