#!/usr/bin/env bash
# Keeps a run going over preemptions: runs it, and on a preemption makes the TPU anew and resumes.
# Ends on success (0) and on codes 2 to 5, which need a person. While another process holds the run (6),
# it tries again every minute: the lease of a machine that is gone ends by itself.
set -uo pipefail
: "${NAME:?name of the TPU}" "${ZONE:?zone}" "${PROJECT:?project}"
here=$(dirname "$0")
wait=${WAIT:-10}
while :; do
  "$here/run.sh" "$@"
  code=$?
  case $code in
    0 | 2 | 3 | 4 | 5) exit $code ;;
    6)
      echo "$(date +%H:%M:%S) the run is in use; again in 60 s" >&2
      sleep 60
      continue
      ;;
  esac
  echo "$(date +%H:%M:%S) ended with code $code; again in $wait s" >&2
  sleep "$wait"
  wait=$((wait < 600 ? wait * 2 : 600))
  state=$(gcloud compute tpus tpu-vm describe "$NAME" --project="$PROJECT" --zone="$ZONE" \
    --format='value(state)' 2>/dev/null || echo GONE)
  if [ "$state" != READY ]; then
    "$here/delete.sh" || true
    "$here/create.sh" ${CREATE_FLAGS:-} && "$here/setup.sh" || continue
    wait=${WAIT:-10}
  fi
done
