"""The engine of this machine: its jobs end with the study, and say why they failed."""

import json
import os
from pathlib import Path
import signal
import time

import forked
import pytest
from small_world import BASE, write_texts

from lrl_jax.devices import lease, signals
from lrl_jax.devices.jobs import Job
from lrl_jax.pipeline.study import cells, engine
from lrl_jax.pipeline.study.engine import LocalEngine
from lrl_jax.pipeline.study.schedule import reason

STUDY = """
name: alone
folder: {folder}/{runs}
recipe: base.yaml
overrides: {{train.stages.0.steps: 150, train.log_every: 1, evaluate.max_lines: 8}}
grid: {{seed: [3]}}
compare: after.bits_per_byte.eng_Latn
"""


def wait_for(holds, seconds=240):
    ends = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < ends
        time.sleep(0.05)
    return value


def test_an_accelerator_is_seen_by_its_device(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    assert not engine.has_accelerator(tmp_path)
    (tmp_path / "vfio").mkdir()
    assert not engine.has_accelerator(tmp_path)
    (tmp_path / "vfio/0").touch()
    assert engine.has_accelerator(tmp_path)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert not engine.has_accelerator(tmp_path)


def test_one_job_at_a_time_is_on_an_accelerator(tmp_path):
    local = LocalEngine(tmp_path, jobs=2)
    local._one_on_devices = True
    local._running["train-0"] = Job("train-0", (), True), 0
    assert not local.has_room(Job("train-1", (), True))
    assert local.has_room(Job("data-1", (), False))
    local._running["data-1"] = Job("data-1", (), False), 0
    assert not local.has_room(Job("data-2", (), False))


def test_jobs_of_a_server_that_went_are_not_waited_for_when_another_begins(tmp_path, monkeypatch):
    (tmp_path / "silent.py").write_text("import sys\nfor line in sys.stdin: pass\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(engine, "SERVER", "silent")
    local = LocalEngine(tmp_path / "logs", jobs=2)
    try:
        local.begin(Job("org/model", (), True))
        local._server.kill()
        local._server.wait()
        local.begin(Job("data-0", (), False))
        (ended,) = local.ended(0.1)
        assert (ended.job.name, ended.code) == ("org/model", signals.GONE)
        assert local.ended(0.1) == []
        assert (tmp_path / "logs/org").is_dir()
    finally:
        local.close()


@pytest.mark.slow
def test_a_job_says_why_it_failed_and_is_seen_to_be_gone_with_its_server(tmp_path):
    local = LocalEngine(tmp_path / "logs", jobs=1)
    job = Job("train-0", ("study", "step", str(tmp_path / "no"), "cell", "train"), True)
    try:
        for begin in range(2):
            local.begin(job)
            assert not local.has_room(job)
            if begin:
                os.kill(local._server.pid, signal.SIGKILL)
            (ended,) = wait_for(lambda: local.ended(1))
            assert ended.code == (signals.GONE if begin else 2)
            assert reason(ended.said).startswith(f"{tmp_path}/no/cell: is no cell") or begin
    finally:
        local.close()


@pytest.mark.slow
def test_jobs_of_a_killed_study_end_and_nothing_is_trained_twice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_texts(tmp_path)
    Path("base.yaml").write_text(BASE.format(folder=tmp_path))
    for runs in ("killed", "whole"):
        Path(f"{runs}.yaml").write_text(STUDY.format(folder=tmp_path, runs=runs))
    args = ["study", "run", str(tmp_path / "killed.yaml"), "--jobs", "1"]
    first = forked.Forked("lrl_jax.cli", args, tmp_path / "out", cwd=tmp_path)
    home = tmp_path / "killed/alone"
    (metrics,) = wait_for(lambda: [*home.glob("shared/train-*/train/metrics.jsonl")])
    wait_for(lambda: len(metrics.read_text().splitlines()) > 3)
    first.kill()
    place = metrics.parents[1]
    wait_for(lambda: not (holder := lease.holder(place)) or not holder[1], seconds=60)
    second = forked.run("lrl_jax.cli", args, tmp_path, timeout=500)
    assert second.returncode == 0, second.stderr
    done = {"vocab": 1, "init": 1, "data": 1, "train": 1, "evaluate": 1}
    assert cells.times_done(home) == done
    assert [json.loads(x)["step"] for x in metrics.read_text().splitlines()] == [*range(1, 151)]
    events = [json.loads(line) for line in (place / "train/events.jsonl").read_text().splitlines()]
    assert sum(event.get("lost", 0) for event in events) == 0
    args = ["study", "run", str(tmp_path / "whole.yaml"), "--on", "here"]
    assert forked.run("lrl_jax.cli", args, tmp_path, timeout=500).returncode == 0
    values = [
        json.loads((tmp_path / runs / "alone/results.json").read_text())["cells"][0]["values"]
        for runs in ("killed", "whole")
    ]
    assert values[0] == values[1]
