"""Imports seqio and TensorFlow, quietly and without taking accelerators.

    from lrl_jax.data.seqio.libraries import seqio, tf

No other module of the package imports them, so a process has TensorFlow exactly when it has this
module.
"""

from collections.abc import Iterator
import contextlib
import os
import sys
import tempfile

__all__ = ("seqio", "tf")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Holds back what native libraries print while they load; prints it after an exception."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    sys.stderr.flush()
    with tempfile.TemporaryFile() as output:
        stderr = os.dup(2)
        os.dup2(output.fileno(), 2)
        try:
            yield
        except BaseException:
            output.seek(0)
            os.write(stderr, output.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


with _quiet():
    import seqio
    import tensorflow as tf

    for kind in ("GPU", "TPU"):  # accelerators belong to JAX
        tf.config.set_visible_devices([], kind)
    tf.constant(0)  # the first operation prints as well, so it is done here
