"""A Ray cluster does what this machine does, bit for bit, also when a machine of it goes."""

import importlib.util
import json
import os
import subprocess
import sys
import time

import pytest
from small_world import ROOT, lrl, write_recipes
from test_jobs import corpus, data_of, make, small_shards, text, three_ways, tree

from lrl_jax.data.pack import jobs, runners
from lrl_jax.devices import on_ray
from lrl_jax.devices.cluster import ClusterEngine
from lrl_jax.devices.jobs import Ended, Job
from scripts import study_engines

__all__ = ["corpus", "small_shards", "text"]  # fixtures
pytestmark = [
    pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="needs ray: the extra `ray`"),
    pytest.mark.slow,
    pytest.mark.timeout(1500),
]
STUDY = """
name: grid
recipe: korean.yaml
overrides: {evaluate.translation: {}}
grid:
  rows: {mean: {init.input_rows: mean}, subwords: {init.input_rows: subword_mean}}
  train.stages.1.learn.0.schedule.peak: [1.0e-2]
compare: [after.bits_per_byte.kor_Hang, after.bits_per_byte.eng_Latn]
"""


class PodMachines(study_engines.Machines):
    """Holds the machines of the script, and those of a slice of several hosts."""

    def add_pod(self) -> None:
        """Adds the two machines of a slice of eight chips, which Ray knows by what TPU VMs say."""
        for worker in (1, 0):
            said = {
                "TPU_NAME": "pod", "TPU_WORKER_ID": f"{worker}",
                "TPU_ACCELERATOR_TYPE": "v4-16", "TPU_TOPOLOGY": "2x2x2",
            }  # fmt: skip
            os.environ.update(said)
            self.cluster.add_node(num_cpus=1, resources={"TPU": 4}, **self.small)
            for name in said:
                os.environ.pop(name)


@pytest.fixture(scope="module")
def machines():
    # the head asks where it is and reports that it may report nothing: refused, but not noted
    noted = os.environ.pop("LRL_TEST_CONNECTIONS")
    machines = PodMachines()
    os.environ["LRL_TEST_CONNECTIONS"] = noted
    yield machines
    machines.close()


def test_ray_leaves_the_bytes_of_a_local_run_and_names_bad_data(machines, corpus, text, tmp_path):
    data = three_ways(corpus)
    want = jobs.prepare_all(data, make(), tmp_path / "local")
    assert len(want["plain"].shards) > 3
    run = runners.runner("ray", address=machines.address)
    assert jobs.prepare_all(data, make(), tmp_path / "ray", runner=run) == want
    assert tree(tmp_path / "ray") == tree(tmp_path / "local")
    text.write_bytes(b"a\n\xff\n")
    with pytest.raises(ValueError, match=r"dataset 'd': .*text\.txt:2: not UTF-8"):
        jobs.prepare_all(data_of(text), make(), tmp_path / "bad", runner=run)


def test_a_study_ends_as_here_though_a_machine_goes_while_it_trains(machines, tmp_path):
    base, _ = write_recipes(tmp_path, steps=300)  # time to see it train
    lrl("run", base)
    (tmp_path / "study.yaml").write_text(STUDY)
    here, there = tmp_path / "here", tmp_path / "there"
    lrl("study", "run", f"{tmp_path}/study.yaml", "--out", str(here), "--jobs", "1")
    on_ray = ("--on", "ray", "--address", machines.address, "--slice", "v5litepod-4")
    words = ("study", "run", f"{tmp_path}/study.yaml", "--out", str(there), *on_ray)
    running = subprocess.Popen(
        [sys.executable, "-m", "lrl_jax.cli", *words],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    while not (process := study_engines.trains(there)):
        assert running.poll() is None, running.stdout.read()
        time.sleep(0.2)
    memory = study_engines.memory()
    machines.remove(process)
    machines.add()
    said, _ = running.communicate(timeout=900)
    assert running.returncode == 0, said
    assert "was ended (code 75); begins again" in said
    assert study_engines.made(there) == study_engines.made(here)
    results = [json.loads((study / "results.json").read_text()) for study in (here, there)]
    assert results[0]["groups"] == results[1]["groups"]
    assert memory < 1.5e9


def test_a_slice_of_two_hosts_is_taken_as_a_whole(machines):
    machines.add_pod()
    engine = ClusterEngine(on_ray.Ray(machines.address), "v4-16")
    job = Job("a", ("--version",), True)
    assert engine.has_room(job)
    engine.begin(job)
    assert not engine.has_room(job)
    [running] = engine._running
    assert len(running.reserved.hosts) == 2
    assert running.reserved.coordinator
    until = time.monotonic() + 300
    while not (ended := engine.ended(1.0)) and time.monotonic() < until:
        pass
    assert ended == [Ended(job, 0)]
    engine.begin(job)  # the slice was given back
    engine.close()
