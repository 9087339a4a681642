"""Writes a trace of a few steps with XLA's profiler."""

import contextlib
import os
import tempfile

from etils import epath
import jax

from lrl_jax.storage import is_remote

HOW = "pip install xprof, then: xprof --logdir"


class Profile(contextlib.AbstractContextManager["Profile"]):
    """Traces steps, given as the first and the last or as () for none; a context manager.

    Each process writes to a folder of its own within `folder`.
    """

    def __init__(self, steps: tuple[int, ...], folder: epath.Path):
        self._first, self._last = steps or (0, -1)
        self.folder = folder / f"process_{jax.process_index()}"
        self._local: str = ""

    def __exit__(self, kind, error, trace) -> None:
        self.end()

    def begins(self, step: int) -> bool:
        """Tells whether the trace begins before this step; a resumed run can begin inside it."""
        return not self._local and self._first <= step <= self._last

    def begin(self) -> None:
        remote = is_remote(self.folder)
        self._local = tempfile.mkdtemp() if remote else os.path.abspath(self.folder)
        jax.profiler.start_trace(self._local)

    def ends(self, step: int) -> bool:
        """Tells whether the trace ends after this step."""
        return bool(self._local) and step >= self._last

    def end(self) -> str:
        """Writes the trace, if one has begun; returns where it is and how to view it."""
        if not self._local:
            return ""
        jax.profiler.stop_trace()
        source, self._local = epath.Path(self._local), ""
        if is_remote(self.folder):
            for path in [path for path in source.glob("**/*") if path.is_file()]:
                target = self.folder / os.fspath(path.relative_to(source))
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
            source.rmtree()
        return f"trace of steps {self._first} to {self._last}: {self.folder}; {HOW} {self.folder}"
