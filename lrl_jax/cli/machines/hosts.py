"""Runs a command on every host of a TPU at once, and collects how each of them ended.

    ends = run_on_all(gcloud, tpu, hosts, "bash lrl_jax/tpu/host/job.sh status", logs)
    worst(ends).code

A process of gcloud follows each host. Scripts on the hosts print lines that begin with "lrl-host":
their clock, from which line of the log on they print, and the exit code of their command. So an
exit code of ssh or gcloud is never taken for one of `lrl`, and a connection that breaks is made
anew while the command goes on. What a host prints is kept in a file of its own.
"""

from collections.abc import Callable, Sequence
import concurrent.futures
import dataclasses
import os
from pathlib import Path
import re
import shlex
import signal
import statistics
import subprocess
import threading
import time
from typing import TextIO

from lrl_jax.cli.machines import requests
from lrl_jax.cli.machines.gcloud import Gcloud, MachineError, say
from lrl_jax.cli.machines.names import Tpu

HOME = "lrl_jax"  # the folder of the product on a host, in its home
JOB = f"bash {HOME}/tpu/host/job.sh"
MARK = re.compile(r"lrl-host (clock|from|code|stopped|busy) (\d+)$")
# ssh gives up on a host that is silent: three minutes once connected.
SSH = ("--", "-o", "ConnectTimeout=30", "-o", "ServerAliveInterval=30",
       "-o", "ServerAliveCountMax=6")  # fmt: skip
ANSWER = 300.0  # seconds within which a host begins; gcloud itself tries ten times
GRACE = 180.0  # seconds the others have when one host has ended badly; lrl takes 30
TRIES = 3  # connections in a row without an answer
SKEW = 60.0  # seconds that clocks may differ; a lease tolerates as much (devices/lease.py)
LAST = 20  # lines of a host that are shown when it ended badly

# What a person has to set right comes first, then what is the cause of the others' ends.
WORST = (2, 3, 4, 5, 7, 8, 9, 1, 6)
MILDEST = (76, 75, 0)
GONE = 76  # the exit code for a host that gave none


@dataclasses.dataclass(frozen=True)
class TpuHost:
    """Names a host: the slice it belongs to and its number there."""

    node: str
    worker: int

    def __str__(self) -> str:
        return f"{self.node}/{self.worker}"


@dataclasses.dataclass
class End:
    """Holds how a command ended on a host.

    Attributes:
      code: its exit code; None where the host gave none.
      why: why there is none.
      stopped: whether a person asked it to stop.
      busy: whether another command is under way there, so that this one was not begun.
      ahead: seconds by which its clock is ahead of the clock here.
      lines: how many it printed.
      tail: the last of these.
    """

    host: TpuHost
    code: int | None = None
    why: str = ""
    stopped: bool = False
    busy: bool = False
    ahead: float | None = None
    lines: int = 0
    tail: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class WaitLimits:
    """Says how long to wait for hosts, in seconds; `whole` is for the command, 0 for no limit."""

    answer: float = ANSWER
    grace: float = GRACE
    whole: float = 0.0


def of(gcloud: Gcloud, tpu: Tpu) -> list[TpuHost]:
    """Returns the hosts of every slice.

    Raises:
      MachineError: a slice is not there.
    """
    every = []
    for name in tpu.nodes:
        count = tpu.hosts if gcloud.dry and tpu.type else 1
        if not gcloud.dry:
            said = requests.node(gcloud, tpu, name)
            if not said:
                raise MachineError(f"there is no TPU {name} in {tpu.zone}; tpu/create.sh makes it")
            count = len(said.get("networkEndpoints", [])) or 1
        every += [TpuHost(name, worker) for worker in range(count)]
    return every


def ssh(tpu: Tpu, host: TpuHost, command: str) -> tuple[str, ...]:
    """Returns the words of gcloud that run a command of a shell on a host."""
    return (
        *requests.NODES, "ssh", host.node, f"--worker={host.worker}", *requests.where(tpu),
        "--quiet", f"--command={command}", *SSH,
    )  # fmt: skip


def scp(tpu: Tpu, host: TpuHost, source: str, target: str) -> tuple[str, ...]:
    """Returns the words of gcloud that copy a file to a host."""
    return (
        *requests.NODES, "scp", source, f"{host.node}:{target}", f"--worker={host.worker}",
        *requests.where(tpu), "--quiet",
    )  # fmt: skip


def run_on_all(
    gcloud: Gcloud,
    tpu: Tpu,
    hosts: Sequence[TpuHost],
    command: str | Callable[[int], str],
    logs: Path,
    limits: WaitLimits,
    stop: str = "",
) -> list[End]:
    """Runs a command on all hosts at once; returns how each ended, in their order.

    Args:
      command: or a function that returns it, given how many lines of the host were read before.
      logs: a folder for what each host prints.
      stop: a command for the hosts that go on although one has ended badly.
    """
    text = command if callable(command) else lambda lines: command
    if gcloud.dry:
        several = len(hosts) > 1  # which wait for one another
        for host in hosts:
            line = shlex.join(["gcloud", *ssh(tpu, host, text(0))])
            gcloud.show(f"{line} &" if several else line)
        if several:
            gcloud.show("wait")
        return [End(host, 0) for host in hosts]
    logs.mkdir(parents=True, exist_ok=True)
    followers = [
        Follower(gcloud, tpu, host, text, logs, limits, host == hosts[0]) for host in hosts
    ]
    with concurrent.futures.ThreadPoolExecutor(len(followers)) as pool:
        futures = {pool.submit(follower.follow): follower for follower in followers}
        try:
            _wait(gcloud, tpu, futures, limits, stop)
        finally:  # an interrupt, too, ends every connection
            for follower in followers:
                follower.end("ended from here")
    return [follower.ended for follower in followers]


def _wait(
    gcloud: Gcloud,
    tpu: Tpu,
    futures: dict[concurrent.futures.Future, "Follower"],
    limits: WaitLimits,
    stop: str,
) -> None:
    """Waits until every host has ended, or has had its time since the first bad end."""
    began, bad_since, stopped = time.monotonic(), 0.0, False
    left = set(futures)
    while left:
        over, left = concurrent.futures.wait(left, timeout=min(1.0, limits.grace / 4))
        now = time.monotonic()
        if not bad_since and any(futures[future].ended.code != 0 for future in over):
            bad_since = now
        if bad_since and now - bad_since > limits.grace and not stopped and left:
            stopped, bad_since = True, now
            if stop:
                _call_on(gcloud, tpu, [futures[future].ended.host for future in left], stop, limits)
        late = stopped and now - bad_since > limits.grace
        if late or (limits.whole and now - began > limits.whole):
            for future in left:
                futures[future].end(f"did not end within {now - began:.0f} s")


def _call_on(
    gcloud: Gcloud, tpu: Tpu, hosts: Sequence[TpuHost], command: str, limits: WaitLimits
) -> None:
    """Runs a short command on some hosts, whether they answer or not."""

    def call(host: TpuHost) -> None:
        gcloud.call(*ssh(tpu, host, command), limit=limits.answer)

    with concurrent.futures.ThreadPoolExecutor(len(hosts)) as pool:
        list(pool.map(call, hosts))


class Follower:
    """Follows a command on a host over as many connections as it takes."""

    def __init__(
        self,
        gcloud: Gcloud,
        tpu: Tpu,
        host: TpuHost,
        command: Callable[[int], str],
        logs: Path,
        limits: WaitLimits,
        shown: bool,
    ):
        self._gcloud, self._tpu, self._command = gcloud, tpu, command
        self._limits, self._shown = limits, shown
        self._path = logs / f"{host.node}-{host.worker}.log"
        self.ended = End(host)
        self._over = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._line = 0  # of the host's log that was read last
        self._lock = threading.Lock()

    def follow(self) -> None:
        """Connects until the host has said its exit code, or answers no more."""
        tries = 0
        with self._path.open("a", encoding="utf-8") as log:
            while not self._over.is_set() and self.ended.code is None:
                answered, said = self._connect(log)
                if self.ended.code is not None or self._over.is_set():
                    break
                tries = 0 if answered else tries + 1
                if reason := self._lost(tries, said):
                    self.ended.why = reason
                    break
                self._over.wait(self._gcloud.pauses.seconds(max(tries - 1, 0)))

    def end(self, why: str) -> None:
        """Ends the connection, if it is still open."""
        if self.ended.code is None:
            self.ended.why = self.ended.why or why
        self._over.set()
        self._kill()

    def _connect(self, log: TextIO) -> tuple[bool, str]:
        """Follows one connection; returns whether the host answered, and what gcloud said last."""
        words = ssh(self._tpu, self.ended.host, self._command(self.ended.lines))
        self._process = process = subprocess.Popen(
            ["gcloud", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        if self._over.is_set():
            self._kill()
        silent = threading.Timer(self._limits.answer, self._kill)
        silent.daemon = True
        silent.start()
        said: list[str] = []
        aside = threading.Thread(target=self._keep_errors, args=(process, log, said), daemon=True)
        aside.start()
        answered = False
        assert process.stdout is not None
        for data in process.stdout:  # bytes: a text stream would count what \r draws over as lines
            line = data.decode(errors="replace")
            if mark := MARK.search(line.rstrip("\n")):
                answered = True
                silent.cancel()
                self._note(mark[1], int(mark[2]))
                line = line[: mark.start()]
            if line:
                self._line += 1
                if self._line > self.ended.lines:  # an earlier connection has not brought it
                    self.ended.lines = self._line
                    self._keep(line, log)
            if self.ended.code is not None:
                break
        silent.cancel()
        aside.join(1.0)  # what is said of a bad end stands there
        self._kill()
        process.wait()
        aside.join()
        process.stdout.close()
        return answered, said[-1] if said else ""

    def _keep_errors(self, process: subprocess.Popen[bytes], log: TextIO, said: list[str]) -> None:
        """Keeps what gcloud and the host say beside the output, until the connection ends."""
        assert process.stderr is not None
        with process.stderr:
            for data in process.stderr:
                line = data.decode(errors="replace")
                said.append(line.strip())
                self._keep(line, log)

    def _note(self, name: str, value: int) -> None:
        if name == "clock":
            self.ended.ahead = value - time.time()
        elif name == "from":
            self._line = value
        elif name == "stopped":
            self.ended.stopped = True
        elif name == "busy":
            self.ended.busy = True
        else:
            self.ended.code = value

    def _keep(self, line: str, log: TextIO) -> None:
        """Keeps a line in the host's log."""
        with self._lock:
            self.ended.tail = [*self.ended.tail[1 - LAST :], line.rstrip("\n")]
            log.write(line)
            log.flush()
        if self._shown:
            print(line, end="", flush=True)

    def _lost(self, tries: int, said: str) -> str:
        """Returns why it is in vain to connect again; "" if it is not."""
        if tries >= TRIES:
            return f"does not answer ({said or 'no word'}; {tries} tries)"
        try:
            state = requests.node(self._gcloud, self._tpu, self.ended.host.node).get("state", "")
        except MachineError as e:
            return "" if tries < TRIES else str(e)
        return "" if state == requests.READY else f"its slice is {state or 'gone'}"

    def _kill(self) -> None:
        if (process := self._process) is not None and process.poll() is None:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                return


def worst(ends: Sequence[End]) -> End:
    """Returns the end that says most about what went wrong.

    >>> worst([End(TpuHost("a", 0), 76), End(TpuHost("a", 1), 8), End(TpuHost("a", 2))]).code
    8
    """
    return min(ends, key=lambda end: _severity(end.code))


def code_of(ends: Sequence[End]) -> int:
    """Returns the exit code of all hosts together: the worst; 76 where one gave none.

    >>> code_of([End(TpuHost("a", 0), 0), End(TpuHost("a", 1))])
    76
    """
    code = worst(ends).code
    return GONE if code is None else code


def _severity(code: int | None) -> float:
    """Returns the place of an exit code, the worst first; others, such as 137, are in between."""
    if code is None:
        return len(WORST) + 1
    if code in WORST:
        return WORST.index(code)
    if code in MILDEST:
        return len(WORST) + 2 + MILDEST.index(code)
    return len(WORST)


def skewed(ends: Sequence[End]) -> list[str]:
    """Returns a sentence for each clock that is more than SKEW off.

    >>> skewed([End(TpuHost("a", i), ahead=ahead) for i, ahead in enumerate((0.2, 1.1, 91.4))])
    ["a/2: its clock is 90 s ahead of the other hosts'"]
    """
    clocks = {end.host: end.ahead for end in ends if end.ahead is not None}
    if not clocks:
        return []
    usual = statistics.median_low(clocks.values())
    words = [
        f"{host}: its clock is {abs(ahead - usual):.0f} s "
        f"{'ahead of' if ahead > usual else 'behind'} the other hosts'"
        for host, ahead in clocks.items()
        if abs(ahead - usual) > SKEW
    ]
    if abs(usual) > SKEW:
        words.append(f"the hosts' clocks and the one here differ by {abs(usual):.0f} s")
    return words


def tell(ends: Sequence[End], logs: Path) -> None:
    """Prints what is to be known of ends that were not all good: who, how, and its last lines."""
    for sentence in skewed(ends):
        say(f"{sentence}; set it right there (sudo systemctl restart chrony), or leases of run "
            "folders wait longer")  # fmt: skip
    first, bad = worst(ends), [end for end in ends if end.code != 0]
    for end in bad if len(ends) > 1 else ():
        say(f"{end.host}: " + (f"exit code {end.code}" if end.code is not None else end.why))
    if not bad:
        return
    if first is not ends[0]:  # whose lines were shown as they came
        say(f"the last lines of {first.host}:")
        for line in first.tail:
            print(f"  {line}", flush=True)
    say(f"what every host printed is in {logs}")
