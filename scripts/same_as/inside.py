"""Calls one checkout's command line many times in one process, and notes what it says or lowers.

    python inside.py MODULE:FUNCTION CHECKOUT refusals|lowered ARGUMENTS.json FOLDER

It runs with the modules of that checkout alone, and imports nothing else of this repository. FOLDER
receives a text a call.
"""

from collections.abc import Callable, Sequence
import contextlib
import importlib
import io
import json
import os
from pathlib import Path
import re
import sys
from types import SimpleNamespace
import warnings

Main = Callable[[Sequence[str]], int]


def main() -> None:
    """Does the task that the arguments name."""
    entry, checkout, task, arguments, folder = sys.argv[1:]
    module, function = entry.split(":")
    command_line = getattr(importlib.import_module(module), function)
    origin = Path(str(sys.modules[module].__file__))
    assert origin.is_relative_to(checkout), f"{origin} is not of {checkout}"
    tasks = {"refusals": refusals, "lowered": lowered}
    tasks[task](command_line, checkout, json.loads(Path(arguments).read_text()), Path(folder))


# ---------------------------------------------------------------------------- refusals
def refusals(command_line: Main, checkout: str, cases: dict[str, list[str]], folder: Path) -> None:
    """Notes exit code and output of every case, each in the folder of its inputs."""
    top = Path.cwd()
    warnings.simplefilter("ignore")  # they are given once a process, and this one does much
    for name, arguments in cases.items():
        os.chdir(top / name)
        code, said = called(command_line, arguments)
        text = plain(said, {str(top / name): "FOLDER", checkout: "CHECKOUT"})
        (folder / f"{name}.txt").write_text(f"exit code {code}\n{text}", "utf-8")


def called(command_line: Main, arguments: Sequence[str]) -> tuple[int, str]:
    """Returns the exit code and what was printed."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            code = command_line(arguments)
        except SystemExit as e:
            code = e.code if isinstance(e.code, int) else 1
    return int(code or 0), output.getvalue()


def plain(text: str, folders: dict[str, str]) -> str:
    """Returns a text without what a move of files or the hour changes.

    >>> plain("/tmp/a/x.txt: lrl_jax.data.read.files:7 failed  ", {"/tmp/a": "FOLDER"})
    'FOLDER/x.txt: MODULE:7 failed'
    """
    for path, name in folders.items():
        text = text.replace(path, name)
    text = re.sub(r'^ +File ".*\n(?: .*\n)*', "", text, flags=re.MULTILINE)  # of tracebacks
    text = re.sub(r"\blrl_jax(?:\.[a-z_]\w*)+(?:\.[A-Z]\w*)?", "MODULE", text)
    return "\n".join(line.rstrip() for line in text.split("\n"))


# ---------------------------------------------------------------------------- lowered
def lowered(command_line: Main, checkout: str, commands: list[dict], folder: Path) -> None:
    """Notes every program that `lrl fit` would compile for every recipe; compiles none.

    `commands` are tables of recipe -> arguments; the second is for recipes that the first lowers
    nothing of, as they name no machine.
    """
    import jax

    programs: list[str] = []

    def record(lowered: jax.stages.Lowered, *_, **__) -> SimpleNamespace:
        programs.append(anonymous(lowered.as_text()))
        return SimpleNamespace(as_text=str, memory_analysis=lambda: UNMEASURED)

    jax.stages.Lowered.compile = record
    for name in commands[0]:
        said = ""
        for table in commands:
            if not programs:
                code, output = called(command_line, table[name])
                said += plain(f"exit code {code}\n{output}", {checkout: "CHECKOUT"})
        if not programs:
            raise SystemExit(f"{name}: lrl fit lowers nothing: {said}")
        for number, program in enumerate(programs, start=1):
            (folder / f"{name}.{number}.txt").write_text(program, "utf-8")
        programs.clear()


# What `lrl fit` asks a compiled program: it took no memory, so every setting fits at once.
UNMEASURED = SimpleNamespace(
    argument_size_in_bytes=0,
    output_size_in_bytes=0,
    alias_size_in_bytes=0,
    temp_size_in_bytes=0,
    host_temp_size_in_bytes=0,
)


def anonymous(program: str) -> str:
    r"""Returns StableHLO without the names of Python functions that stand in it.

    >>> anonymous("module @jit_run {\nfunc.func private @_where() {}\ncall @_where() @Sharding")
    'module @program {\nfunc.func private @f0() {}\ncall @f0() @Sharding'
    """
    program = re.sub(r"^module @\S+", "module @program", program)
    names = dict.fromkeys(re.findall(r"func\.func \w+ @([\w.$-]+)\(", program))
    numbers = {name: f"f{number}" for number, name in enumerate(names)}
    return re.sub(r"@([\w.$-]+)", lambda match: f"@{numbers.get(match[1], match[1])}", program)


if __name__ == "__main__":
    main()
