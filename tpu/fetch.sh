#!/usr/bin/env bash
# Copies results of a run here.
# `tpu/fetch.sh --help` lists what it takes.
exec "$(dirname "$0")/launch.sh" fetch "$@"
