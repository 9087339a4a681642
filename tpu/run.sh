#!/usr/bin/env bash
# Runs a recipe on every host, or attaches to it; ends with the worst exit code of all hosts.
# `tpu/run.sh --help` lists what it takes.
exec "$(dirname "$0")/launch.sh" run "$@"
