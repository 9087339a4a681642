"""Calls gcloud, the one door to Google's machines, and says what its errors mean.

    gcloud = Gcloud()
    answer = gcloud.call("compute", "tpus", "tpu-vm", "describe", "tamil", "--zone=us-central2-b")
    answer.ok, answer.is_gone

With `dry` nothing is called: each command is printed, quoted so that a shell runs it as it stands.
"""

from collections.abc import Callable
import dataclasses
import random
import re
import shlex
import shutil
import subprocess
import sys
import time

LIMIT = 900.0  # seconds a call may take; creating and deleting wait for an operation of minutes
LONGEST = 600.0  # seconds between two tries at most
TRIES = 6  # of a call that fails for a reason that passes

# What Google's errors say, in gcloud 528; what matches none of these may pass.
GONE = re.compile(r"NOT_FOUND|was not found|not found|does not exist", re.IGNORECASE)
EXISTS = re.compile(r"ALREADY_EXISTS|already exists", re.IGNORECASE)
CAPACITY = re.compile(r"no more capacity|not enough resources|stockout|insufficient capacity", re.I)
PERSON = re.compile(
    r"PERMISSION_DENIED|invalid_grant|reauth|gcloud auth login|SERVICE_DISABLED|"
    r"has not been used in project|INVALID_ARGUMENT|unrecognized arguments|Quota limit|"
    r"quota metric|billing account|do(es)? not have permission|"
    r"HTTPError 40[13]|does not have storage\.",
    re.IGNORECASE,
)
REMEDIES = (
    (r"invalid_grant|reauth|auth login", "log in once more: gcloud auth login"),
    (r"Quota limit|quota metric", "the project has no such quota in this zone, or it is in use; "
     "docs/launch.md lists what a grant gives where"),
    (r"SERVICE_DISABLED|has not been used", "run: gcloud services enable tpu.googleapis.com"),
    (r"HTTPError 40[13]|storage\.", "ask the owner of the bucket for the role roles/storage.admin, "
     "or log in as somebody who has it: gcloud auth login"),
    (r"PERMISSION_DENIED|permission", "ask the owner of the project for the role roles/tpu.admin"),
    (r"billing account", "link a billing account to the project: a grant needs one too"),
)  # fmt: skip


class MachineError(Exception):
    """Reports that a machine could not be had or asked; trying again may succeed."""

    exit_code = 75


class PersonError(MachineError):
    """Reports what only a person can set right: rights, quotas, names."""

    exit_code = 2


class CapacityError(MachineError):
    """Reports that the machines of a request could not be had, or were taken away again."""


@dataclasses.dataclass(frozen=True)
class CallResult:
    """Holds how a call of gcloud ended: its exit code and what it printed."""

    code: int
    out: str = ""
    err: str = ""

    @property
    def ok(self) -> bool:
        return self.code == 0

    @property
    def is_gone(self) -> bool:
        """Tells whether what was asked about is not there."""
        return not self.ok and bool(GONE.search(self.err))

    @property
    def exists(self) -> bool:
        """Tells whether what was to be made is there already."""
        return not self.ok and bool(EXISTS.search(self.err))

    def error(self, what: str) -> MachineError:
        """Returns the error that this answer is, with the remedy where there is one."""
        said = " ".join(self.err.split())[-600:] or f"exit code {self.code}"
        return refusal(f"{what}: {said}")


def refusal(said: str) -> MachineError:
    """Returns the error for what Google says, of the kind that it is."""
    if CAPACITY.search(said):
        return CapacityError(said)
    if not PERSON.search(said):
        return MachineError(said)
    remedy = next((how for words, how in REMEDIES if re.search(words, said, re.I)), "")
    return PersonError(f"{said}. To do: {remedy}" if remedy else said)


@dataclasses.dataclass
class Pauses:
    """Waits between tries: longer each time, and not in step with others.

    Attributes:
      first: seconds before the second try.
      poll: seconds between two looks at something that takes its time.
    """

    first: float = 10.0
    poll: float = 30.0
    sleep: Callable[[float], None] = time.sleep

    def seconds(self, tries: int) -> float:
        """Returns how long to wait after so many failures, by chance within a factor of two."""
        return random.uniform(0.5, 1.0) * min(LONGEST, self.first * 2**tries)

    def back_off(self, tries: int) -> None:
        """Waits after so many failures."""
        self.sleep(self.seconds(tries))

    def until_next_look(self, times: float = 1.0) -> None:
        """Waits until it is time to look again."""
        self.sleep(self.poll * times)


class Gcloud:
    """Runs gcloud, or prints what it would run.

    Args:
      dry: whether commands are printed to stdout and not run.
    """

    def __init__(self, dry: bool = False, pauses: Pauses | None = None):
        self.dry, self.pauses = dry, pauses or Pauses()
        if not dry and not shutil.which("gcloud"):
            raise PersonError(
                "gcloud is not installed here: https://cloud.google.com/sdk/docs/install, then "
                "`gcloud auth login`; --dry-run prints what would be called"
            )

    def call(self, *words: str, limit: float = LIMIT, shown: bool = False) -> CallResult:
        """Runs a command once; returns how it ended. With `dry`, prints it and returns success.

        Args:
          limit: seconds after which it is ended, which counts as a failure that may pass.
          shown: whether it is printed before it runs, because it changes something.
        """
        if self.dry:
            self.show(shlex.join(["gcloud", *words]))
            return CallResult(0)
        if shown:
            say(shlex.join(["gcloud", *words]))
        try:
            done = subprocess.run(
                ["gcloud", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                errors="replace", timeout=limit, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return CallResult(124, err=f"gcloud did not answer within {limit:.0f} s")
        return CallResult(done.returncode, done.stdout, done.stderr)

    def ask(self, what: str, *words: str) -> CallResult:
        """Runs a command that only reads, again while it fails for a reason that passes.

        Raises:
          MachineError: it fails for good; `what` says what was asked for.
        """
        for tries in range(TRIES):
            answer = self.call(*words)
            if answer.ok or answer.is_gone:
                return answer
            error = answer.error(what)
            if isinstance(error, PersonError) or tries == TRIES - 1:
                raise error
            self.pauses.back_off(tries)
        raise AssertionError  # the loop returns or raises

    def show(self, line: str) -> None:
        """Prints a line of a dry run."""
        print(line, flush=True)


def say(text: str) -> None:
    """Prints a line with the time, beside the output."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
