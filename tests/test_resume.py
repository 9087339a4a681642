"""Killed at any moment and run again equals never killed: bit for bit on the same mesh."""

import json
import signal
import time

import numpy as np
import pytest
import worker_train as tiny

from lrl_jax.recipe import train as recipe_train
from lrl_jax.train import digest
from lrl_jax.train.checkpoint import CheckpointMismatchError, Checkpoints, VerificationError
from lrl_jax.train.log import read

STEPS = 12
COSINE = recipe_train.Rule(match=".*", schedule=recipe_train.Schedule(peak=0.01, warmup=2))
TABLES = [tiny.stage("a", 4, (COSINE,)), tiny.stage("b", 4, (COSINE,), kor=0.9)]
SLOWER = recipe_train.Rule(match=".*", schedule=recipe_train.Schedule(peak=0.002))
FROZEN = recipe_train.Rule(match="layers", schedule="frozen")
TABLES += [tiny.stage("c", 4, (FROZEN, SLOWER))]  # a new phase: fewer moments, a fresh optimizer


def settings(stages=TABLES, **fields):
    return tiny.settings(stages, **{"save": {"steps": 2, "keep": 2}, **fields})


def interrupted(folder, on, step, **fields):
    """Trains until step `step` is dispatched, which is not saved; even steps before it are."""
    with pytest.raises(KeyboardInterrupt):
        tiny.train(folder, settings(sample_every=1), on, sample=tiny.stop_at(step), **fields)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The digests and records of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    state, metrics = tiny.train(folder, settings(), tiny.mesh(fsdp=2))
    return digest.describe(state), [tiny.same(m) for m in metrics]


@pytest.mark.parametrize(
    "step", [1, 4, 8, 9]
)  # before any save, in a phase, at its end, after its end
def test_a_run_cut_short_ends_with_the_same_bits(tmp_path, whole, step):
    on = tiny.mesh(fsdp=2)
    interrupted(tmp_path, on, step)
    state, metrics = tiny.train(tmp_path, settings(), on)
    assert digest.describe(state) == whole[0]
    assert [tiny.same(m) for m in metrics] == whole[1]


@pytest.mark.slow
def test_a_process_killed_again_and_again_ends_with_the_same_bits(tmp_path):
    options = dict(devices=2, mesh={"fsdp": 2}, steps=STEPS, save={"steps": 2}, slow=0.05)
    assert tiny.spawn(tmp_path / "whole", **options).wait(120) == 0
    path = tmp_path / "killed" / "train"
    for reach in (1, 4, 7):
        child = tiny.spawn(tmp_path / "killed", **options)
        while not any(m["step"] >= reach for m in read(path / "metrics.jsonl")):
            assert child.poll() is None, child.said()
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        assert child.wait(60) == -signal.SIGKILL
    assert tiny.spawn(tmp_path / "killed", **options).wait(120) == 0
    got, want = (
        (
            [tiny.same(m) for m in read(tmp_path / name / "train" / "metrics.jsonl")],
            leaves(tmp_path / name),
        )
        for name in ("killed", "whole")
    )
    assert got == want


def leaves(folder):
    """The digests saved with the last step."""
    path = folder / "train" / "checkpoints" / str(STEPS) / "meta" / "metadata"
    return json.loads(path.read_text())["body"]["leaves"]


@pytest.mark.slow
def test_sigterm_saves_and_exits_75_and_the_next_run_goes_on(tmp_path):
    options = dict(steps=40, slow=0.05)
    child = tiny.spawn(tmp_path, **options)
    while not read(tmp_path / "train" / "metrics.jsonl"):
        assert child.poll() is None, child.said()
        time.sleep(0.01)
    child.terminate()
    assert child.wait(60) == 75
    saved = Checkpoints(tmp_path / "train" / "checkpoints").steps()
    metrics = read(tmp_path / "train" / "metrics.jsonl")
    assert saved == [metrics[-1]["step"]]
    assert f"step {saved[0]} is saved: run again to go on" in child.said()
    assert tiny.spawn(tmp_path, **options).wait(120) == 0
    assert [m["step"] for m in read(tmp_path / "train" / "metrics.jsonl")] == [*range(1, 41)]


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 2)])
def test_a_run_goes_on_with_other_devices(tmp_path, whole, shape):
    interrupted(tmp_path, tiny.mesh(fsdp=2), 6)
    state, metrics = tiny.train(tmp_path, settings(), tiny.mesh(*shape))
    got, want = [m["loss"] for m in metrics], [m["loss"] for m in whole[1]]
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert [m["rows"] for m in metrics] == [m["rows"] for m in whole[1]]
    assert state["params"]["layers/q_DNH"].sharding.mesh.devices.size == np.prod(shape)


def test_a_damaged_step_is_passed_over_and_made_again(tmp_path, whole, caplog):
    on = tiny.mesh(fsdp=2)
    interrupted(tmp_path, on, 7)
    checkpoints = tmp_path / "train" / "checkpoints"
    tiny.damage(checkpoints / "6")
    state, metrics = tiny.train(tmp_path, settings(), on)
    assert "step 6 does not verify" in caplog.text
    assert digest.describe(state) == whole[0]
    assert [tiny.same(m) for m in metrics] == whole[1]
    assert (checkpoints / "6.unverified").exists()


def test_it_never_starts_over_when_no_step_verifies(tmp_path):
    on = tiny.mesh(fsdp=2)
    interrupted(tmp_path, on, 3)
    for path in (tmp_path / "train" / "checkpoints").glob("*/meta/metadata"):
        path.write_text("{}")
    with pytest.raises(VerificationError):
        tiny.train(tmp_path, settings(), on)


def test_another_seed_of_the_data_is_refused(tmp_path):
    interrupted(tmp_path, tiny.mesh(fsdp=2), 3)
    with pytest.raises(CheckpointMismatchError, match="data changed under the run: the seed was 3"):
        tiny.train(tmp_path, settings(), tiny.mesh(fsdp=2), tiny.stream(settings(), seed=4))


def test_future_stages_may_change_and_what_did_is_said(tmp_path, caplog):
    on = tiny.mesh(fsdp=2)
    interrupted(tmp_path, on, 6)
    longer = settings([*TABLES[:2], tiny.stage("c", 5, (FROZEN, SLOWER), kor=0.1)])
    _, metrics = tiny.train(tmp_path, longer, on)
    assert metrics[-1]["step"] == 13
    assert "another plan: stage 'c' ended at row 96, ends at row 104" in caplog.text
    assert "another plan: stage 'c': the share of 'kor' was 0.5, is 0.1" in caplog.text


def test_the_past_may_not(tmp_path):
    interrupted(tmp_path, tiny.mesh(fsdp=2), 3)
    other = settings([tiny.stage("a", 4, (COSINE,), kor=1.0), *TABLES[1:]])
    with pytest.raises(CheckpointMismatchError, match="rows of 'kor' have been read"):
        tiny.train(tmp_path, other, tiny.mesh(fsdp=2))


def test_another_learn_table_under_way_is_refused(tmp_path):
    interrupted(tmp_path, tiny.mesh(fsdp=2), 3)
    other = settings([tiny.stage("a", 4, (FROZEN, SLOWER)), *TABLES[1:]])
    with pytest.raises(CheckpointMismatchError, match="opt/mu/layers/attn_norm_D is not wanted"):
        tiny.train(tmp_path, other, tiny.mesh(fsdp=2))


@pytest.mark.parametrize(("before", "after"), [("all", "new"), ("new", "all")])
def test_other_rows_may_not_learn_in_a_stage_under_way(tmp_path, before, after):
    def recipe(rows):
        rule = COSINE.model_copy(update={"match": "embed", "rows": rows})
        return settings([tiny.stage("a", 4, (rule, COSINE)), TABLES[2]])

    new_rows, on = np.arange(tiny.CFG.padded_vocab_size) < 5, tiny.mesh(fsdp=2)
    first = recipe(before).model_copy(update={"sample_every": 1})
    for step in (3, 5):  # steps 2 and 4 are saved, in the first stage and at its end
        with pytest.raises(KeyboardInterrupt):
            tiny.train(tmp_path, first, on, sample=tiny.stop_at(step), new_rows=new_rows)
        if step == 3:
            words = rf"train.stages: `rows: {before}` of embed_VD.*`rows: {after}`.*stage 'a'"
            with pytest.raises(CheckpointMismatchError, match=words):
                tiny.train(tmp_path, recipe(after), on, new_rows=new_rows)
    _, metrics = tiny.train(tmp_path, recipe(after), on, new_rows=new_rows)
    assert metrics[-1]["step"] == 8


def test_a_new_learning_rate_is_allowed_and_said(tmp_path, caplog):
    interrupted(tmp_path, tiny.mesh(fsdp=2), 3)
    gentle = recipe_train.Rule(match=".*", schedule=recipe_train.Schedule(peak=0.005, warmup=2))
    stages = [tiny.stage("a", 4, (gentle,)), tiny.stage("b", 4, (gentle,), kor=0.9)]
    tiny.train(tmp_path, settings([*stages, TABLES[2]]), tiny.mesh(fsdp=2))
    assert "train.stages.0.learn.0.schedule.peak was 0.01, is 0.005" in caplog.text
