"""Keeps the processes of a run together: they agree, they end together, and a dead one is named.

Everything goes through JAX's coordination service, which process 0 runs, and never through the
devices: a device that waits for a process that is gone waits for ever. The service answers from
threads of its own, so a process that is busy in Python still counts as alive.
"""

import atexit
from collections.abc import Callable, Collection, Iterator
import contextlib
import ctypes
import json
import select
import signal
import socket
import sys
import threading
import time
from typing import Any

import jax
from jax._src import distributed  # its client is what jax.distributed and Orbax use, too

from lrl_jax.devices import signals

HEARTBEAT_SECONDS = 24  # a process that is silent for so long is gone; JAX's default is 100
HUNG = signals.GONE
POLL = 0.5  # seconds between two looks at what other processes say
PATIENCE = 3.0  # seconds that a process has to end by itself when another one has ended
FAREWELL = 10.0  # seconds that process 0, which runs the service, waits for others to end
SHUTDOWN = 300.0  # seconds that a process which is done waits for those that are not
JOIN = 300.0  # seconds that a process waits for the others to come; hosts start minutes apart
REMIND = 15.0  # seconds after which it says so, again and again
STOP, END = "lrl/word/stop", "lrl/word/end"
LEFT = "lrl/left/"
CLOSING, ENDED = "closing", "ended"  # how a process leaves: at the end of its work, or at once


class EndedError(Exception):
    """Reports that another process of the run has ended with an error."""

    def __init__(self, word: dict[str, Any]):
        super().__init__(
            f"process {word['rank']} ended with code {word['code']} ({word['why']}); so this one "
            "ends too"
        )
        self.exit_code = word["code"]


class Peers:
    """Watches the processes of a run, of which this is one; lives as long as the process.

    Args:
      client: the client of the coordination service.
      rank, count: which process this is, and how many there are.
      address: host:port of the service.
      heartbeat: after how many seconds of silence a process is gone.
    """

    def __init__(self, client: Any, rank: int, count: int, address: str, heartbeat: float):
        self.rank, self.count = rank, count
        self._client, self._address, self._heartbeat = client, address, heartbeat
        self._exchanges = 0
        self._gone: set[int] = set()
        self._first = False  # whether this process is the reason why all end
        self._stopping = False  # whether one of them was asked to stop
        self._word: dict[str, Any] | None = None
        self._over, self._closing, self._cut_off = threading.Event(), False, False
        self._answered = time.monotonic()
        self._stack = contextlib.ExitStack()
        self._threads = [
            threading.Thread(target=work, daemon=True, name=f"peers {work.__name__}")
            for work in (self._count_living, self._listen, self._watch_lead)
        ]

    def start(self) -> None:
        """Begins to watch, until the process ends."""
        _slow_down_aborts()
        for thread in self._threads:
            thread.start()
        atexit.register(self._close)  # runs before JAX closes its client
        signals.after_all(self._stop)  # others wait for this process though its own work is done
        self._stack.enter_context(signals.listener(self._tell_stop))
        self._stack.enter_context(signals.at_end(self._say_farewell))

    def exchange(self, text: str) -> list[str]:
        """Returns the texts of all processes, by rank: the lead collects them and tells all.

        Every process calls it, from its main thread and in the same order.

        Raises:
          EndedError: another process has ended with an error.
        """
        self._exchanges += 1
        number, client = self._exchanges, self._client
        place, whole = f"lrl/exchange/{number}/", f"lrl/whole/{number}"
        client.key_value_set(f"{place}{self.rank:08}", json.dumps(text))
        if self.rank:
            return json.loads(self._wait_for(whole, self._check))
        pause = 0.005
        while len(texts := client.key_value_dir_get(place)) < self.count:
            self._check()
            time.sleep(pause := min(2 * pause, 0.2))
        answer = json.dumps([json.loads(value) for _, value in sorted(texts)])
        client.key_value_set(whole, answer)
        if number > 1:  # all have read what came before
            client.key_value_delete(f"lrl/exchange/{number - 1}/")
            client.key_value_delete(f"lrl/whole/{number - 1}")
        return json.loads(answer)

    def end(self, code: int, why: str) -> None:
        """Ends every process with this code, or with that of a process that ended before."""
        word = json.dumps({"rank": self.rank, "code": code, "why": why})

        def tell() -> None:
            nonlocal code
            try:
                self._client.key_value_set(END, word)
                self._first = True
            except jax.errors.JaxRuntimeError:  # another process was first
                code = json.loads(self._client.key_value_try_get(END))["code"]

        signals.within(PATIENCE, tell, until=self._lead_is_gone)
        signals.end(code)

    def wait_for_cause(self) -> None:
        """Waits as long as it takes to see that a process is gone, which ends this one too."""
        time.sleep(self._heartbeat + 10 * POLL)

    def _check(self) -> None:
        if self._word is not None:
            raise EndedError(self._word)

    def _wait_for(self, key: str, check: Callable[[], None]) -> str:
        """Returns the value of a key when it has one; wakes up at times, so that signals come."""
        while True:
            try:
                return self._client.blocking_key_value_get(key, round(1000 * POLL))
            except jax.errors.JaxRuntimeError as e:
                if "DEADLINE_EXCEEDED" not in str(e):
                    raise
            check()

    # ------------------------------------------------------------------------ threads
    def _count_living(self) -> None:
        """Asks the service, again and again, which processes live; every process has to ask."""
        everyone, alone, number = {*range(self.count)}, 0, 0
        while True:
            try:
                if self._round(number) == "last":
                    break
                living = {*self._client.get_live_nodes([*everyone])}
                left, number = self._left(), number + 1
                if gone := everyone - living - left:
                    self._lost(gone)
                # One that stopped before it had anything to save leaves others in a step.
                alone += bool(signals.stopping() and left - {self.rank} and not self._closing)
                if alone > PATIENCE:
                    signals.end(signals.RETRY)
            except jax.errors.JaxRuntimeError:  # the service is gone: `_watch_lead` says so
                self._cut_off = self._closing  # or `_close`, as JAX aborts a client without one
                if self._closing or self._over.wait(POLL):
                    return
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            while not self.rank and {*self._client.get_live_nodes([*everyone])} != {0}:
                time.sleep(POLL / 10)  # the service must outlive all who use it

    def _round(self, number: int) -> str:
        """Returns whether there is another round of counting, which is for process 0 to say."""
        key = f"lrl/round/{number}"
        if self.rank:
            return self._wait_for(key, check=lambda: None)
        self._over.wait(POLL / 10 if self._closing else 2 * POLL)
        word = "last" if len(self._left()) == self.count else "another"
        self._client.key_value_set(key, word, allow_overwrite=True)
        if number > 1:
            self._client.key_value_delete(f"lrl/round/{number - 2}")
        return word

    def _listen(self) -> None:
        """Looks for what other processes say, and does it."""
        while not self._over.wait(POLL):
            try:
                words = dict(self._client.key_value_dir_get("lrl/word/"))
            except jax.errors.JaxRuntimeError:
                continue
            self._answered = time.monotonic()
            if STOP in words:
                self._stopping = True
                signals.ask(words[STOP])
            word = json.loads(words.get(END, "null"))
            if word and word["rank"] != self.rank and self._word is None:
                self._word = word
                if word["code"] != HUNG:  # the main thread may have an error of its own to say
                    time.sleep(PATIENCE)
                sys.stderr.write(f"{EndedError(word)}\n")
                signals.end(word["code"])

    def _watch_lead(self) -> None:
        """Ends this process when that of the service is gone, or answers nothing for too long."""
        if not self.rank:
            return
        host, _, port = self._address.rpartition(":")
        connection = None
        while not self._over.is_set():
            if time.monotonic() - self._answered > self._heartbeat / 2:
                self._lost({0})
            try:
                connection = connection or socket.create_connection((host.strip("[]"), port), 2.0)
                if select.select([connection], [], [], POLL)[0] and not connection.recv(4096):
                    connection = None  # closed; if its process lives, it can be opened again
            except ConnectionRefusedError:
                if not self._over.wait(POLL / 5):
                    self._lost({0})
            except OSError:
                connection = None
                self._over.wait(POLL)

    def _lost(self, ranks: Collection[int]) -> None:
        self._gone |= {*ranks}
        names = ", ".join(map(str, sorted(ranks)))
        what = "processes" if len(ranks) > 1 else "process"
        why = (
            f"{what} {names} of {self.count} is gone: killed, stopped or cut off, no sign of life "
            f"within {self._heartbeat:.0f} s. Run the same command again on every host: it goes on "
            "from what is saved"
        )
        if self._stopping or signals.stopping():  # all were asked to stop; some are faster
            signals.end(signals.RETRY)
        sys.stderr.write(f"process {self.rank}: {why}\n")
        if 0 in ranks:  # nobody is left who could pass it on
            signals.end(HUNG)
        self.end(HUNG, why)

    # ------------------------------------------------------------------------ the end
    def _tell_stop(self, name: str) -> None:
        word = f"{name} of process {self.rank}"

        def tell() -> None:
            with contextlib.suppress(jax.errors.JaxRuntimeError):  # another has told it before
                self._client.key_value_set(STOP, word)

        signals.within(PATIENCE, tell)

    def _stop(self, number: int, frame: object) -> None:
        """Handles a signal that comes when this process has done its work, and others have not."""
        self._tell_stop(signal.Signals(number).name)
        signals.end(signals.RETRY)

    def _left(self) -> set[int]:
        keys = (key for key, _ in self._client.key_value_dir_get(LEFT))
        return {int(key.rpartition("/")[2]) for key in keys}

    def _leave(self, how: str) -> None:
        self._client.key_value_set(f"{LEFT}{self.rank}", how, allow_overwrite=True)

    def _wait_for_closing(self, until: float) -> None:
        """Waits until the clients of processes at the end of their work are closed.

        They abort if the service goes before; those that end at once never close theirs.
        """
        ways = dict(self._client.key_value_dir_get(LEFT))
        ways.pop(f"{LEFT}{self.rank}", None)
        if CLOSING in ways.values():
            self._threads[0].join(max(until - time.monotonic(), 0))

    def _say_farewell(self, code: int) -> None:
        """Says that this process ends.

        Process 0 waits for the others, which need its service; so does the first that ends, because
        the others' devices fail when it is gone, before they have heard why. A call of a service
        that is gone may take longer than JAX's client lets this process live.
        """
        if not self._lead_is_gone():
            signals.within(FAREWELL + POLL, self._tell_left, until=self._lead_is_gone)

    def _lead_is_gone(self) -> bool:
        return 0 in self._gone

    def _tell_left(self) -> None:
        until = time.monotonic() + FAREWELL
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            if not self.rank:
                self._leave(ENDED)
            while self._first or not self.rank:
                if len(self._left() | self._gone | {self.rank}) == self.count:
                    break
                if time.monotonic() > until:
                    break
                time.sleep(POLL / 10)
            self._leave(ENDED)
            if not self.rank:
                self._wait_for_closing(until)
        time.sleep(0.0 if self.rank else POLL)

    def _close(self) -> None:
        """Waits, at the end of the process, until all processes are at theirs."""
        if hasattr(sys, "last_value"):  # it ends with an exception
            self.end(1, f"{type(sys.last_value).__name__}: {sys.last_value}")
        self._closing = True
        for number in signals.SIGNALS:  # also where a script of the user's is not ours to end
            signal.signal(number, self._stop)
        signals.within(PATIENCE, lambda: self._leave(CLOSING))
        self._threads[0].join(SHUTDOWN)
        if self._cut_off:
            self._lost({0})
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            jax.distributed.shutdown()  # while `_watch_lead` can still say that process 0 is gone
        self._over.set()
        for thread in self._threads[1:]:
            thread.join(4 * POLL)


def _slow_down_aborts() -> None:
    """Lets this process live for six seconds after it has aborted.

    When the process of the service is killed, JAX's client aborts this process at once, without
    saying which process is gone. The C function sleep becomes the handler of SIGABRT: it is given
    the number of the signal, 6, and meanwhile `_watch_lead` says it and ends the process.
    """
    libc = ctypes.CDLL(None)
    libc.signal.argtypes, libc.signal.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
    libc.signal(int(signal.SIGABRT), ctypes.cast(libc.sleep, ctypes.c_void_p))


@contextlib.contextmanager
def joining(waits: str) -> Iterator[None]:
    """Says, while the block is open, that this process waits, and ends it after JOIN seconds (76).

    JAX's client is silent while it waits for the others, and then aborts the process.

    Args:
      waits: what it does, such as "process 1 of 2 waits for process 0 at host:port".
    """
    began, over = time.monotonic(), threading.Event()

    def watch() -> None:
        while not over.wait(min(REMIND, JOIN)):
            waited = time.monotonic() - began
            sys.stderr.write(f"{waits}: {waited:.0f} s of {JOIN:.0f}\n")
            if waited >= JOIN:
                sys.stderr.write(
                    "Not all processes have come: see what those on the other hosts say, and "
                    "whether they reach that port; then run the same command again on every host\n"
                )
                signals.end(HUNG)

    threading.Thread(target=watch, daemon=True, name="joining").start()
    try:
        yield
    finally:
        over.set()


_peers: Peers | None = None


def start(heartbeat: float) -> None:
    """Begins to watch the other processes; does nothing if there are none, or for a second time."""
    global _peers
    state = distributed.global_state
    if _peers is None and state.client is not None and state.num_processes > 1:
        address = state.coordinator_address or ""
        _peers = Peers(state.client, state.process_id, state.num_processes, address, heartbeat)
        _peers.start()


def exchange(text: str) -> list[str]:
    """Returns the texts of all processes, by rank, as `Peers.exchange`."""
    return [text] if _peers is None else _peers.exchange(text)


def meet(name: str) -> None:
    """Waits until all processes have called it; returns at once if there is only one."""
    names = exchange(name)
    assert {*names} == {name}, f"processes are at different places: {names}"


def end(code: int, why: str) -> None:
    """Ends every process of a run of several with this code; does nothing if this one is alone."""
    if _peers is not None:
        _peers.end(code, why)


def wait_for_cause() -> None:
    """Waits until it is seen that a process is gone, which ends this one, or that none is."""
    if _peers is not None:
        _peers.wait_for_cause()
