#!/usr/bin/env bash
# Asks for a TPU as a queued resource (--spot, --reserved), and waits until it is ready.
# `tpu/create.sh --help` lists what it takes.
exec "$(dirname "$0")/launch.sh" create "$@"
