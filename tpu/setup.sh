#!/usr/bin/env bash
# Brings this checkout, a recipe and the texts it names to every host, and installs them there.
# `tpu/setup.sh --help` lists what it takes.
exec "$(dirname "$0")/launch.sh" setup "$@"
