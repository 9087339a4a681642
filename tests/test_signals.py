"""A signal ends whatever a process does, soon and at a clean point."""

import signal
import subprocess
import sys
import textwrap
import time

import pytest

from lrl_jax.devices import signals


def run(code):
    """Runs code in a process of its own, which prints a line when it wants its signals."""
    text = "import os, signal, sys, time\nfrom lrl_jax.devices import signals\n"
    return subprocess.Popen(
        [sys.executable, "-c", text + textwrap.dedent(code)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended(process, *numbers):
    process.stdout.readline()
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.2)
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def test_a_signal_stops_the_step_it_comes_in_and_what_is_open_is_closed():
    process = run("""
        try:
            with signals.interrupts(), signals.naming("export"):
                try:
                    print(flush=True)
                    time.sleep(60)
                finally:
                    print("closed")
        except signals.Stopped as stopped:
            print(stopped)
            signals.end(stopped.exit_code)
    """)
    code, out, err = ended(process, signal.SIGINT)
    assert (code, err) == (75, "SIGINT: stopping; once more stops at once\n")
    stopped = "stopped as asked in export; what is finished is kept: run again to go on"
    assert out == f"closed\n{stopped}\n"


def test_a_stop_is_said_by_a_process_whose_other_threads_get_no_turn():
    process = run("""
        signals.Signals._watch = lambda self, inbox: time.sleep(60)  # waits for a core
        try:
            with signals.listener(print), signals.interrupts():
                print(flush=True)
                time.sleep(60)
        except signals.Stopped as stopped:
            signals.end(stopped.exit_code)
    """)
    code, out, err = ended(process, signal.SIGINT)
    assert (code, out, err) == (75, "SIGINT\n", "SIGINT: stopping; once more stops at once\n")


def test_a_main_thread_that_sleeps_on_because_another_thread_got_the_signal_is_woken():
    process = run("""
        try:
            with signals.interrupts():
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # here, not elsewhere
                print(flush=True)
                time.sleep(60)
        except signals.Stopped as stopped:
            print(stopped)
            signals.end(stopped.exit_code)
    """)
    began = time.monotonic()
    code, out, err = ended(process, signal.SIGTERM)
    assert (code, err) == (75, "SIGTERM: stopping; once more stops at once\n")
    assert "stopped as asked; what is finished is kept" in out
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("swallows", ["collector", "except"])
def test_a_stop_that_is_dropped_where_it_was_raised_is_raised_again(swallows):
    process = run(f"""
        import contextlib, gc
        def pause(phase, info):
            print(flush=True)
            time.sleep(60)
        try:
            with signals.interrupts(owner=False):  # one that no patience ends
                try:
                    if {swallows!r} == "collector":
                        gc.callbacks.append(pause)
                        gc.collect()  # says "Exception ignored in", and goes on
                    else:
                        with contextlib.suppress(BaseException):
                            pause(None, None)
                    time.sleep(60)
                finally:
                    time.sleep(2)  # is not interrupted by what it ends for
                    print("closed")
        except signals.Stopped as stopped:
            signals.end(stopped.exit_code)
    """)
    began = time.monotonic()
    code, out, err = ended(process, signal.SIGTERM)
    assert (code, out.split()) == (75, ["closed"]), err
    assert time.monotonic() - began < 10


def test_a_main_thread_that_is_inside_a_library_is_ended_after_a_time():
    process = run("""
        import hashlib, threading
        signals.PATIENCE = 0.5
        with signals.interrupts(), signals.at_end(lambda code: print("at the end", code)):
            threading.Timer(0.3, lambda: print(flush=True)).start()  # by then it is in there
            hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # minutes, and deaf to signals
    """)
    began = time.monotonic()
    code, out, err = ended(process, signal.SIGTERM)
    assert (code, out) == (75, "at the end 75\n")
    assert "not at a clean point" in err
    assert time.monotonic() - began < 10


def test_a_block_that_saves_by_itself_is_not_interrupted_but_what_follows_it_is():
    process = run("""
        try:
            with signals.interrupts(), signals.naming("train"):
                with signals.deferred() as asked:
                    print(flush=True)
                    while not asked.stop:
                        time.sleep(0.01)
                    time.sleep(0.1)
                    print("saved")
                print("never here")
        except signals.Stopped as stopped:
            print(stopped.step, signals.stopping())
    """)
    code, out, err = ended(process, signal.SIGTERM)
    assert (code, out) == (0, "saved\ntrain False\n")
    assert err == "SIGTERM: saving, then stopping; once more stops at once\n"


def test_a_stop_that_another_process_asks_for_is_no_second_signal():
    process = run("""
        try:
            with signals.interrupts():
                try:
                    signals.ask("SIGTERM of process 1")
                    time.sleep(60)
                finally:
                    signals.ask("SIGTERM of process 1")  # as it is asked until the process ends
        except signals.Stopped:
            print(flush=True)
            time.sleep(0.5)
            sys.exit(75)
    """)
    code, _, err = ended(process)
    assert (code, err) == (75, "SIGTERM of process 1: stopping; once more stops at once\n")


def test_a_second_signal_ends_at_once():
    process = run("""
        with signals.deferred():
            print(flush=True)
            time.sleep(60)
    """)
    assert ended(process, signal.SIGTERM, signal.SIGINT)[0] == 128 + signal.SIGINT


def test_handlers_are_as_before_when_the_last_block_is_closed():
    before = signal.getsignal(signal.SIGTERM)
    with signals.interrupts():
        with signals.deferred():
            pass
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
    assert not signals.stopping()


def test_a_process_that_is_ours_may_handle_signals_after_its_last_block(monkeypatch):
    before, last = signal.getsignal(signal.SIGTERM), lambda number, frame: None
    monkeypatch.setattr(signals, "_after", None)
    signals.after_all(last)
    try:
        with signals.interrupts(owner=False):
            pass
        assert signal.getsignal(signal.SIGTERM) == before
        with signals.interrupts(), signals.deferred():
            pass
        assert signal.getsignal(signal.SIGTERM) == last
    finally:
        for number in signals.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
