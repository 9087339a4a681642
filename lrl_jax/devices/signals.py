"""Turns signals that ask a process to stop into an orderly end, whatever the process is doing.

    with interrupts():               # a signal raises Stopped in the main thread
        ...
        with deferred() as signals:  # a block that stops by itself, once it sees `signals.stop`
            ...

A second signal ends the process at once. So does PATIENCE after the first one, if the main thread
has not come to an end: it may be inside a compiler or another library. A process that is not ours
to end, such as a notebook's, is only interrupted.
"""

from collections.abc import Callable, Iterator
import contextlib
import functools
import os
import signal
import socket
import sys
import threading
import time

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
PEER = signal.SIGUSR2  # what `_wake` sends to the main thread of its own process
PATIENCE = 10.0  # seconds that the main thread has to stop; each step survives being killed
GLANCE = 0.2  # seconds between two looks at what came of a signal
BEAT = 0.5  # seconds between two looks while none has come
LOOK = 0.05  # seconds between two looks at whether waiting has become vain
FAREWELL = 12.0  # seconds that a function given to `at_end` may take
RETRY = 75  # the exit code that says: run the same command again (EX_TEMPFAIL of sysexits.h)
GONE = 76  # the exit code of a run that does not go on: a process is gone, or no step ends
WATCH = 1.0  # seconds between two looks whether the process that began this one is still there


class Stopped(BaseException):
    """Reports that this process was asked to stop; no Exception, so that no step swallows it.

    Attributes:
      step: the step that was stopped; "" if none was running.
    """

    exit_code = RETRY
    step = ""

    def __str__(self) -> str:
        where = f" in {self.step}" if self.step else ""
        return f"stopped as asked{where}; what is finished is kept: run again to go on"


class Signals:
    """Receives signals while a block of `interrupts` or `deferred` is open.

    Attributes:
      stop: whether this process was asked to stop.
      by: the name of the signal that asked first, or of the process that told of one.
      owner: whether this process may be ended here. If not, a second signal raises
        KeyboardInterrupt in the main thread.
      lasting: whether signals do what `after_all` was given, once the last block is closed.
    """

    def __init__(self):
        self.stop, self.by, self.owner = False, "", True
        self.lasting = False
        self.deferring = self.interrupting = 0
        self._raised = self._said = False
        self._missing = 0  # looks in a row that found the main thread with no Stopped
        self._lock = threading.Lock()

    def open(self) -> None:
        inbox, self._outbox = socket.socketpair()
        self._outbox.setblocking(False)
        # Python runs signal handlers in the main thread, which may be busy compiling or hang in a
        # collective. The wakeup socket gets its byte at once, and a thread reads it.
        handlers = {number: self._handle for number in (*SIGNALS, PEER)}
        self._before = {number: signal.signal(number, do) for number, do in handlers.items()}
        self._wakeup = signal.set_wakeup_fd(self._outbox.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(inbox,), daemon=True, name="signals").start()

    def close(self) -> None:
        if self.by and not self._said:  # the thread that says so has had no turn yet
            self._tell(self.by)
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            after = _after if self.lasting and number != PEER else None
            signal.signal(number, after or (signal.SIG_DFL if handler is None else handler))
        self._outbox.close()

    def ask(self, name: str) -> bool:
        """Records that `name` asks this process to stop; returns whether it is the first to."""
        with self._lock:
            first, self._said, self.stop = not self._said, True, True
        if first:
            self.by = self.by or name
            how = "saving, then stopping" if self.deferring else "stopping"
            sys.stderr.write(f"{name}: {how}; once more stops at once\n")
        return first

    def _tell(self, name: str) -> None:
        self.ask(name)
        for tell in list(_LISTENERS):
            tell(name)

    def check(self) -> None:
        """Raises Stopped, once, if this process was asked to stop and no block defers that."""
        if self.stop and self.interrupting and not (self.deferring or self._raised):
            self._raised = True
            raise Stopped

    def _handle(self, number: int, frame: object) -> None:
        again = self.stop and number != PEER and not self.owner
        if number != PEER:
            self.stop = True  # the thread says so
            self.by = self.by or signal.Signals(number).name
        self.check()
        if again:
            raise KeyboardInterrupt

    def _watch(self, inbox: socket.socket) -> None:
        asked, deadline = False, time.monotonic() + PATIENCE
        with inbox:
            while True:
                inbox.settimeout(GLANCE if self.stop else BEAT)
                byte = b"\0"
                with contextlib.suppress(TimeoutError):
                    byte = inbox.recv(1)
                if not byte:
                    return
                if byte[0] in SIGNALS:
                    if asked and self.owner:
                        os._exit(128 + byte[0])
                    asked, name = True, signal.Signals(byte[0]).name
                    self._tell(name)
                if not self.stop or self.deferring or not self.interrupting:
                    deadline = time.monotonic() + PATIENCE
                elif self.owner and time.monotonic() > deadline:
                    sys.stderr.write(f"not at a clean point within {PATIENCE:.0f} s: ended here; ")
                    sys.stderr.write("what is finished is kept: run again to go on\n")
                    end(RETRY)
                elif not byte[0] and self._to_raise():
                    # Another thread got the signal, it came just before a system call, or what it
                    # raised was dropped.
                    _wake()

    def _to_raise(self) -> bool:
        """Tells whether the main thread has yet to raise Stopped, or has to once more.

        Python drops what is raised in a callback of the garbage collector and in `__del__`; an
        event loop and a library's bare `except` drop it too. Where two looks in a row find the main
        thread without the Stopped that it raised, `check` may raise another.
        """
        if not self._raised:
            return True
        self._missing = 0 if _stopped_is_handled() else self._missing + 1
        if self._missing < 2:
            return False
        self._missing, self._raised = 0, False
        return True


_LISTENERS: list[Callable[[str], None]] = []  # called with the name of the first signal
_AT_END: list[Callable[[int], None]] = []
_ENDING = threading.Lock()
_signals: Signals | None = None
_blocks = 0
_after: Callable[[int, object], object] | None = None


@contextlib.contextmanager
def listening() -> Iterator[Signals]:
    """Opens a block that receives signals and does nothing about them but to set `stop`."""
    global _signals, _blocks
    if _signals is None:
        _signals = Signals()
        _signals.open()
    signals, _blocks = _signals, _blocks + 1
    try:
        yield signals
    finally:
        _blocks -= 1
        if not _blocks:
            _signals = None
            signals.close()


@contextlib.contextmanager
def interrupts(owner: bool = True) -> Iterator[Signals]:
    """Opens a block that a signal leaves by Stopped. Only the main thread may open it.

    Args:
      owner: whether a signal that comes to nothing may end the process.
    """
    with listening() as signals:
        signals.owner = signals.lasting = owner
        signals.interrupting += 1
        try:
            yield signals
        finally:
            signals.interrupting -= 1


@contextlib.contextmanager
def deferred() -> Iterator[Signals]:
    """Opens a block that no signal interrupts: it looks at `stop`, and stops when it can.

    Where a signal came and the block went on to its end, a block of `interrupts` around it stops.
    """
    with listening() as signals:
        signals.deferring += 1
        try:
            yield signals
        finally:
            signals.deferring -= 1
        signals.check()


@contextlib.contextmanager
def naming(step: str) -> Iterator[None]:
    """Names the step in which a signal stops this process."""
    try:
        yield
    except Stopped as stopped:
        stopped.step = step
        raise


def after_all(handler: Callable[[int, object], object]) -> None:
    """Sets what handles signals once a block of `interrupts` that owns the process is closed.

    Without it signals do then what they did before, which is to kill the process.
    """
    global _after
    _after = handler


def stopping() -> bool:
    """Tells whether this process was asked to stop."""
    return _signals is not None and _signals.stop


def ask(name: str) -> None:
    """Stops this process as a signal would, because another process was asked to stop."""
    if _signals is not None and _signals.ask(name):
        _wake()


def _wake() -> None:
    """Lets the main thread see that it is to stop, even in a system call."""
    thread = threading.main_thread().ident
    assert thread is not None
    signal.pthread_kill(thread, PEER)


def _stopped_is_handled() -> bool:
    """Tells whether the main thread is in an `except`, a `finally` or an `__exit__` of Stopped."""
    error = sys._current_exceptions().get(threading.main_thread().ident or 0)
    error = error[1] if isinstance(error, tuple) else error  # Python 3.11 gives what exc_info does
    while error is not None and not isinstance(error, Stopped):
        error = error.__context__
    return error is not None


def end_with_parent() -> None:
    """Stops this process in order when the process that began it ends, however that ends."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH)
        if not stopping():
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="parent").start()


@contextlib.contextmanager
def listener(tell: Callable[[str], None]) -> Iterator[None]:
    """Calls `tell` with the name of the first signal, in a thread, while the block is open."""
    _LISTENERS.append(tell)
    try:
        yield
    finally:
        _LISTENERS.remove(tell)


@contextlib.contextmanager
def at_end(last: Callable[[int], None]) -> Iterator[None]:
    """Calls `last` with the exit code if `end` ends this process while the block is open."""
    _AT_END.append(last)
    try:
        yield
    finally:
        _AT_END.remove(last)


def end(code: int) -> None:
    """Ends this process from any thread, after what `at_end` was given; does not return.

    Each of these runs in a thread of its own for FAREWELL seconds at most, because the main thread
    may hold what they wait for.
    """
    _ENDING.acquire()  # the first caller ends the process, any other waits here
    for last in reversed(list(_AT_END)):
        within(FAREWELL, functools.partial(last, code))
    for stream in (sys.stdout, sys.stderr):
        within(1.0, stream.flush)
    os._exit(code)


def within(
    seconds: float, work: Callable[[], object], until: Callable[[], bool] = lambda: False
) -> None:
    """Does something in a thread of its own; waits so long at most, or until that is true."""
    thread = threading.Thread(target=work, daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the interpreter is ending, and has no more threads (Python 3.12)
        work()
        return
    last = time.monotonic() + seconds
    while thread.is_alive() and not until() and (left := last - time.monotonic()) > 0:
        thread.join(min(left, LOOK))
