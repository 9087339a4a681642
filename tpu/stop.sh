#!/usr/bin/env bash
# Saves what runs on the hosts, and stops it.
# `tpu/stop.sh --help` lists what it takes.
exec "$(dirname "$0")/launch.sh" stop "$@"
