#!/usr/bin/env bash
# Runs a recipe until it is done: makes the TPU, sets it up, and does so again after a preemption.
# `tpu/watch.sh --help` lists what it takes.
exec "$(dirname "$0")/launch.sh" watch "$@"
