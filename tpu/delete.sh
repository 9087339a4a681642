#!/usr/bin/env bash
# Deletes the TPU and its request, so that nothing is billed on.
set -euo pipefail
: "${NAME:?name of the TPU}" "${ZONE:?zone}" "${PROJECT:?project}"
gcloud compute tpus queued-resources delete "$NAME" --project="$PROJECT" --zone="$ZONE" --force --quiet
