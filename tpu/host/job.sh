#!/usr/bin/env bash
# Runs a command on this host so that it outlives the connection that began it.
#   job.sh run ATTEMPT LINES WORD...   begins the command, or attaches to it; prints what it says from
#                                      line LINES + 1 on, and ends when it ends, with its exit code
#   job.sh stop                        asks what runs here to save and to stop, for a person
#   job.sh end                         the same, because another host has ended
#   job.sh ask WORD...                 runs a short command, and prints its exit code; none beside a run,
#                                      which a second JAX on its devices could end
#   job.sh status                      a line: what runs here, or how the last one ended
#   job.sh alive                       tells by its exit code whether something runs here
# Each attempt has a folder in ~/lrl_jax/jobs: command, pid, log, code. The same command that was begun
# by an earlier attempt and is still under way is taken up, another one is refused with code 6.
# Lines that begin with "lrl-host" are read by `lrl launch` (lrl_jax/cli/machines/hosts.py).
set -uo pipefail
cd "${0%/*}/../.." && [ -f tpu/host/job.sh ] || exit 1
IN_USE=6 KILLED=137

lives() { # whether the job of a folder is under way; its pid may be another process's by now
  local pid
  pid=$(cat "$1/pid" 2> /dev/null) && [ ! -e "$1/code" ] &&
    tr '\0' ' ' < "/proc/$pid/cmdline" 2> /dev/null | grep -qF "$1"
}

living() { # the folder of the job that is under way; "" if none is
  local job
  for job in jobs/*/; do
    if lives "${job%/}"; then echo "${job%/}"; return; fi
  done
}

begin() { # runs the words, and keeps their exit code; a signal is theirs to answer
  job=$1
  shift
  echo $$ > "$job/pid"
  trap : TERM INT
  "$@"
  echo $? > "$job/code.part"
  mv "$job/code.part" "$job/code"
}

attach() { # prints the log of a job from a line on, until the job ends
  job=$1 seen=$2
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    if [ -e "$job/pid" ] || [ -e "$job/code" ]; then break; fi
    sleep 0.2
  done
  echo "lrl-host from $seen"
  if lives "$job"; then
    tail -n "+$((seen + 1))" --follow --sleep-interval=0.5 --pid="$(cat "$job/pid")" "$job/log"
  else
    tail -n "+$((seen + 1))" "$job/log"
  fi
  code=$(cat "$job/code" 2> /dev/null || echo $KILLED)
  if [ -e "$job/stopped" ]; then echo "lrl-host stopped 1"; fi
  echo "lrl-host code $code"
  exit "$code"
}

run() {
  job=jobs/$1 seen=$2
  shift 2
  echo "lrl-host clock $(date +%s)"
  words=$(printf '%q ' "$@")
  if [ -L "$job" ]; then job=jobs/$(readlink "$job"); fi
  if [ ! -d "$job" ]; then
    other=$(living)
    if [ -n "$other" ] && [ "$(cat "$other/command")" = "$words" ]; then
      echo "$(hostname): taken up: the same command is under way since $(date -r "$other/pid")" >&2
      ln -s "${other#jobs/}" "$job" # a connection made anew finds it, also once it has ended
      attach "$other" 0
    elif [ -n "$other" ]; then
      echo "$(hostname): in use by another command: $(cat "$other/command")" >&2
      echo "lrl-host busy 1"
      echo "lrl-host code $IN_USE"
      exit $IN_USE
    fi
    mkdir -p "$job"
    echo "$words" > "$job/command"
    : > "$job/log"
    setsid nohup bash tpu/host/job.sh begin "$job" "$@" >> "$job/log" 2>&1 < /dev/null &
  fi
  attach "$job" "$seen"
}

stop() {
  job=$(living)
  if [ -n "$job" ]; then
    if [ "$1" = stop ]; then touch "$job/stopped"; fi
    kill -TERM -- "-$(cat "$job/pid")"
  fi
  status
}

ask() {
  echo "lrl-host clock $(date +%s)"
  if [ -n "$(living)" ]; then
    echo "$(hostname): a run is under way here, so nothing was asked"
    set -- true
  fi
  "$@"
  echo "lrl-host code $?"
}

status() {
  echo "lrl-host clock $(date +%s)"
  job=$(living)
  if [ -n "$job" ]; then
    echo "$(hostname): under way: $(cat "$job/command")| $(tail -n 1 "$job/log")"
  else
    # shellcheck disable=SC2012 # names of jobs are digits and dashes
    job=$(ls -t jobs 2> /dev/null | head -n 1)
    ended=$(cat "jobs/$job/code" 2> /dev/null || echo "none")
    echo "$(hostname): nothing runs; last exit code: $ended${job:+| $(tail -n 1 "jobs/$job/log")}"
  fi
  echo "lrl-host code 0"
}

verb=${1:-}
shift
case $verb in
  run) run "$@" ;;
  begin) begin "$@" ;;
  stop | end) stop "$verb" ;;
  ask) ask "$@" ;;
  status) status ;;
  alive) [ -n "$(living)" ] ;;
  *) echo "usage: job.sh run|stop|end|ask|status|alive" >&2; exit 2 ;;
esac
