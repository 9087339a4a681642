"""Processes of a run agree, and end together, whoever of them fails, stops or dies."""

import signal
import socket
import subprocess
import time

import forked
import pytest

pytestmark = pytest.mark.slow
HEARTBEAT = 10  # half of it without an answer is the end, and cores may be busy


@pytest.fixture
def start(tmp_path):
    """Starts process `rank` of two that do `what`; it is killed where a test leaves it."""
    processes = []

    def begin(coordinator, rank, what, *join):
        words = [coordinator, str(rank), str(HEARTBEAT), what, *map(str, join)]
        number = len(processes)
        files = tmp_path / f"out-{number}", tmp_path / f"err-{number}"
        processes.append(forked.Forked("worker_peers", words, *files))
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()


@pytest.fixture
def two(start):
    """Starts two processes that do `what`, and waits until they have met."""

    def begin(what):
        coordinator = free_address()
        processes = [start(coordinator, rank, what) for rank in range(2)]
        for process in processes:
            until = time.monotonic() + 120
            while "ready\n" not in process.out.read_text():
                assert process.poll() is None, process.said()
                assert time.monotonic() < until, process.said()
                time.sleep(0.01)
        return processes

    return begin


def free_address():
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return f"localhost:{s.getsockname()[1]}"


def ended(process, within):
    """Exit code and what was said; a process that runs longer fails the test."""
    try:
        return process.wait(within), process.said()
    except subprocess.TimeoutExpired:
        raise AssertionError(f"runs after {within} s: {process.said()}") from None


def test_processes_that_are_done_wait_for_each_other(two):
    assert [ended(process, 20)[0] for process in two("an end")] == [0, 0]


@pytest.mark.parametrize("what", ["an end", "a slow end"], ids=["waits", "is about to wait"])
def test_a_process_that_only_waits_for_another_is_stopped_as_any_other_is(two, what):
    processes = two(what)  # process 1 goes on for a second
    time.sleep(0.5)
    processes[0].terminate()
    (first, said), (second, heard) = (ended(process, 20) for process in processes)
    assert (first, second) in ((75, 0), (75, 75)), f"{said}\n{heard}"


def test_others_stop_with_a_process_that_has_done_its_work_and_is_stopped(two):
    processes = two("a long end")
    time.sleep(0.5)
    processes[0].terminate()
    (first, said), (second, heard) = (ended(process, 20) for process in processes)
    assert (first, second) == (75, 75), f"{said}\n{heard}"
    assert "SIGTERM of process 0: stopping" in heard


def test_a_lead_that_is_killed_while_others_close_leaves_none_that_aborts(two):
    for seconds in (1.1, 1.25, 1.4):  # process 1 closes after one
        lead, other = two("an end")
        time.sleep(seconds)
        lead.send_signal(signal.SIGKILL)
        code, said = ended(other, 20)
        assert code in (0, 76), said


@pytest.mark.parametrize("rank", [0, 1], ids=["the lead", "another"])
def test_an_error_of_one_ends_all_in_seconds_with_its_code(two, rank):
    processes = two(f"an error of process {rank}")
    (code, said), (other, heard) = (ended(processes[r], 15) for r in (rank, 1 - rank))
    assert (code, other) == (2, 2)
    assert "lrl run: bad.json" in said
    assert f"process {rank} ended with code 2 (bad.json); so this one ends too" in heard


def test_a_signal_to_one_stops_all(two):
    processes = two("nothing")
    processes[1].terminate()
    (first, said), (second, heard) = (ended(process, 20) for process in processes)
    assert (first, second) == (75, 75)
    assert "SIGTERM of process 1: stopping" in said
    assert "SIGTERM: stopping" in heard
    assert all("stopped as asked in data" in text for text in (said, heard))


def test_a_process_that_is_gone_is_named_by_the_other(two):
    cases = [(rank, how) for rank in (0, 1) for how in (signal.SIGKILL, signal.SIGSTOP)]
    pairs = [two("nothing") for _ in cases]
    for (rank, how), pair in zip(cases, pairs, strict=True):
        pair[rank].send_signal(how)
    for (rank, _), pair in zip(cases, pairs, strict=True):
        code, said = ended(pair[1 - rank], 3 * HEARTBEAT)
        assert code == 76, said
        gone = f"process {1 - rank}: process {rank} of 2 is gone: killed, stopped or cut off"
        assert gone in said


def test_a_save_that_fails_because_a_process_is_gone_is_no_fault_of_the_disk(two):
    lead, other = two("a gather that process 1 never does")
    time.sleep(2)
    other.send_signal(signal.SIGKILL)
    code, said = ended(lead, 4 * HEARTBEAT)
    assert code == 76, said
    assert "process 1 of 2 is gone" in said


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_whose_peers_never_come_says_so_and_ends(start, rank):
    coordinator = free_address()
    alone = start(coordinator, rank, "an end", 2.0)
    status, err = ended(alone, 30)
    assert status == 76
    who = f"waits at {coordinator} for the others" if rank == 0 else "waits for process 0 at"
    assert f"process {rank} of 2 {who}" in err
    assert "Not all processes have come" in err
    assert "Check failure" not in err  # JAX's client had no time to abort
