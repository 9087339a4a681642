"""Processes of a run agree, and end together, whoever of them fails, stops or dies."""

import itertools
import os
from pathlib import Path
import signal
import socket
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
HEARTBEAT = 6
CODE = """
import os, signal, sys, time
import jax
from lrl_jax.cli import codes
from lrl_jax.devices import mesh, peers, signals
jax.config.update("jax_platforms", "cpu")
coordinator, rank, heartbeat, what = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
mesh.start(coordinator, 2, rank, heartbeat)
assert peers.exchange(f"process {rank}") == ["process 0", "process 1"]
try:
    with signals.interrupts(), signals.naming("data"):
        print("ready", flush=True)
        if what == f"an error of process {rank}":
            raise FileNotFoundError("bad.json")
        if what != "an end":
            peers.meet("which process 1 never does") if rank == 0 else time.sleep(60)
        elif rank == 1:
            time.sleep(1)
except signals.Stopped as stopped:
    print(stopped, file=sys.stderr)
    signals.end(stopped.exit_code)
except Exception as e:
    sys.exit(codes.end(e, "run"))
"""


def two(what):
    with socket.socket() as s:
        s.bind(("localhost", 0))
        coordinator = f"localhost:{s.getsockname()[1]}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CODE, coordinator, str(rank), str(HEARTBEAT), what],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
    return processes


def ended(process, within):
    began = time.monotonic()
    err = process.communicate(timeout=60)[1]
    assert time.monotonic() - began < within
    return process.returncode, err


def test_processes_that_are_done_wait_for_each_other():
    assert [ended(process, 20)[0] for process in two("an end")] == [0, 0]


def test_a_process_that_only_waits_for_another_is_stopped_as_any_other_is():
    processes = two("an end")  # process 1 goes on for a second
    time.sleep(0.5)
    processes[0].terminate()
    codes = [ended(process, 20)[0] for process in processes]
    assert codes in ([75, 0], [75, 75])


@pytest.mark.parametrize("rank", [0, 1], ids=["the lead", "another"])
def test_an_error_of_one_ends_all_in_seconds_with_its_code(rank):
    processes = two(f"an error of process {rank}")
    (code, said), (other, heard) = (ended(processes[r], 15) for r in (rank, 1 - rank))
    assert (code, other) == (2, 2)
    assert "lrl run: bad.json" in said
    assert f"process {rank} ended with code 2 (bad.json); so this one ends too" in heard


def test_a_signal_to_one_stops_all():
    processes = two("nothing")
    processes[1].terminate()
    (first, said), (second, heard) = (ended(process, 20) for process in processes)
    assert (first, second) == (75, 75)
    assert "SIGTERM of process 1: stopping" in said
    assert "SIGTERM: stopping" in heard
    assert all("stopped as asked in data" in text for text in (said, heard))


def test_a_process_that_is_gone_is_named_by_the_other():
    cases = [(rank, how) for rank in (0, 1) for how in (signal.SIGKILL, signal.SIGSTOP)]
    pairs = [two("nothing") for _ in cases]
    try:
        for (rank, how), pair in zip(cases, pairs, strict=True):
            pair[rank].send_signal(how)
        for (rank, _), pair in zip(cases, pairs, strict=True):
            code, said = ended(pair[1 - rank], 3 * HEARTBEAT)
            assert code == 76, said
            gone = f"process {1 - rank}: process {rank} of 2 is gone: killed, stopped or cut off"
            assert gone in said
    finally:
        for process in itertools.chain(*pairs):
            process.kill()
            process.communicate()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_whose_peers_never_come_says_so_and_ends(rank):
    with socket.socket() as s:
        s.bind(("localhost", 0))
        coordinator = f"localhost:{s.getsockname()[1]}"
    code = CODE.replace("mesh.start(", "peers.JOIN, peers.REMIND = 2.0, 1.0\nmesh.start(", 1)
    alone = subprocess.Popen(
        [sys.executable, "-c", code, coordinator, str(rank), str(HEARTBEAT), "an end"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    status, err = ended(alone, 30)
    assert status == 76
    who = f"waits at {coordinator} for the others" if rank == 0 else "waits for process 0 at"
    assert f"process {rank} of 2 {who}" in err
    assert "Not all processes have come" in err
    assert "Check failure" not in err  # JAX's client had no time to abort
