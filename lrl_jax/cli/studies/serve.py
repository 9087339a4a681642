"""Waits with every library imported, and forks a process for each command of `lrl` it is given.

    {"name": "train-1f3a", "words": ["study", "step", ...], "log": "..."}     a line of its stdin
    {"name": "train-1f3a", "code": 0}                                         a line of its stdout

When its stdin ends, because a study is over or was killed, it asks all of them to stop and waits.
`lrl_jax.pipeline.study.engine` starts it.
"""

import contextlib
import importlib
import json
import os
import selectors
import signal
import time

PRELOADED = ("lrl_jax.pipeline.study.step", "matplotlib.figure")
PAUSE = 0.05  # seconds between two looks for commands that have ended


def serve() -> list[str]:
    """Forks a process for each command; returns in each of these, with its words."""
    for name in PRELOADED:
        importlib.import_module(name)
    running: dict[int, str] = {}  # process -> its name
    asked, rest = False, b""
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        while running or not asked:
            if asked:
                time.sleep(PAUSE)
            elif selector.select(PAUSE if running else None):
                lines = os.read(0, 1 << 16)
                if not lines:
                    asked = True
                    for process in running:
                        os.kill(process, signal.SIGTERM)
                *whole, rest = (rest + lines).split(b"\n")
                for line in whole:
                    job = json.loads(line)
                    process = os.fork()
                    if not process:
                        _redirect(job["log"])
                        return job["words"]
                    running[process] = job["name"]
            for name, code in _ended(running):
                with contextlib.suppress(BrokenPipeError):  # the study is gone
                    os.write(1, json.dumps({"name": name, "code": code}).encode() + b"\n")
    return []


def _ended(running: dict[int, str]) -> list[tuple[str, int]]:
    """Removes processes that have ended; returns their names and exit codes."""
    codes = []
    for process in [*running]:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            codes.append((running.pop(process), os.waitstatus_to_exitcode(status)))
    return codes


def _redirect(log: str) -> None:
    """Makes a forked process a session of its own that reads nothing and writes to a log."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.dup2(out, 1)
    os.dup2(out, 2)


if __name__ == "__main__":
    command = serve()
    if command:
        from lrl_jax.cli.main import script
        from lrl_jax.devices import signals

        signals.end_with_parent()
        script(command)
