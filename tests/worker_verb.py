"""Runs a verb of `lrl`, and prints which of TensorFlow and seqio its process has brought in."""

import sys

from lrl_jax.cli import main as cli

if __name__ == "__main__":
    assert cli.main(sys.argv[1:]) == 0
    sys.stdout.write(str([name for name in ("tensorflow", "seqio") if name in sys.modules]) + "\n")
