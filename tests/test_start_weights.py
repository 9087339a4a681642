"""A run starts with the weights of a checkpoint of another run, and with nothing else of it."""

import json
import shutil

import jax
from make_old_run import ARCHIVES, unpack
import numpy as np
import pytest
import worker_train

from lrl_jax.cli import main
from lrl_jax.model import llama
from lrl_jax.pipeline import data, evaluate, init, notes, train, vocab, weights
from lrl_jax.pipeline.notes import MismatchError
from lrl_jax.pipeline.perform import perform
from lrl_jax.pipeline.run import Run
from lrl_jax.recipe import file as recipe_file
from lrl_jax.train.checkpoint import VerificationError

WORK = {
    "vocab": vocab.run, "init": init.run, "data": data.run, "train": train.run,
    "evaluate": evaluate.run,
}  # fmt: skip
STAGE = (
    '{name: more, steps: 2, mixture: {korean: 1}, learn: [{match: ".*", schedule: {peak: 1e-4}}]}'
)
AGAIN = (
    "name=again", "init.weights.run=runs/korean", f"train.stages=[{STAGE}]",
    "data.long_answers=split",  # prompts fill its rows
)  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a base, texts, and the run `korean`, which stopped at step 11."""
    unpack(ARCHIVES[0], tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def again(*overrides):
    return Run(recipe_file.load("korean.yaml", [*AGAIN, *overrides]))


def do(run, *steps):
    for step in steps:
        perform(run, step, WORK[step])


def test_training_begins_with_the_weights_alone(folder, capsys):
    this = again()
    do(this, *WORK)
    said = capsys.readouterr().err
    assert "init: weights of runs/korean, step 11; its optimizer is left behind" in said
    cfg = weights.config(this)
    mesh = weights.make_mesh(this, cfg)
    theirs = this.another()
    assert theirs.step == 11
    got, want = weights.initial(this, cfg, mesh), weights.trained(theirs, cfg, mesh)
    assert got.keys() == want.keys() == llama.abstract(cfg).keys()
    jax.tree.map(np.testing.assert_array_equal, got, want)
    lines = (folder / "runs/again/train/metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [(r["step"], r["rows"]) for r in records] == [(1, 8), (2, 16)]
    assert records[0]["loss"] < 5  # of the base: 5.8
    before, after = (
        json.loads((folder / "runs/again/evaluate" / name).read_text())["bits_per_byte"]["kor_Hang"]
        for name in ("before.json", "after.json")
    )
    assert before["bits_per_byte"] == pytest.approx(after["bits_per_byte"], rel=0.02)
    assert not perform(again("init.weights.step=11"), "init", init.run)  # the same said otherwise


def test_weights_made_again_under_another_licence_are_the_same(folder):
    made = []
    for license in ("mit", "cc0-1.0"):
        run = Run(recipe_file.load("korean.yaml", ["name=licensed", f"base.license={license}"]))
        do(run, "vocab")
        perform(run, "init", init.run, force=True)
        made.append(notes.read(run.note("init")).made())
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("override", "error", "words"),
    [
        ("vocab.pieces=20", MismatchError, "korean/vocab and runs/again/vocab are different token"),
        ("init.param_dtype=bfloat16", MismatchError, "init.param_dtype is float32 there, bfloat16"),
        ("init.weights.step=7", ValueError, "runs/korean has no step 7; steps kept: 11"),
        ("init.weights.run=base", ValueError, "base: no run that was trained; want the folder of"),
    ],
)
def test_what_does_not_fit_is_refused(folder, override, error, words):
    this = again(override)
    do(this, "vocab")
    with pytest.raises(error, match=words):
        do(this, "init")
    assert not (folder / "runs/again/init/config.json").exists()


def test_a_model_of_another_shape_is_refused_by_check(folder, capsys):
    config = folder / "runs/korean/init/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"rms_norm_eps": 0.5}))
    assert main.main(["check", "korean.yaml", *AGAIN]) == 3
    said = capsys.readouterr().err
    assert "init: init.weights: runs/korean has another model: norm_eps is 0.5 there" in said


def test_a_damaged_checkpoint_is_refused_and_no_older_one_taken(folder):
    checkpoints = folder / "runs/korean/train/checkpoints"
    shutil.copytree(checkpoints / "11", checkpoints / "10")
    worker_train.damage(checkpoints / "11")
    this = again()
    do(this, "vocab")
    with pytest.raises(VerificationError, match=r"step 11: .*; restore it from a copy"):
        do(this, "init")


def test_another_checkpoint_of_that_run_is_another_start(folder):
    this = again()
    do(this, "vocab", "init")
    meta = folder / "runs/korean/train/checkpoints/11/meta/metadata"
    meta.write_text(meta.read_text().replace('"step": 11', '"step": 12'))
    with pytest.raises(MismatchError, match=r"changed: init\.weights"):
        do(this, "init")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["init.input_rows=mean"], r"has a row for every token already; leave out init.input_rows"),
        (["init.weights.run=./runs//again"], "runs/again is this run itself"),
        (
            ["export.form=adapter", "train.lora={rank: 2}"],
            "began with init.weights, the weights of",
        ),
        (["init.weights.step=-1"], "greater than or equal to 0"),
    ],
)
def test_a_recipe_that_cannot_be_meant_is_refused(folder, overrides, words):
    with pytest.raises(ValueError, match=words):
        again(*overrides)
