"""Writes a trace of a few steps with XLA's profiler."""

import os
import tempfile

from etils import epath
import jax

HOW = "pip install xprof, then: xprof --logdir"


class Profile:
    """Traces the steps from `first` to `last`; a context manager.

    Args:
      steps: (first, last), both included; () traces nothing.
      folder: where a folder is written for each process.
    """

    def __init__(self, steps: tuple[int, ...], folder: epath.Path):
        self._first, self._last = steps or (0, -1)
        self.folder = folder / f"process_{jax.process_index()}"
        self._local: str = ""

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, kind, error, trace) -> None:
        self._end()

    def begins(self, step: int) -> bool:
        """Tells whether the trace begins before this step; a resumed run can begin inside it."""
        return not self._local and self._first <= step <= self._last

    def begin(self) -> None:
        remote = "://" in os.fspath(self.folder)
        self._local = tempfile.mkdtemp() if remote else os.path.abspath(self.folder)
        jax.profiler.start_trace(self._local)

    def ends(self, step: int) -> bool:
        """Tells whether the trace ends after this step."""
        return bool(self._local) and step >= self._last

    def end(self) -> str:
        """Writes the trace; returns a line that says where it is and how to view it.

        Call it when the traced step is done.
        """
        self._end()
        return f"trace of steps {self._first} to {self._last}: {self.folder}; {HOW} {self.folder}"

    def _end(self) -> None:
        if not self._local:
            return
        jax.profiler.stop_trace()
        source, self._local = epath.Path(self._local), ""
        if "://" in os.fspath(self.folder):
            _copy(source, self.folder)


def _copy(source: epath.Path, target: epath.Path) -> None:
    """Moves a folder and everything in it to an object store."""
    for path in source.glob("**/*"):
        if path.is_file():
            to = target / os.fspath(path.relative_to(source))
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(path.read_bytes())
    source.rmtree()
