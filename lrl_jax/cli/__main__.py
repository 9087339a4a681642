"""Runs the command line: `python -m lrl_jax.cli`, where `lrl` is not on the path."""

from lrl_jax.cli.main import script

if __name__ == "__main__":
    script()
