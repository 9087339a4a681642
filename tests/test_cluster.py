"""Jobs on the machines of a cluster: what they take, and what happens when a machine goes."""

import socket
import sys
import threading

import pytest

from lrl_jax.cli import main
from lrl_jax.devices import cluster, jobs, slices
from lrl_jax.devices.jobs import Ended, Job

HEAD = {"NodeID": "h", "Alive": True, "Resources": {"CPU": 2.0, "node:10.0.0.1": 1.0}, "Labels": {}}


def machine(**resources: float) -> dict:
    named = {key.replace("_", "-"): value for key, value in resources.items()}
    return {"NodeID": str(named), "Resources": {"memory": 1e9, **named}, "Labels": {}}


def of_pod(worker: int) -> dict:
    """A machine of a slice of 16 chips, as Ray describes it on a TPU VM."""
    head = {"TPU-v5litepod-16-head": 1.0} if worker == 0 else {}
    labels = {
        "ray.io/tpu-worker-id": str(worker),
        "ray.io/tpu-slice-name": "my-pod",
        "ray.io/tpu-pod-type": "v5litepod-16",
        "ray.io/tpu-topology": "4x4",
    }
    return {"Resources": {"CPU": 8.0, "TPU": 4.0, "my-pod": 1.0, **head}, "Labels": labels}


LAPTOP = machine(CPU=3, laptop=1)
POD = [of_pod(worker) for worker in (2, 0, 3, 1)]


class Script:
    """Machines on which each job ends as `script` says; None is a job that goes on."""

    def __init__(self, nodes: list[dict], script: dict[str, list]):
        self.alive, self.script = nodes, {name: [*ends] for name, ends in script.items()}
        self.began: list[tuple[str, ...]] = []
        self.stopped, self.released, self.closed = [], [], False

    def nodes(self):
        return self.alive

    def reserve(self, taken):
        if not taken.topology:
            return cluster.Reserved(["only"])
        return cluster.Reserved(["first", "second"], "10.0.0.1:8476", "group")

    def run(self, host, words, folder):
        self.began.append(words)
        return len(self.began), self.script[words[0]].pop(0)

    def ends(self, runs):
        return {run: run[1] for run in runs if run[1] is not None}

    def stop(self, host):
        self.stopped.append(host)

    def release(self, reserved):
        self.released.append(reserved)

    def close(self):
        self.closed = True


def test_a_slice_that_no_machine_has_is_refused_with_the_nearest_and_what_there_is():
    want = (
        r"--slice v5litepod-61: .* 'v5litepod-16'\?; the cluster has 1 x v5litepod-16, 1 x laptop"
    )
    with pytest.raises(ValueError, match=want):
        slices.choose([HEAD, *POD, LAPTOP], "v5litepod-61")


def test_the_only_kind_of_slice_is_taken_where_none_is_named():
    assert slices.choose([HEAD, LAPTOP], "").resource == "laptop"
    with pytest.raises(ValueError, match=r"name with --slice .* 1 x v5litepod-16, 1 x laptop"):
        slices.choose([*POD, LAPTOP], "")
    with pytest.raises(ValueError, match=r"no TPU slice and no GPU.*--resources='\{\"laptop\": 1"):
        slices.choose([HEAD], "")


def test_a_slice_of_several_machines_is_known_by_its_topology():
    got = slices.choose(POD, "v5litepod-16")
    assert (got.topology, got.version, got.tpus) == ("4x4", "v5litepod", 4)
    alone = machine(TPU_v5litepod_4_head=1, TPU=4)
    got = slices.choose([alone], "v5litepod-4")
    assert got.topology == ""
    assert got.options["resources"] == {"TPU-v5litepod-4-head": 1, "TPU": 4}


def test_machines_of_a_slice_are_in_the_order_of_their_numbers():
    assert slices.ordered(POD) == [1, 3, 0, 2]


@pytest.mark.parametrize("wrong", ["GPU=", "GPU=0", "GPU=-1", "GPU=many"])
def test_an_amount_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match="want a name, or a name and a number"):
        slices.choose([machine(GPU=8)], wrong)


def test_there_is_room_for_as_many_jobs_as_machines_hold():
    machines = Script([HEAD, LAPTOP], {"train": [None] * 3, "data": [None] * 9})
    engine = cluster.ClusterEngine(machines, "laptop", cores=2)
    train, data = Job("t", ("train",), True), Job("d", ("data",), False)
    engine.begin(train)
    assert not engine.has_room(train)
    machines.alive = [HEAD, LAPTOP, LAPTOP]
    assert engine.has_room(train)
    for _ in range(3):  # 2, 3 and 3 cores, two for each
        assert engine.has_room(data)
        engine.begin(data)
    assert not engine.has_room(data)


def test_each_machine_of_a_slice_gets_its_number_and_a_fault_of_one_stops_the_others():
    machines = Script(POD, {"train": [(3, "line 7: bad data"), None]})
    engine = cluster.ClusterEngine(machines, "v5litepod-16")
    engine.begin(Job("t", ("train",), True))
    assert [words[-1] for words in machines.began] == ["0", "1"]
    assert machines.began[1][1:5] == ("--coordinator", "10.0.0.1:8476", "--processes", "2")
    assert engine.ended(0.0) == []
    assert machines.stopped == ["first", "second"]
    [running] = engine._running
    running.runs = [(2, (75, "stopped as asked"))]
    [got] = engine.ended(0.0)
    assert (got.code, got.said) == (75, "stopped as asked")
    assert machines.released == [running.reserved]


def test_a_job_whose_machine_goes_is_begun_again_but_not_for_ever():
    gone = (75, "its machine went")
    machines = Script([HEAD, LAPTOP], {"a": [gone, (0, "")], "b": [gone] * 9, "c": [(2, "no")]})
    given = [Job(name, (name,), True) for name in "abc"]
    got = {ended.job.name: ended for ended in jobs.run_all(cluster.ClusterEngine(machines), given)}
    assert [got[name].code for name in "abc"] == [0, 75, 2]
    assert len(machines.began) == 2 + jobs.TRIES + 1
    assert machines.closed


def test_an_engine_that_loses_every_machine_says_so_and_what_to_do():
    machines = Script([HEAD, LAPTOP], {"train": [(75, "its machine went")]})
    engine = cluster.ClusterEngine(machines, "laptop", away=0.0)
    machines.alive = [HEAD]
    with pytest.raises(cluster.LostError, match=r"no machine with laptop is left .* run the same"):
        list(jobs.run_all(engine, [Job("t", ("train",), True)]))
    assert cluster.LostError.exit_code == 76
    assert machines.closed


def test_what_cannot_be_reserved_after_all_is_begun_again(monkeypatch):
    machines = Script([HEAD, LAPTOP], {})

    def reserve(taken):
        raise TimeoutError("its machine went")

    monkeypatch.setattr(machines, "reserve", reserve)
    engine, job = cluster.ClusterEngine(machines), Job("t", ("train",), True)
    engine.begin(job)
    assert engine.ended(0.0) == [Ended(job, 75, "could not begin: its machine went")]


def test_an_address_is_refused_that_is_none_or_at_which_nothing_answers():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        silent = f"127.0.0.1:{free.getsockname()[1]}"
    for address, want in {silent: "nothing answers", "ray://h:1": "want host:port"}.items():
        with pytest.raises(ValueError, match=want):
            cluster.join(address, lambda place: None)


def test_a_cluster_that_accepts_and_says_nothing_is_refused_soon(monkeypatch):
    monkeypatch.setattr(cluster, "ANSWER", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ValueError, match=r"lets nobody in .no answer within 0 s"):
            cluster.join(address, lambda place: threading.Event().wait(5.0))


def test_a_job_needs_its_folder_and_says_what_it_ended_with(tmp_path):
    host = jobs.Host()
    with pytest.raises(ValueError, match=r"has no folder .*/none, in which the jobs were begun"):
        host.run(("--version",), str(tmp_path / "none"))
    code, said = host.run(("check", "none.yaml"), str(tmp_path))
    assert code == 2
    assert "lrl check: none.yaml: no such recipe" in said


@pytest.mark.parametrize(
    "words",
    [
        ["data", "quickstart", "--runner", "ray"],
        ["evaluate", "--model", "a", "--tasks", "t", "--out", "OUT", "--on", "ray"],
    ],
)
def test_without_ray_the_extra_is_named(words, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.chdir(tmp_path)
    assert main.main(words) == 2
    assert "Ray is not installed" in (said := capsys.readouterr().err)
    assert "[ray]" in said


@pytest.mark.parametrize(
    ("words", "want"),
    [
        (["data", "quickstart", "--address", "h:1"], "add --runner ray"),
        (
            ["evaluate", "--model", "a", "--tasks", "t", "--out", "o", "--slice", "s"],
            "add --on ray",
        ),
        (["evaluate", "r.yaml", "--on", "ray"], "--on: of --model"),
    ],
)
def test_an_argument_of_ray_without_ray_is_refused(words, want, capsys):
    assert main.main(words) == 2
    assert want in capsys.readouterr().err
