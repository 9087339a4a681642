"""Runs Python modules as `python -m` does, in copies of one process that has imported JAX already.

Importing JAX, Orbax and transformers takes longer than most of what a test asks a process for.
"""

import atexit
from collections.abc import Mapping, Sequence
import multiprocessing
import multiprocessing.process
import os
from pathlib import Path
import runpy
import subprocess
import sys
import tempfile
import threading
import traceback

IMPORTED = (
    "forked",
    "lrl_jax.cli.verbs",
    "matplotlib.figure",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.configuration_llama",
)


class Forked:
    """A process that runs a module: what a test asks of `subprocess.Popen`."""

    def __init__(
        self, module: str, args: Sequence[str], out: Path, err: Path | None = None,
        env: Mapping[str, str] = os.environ, cwd: Path | None = None,
    ):  # fmt: skip
        """Starts it.

        Args:
          module: as `python -m` takes it.
          args: its arguments.
          out, err: files for its output and its errors; without `err`, `out` is for both.
          env: its environment, all of it.
          cwd: where it runs; None: here.
        """
        self.out, self.err = out, err or out
        for path in (self.out, self.err):
            path.write_bytes(b"")
        copies = multiprocessing.get_context("forkserver")
        copies.set_forkserver_preload([*IMPORTED])
        given = (module, [*args], cwd or Path.cwd(), (self.out, self.err), dict(env))
        self._process = copies.Process(target=_be, args=given)
        self._process.start()

    def said(self) -> str:
        """Returns what has come among its errors so far."""
        return self.err.read_text("utf-8", errors="replace")

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if (code := self._process.exitcode) is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self._process.pid or 0, number)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()


def run(module: str, args: Sequence[str], cwd: Path, timeout: float) -> subprocess.CompletedProcess:
    """Runs a module to its end; returns its exit code and what it said."""
    with tempfile.TemporaryDirectory() as folder:
        process = Forked(module, args, Path(folder) / "out", Path(folder) / "err", cwd=cwd)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        out, err = (path.read_text("utf-8") for path in (process.out, process.err))
    return subprocess.CompletedProcess([module, *args], code, out, err)


def _be(module: str, args: list[str], cwd: Path, said: Sequence[Path], env: dict) -> None:
    """Becomes the process of a module: its place, its environment, its arguments, its output."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for number, path in enumerate(said, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    multiprocessing.process._parent_process = None  # it is no worker
    sys.argv, code = [module, *args], 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else int(e.code is not None)
    except BaseException as e:
        sys.last_value, code = e, 1
        traceback.print_exception(e)
    threading._shutdown()  # as the interpreter ends, which multiprocessing leaves out
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code)
