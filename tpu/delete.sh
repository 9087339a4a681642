#!/usr/bin/env bash
# Deletes the TPU and its request, so that nothing is billed on.
# `tpu/delete.sh --help` lists what it takes.
exec "$(dirname "$0")/launch.sh" delete "$@"
