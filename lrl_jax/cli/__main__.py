"""Runs the command line: `python -m lrl_jax.cli`, where `lrl` is not on the path."""

import sys

from lrl_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
