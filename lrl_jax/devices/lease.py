"""Reserves a run folder for one process, by a lease that is renewed while the process lives.

`lock.json` says which process holds the folder and when it last renewed its lease. So another
process can continue a run whose machine is gone, without help from a person.
"""

from collections.abc import Callable, Generator
import contextlib
import dataclasses
import datetime
import fcntl
import logging
import math
import os
from pathlib import Path
import random
import socket
import sys
import threading
import time
from typing import Self
import uuid

from etils import epath
import pydantic
import pydantic.dataclasses

from lrl_jax import storage, terminal

log = logging.getLogger(__name__)

BEAT = 30.0  # seconds between two renewals of a lease
LEASE = 180.0  # seconds after its last renewal at which a lease ends: six failed renewals
TOLERANCE = 60.0  # seconds that the clocks of two hosts may differ
CLAIM = 60.0  # seconds after which a claim is considered left behind by a dead process
LOCK, CLAIMS = "lock.json", "lock.claims"
MAX_BYTES = 1 << 16  # of lock.json, which has some 200


class InUseError(ValueError):
    """Reports that another process works in the folder; trying again later may succeed."""

    exit_code = 6


@pydantic.dataclasses.dataclass(frozen=True)
class Owner:
    """Describes the process that holds a lease, as written in `lock.json`.

    Attributes:
      owner: a random name for this lease.
      machine: the id of the machine's boot and of the process namespace; "" in files of older
        versions, which give only host and pid.
      started: when the process began, in ticks of the system; needed because pids are reused.
      heartbeat: when it last renewed the lease, in seconds since 1970.
    """

    host: str
    pid: pydantic.PositiveInt
    owner: str = ""
    machine: str = ""
    started: str = ""
    heartbeat: pydantic.FiniteFloat = 0.0


class Lease:
    """Holds a folder for this process; a context manager.

    A thread renews the lease every BEAT seconds. Another process may take the folder when the lease
    was not renewed for LEASE seconds, or at once when the holder's process on the same machine is
    gone.

    Args:
      lost: called when another process has taken the folder because this one was suspended for too
        long. The default ends this process at once, as two writers would damage the folder.

    Raises:
      InUseError: another process holds the folder (raised on entering).
    """

    def __init__(
        self,
        folder: epath.PathLike,
        lost: Callable[[str], None] | None = None,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._folder = epath.Path(folder)
        self._path = self._folder / LOCK
        self._lost, self._now, self._sleep = lost or _end_process, now, sleep
        self._owner = dataclasses.replace(_this_process(), owner=uuid.uuid4().hex)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew_for_ever, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self.take()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def release(self) -> None:
        """Gives the folder back; a second time it does nothing."""
        self._over.set()
        self._thread.join()
        with _alone(self._folder):
            holder = _read_owner(self._path)
            if holder is not None and holder.owner == self._owner.owner:
                self._path.unlink(missing_ok=True)

    def take(self) -> None:
        """Takes the lease if it is free; waits only if its holder's clock disagrees with ours."""
        self._folder.mkdir(parents=True, exist_ok=True)
        silent: Owner | None = None  # an owner that did not renew its lease while we waited
        while True:
            with _alone(self._folder):
                holder = _read_owner(self._path)
                if holder is None or holder == silent or self._is_gone(holder):
                    self._write()
                    return
            if _is_here(holder) or holder.heartbeat <= self._now() + TOLERANCE:
                raise InUseError(self._refusal(holder))
            self._watch(holder)
            silent = holder

    def renew(self) -> bool:
        """Renews the lease; returns whether this process still holds it."""
        with _alone(self._folder):
            holder = _read_owner(self._path)
            if holder is not None and holder.owner != self._owner.owner:
                return False
            self._write()
            return True

    def _write(self) -> None:
        self._owner = dataclasses.replace(self._owner, heartbeat=self._now())
        storage.write_json(self._path, dataclasses.asdict(self._owner))

    def _renew_for_ever(self) -> None:
        while not self._over.wait(BEAT):
            try:
                holds = self.renew()
            except Exception as e:  # object stores raise errors of many types; try again next time
                log.warning("%s: could not renew the lease: %s", self._path, e)
                continue
            if not holds:
                self._lost(
                    f"{self._folder}: another process has taken the run, because this one did not "
                    f"renew its lease for {LEASE:.0f} s; this process ends, the other goes on"
                )
                return

    def _is_gone(self, holder: Owner) -> bool:
        if _is_here(holder):
            return not _lives(holder)
        return bool(holder.machine) and self._now() - holder.heartbeat > LEASE

    def _watch(self, holder: Owner) -> None:
        """Waits for the length of a lease; raises InUseError as soon as the holder renews it."""
        ahead = holder.heartbeat - self._now()
        log.warning(
            "%s: process %d on %s renewed its lease %.0f s in the future: one of the two clocks is "
            "wrong; waiting for up to %.0f s to see whether it renews it again",
            self._path, holder.pid, holder.host, ahead, LEASE,
        )  # fmt: skip
        for _ in range(math.ceil(LEASE / BEAT)):
            self._sleep(BEAT)
            with _alone(self._folder):
                current = _read_owner(self._path)
            if current is None:
                return
            if current != holder:
                raise InUseError(self._refusal(current))

    def _refusal(self, holder: Owner) -> str:
        said = f"{self._folder} is in use by process {holder.pid} on {holder.host}"
        if _is_here(holder):
            return f"{said}; wait for it, or stop that process"
        if not holder.machine:  # written by an older version, which renews nothing
            return f"{said}; wait for it, or remove {self._path} if that process is gone"
        ago = self._now() - holder.heartbeat
        when = f"{ago:.0f} s ago" if ago >= 0 else f"{-ago:.0f} s ahead of this host's clock"
        return (
            f"{said}, which renewed its lease at {_clock(holder.heartbeat)} ({when}); wait for it, "
            "or stop it. If it is gone, the folder is free at "
            f"{_clock(holder.heartbeat + LEASE)}: run the same command again then"
        )


def holder(
    folder: epath.PathLike, now: Callable[[], float] = time.time
) -> tuple[Owner, bool] | None:
    """Returns who holds a folder, and whether that process still lives; None if nobody does.

    It only reads. Of a process elsewhere, all that is known is when it last renewed its lease.
    InUseError where lock.json does not say who it is.
    """
    owner = _read_owner(epath.Path(folder) / LOCK)
    if owner is None:
        return None
    if _is_here(owner):
        return owner, _lives(owner)
    return owner, not owner.machine or now() - owner.heartbeat <= LEASE


def _read_owner(path: epath.Path) -> Owner | None:
    """Returns the holder of the lease; None if there is none."""
    if not path.exists():
        return None
    try:
        return pydantic.TypeAdapter(Owner).validate_json(storage.read_bytes(path, MAX_BYTES))
    except FileNotFoundError:  # its holder has just released it
        return None
    except pydantic.ValidationError as e:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))} {p['msg']}" for p in e.errors())
        raise InUseError(
            f"{path}: does not say who uses the folder ({problems}); remove it if no run does"
        ) from None
    except ValueError as e:
        raise InUseError(f"{e}; remove it if no run uses the folder") from None


def _this_process() -> Owner:
    machine = ""
    with contextlib.suppress(OSError):  # Linux only
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        machine = f"{boot} {os.readlink('/proc/self/ns/pid')}"
    host = socket.gethostname()
    return Owner(host, os.getpid(), machine=machine or host, started=_started(os.getpid()))


def _started(pid: int) -> str:
    """Returns when a process began, in ticks since the system started; "" if not known."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _is_here(owner: Owner) -> bool:
    """Tells whether the owner's pid belongs to this machine."""
    here = _this_process()
    return owner.host == here.host and owner.machine in ("", here.machine)


def _lives(owner: Owner) -> bool:
    try:
        os.kill(owner.pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    if not owner.started:  # written by an older version, so not by this process
        return owner.pid != os.getpid()
    return _started(owner.pid) in ("", owner.started)


def _clock(seconds: float) -> str:
    try:
        return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return f"{seconds:.0f} s after 1970"


def _end_process(why: str) -> None:
    sys.stderr.write(f"{terminal.visible(why)}\n")
    sys.stderr.flush()
    os._exit(InUseError.exit_code)


# ---------------------------------------------------------------------------- one process at a time
@contextlib.contextmanager
def _alone(folder: epath.Path) -> Generator[None]:
    """Makes sure that only one process at a time runs the block, which must be short."""
    with contextlib.ExitStack() as stack:
        if storage.is_remote(folder) or not _locks_folder(folder, stack):
            claim = _claim(folder / CLAIMS)
            stack.callback(claim.unlink, missing_ok=True)
        yield


def _locks_folder(folder: epath.Path, stack: contextlib.ExitStack) -> bool:
    """Locks a local folder until the stack closes; returns False if its file system cannot."""
    descriptor = os.open(folder, os.O_RDONLY)
    stack.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:  # a network file system without locks
        return False
    stack.callback(fcntl.flock, descriptor, fcntl.LOCK_UN)  # a forked process keeps it open
    return True


def _claim(folder: epath.Path, pause: float = 0.1) -> epath.Path:
    """Waits until the claim of this process is the only one in the folder; returns its path.

    Object stores have no locks, and we use no conditional writes; but a listing shows all objects
    written before. A process writes its claim and continues if it then sees no other claim. Of two
    processes that write, the later one sees the claim of the earlier, so they never both continue.
    A process that sees a claim with a smaller name removes its own, and the process with the
    smallest name waits for that, so one of them always continues (Lamport's one-bit algorithm, "The
    mutual exclusion problem", 1986). A claim that stays for CLAIM seconds was left by a dead
    process; a living one is removed within half that time. The claim is written again before each
    listing, because clients of stores cache listings until they write.
    """
    folder.mkdir(parents=True, exist_ok=True)
    seen: dict[str, float] = {}  # claim -> when it was first seen
    while True:
        claim, began = folder / uuid.uuid4().hex, time.monotonic()
        while time.monotonic() - began < CLAIM / 2:
            claim.write_text(socket.gethostname())
            now = time.monotonic()
            names = {path.name for path in folder.iterdir()} - {claim.name}
            seen = {name: seen.get(name, now) for name in names}
            others = {name for name, when in seen.items() if now - when < CLAIM}
            for name in names - others:
                (folder / name).unlink(missing_ok=True)
            if not others:
                return claim
            if min(others) < claim.name:
                break
            time.sleep(pause)
        claim.unlink(missing_ok=True)
        time.sleep(pause * (1 + random.random()))
