"""One process works in a run folder, on local disks and object stores, while it lives."""

import contextlib
import dataclasses
import json
import multiprocessing
import os
import socket
import subprocess
import sys

from etils import epath
from object_store import mounted
import pytest

from lrl_jax.devices import lease
from lrl_jax.devices.lease import InUseError, Lease

ROUNDS = 200
FAR = {"host": "far", "pid": 7, "machine": "another", "owner": "a", "started": "1"}


@pytest.fixture(params=["local", "object store"])
def folder(request, tmp_path):
    if request.param == "local":
        yield epath.Path(tmp_path / "run")
    else:
        with mounted(tmp_path / "store"):
            yield epath.Path("gs://bucket/run")


class Clock:
    """A time that passes when it is slept."""

    def __init__(self, now):
        self.now, self.between = now, lambda: None

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.between()


def put(folder, **fields):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "lock.json").write_text(json.dumps(fields))


def owner(folder):
    return json.loads((folder / "lock.json").read_text())


def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_lease_says_who_holds_it_and_goes_with_its_block(folder):
    with Lease(folder, now=Clock(1000.0)):
        got = owner(folder)
        want = (socket.gethostname(), os.getpid(), 1000.0)
        assert (got["host"], got["pid"], got["heartbeat"]) == want
    assert not (folder / "lock.json").exists()
    assert not (folder / "lock.claims").is_dir()


def test_a_second_run_of_this_machine_is_refused_however_old_its_heartbeat(folder):
    first = Lease(folder, now=Clock(1000.0))
    first.take()
    message = f"is in use by process {os.getpid()} on {socket.gethostname()}; wait for it"
    with pytest.raises(InUseError, match=message) as error:
        Lease(folder, now=Clock(9999.0)).take()
    assert error.value.exit_code == 6


def test_a_dead_process_of_this_machine_holds_nothing(folder):
    here = dataclasses.asdict(lease._this_process())
    put(folder, **here | {"pid": dead_pid(), "heartbeat": 1000.0})
    Lease(folder, now=Clock(1000.0)).take()
    assert owner(folder)["pid"] == os.getpid()


def test_a_pid_that_was_given_again_is_not_the_owner(folder):
    here = dataclasses.asdict(lease._this_process())
    put(folder, **here | {"pid": os.getppid(), "started": "1", "heartbeat": 1000.0})
    Lease(folder, now=Clock(1000.0)).take()
    assert owner(folder)["pid"] == os.getpid()


def test_an_owner_on_another_host_is_named_with_its_heartbeat_and_the_end_of_its_lease(folder):
    put(folder, **FAR, heartbeat=1000.0)
    with pytest.raises(InUseError) as error:
        Lease(folder, now=Clock(1100.0)).take()
    said = str(error.value)
    assert "in use by process 7 on far" in said
    assert "renewed its lease at 1970-01-01 00:16:40 UTC (100 s ago)" in said
    assert "free at 1970-01-01 00:19:40 UTC" in said


def test_the_lease_of_a_dead_host_is_taken_after_its_time_and_not_before(folder):
    put(folder, **FAR, heartbeat=1000.0)
    with pytest.raises(InUseError):
        Lease(folder, now=Clock(1180.0)).take()
    Lease(folder, now=Clock(1180.5)).take()
    assert owner(folder)["host"] == socket.gethostname()


def test_a_machine_made_anew_under_its_old_name_waits_for_the_lease(folder):
    put(folder, **FAR | {"host": socket.gethostname(), "pid": dead_pid()}, heartbeat=1000.0)
    with pytest.raises(InUseError):
        Lease(folder, now=Clock(1100.0)).take()
    Lease(folder, now=Clock(1181.0)).take()


def test_a_renewed_lease_stays(folder):
    clock = Clock(1000.0)
    first = Lease(folder, now=clock)
    first.take()
    clock.now = 1170.0
    assert first.renew()
    put(folder, **owner(folder) | {"machine": "another"})  # as a second host sees it
    with pytest.raises(InUseError, match=r"20 s ago"):
        Lease(folder, now=Clock(1190.0)).take()


def test_an_owner_that_was_stopped_for_long_sees_that_it_lost_the_folder(folder, monkeypatch):
    monkeypatch.setattr(lease, "BEAT", 0.01)
    lost = []
    with Lease(folder, lost=lost.append) as first:
        put(folder, **FAR, heartbeat=1000.0)
        first._thread.join(20)
    assert "another process has taken the run" in lost[0]
    assert owner(folder)["host"] == "far"


def test_a_heartbeat_thread_goes_on_when_the_store_fails_for_a_while(folder, monkeypatch, caplog):
    monkeypatch.setattr(lease, "BEAT", 0.01)
    with Lease(folder, now=Clock(1.0)) as first:
        (folder / "lock.json").unlink()
        (folder / "lock.json").write_text("{")
        while "could not renew" not in caplog.text:
            first._thread.join(0.01)
        put(folder, **dataclasses.asdict(first._owner) | {"heartbeat": 0.5})
        while owner(folder)["heartbeat"] != 1.0:
            first._thread.join(0.05)
    assert not (folder / "lock.json").exists()


def test_a_heartbeat_in_the_future_that_is_not_renewed_locks_for_one_lease(folder, caplog):
    put(folder, **FAR, heartbeat=9e9)
    clock = Clock(1000.0)
    Lease(folder, now=clock, sleep=clock.sleep).take()
    assert clock.now == 1000.0 + lease.LEASE
    assert owner(folder)["host"] == socket.gethostname()
    assert "one of the two clocks is wrong" in caplog.text


def test_a_heartbeat_in_the_future_that_is_renewed_is_of_a_living_owner(folder):
    put(folder, **FAR, heartbeat=5000.0)
    clock = Clock(1000.0)
    clock.between = lambda: put(folder, **FAR, heartbeat=4000.0 + clock.now)
    with pytest.raises(InUseError, match=r"process 7 on far.*ahead of this host's clock"):
        Lease(folder, now=clock, sleep=clock.sleep).take()
    assert clock.now == 1030.0


def test_a_lock_of_an_older_version_is_an_owner_known_by_what_it_says(folder):
    put(folder, host="far", pid=7)
    message = "in use by process 7 on far; wait for it, or remove .*lock.json if that process is"
    with pytest.raises(InUseError, match=message):
        Lease(folder).take()
    put(folder, host=socket.gethostname(), pid=os.getppid())
    with pytest.raises(InUseError, match="wait for it, or stop that process"):
        Lease(folder).take()
    put(folder, host=socket.gethostname(), pid=dead_pid())
    Lease(folder).take()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '"x"', '{"host": "a"}', '{"host": "a", "pid": 0}',
     '{"host": "a", "pid": 1, "heartbeat": NaN}', '{"host": "a", "pid": "x"}'],
)  # fmt: skip
def test_a_lock_that_cannot_be_read_is_refused_with_what_to_do(folder, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "lock.json").write_text(text)
    with pytest.raises(InUseError, match=r"lock.json: does not say who uses.*remove it if no run"):
        Lease(folder).take()


def test_a_claim_that_a_dead_process_left_is_passed_over_in_time(folder, monkeypatch):
    monkeypatch.setattr(lease, "CLAIM", 0.3)
    (folder / "lock.claims").mkdir(parents=True, exist_ok=True)
    (folder / "lock.claims" / "0").write_text("far")
    claim = lease._claim(folder / "lock.claims", pause=0.01)
    assert [path.name for path in (folder / "lock.claims").iterdir()] == [claim.name]


def race(kind, root, pipe):
    """Takes the lease of every round as soon as it is told; says whether it has it."""
    lease._claim.__defaults__ = (0.002,)  # in this process alone
    if kind == "a disk that cannot lock":
        lease._locks_folder = lambda folder, stack: False
    with mounted(root) if kind == "object store" else contextlib.nullcontext():
        for i in range(ROUNDS):
            mine = Lease(place(kind, root, i))
            pipe.recv()
            try:
                mine.take()
                pipe.send(True)
            except InUseError:
                pipe.send(False)


def place(kind, root, i):
    return epath.Path(f"gs://b/{i}" if kind == "object store" else root / str(i))


@pytest.mark.parametrize("kind", ["local", "object store", "a disk that cannot lock"])
def test_of_two_processes_that_race_for_a_lease_one_gets_it(kind, tmp_path):
    with mounted(tmp_path) if kind == "object store" else contextlib.nullcontext():
        for i in range(1, ROUNDS, 2):  # every other one was of a host that is dead
            put(place(kind, tmp_path, i), **FAR, heartbeat=1000.0)
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for _ in range(2):
        here, there = context.Pipe()
        processes.append(context.Process(target=race, args=(kind, tmp_path, there), daemon=True))
        processes[-1].start()
        pipes.append(here)
    for i in range(ROUNDS):
        for pipe in pipes:
            pipe.send(i)
        assert sorted(pipe.recv() for pipe in pipes) == [False, True], i
    for process in processes:
        process.join(20)
