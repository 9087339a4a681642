#!/usr/bin/env bash
# Says how the request, its slices and the run on each host are.
# `tpu/status.sh --help` lists what it takes.
exec "$(dirname "$0")/launch.sh" status "$@"
