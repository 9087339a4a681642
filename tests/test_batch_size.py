"""The batch size may change whenever a run resumes: every stage reads its own rows to its end."""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import random
import signal
import time

from hypothesis import given, settings
from hypothesis import strategies as st
import jax.numpy as jnp
import numpy as np
import pytest
import worker_train as tiny

from lrl_jax.cli import fit
from lrl_jax.data.feed import batches, mixture
from lrl_jax.data.feed.plan import Plan
from lrl_jax.data.pack.rows import Manifest
from lrl_jax.pipeline.run import Run
from lrl_jax.recipe import schema as recipes
from lrl_jax.train import learn, loop
from lrl_jax.train.checkpoint import CheckpointMismatchError
from lrl_jax.train.log import read

CFG = dataclasses.replace(tiny.CFG, depth=1)
FAST = {"match": ".*", "schedule": {"peak": 0.01, "warmup": 6, "kind": "cosine"}}
SLOW = {"match": ".*", "schedule": {"peak": 0.003, "warmup": 2, "kind": "wsd", "decay": 0.25}}
SIZES = {"ko": 97, "en": 61, "tasks": 45}
PACKED = {
    name: Manifest(
        name=name, fingerprint=name, language="kor_Hang", template="plain", order="shuffled",
        sequence_length=tiny.LENGTH, bos_id=1, eos_id=2, pad_id=0, tokenizer="t", records=0,
        left_out={}, docs=count, distinct=count, scripts={}, bytes=count, tokens=count * 10,
        loss_tokens=count, cut=0, rows=count, shards=(),
    )
    for name, count in SIZES.items()
}  # fmt: skip


def curriculum(batch_size: int = 8, **fields) -> recipes.Recipe:
    """One dataset, then slowly another, then a third one thrice while the first is replayed."""
    stages = [
        {"name": "warm", "steps": 24, "mixture": {"ko": 1}, "learn": [FAST]},
        {"name": "ramp", "steps": 24, "mixture": {"ko": 1}, "ramp_to": {"en": 1}, "learn": [FAST]},
        {"name": "tune", "epochs": 3, "mixture": {"tasks": 1}, "learn": [SLOW]},
    ]
    text = {"kind": "text", "path": ["a.txt"], "language": "kor_Hang"}
    quiet = {"log_every": 1000, "tensorboard": False, "save": {"minutes": 0, "keep": 1}}
    return recipes.Recipe(
        name="r",
        seed=3,
        base={"model": "m"},
        vocab={"method": "keep"},
        data={"sequence_length": tiny.LENGTH, "datasets": dict.fromkeys(PACKED, text)},
        train={"batch_size": batch_size, "stages": stages, "replay": {"ko": 0.1}} | quiet | fields,
    )


def ends_of(recipe: recipes.Recipe) -> tuple[int, ...]:
    return mixture.steps(recipe, PACKED).train.ends


def names_of(plan: Plan, rows: range) -> list[str]:
    return [plan.names[i] for i in plan.order(np.array(rows))[0]]


# ---------------------------------------------------------------------------- rows alone
def changing(ends, changes, size):
    """The batches of a run whose size becomes another at the given rows, or soon after."""
    made, row = [], 0
    for at, other in [*changes, (ends[-1], size)]:
        for span in batches.spans(row, ends, size):
            if row >= at:
                break
            made.append(span)
            row = span.stop
        size = other
    return made


@given(
    points=st.lists(st.integers(0, 500), min_size=20, max_size=20),
    sizes=st.lists(st.sampled_from([1, 3, 4, 8, 16, 32]), min_size=20, max_size=20),
)
@settings(max_examples=50, deadline=None)
def test_each_stage_reads_its_rows_once_wherever_the_batch_size_changes(points, sizes):
    ends = ends_of(curriculum())
    made = changing(ends, zip(sorted(points), sizes, strict=True), 8)
    assert [row for span in made for row in span] == [*range(ends[-1])]
    inside = [{np.searchsorted(ends, row, "right") for row in span} for span in made]
    assert all(len(stages) == 1 for stages in inside)


@given(
    start=st.integers(0, 400),
    lengths=st.lists(st.integers(1, 90), min_size=1, max_size=4),
    most=st.integers(1, 33),
)
@settings(max_examples=200, deadline=None)
def test_no_batch_is_small_that_need_not_be_and_none_is_too_many(start, lengths, most):
    ends = [start + end for end in itertools.accumulate(lengths)]
    made = [*batches.spans(start, ends, most)]
    assert batches.count(start, ends, most) == len(made) == sum(-(-n // most) for n in lengths)
    for length, end in zip(lengths, ends, strict=True):
        sizes = [len(span) for span in made if end - length <= span.start < end]
        assert sum(sizes) == length
        assert len(sizes) == 1 or min(sizes) >= most // 2
        assert all(size == most for size in sizes[:-2])


def test_steps_of_a_recipe_count_the_rows_that_it_says():
    """So a run that begins with another batch size reads the rows of the first one."""
    plan = mixture.plan(curriculum(), PACKED)
    assert ends_of(curriculum()) == (192, 384, 536)
    for size in (4, 16):
        assert mixture.plan(curriculum(size, step_rows=8), PACKED) == plan
        assert mixture.plan(curriculum(size), PACKED) != plan


def test_a_plan_counts_the_batches_of_each_stage_also_where_stages_share_a_phase(tmp_path):
    recipe = mixture.steps(curriculum(80, step_rows=8), PACKED)  # 192, 192 and 152 rows
    run = Run(recipe.model_copy(update={"folder": str(tmp_path)}))
    assert fit._steps(run) == {"warm+ramp": 3 + 3, "tune": 2}


# ---------------------------------------------------------------------------- training
def train(folder, recipe, stop=None, on=None):
    """Trains to the end, or until a stop asked for after so many samples; the metrics so far."""
    chosen = mixture.steps(recipe, PACKED).train.model_copy(update={"sample_every": 1})
    on, samples = on or tiny.mesh(), itertools.count(1)

    def sample(params, done):
        if next(samples) == stop:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.02)
        return []

    class Stream(tiny.MemoryStream):
        def prefetch(self, start_row, ends):
            if stop == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().prefetch(start_row, ends)

        def _row(self, g, dataset, k):
            return super()._row(g, dataset % 2, k)  # the third is in the language of the first

    rows = Stream(mixture.plan(recipe, PACKED), chosen.batch_size)
    with contextlib.suppress(loop.Preempted):
        loop.train(
            chosen, CFG, lambda: tiny.params(on, CFG), on, rows, folder / "train", sample=sample
        )
    return read(folder / "train" / "metrics.jsonl")


def check(metrics, recipe):
    """Compares what metrics say was read, and how fast was learnt, with the plan of the recipe."""
    chosen, plan = mixture.steps(recipe, PACKED).train, mixture.plan(recipe, PACKED)
    assert [m["step"] for m in metrics] == [*range(1, len(metrics) + 1)]
    begins = [0, *(m["rows"] for m in metrics[:-1])]
    for first, m in zip(begins, metrics, strict=True):
        read_now = range(first, m["rows"])
        assert set(m["losses"]) == set(names_of(plan, read_now))
        assert m["tokens"] == 10 * len(read_now)  # a made-up row has 10; padding has none
        assert m["epochs"] == plan.epochs(m["rows"])
    last = {m["stage"]: m["rows"] for m in metrics}
    assert last == dict(zip(("warm", "ramp", "tune"), chosen.ends, strict=True))
    for phase in learn.phases(chosen.stages):
        done = np.array(begins) / 8 - phase.start
        here = np.flatnonzero((done >= 0) & (done < phase.steps))
        padded = jnp.float32(np.resize(done[here], 256))  # of one length, to compile it once
        want = learn.rate(phase.learn[0].schedule, phase.steps, padded)[: len(here)]
        np.testing.assert_allclose([metrics[i]["lr"][".*"] for i in here], want, rtol=1e-5)


def final(metrics, rows=80):
    """The mean loss over the last rows."""
    end = metrics[-1]["rows"]
    last = [m for m in metrics if m["rows"] > end - rows]
    return np.average([m["loss"] for m in last], weights=[m["tokens"] for m in last])


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory):
    """Metrics of runs that read the same rows in batches of one size, by size."""
    return {
        size: train(tmp_path_factory.mktemp("whole"), curriculum(size, step_rows=8))
        for size in (4, 8, 16)
    }


def test_runs_of_one_batch_size_read_the_same_rows(unchanged):
    for metrics in unchanged.values():
        check(metrics, curriculum())
    assert [m["rows"] for m in unchanged[8]] == [*range(8, 537, 8)]


def test_a_batch_halved_and_doubled_at_twenty_points_ends_as_if_it_never_was(tmp_path, unchanged):
    draw, size, points = random.Random(8), 8, []
    for _ in range(20):
        metrics = train(tmp_path, curriculum(size, step_rows=8), stop=draw.choice((0, 1)))
        points.append((metrics[-1]["stage"], metrics[-1]["rows"]))
        size = draw.choice([s for s in (4, 8, 16) if s in (size // 2, size * 2)])
    assert {stage for stage, _ in points} == {"warm", "ramp", "tune"}
    assert ("warm", 192) in points  # exactly at the end of a stage
    assert points[-1][1] < 536
    metrics = train(tmp_path, curriculum(size, step_rows=8))
    check(metrics, curriculum())
    losses = [final(m) for m in unchanged.values()]
    noise = max(losses) - min(losses)
    assert min(losses) - noise <= final(metrics) <= max(losses) + noise
    assert noise < 0.2 * (metrics[0]["loss"] - final(metrics))


def as_before(folder, **facts):
    """Rewrites the newest checkpoint as versions wrote it that did not count in rows."""
    path = max((folder / "train" / "checkpoints").glob("*/meta/metadata"))
    body = json.loads(path.read_text())["body"]
    del body["meta"]["train"]["step_rows"]
    body["meta"] |= facts
    text = json.dumps(body, sort_keys=True)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps({"body": body, "sha256": sha256}))


def test_a_checkpoint_of_before_goes_on_and_says_how_it_counts(tmp_path, caplog):
    train(tmp_path, curriculum(), stop=0)
    as_before(tmp_path)
    with pytest.raises(CheckpointMismatchError, match=r"was 1, is 0.9.*Steps count 8 rows"):
        train(tmp_path, curriculum(4, step_rows=8, replay={"en": 0.1}))
    metrics = train(tmp_path, curriculum(4, step_rows=8))
    check(metrics, curriculum())
    changed = [line for line in caplog.messages if "another setting" in line]
    assert changed == ["resuming with another setting: train.batch_size was 8, is 4"]
    assert "batches have 4 rows; steps of the recipe count 8 (train.step_rows)" in caplog.text


def test_one_whose_steps_and_rows_lie_in_two_stages_is_refused(tmp_path):
    """An earlier version counted 25 steps, which is in `ramp`, and few rows, which is in `warm`."""
    train(tmp_path, curriculum(), stop=0)
    as_before(tmp_path, step=25)
    with pytest.raises(CheckpointMismatchError, match=r"learns as in stage 'ramp' and reads as in"):
        train(tmp_path, curriculum())
