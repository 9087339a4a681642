"""Runs jobs on the machines of a cluster, whichever library reaches them (`on_ray`).

    engine = ClusterEngine(on_ray.Ray("10.0.0.1:6379"), slice="v5litepod-16")

A job takes a slice or some cores, and runs on each machine of these; where a machine goes, the job
ends with the exit code that says so, and begun again, it goes on from what it saved.
"""

from collections.abc import Callable, Sequence
import dataclasses
import os
import socket
import time
from typing import Any, Protocol

from lrl_jax.devices import jobs, signals, slices

ACCEPT, ANSWER = 8.0, 18.0  # seconds to accept a connection, and to let a process in
STOP = 90.0  # seconds that jobs have to save and to stop
AWAY = 45.0  # seconds after which machines that are gone are lost; Ray waits 60 s for its head
POLL = 0.2
End = tuple[int, str]  # exit code and last lines


class LostError(ValueError):
    """Reports that no machine is left to run jobs; when the command is run again, they go on."""

    exit_code = signals.GONE

    def __init__(self, name: str, seconds: float):
        super().__init__(
            f"no machine with {name} is left in the Ray cluster, for {seconds:.0f} s; what is done "
            "is kept: start machines, and run the same command again"
        )


@dataclasses.dataclass
class Reserved:
    """Holds the machines of a job.

    Attributes:
      hosts: a handle of the `jobs.Host` on each of them, in the order of their numbers.
      coordinator: host:port at which they meet; "" for a machine alone.
      group: what else is to be given back.
    """

    hosts: list[Any]
    coordinator: str = ""
    group: Any = None


class Machines(Protocol):
    """Reaches the machines of a cluster."""

    def nodes(self) -> list[slices.Node]:
        """Returns the machines that are alive."""
        ...

    def reserve(self, taken: slices.Slice) -> Reserved:
        """Reserves machines for a job; raises TimeoutError where they cannot be had after all."""
        ...

    def run(self, host: Any, words: Sequence[str], folder: str) -> Any:
        """Begins `Host.run`; returns a handle of it."""
        ...

    def ends(self, runs: Sequence[Any]) -> dict[Any, End]:
        """Returns those of these that have ended, at once; RETRY where a machine went."""
        ...

    def stop(self, host: Any) -> None:
        """Begins `Host.stop`."""
        ...

    def release(self, reserved: Reserved) -> None:
        """Ends what runs there, and gives the machines back."""
        ...

    def close(self) -> None:
        """Leaves the cluster."""
        ...


@dataclasses.dataclass
class Running:
    """Holds a job that has begun: its machines, what they are at, and how others have ended."""

    job: jobs.Job
    reserved: Reserved
    runs: list[Any]
    ends: list[End] = dataclasses.field(default_factory=list)


class ClusterEngine:
    """Runs jobs on a cluster: each on a slice of it, or on some cores if it wants no devices.

    Args:
      slice: what a job on devices takes (`slices.choose`).
      cores: what another job takes.
      away: seconds after which machines that are gone are lost.

    Raises:
      ValueError: no machine has that.
    """

    def __init__(self, machines: Machines, slice: str = "", cores: int = 1, away: float = AWAY):
        self._machines, self._away, nodes = machines, away, machines.nodes()
        self._slice, self._cores = slices.choose(nodes, slice), slices.choose(nodes, f"CPU={cores}")
        self._running: list[Running] = []
        self._failed: list[jobs.Ended] = []  # to begin
        self._seen = time.monotonic()  # when there was a machine for jobs on devices

    def has_room(self, job: jobs.Job) -> bool:
        same = sum(running.job.on_devices == job.on_devices for running in self._running)
        return same < slices.count(self._machines.nodes(), self._taken(job))

    def begin(self, job: jobs.Job) -> None:
        try:
            reserved = self._machines.reserve(self._taken(job))
        except TimeoutError as e:  # a machine went, or others use it
            self._failed.append(jobs.Ended(job, signals.RETRY, f"could not begin: {e}"))
            return
        commands = [job.words]
        if reserved.coordinator:
            commands = slices.commands(job.words, len(reserved.hosts), reserved.coordinator)
        pairs = zip(reserved.hosts, commands, strict=True)
        runs = [self._machines.run(host, words, os.getcwd()) for host, words in pairs]
        self._running.append(Running(job, reserved, runs))

    def ended(self, seconds: float) -> list[jobs.Ended]:
        """Returns the jobs that have ended; waits at most so long for at least one.

        Raises:
          LostError: no machine for jobs on devices is left, for a while.
        """
        until = time.monotonic() + seconds
        while not (over := self._collect()) and time.monotonic() < until:
            self._refuse_loss()
            time.sleep(POLL)  # and not within the library, which may make an error of a signal
        return over

    def close(self) -> None:
        for running in self._running:
            self._stop(running)
        until = time.monotonic() + STOP
        while self._running and time.monotonic() < until:
            self._collect()
            time.sleep(POLL)
        for running in self._running:
            self._machines.release(running.reserved)
        self._running.clear()
        self._machines.close()

    def _taken(self, job: jobs.Job) -> slices.Slice:
        return self._slice if job.on_devices else self._cores

    def _collect(self) -> list[jobs.Ended]:
        """Returns the jobs all of whose machines have ended, which are given back."""
        over, self._failed = self._failed, []
        for running in [*self._running]:
            ends = self._machines.ends(running.runs)
            running.runs = [run for run in running.runs if run not in ends]
            running.ends += ends.values()
            if not running.runs:
                self._machines.release(running.reserved)
                self._running.remove(running)
                over.append(jobs.Ended(running.job, *jobs.verdict(running.ends)))
            elif any(code for code, _ in ends.values()):
                self._stop(running)
        return over

    def _stop(self, running: Running) -> None:
        for host in running.reserved.hosts:
            self._machines.stop(host)

    def _refuse_loss(self) -> None:
        on_cores = any(not running.job.on_devices for running in self._running)
        if on_cores or slices.count(self._machines.nodes(), self._slice):
            self._seen = time.monotonic()
        elif time.monotonic() - self._seen > self._away:
            raise LostError(self._slice.name, self._away)


def join(address: str, enter: Callable[[str], object]) -> None:
    """Enters the cluster at host:port, or at "auto", the one that this machine belongs to.

    It does so in a thread: Ray would take SIGTERM for itself, and waits without a limit.

    Raises:
      ValueError: nothing answers, soon.
    """
    if address:
        _refuse_silent(address)
    ends: list[Exception | None] = []

    def attempt() -> None:
        try:
            enter(address or "auto")
            ends.append(None)
        except Exception as e:
            ends.append(e)

    signals.within(ANSWER, attempt)
    why = ends[0] if ends else f"no answer within {ANSWER:.0f} s"
    if why and not address:
        raise ValueError(
            f"no Ray cluster runs on this machine ({why}); begin one by `ray start --head`, or "
            "join one by `ray start --address=HOST:6379`"
        )
    if why:
        raise ValueError(
            f"--address {address}: it accepts connections, but lets nobody in ({why}). Want the "
            "head of a Ray cluster, of the version that is installed here, which this machine has "
            f"joined by `ray start --address={address}`"
        )


def _refuse_silent(address: str) -> None:
    """Raises ValueError where nothing accepts a connection."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        raise ValueError(f"--address {address}: want host:port, such as 10.0.0.1:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ACCEPT).close()
    except (OSError, OverflowError) as e:
        raise ValueError(
            f"--address {address}: nothing answers ({e}); a cluster is begun there by "
            f"`ray start --head --port={port}`"
        ) from None
