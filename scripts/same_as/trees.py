"""Copies the two checkouts, and runs their commands in environments that differ in nothing else."""

import dataclasses
import os
from pathlib import Path
import shutil
import subprocess
import tomllib

ROOT = Path(__file__).parents[2]
# Alike on both sides, whatever the terminal has: libraries that pick a device or cache what they
# compile, and tables whose width follows the terminal. Without tracebacks in their locations,
# kernels that are lowered do not name the files they come from.
SET = {
    "COLUMNS": "200",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "HF_HUB_OFFLINE": "1",
    "JAX_PLATFORMS": "cpu",
    "JAX_TRACEBACK_IN_LOCATIONS_LIMIT": "0",
    "TERM": "dumb",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
UNSET = ("JAX_COMPILATION_CACHE_DIR", "JAX_NUM_CPU_DEVICES", "PYTHONSTARTUP", "XLA_FLAGS")


class SideFailedError(Exception):
    """Reports that a command, which should have ended well, did not."""


@dataclasses.dataclass(frozen=True)
class Side:
    """Describes one of the two checkouts.

    Attributes:
      name: BASE or "here", for messages.
      checkout: a copy of its files.
      folder: receives what it makes.
      python: the interpreter, with the libraries of both sides.
    """

    name: str
    checkout: Path
    folder: Path
    python: str

    def recipe(self, name: str) -> str:
        """Returns the path of a recipe that ships."""
        return str(self.checkout / "configs" / f"{name}.yaml")

    def environment(self) -> dict[str, str]:
        """Returns the environment of its processes: its own modules first."""
        kept = {name: value for name, value in os.environ.items() if name not in UNSET}
        return {**kept, **SET, "PYTHONPATH": str(self.checkout)}

    def start(self, arguments: list[str], cwd: Path, log: Path) -> subprocess.Popen:
        """Starts its command line in a folder, and appends what it prints to a file."""
        module, function = console_script(self.checkout).split(":")
        program = f"import sys; from {module} import {function}; sys.exit({function}())"
        return self._popen(["-c", program, *arguments], cwd, log)

    def lrl(self, arguments: list[str], cwd: Path, log: Path) -> None:
        """Runs its command line to the end.

        Raises:
          SideFailedError: the exit code is not 0.
        """
        self._finish(self.start(arguments, cwd, log), f"lrl {' '.join(arguments[:2])}", log)

    def inside(self, arguments: list[str], cwd: Path, log: Path) -> None:
        """Runs inside.py, which calls its command line many times in one process.

        Raises:
          SideFailedError: the exit code is not 0.
        """
        program = str(Path(__file__).with_name("inside.py"))
        entry = [console_script(self.checkout), str(self.checkout)]
        process = self._popen([program, *entry, *arguments], cwd, log)
        self._finish(process, f"inside.py {arguments[0]}", log)

    def _popen(self, arguments: list[str], cwd: Path, log: Path) -> subprocess.Popen:
        cwd.mkdir(parents=True, exist_ok=True)
        # -P: neither the folder it runs in nor that of inside.py is a place to import from.
        command = [self.python, "-P", *arguments]
        with log.open("ab") as output:
            return subprocess.Popen(
                command, cwd=cwd, env=self.environment(),
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip

    def _finish(self, process: subprocess.Popen, what: str, log: Path) -> None:
        if code := process.wait():
            raise SideFailedError(f"{self.name}: {what} ended with {code}: {last_line(log)}")


def last_line(log: Path) -> str:
    """Returns the last line of a file that is not empty."""
    lines = log.read_text("utf-8", errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "nothing was printed")


def console_script(checkout: Path) -> str:
    """Returns where the command `lrl` begins, as "module:function".

    Raises:
      ValueError: the checkout has no such command.
    """
    path = checkout / "pyproject.toml"
    project = tomllib.loads(path.read_text("utf-8"))["project"] if path.exists() else {}
    if "lrl" not in project.get("scripts", {}):
        raise ValueError(f"{path}: no command lrl under [project.scripts]; want a checkout of this")
    return project["scripts"]["lrl"]


def copy(source: str, to: Path) -> None:
    """Copies a revision of this repository, or the checkout at a path as it is, without runs.

    Raises:
      ValueError: there is no such revision or checkout.
    """
    to.mkdir(parents=True)
    if Path(source).is_dir():
        _copy_files(Path(source), to)
    else:
        _copy_revision(source, to)
    console_script(to)


def _copy_revision(revision: str, to: Path) -> None:
    named = f"{revision}^{{commit}}"
    command = ["git", "-C", str(ROOT), "rev-parse", "--verify", "--quiet", "--end-of-options"]
    found = subprocess.run([*command, named], capture_output=True, text=True, check=False)
    if found.returncode:
        raise ValueError(f"{revision}: no revision of {ROOT}, and no folder of that name")
    archive = ["git", "-C", str(ROOT), "archive", found.stdout.strip()]
    with subprocess.Popen(archive, stdout=subprocess.PIPE) as process:
        subprocess.run(["tar", "-x", "-C", str(to)], stdin=process.stdout, check=True)


def _copy_files(checkout: Path, to: Path) -> None:
    """Copies what git tracks, and what is new and not ignored."""
    command = ["git", "-C", str(checkout), "ls-files", "-coz", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode:
        raise ValueError(f"{checkout}: no git checkout; {listed.stderr.strip()}")
    for name in listed.stdout.split("\0"):
        if name and (checkout / name).is_file():  # not one that was removed
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(checkout / name, to / name)
