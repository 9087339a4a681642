"""What a step depends on, by content; a difference from where weights were trained is refused."""

from contextlib import nullcontext
import dataclasses
import json
import shutil

import hand_tokenizer
import jax.numpy as jnp
import pytest
import safetensors.numpy
from small_run import finish, small_run, writes
import tiny_llama

from lrl_jax.data.feed.plan import Plan, PlanStage
from lrl_jax.pipeline.notes import MismatchError
from lrl_jax.pipeline.perform import perform
from lrl_jax.train.checkpoint import Checkpoints, VerificationError

MANIFEST = dict.fromkeys(
    ("bos_id", "eos_id", "pad_id", "records", "docs", "distinct", "bytes", "tokens", "loss_tokens",
     "cut", "rows"), 1,
) | {"name": "t", "language": "eng_Latn", "template": "", "order": "shuffled", "tokenizer": "",
     "left_out": {}, "scripts": {}, "shards": []}  # fmt: skip
FERTILITY = "vocab/fertility.json"
LICENSED = "f465e5a9245dd5c7"  # what 0.1.0 noted of the small base with `license: mit`


@pytest.fixture
def small(tmp_path):
    return small_run(tmp_path)


def nothing(this):
    pass


def trained(this, train=None, **data):
    """Saves a checkpoint with this section of the recipe and these facts of its data."""
    plan = Plan({"t": 9}, (PlanStage("a", 9, {"t": 1}),), fingerprints={"t": "f1"})
    about = {"next_row": 1, "plan": plan.to_json(), **data}
    meta = {"train": {"batch_size": 1, **(train or {})}, "data": about}
    with Checkpoints(this.at("train") / "checkpoints") as checkpoints:
        checkpoints.save(5, {"w": jnp.zeros(1)}, meta)


@pytest.mark.parametrize("step", ["evaluate", "export"])
def test_rows_of_another_length_than_were_trained_are_refused(small, step):
    finish(small)
    perform(small(), "train", lambda this: trained(this, sequence_length=8), force=True)
    other = small("data.sequence_length=4096")
    with pytest.raises(MismatchError, match=r"rows of 8 tokens.*recipe has 4096"):
        perform(other, step, nothing, force=True)
    assert (small().at("evaluate") / "after.json").exists()
    assert perform(small(), step, nothing, force=True)


@pytest.mark.parametrize(("mark", "refused"), [("f1", True), ("f2", False)])
def test_the_length_of_an_earlier_versions_training_is_that_of_the_rows_it_read(
    small, mark, refused
):
    finish(small)
    manifest = {**MANIFEST, "fingerprint": mark, "sequence_length": 8}
    files = {
        "data/datasets.json": '{"t": "t/0"}', "data/t/0/manifest.json": json.dumps(manifest),
    }  # fmt: skip
    perform(small(), "data", writes(files), force=True)
    perform(small(), "train", lambda this: trained(this), force=True)
    other = small("data.sequence_length=4096")
    context = pytest.raises(MismatchError, match="rows of 8") if refused else nullcontext()
    with context:
        perform(other, "evaluate", nothing, force=True)


@pytest.mark.parametrize(("dtype", "due"), [("float32", True), ("bfloat16", False)])
def test_another_dtype_than_was_trained_is_an_input_of_evaluation(small, dtype, due):
    finish(small)
    train = {"compute_dtype": "bfloat16"}
    perform(small(), "train", lambda this: trained(this, train), force=True)
    perform(small(), "evaluate", nothing, redo=True)
    other = small(f"train.compute_dtype={dtype}")
    perform(other, "train", nothing)
    if due:
        with pytest.raises(MismatchError, match=r"changed: train.compute_dtype"):
            perform(other, "evaluate", nothing)
    assert perform(other, "evaluate", nothing, redo=True) == due


def adapting(folder, make, *overrides):
    """The small run as one that adapts a base with the same tokenizer; returns run and base."""
    base = folder / "base"
    if not base.exists():
        cfg = dataclasses.replace(tiny_llama.CFG, vocab_size=hand_tokenizer.make().size)
        tiny_llama.write(base, cfg, hand_tokenizer.make())
    return make(f"base={{model: {base}}}", "vocab={method: keep}", *overrides)


def scaled(folder):
    """Gives a model other weights, without the manifest that would tell."""
    path = folder / "model.safetensors"
    arrays = {name: 3 * array for name, array in safetensors.numpy.load_file(path).items()}
    safetensors.numpy.save_file(arrays, path, {"format": "pt"})
    (folder / "manifest.json").unlink(missing_ok=True)


def test_a_base_whose_weights_changed_since_training_began_is_not_measured(small, tmp_path):
    def make(*overrides):
        return adapting(tmp_path, small, *overrides)

    finish(make)
    assert not perform(make(), "evaluate", nothing)
    scaled(tmp_path / "base")
    with pytest.raises(MismatchError, match=rf"{tmp_path}/base has other weights than .*/init"):
        perform(make(), "evaluate", nothing, force=True)
    assert (make().at("evaluate") / "after.json").exists()


def export(make, *overrides, **how):
    """Does the step export, with a work that only writes a manifest; tells whether it ran."""
    return perform(make(*overrides), "export", writes({"export/manifest.json": "{}"}), **how)


def test_an_export_follows_what_its_card_says(small):
    finish(small)
    assert export(small)
    assert not export(small)
    timed, scored = {"evaluate/after.json": "[1]"}, {"evaluate/items/after/bits/k.jsonl": "[1]"}
    perform(small(), "evaluate", writes(timed | {"evaluate/items/after/bits/k.jsonl": "{}"}),
            force=True)  # fmt: skip
    assert not export(small)  # the same scores, at another time
    perform(small(), "evaluate", writes(timed | scored), force=True)
    assert export(small)
    assert not export(small)
    said = ["base.license=mit", "data.datasets.t.language=kor_Hang", "data.datasets.t.license=mit"]
    for count in range(1, 4):
        assert export(small, *said[:count])
        assert not export(small, *said[:count])
    with pytest.raises(MismatchError, match=r"changed: export, base.license, data: language"):
        export(small, "export.dtype=float32")


def test_a_licence_is_no_part_of_the_weights_of_a_base_from_scratch(small):
    finish(small)
    for step in ("init", "train"):
        assert not perform(small("base.license=mit"), step, nothing)


def test_a_base_from_scratch_that_an_earlier_version_noted_with_its_licence_is_the_same(small):
    finish(small, "base.license=mit")
    path = small().note("init")
    noted = json.loads(path.read_text())
    noted["inputs"]["base"] = LICENSED
    path.write_text(json.dumps(noted))
    assert not perform(small("base.license=mit"), "init", nothing)
    with pytest.raises(MismatchError, match="changed: base"):
        perform(small("base.license=mit", "base.shape.hidden_size=16"), "init", nothing)


def test_a_vector_counts_by_its_weights_and_not_by_where_they_lie(small, tmp_path):
    def make(instruct):
        vector = f"{{instruct: {tmp_path}/{instruct}, base: {tmp_path}/base}}"
        return adapting(tmp_path, small, f"export.vector={vector}")

    make("base")  # which writes it
    shutil.copytree(tmp_path / "base", tmp_path / "instruct")
    finish(lambda: make("instruct"))
    assert export(lambda: make("instruct"))
    shutil.copytree(tmp_path / "instruct", tmp_path / "moved")
    assert not export(lambda: make("moved"))
    scaled(tmp_path / "moved")
    with pytest.raises(MismatchError, match=r"changed: export.vector.instruct \(.*/moved\)"):
        export(lambda: make("moved"))


def test_tokens_a_word_that_a_card_shows_are_those_that_were_measured(small):
    finish(small)
    measure = writes({"vocab/tokenizer.json": "t", "vocab/splice.json": "{}", FERTILITY: "[]"})
    perform(small(), "vocab", measure, force=True)
    assert not perform(small(), "init", nothing)  # which does not depend on it
    (small().folder / FERTILITY).write_text("[1]")
    with pytest.raises(VerificationError, match=r"fertility.json: has changed"):
        export(small)
