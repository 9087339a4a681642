"""Runs Python modules as `python -m` does, in copies of one process that has imported JAX already.

Importing JAX, Orbax and transformers takes longer than most of what a test asks a process for.
"""

from collections.abc import Sequence
import multiprocessing
import os
from pathlib import Path
import runpy
import subprocess
import sys
import tempfile

IMPORTED = (
    "forked",
    "lrl_jax.cli.verbs",
    "matplotlib.figure",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.configuration_llama",
)


def run(module: str, args: Sequence[str], cwd: Path, timeout: float) -> subprocess.CompletedProcess:
    """Runs a module with arguments in a process of its own; returns its end and what it said."""
    copies = multiprocessing.get_context("forkserver")
    copies.set_forkserver_preload([*IMPORTED])
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "out", Path(folder) / "err"
        process = copies.Process(target=_be, args=(module, args, cwd, said, dict(os.environ)))
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
        out, err = (path.read_text("utf-8") for path in said)
    return subprocess.CompletedProcess([module, *args], process.exitcode or 0, out, err)


def _be(module: str, args: Sequence[str], cwd: Path, said: Sequence[Path], env: dict) -> None:
    """Becomes the process of a module: its place, its environment, its arguments, its output."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for number, path in enumerate(said, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.argv = [module, *args]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
