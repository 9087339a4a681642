"""Lets long work be done in a Python that is not ours: a notebook's, or that of a script."""

from collections.abc import Iterator
import contextlib
import signal
import sys
import threading
from typing import Any

from lrl_jax.devices import signals
from lrl_jax.pipeline.console import say

_HIDING, _hidden = threading.Lock(), dict[str, Any]()
_blocks = 0  # of `script_run_once` that are open


@contextlib.contextmanager
def interruptible(what: str) -> Iterator[None]:
    """Opens a block that Ctrl-C leaves by KeyboardInterrupt, once what has begun is saved.

    A second Ctrl-C leaves it at once. Any other signal that asks a process to stop, as a machine
    that is taken back sends, ends the program with exit code 75, as it ends a verb of `lrl`.

    Args:
      what: the function that is called, for the error.

    Raises:
      ValueError: the block is opened by a thread, where Python hears no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ValueError(
            f"lrl_jax.{what}: was called in a thread, where Python hears no Ctrl-C; call it in the "
            "main thread"
        )
    with signals.interrupts(owner=False) as asked, script_run_once():
        try:
            yield
        except (signals.Stopped, Exception) as e:
            if not asked.stop:
                raise
            # A library, or a process that packs, may have been stopped by the same signal.
            stops = getattr(e, "exit_code", 0) == signals.RETRY
            say(f"{what}: {e}" if stops else f"{what}: {signals.Stopped()}")
            if asked.by != signal.SIGINT.name:
                raise SystemExit(signals.RETRY) from None
            raise KeyboardInterrupt from None


@contextlib.contextmanager
def script_run_once() -> Iterator[None]:
    """Keeps the processes that a block begins from running the script again that called it.

    Python's `spawn` gives each of them the main script, for functions that it may have; ours are
    all of this package. Without this, a script would have to guard its lines by
    `if __name__ == "__main__"`.
    """
    global _blocks
    main = vars(sys.modules["__main__"])
    with _HIDING:  # threads may read recipes at the same time
        _blocks += 1
        if _blocks == 1:
            _hidden.update({name: main[name] for name in ("__file__", "__spec__") if name in main})
            main.pop("__file__", None)
            main["__spec__"] = None  # as in a Python without a script
    try:
        yield
    finally:
        with _HIDING:
            _blocks -= 1
            if not _blocks:
                main.update(_hidden)
                _hidden.clear()


def uses_devices() -> bool:
    """Tells whether JAX has begun to use the devices of this machine in this process."""
    bridge: Any = sys.modules.get("jax._src.xla_bridge")  # no public name of JAX says it
    return bridge is not None and bridge.backends_are_initialized()
