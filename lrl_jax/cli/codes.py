"""Says what each exit code of `lrl` means, and which one an error has."""

from collections.abc import Iterator
import errno
import pathlib
import re
import sys
import traceback

from lrl_jax.devices import signals

CODES = {
    0: "done",
    1: "an error of lrl_jax",
    2: "recipe or argument",
    3: "data",
    4: "artefacts that do not fit together",
    5: "verification failed",
    6: "the run is in use (try again later)",
    7: "training diverged",
    8: "out of memory",
    9: "disk full",
    75: "stopped as asked (run the same command again)",
    76: "no progress, or a process of the run is gone (run the same command again)",
    130: "interrupted",
}
OUT_OF_MEMORY, DISK_FULL = 8, 9
NO_SPACE = ("No space left on device", "ENOSPC", "Disk quota exceeded", "EDQUOT")
NO_MEMORY = ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory")
RUNTIME = ("JaxRuntimeError", "XlaRuntimeError")  # by name: jax takes seconds to import
# How XLA begins its messages (absl::StatusCode). It raises a ValueError, and none of RUNTIME, where
# an array cannot be read from its device.
STATUS = re.compile(
    "(ABORTED|CANCELLED|DATA_LOSS|DEADLINE_EXCEEDED|FAILED_PRECONDITION|INTERNAL|"
    "RESOURCE_EXHAUSTED|UNAVAILABLE|UNKNOWN): "
)


def end(error: Exception, verb: str, *, debug: bool = False) -> int:
    """Prints what an error means to the user, and returns its exit code.

    If this is one process of several, all of them end with it, unless each has an error of its own.
    """
    from lrl_jax import terminal  # takes a while to import, and most runs end well

    code, expected = code_of(error), _is_expected(error)
    together = getattr(error, "together", False)
    if not together and code not in (OUT_OF_MEMORY, DISK_FULL):
        _wait_for_cause(error)
    if debug or not expected:
        trace = "".join(traceback.format_exception(error))
        print(terminal.visible(trace), file=sys.stderr)
    print(terminal.visible(f"lrl {verb}: {message(error)}"), file=sys.stderr)
    if signals.stopping() and code in (1, 2, 3):
        return signals.RETRY  # a library, or a process that packs, was stopped by the same signal
    if not together:
        _end_all(code, message(error))
    return code


def code_of(error: BaseException) -> int:
    """Returns the exit code of an error."""
    if _is_disk_full(error):
        return DISK_FULL
    if _is_out_of_memory(error):
        return OUT_OF_MEMORY
    return getattr(error, "exit_code", 2 if _is_expected(error) else 1)


def message(error: BaseException) -> str:
    """Returns an error in a line for the user: what happened, and what to do."""
    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        where = error.filename or "the run folder, or where the output of this command goes"
        return f"disk full while writing {where}; free some space and run the same command again"
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        where = error.filename or "a file of the run folder"
        return f"{where}: larger than this process may write; raise the limit (`ulimit -f`)"
    if isinstance(error, FileExistsError | NotADirectoryError) and _is_file(error.filename):
        return f"{error.filename}: is a file, where a folder is wanted; name another place"
    if _is_out_of_memory(error):
        return (
            f"out of memory: {text.splitlines()[0][:300]}. Try a smaller train.batch_size, more "
            "train.accumulate, train.remat: full or train.loss_blocks: 8; `lrl fit` computes what "
            "a recipe needs"
        )
    return text


def _is_file(name: object) -> bool:
    """Tells whether a name, or a folder above it, is a file."""
    path = pathlib.Path(str(name))
    return any(place.is_file() for place in (path, *path.parents))


def _is_expected(error: BaseException) -> bool:
    users = isinstance(error, ValueError | OSError) and not _is_of_devices(error)
    return users or hasattr(error, "exit_code") or _is_out_of_memory(error)


def _is_disk_full(error: BaseException) -> bool:
    from lrl_jax import storage

    for cause in _causes(error):
        if storage.is_full(cause):
            return True
        of_storage = isinstance(cause, OSError) or _is_of_devices(cause)
        if of_storage and any(words in str(cause) for words in NO_SPACE):
            return True
    return False


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    runtime = _is_of_devices(error) and not _is_disk_full(error)
    return runtime and any(words in str(error) for words in NO_MEMORY)


def _is_of_devices(error: BaseException) -> bool:
    """Tells whether an error is what XLA says of devices and of the network between them."""
    by_text = isinstance(error, ValueError) and STATUS.match(str(error))
    return type(error).__name__ in RUNTIME or bool(by_text)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _wait_for_cause(error: BaseException) -> None:
    """Waits, if devices failed, for the process that is gone to be named, which ends this one."""
    failed = any(map(_is_of_devices, _causes(error)))
    if failed and (peers := sys.modules.get("lrl_jax.devices.peers")) is not None:
        peers.wait_for_cause()


def _end_all(code: int, why: str) -> None:
    if (peers := sys.modules.get("lrl_jax.devices.peers")) is not None:
        peers.end(code, why)
