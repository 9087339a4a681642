"""Makes the small run that is killed, and starts `lrl` on it in one process or in several."""

from collections.abc import Sequence
import dataclasses
import json
import os
from pathlib import Path
import shutil
import socket
import time

import forked  # of tests/, as the next two
import small_world
import xla_flags

NAME = "korean"
STEPS = 30  # of the second stage; enough for a kill to come in the middle


@dataclasses.dataclass(frozen=True)
class Ended:
    """Describes how the processes of one start ended: their exit codes, and what each said."""

    codes: tuple[int, ...]
    seconds: float
    each: tuple[str, ...]

    @property
    def said(self) -> str:
        """Returns what all of them said, one after the other."""
        return "".join(self.each)


class World:
    """Holds texts, a base model and the run that is adapted from it, in one folder."""

    def __init__(self, folder: Path, processes: int):
        self.folder, self.processes = folder, processes
        self.run = folder / "runs" / NAME
        self.whole = folder / "whole"  # the run that was never killed
        self._recipe = folder / f"{NAME}.yaml"

    def make(self) -> float:
        """Makes the base, then the run without a kill; returns how many seconds the run took."""
        if self.run.exists() or self.whole.exists():
            raise SystemExit(f"{self.folder}: holds another test's runs; name another folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in small_world.write_recipes(self.folder, steps=STEPS):
            began = time.monotonic()
            ended = self.end(self.start("run", Path(path)), within=900)
            if set(ended.codes) != {0}:
                raise SystemExit(f"the run without a kill failed: {ended.codes}\n{ended.said}")
        self.run.rename(self.whole)
        return time.monotonic() - began

    def start(self, verb: str, recipe: Path | None = None) -> list[forked.Forked]:
        """Starts `lrl VERB` in each process."""
        words = [verb, str(recipe or self._recipe)]
        alone = verb in ("vocab", "data", "report")  # verbs of one process
        groups: list[list[str]] = [[]]
        if self.processes > 1 and not alone:
            with socket.socket() as s:
                s.bind(("localhost", 0))
                address = f"localhost:{s.getsockname()[1]}"
            shared = ["--coordinator", address, "--processes", str(self.processes)]
            groups = [[*shared, "--process-id", str(i)] for i in range(self.processes)]
        env = {**os.environ, "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3",
               "XLA_FLAGS": xla_flags.cheap()}  # fmt: skip
        children = []
        for i, more in enumerate(groups):
            said = self.folder / f"said-{i}.txt"
            children.append(forked.Forked("lrl_jax.cli", [*words, *more], said, env=env))
        return children

    def end(self, children: Sequence[forked.Forked], within: float) -> Ended:
        """Waits until all have ended; kills what has not after `within` seconds."""
        began = time.monotonic()
        while any(child.poll() is None for child in children):
            if time.monotonic() - began > within:
                for child in children:
                    child.kill()
                    child.wait()
                break
            time.sleep(0.02)
        each = tuple(child.said() for child in children)
        codes = tuple(child.wait() for child in children)
        return Ended(codes, time.monotonic() - began, each)

    def step(self) -> str:
        """Returns the step that has begun and has not finished; "" between steps."""
        for path in sorted((self.run / "steps").glob("*.json")):
            if not json.loads(path.read_text())["finished"]:
                return path.stem
        return ""

    def lay_out(self, steps: Sequence[str]) -> None:
        """Makes the run what the whole one was when only these steps were done."""
        shutil.rmtree(self.run, ignore_errors=True)
        self.run.mkdir()
        for path in self.whole.iterdir():
            if path.is_file():
                shutil.copy2(path, self.run)
            elif path.name in (*steps, "report"):
                shutil.copytree(path, self.run / path.name)
        (self.run / "steps").mkdir()
        for step in steps:
            shutil.copy2(self.whole / "steps" / f"{step}.json", self.run / "steps")
