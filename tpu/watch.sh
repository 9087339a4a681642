#!/usr/bin/env bash
# Keeps a run going over preemptions: runs it, and on a preemption makes the TPU anew and resumes.
# Ends on success (0), on codes that need a person (2 to 5; 7 diverged, 8 out of memory, 9 disk full),
# and after FAILURES (3) equal failures in a row on a TPU that is there. While another process holds the
# run (6), it tries again every minute: the lease of a machine that is gone ends by itself.
set -uo pipefail
: "${NAME:?name of the TPU}" "${ZONE:?zone}" "${PROJECT:?project}"
here=$(dirname "$0")
wait=${WAIT:-10} most=${FAILURES:-3} before=none times=0
while :; do
  "$here/run.sh" "$@"
  code=$?
  case $code in
    0 | 2 | 3 | 4 | 5 | 7 | 8 | 9) exit $code ;;
    6)
      echo "$(date +%H:%M:%S) the run is in use; again in 60 s" >&2
      sleep 60
      continue
      ;;
  esac
  echo "$(date +%H:%M:%S) ended with code $code; looking at the TPU in $wait s" >&2
  sleep "$wait"
  wait=$((wait < 600 ? wait * 2 : 600))
  state=$(gcloud compute tpus tpu-vm describe "$NAME" --project="$PROJECT" --zone="$ZONE" \
    --format='value(state)' 2>/dev/null || echo GONE)
  if [ "$state" != READY ] || [ $code = 75 ]; then
    before=none times=0 # the machine's doing, not the run's
  else
    times=$([ $code = $before ] && echo $((times + 1)) || echo 1) before=$code
    if [ "$times" -ge "$most" ]; then
      echo "$(date +%H:%M:%S) ended with code $code $times times in a row, on a TPU that is there;" \
        "what went wrong stands above. Set it right, and start this script again" >&2
      exit $code
    fi
  fi
  if [ "$state" != READY ]; then
    "$here/delete.sh" || true
    "$here/create.sh" ${CREATE_FLAGS:-} && "$here/setup.sh" || continue
    wait=${WAIT:-10}
  fi
done
