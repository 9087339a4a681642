"""`backend: seqio`: the same documents as packed rows have, in batches that training takes."""

import dataclasses
from pathlib import Path

import byte_tokenizer
from hand_tokenizer import make
import numpy as np
import pytest
import small_datasets as small
from small_world import write_recipes
import worker_train as tiny

from lrl_jax.data.feed.plan import Plan, PlanStage
from lrl_jax.data.feed.stream import Files, Stream
from lrl_jax.data.pack import jobs, packing, rows
from lrl_jax.data.seqio import online, registry
from lrl_jax.recipe import data as recipe_data
from lrl_jax.recipe import file as recipe_file
from lrl_jax.recipe import train as recipe_train
from lrl_jax.train import loop
from lrl_jax.train.checkpoint import CheckpointMismatchError
from lrl_jax.train.log import read


def plan(manifests, *stages: PlanStage, seed: int = 1) -> Plan:
    sizes = {name: one.rows for name, one in manifests.items()}
    prints = {name: one.fingerprint for name, one in manifests.items()}
    return Plan(sizes, stages, seed, prints)


def stream(
    folder: Path, data, tokenizer, *stages: PlanStage, seed: int = 1, **fields
) -> online.Online:
    manifests = online.prepare(data, tokenizer, folder)
    counts = online.read_counts(folder)
    assert {name: one.manifest for name, one in counts.items()} == manifests
    fields = {"batch_size": 4} | fields
    return online.Online(data, plan(manifests, *stages, seed=seed), counts, tokenizer, **fields)


def documents(batch: dict[str, np.ndarray]) -> list[list[tuple]]:
    """Each packed document as (target, input, weight, position) of its tokens, sorted."""
    names = ("target_tokens", "input_tokens", "loss_weights", "positions")
    segments = batch["decoder_segment_ids"]
    found = []
    for b in range(len(segments)):
        for segment in range(1, segments[b].max() + 1):
            mine = segments[b] == segment
            found.append(
                list(zip(*(batch[f"decoder_{n}"][b][mine].tolist() for n in names), strict=True))
            )
    return sorted(found)


# ---------------------------------------------------------------------------- content
def exclaiming() -> byte_tokenizer.Tokenizer:
    """A byte-level tokenizer, as Llama 3 has: its id 0 is `!`."""
    tokenizer = byte_tokenizer.learn(["a b c d"], size=300)
    assert tokenizer.encode("!") == [0]
    return tokenizer


@pytest.mark.parametrize(
    "tokenizer", [make(), make(("\u2581d",)), exclaiming()], ids=["unk", "text", "!"]
)
@pytest.mark.parametrize("kind", ["text", "pairs", "taco"])
def test_seqio_packs_the_documents_of_packed_rows_whatever_id_0_is(tmp_path, tokenizer, kind):
    data = small.data(tmp_path, kind, sequence_length=16)
    if kind == "text":
        (tmp_path / "text.txt").write_text("Wow! Great! It works!\n!!\nb d d\n" * 40)
    task = registry.register_datasets("run", data, tokenizer)[kind]
    got = next(online.packed(task, tokenizer, 16).batch(10_000).as_numpy_iterator())
    manifest = jobs.prepare_all(data, tokenizer, tmp_path / "out")[kind]
    folder = packing.folders(tmp_path / "out")[kind]
    found = Files(folder, manifest).read(np.arange(manifest.rows))
    want = rows.features(found, 16, tokenizer.bos_id, tokenizer.pad_id)
    assert documents(got) == documents(want)
    assert set(got) == {*want, "dataset"}
    padding = got["decoder_segment_ids"] == 0
    assert (~padding).sum() == manifest.tokens
    for key in ("decoder_target_tokens", "decoder_input_tokens"):
        assert (got[key][padding] == tokenizer.pad_id).all()
    assert np.count_nonzero(got["decoder_loss_weights"]) == manifest.loss_tokens


def test_counts_are_those_of_packing(tmp_path):
    data, tokenizer = small.data(tmp_path, "text", "pairs", "copies", "taken"), make()
    got = online.prepare(data, tokenizer, tmp_path)
    want = jobs.prepare_all(data, tokenizer, tmp_path / "out")
    same = ("records", "left_out", "docs", "scripts", "bytes", "tokens", "loss_tokens", "cut")
    for name in data.datasets:
        for field in same:
            assert getattr(got[name], field) == getattr(want[name], field), (name, field)
        assert got[name].rows == -(-want[name].tokens // 8)
        assert got[name].fingerprint != want[name].fingerprint


# ---------------------------------------------------------------------------- batches
def test_batches_start_anywhere_and_share_among_processes(tmp_path):
    data, tokenizer = small.data(tmp_path, "text", "pairs"), make()
    stages = (PlanStage("a", 12, {"text": 1, "pairs": 1}), PlanStage("b", 12, {"text": 1}))

    def batches(start, **where):
        with stream(tmp_path, data, tokenizer, *stages, **where).prefetch(start) as found:
            return list(found)

    whole = batches(0)
    assert [g for g, _ in whole] == [0, 4, 8, 12, 16, 20]
    second = batches(16, row_places=np.array([2, 3]))
    assert [g for g, _ in second] == [16, 20]
    other = batches(8, batch_size=8)
    for name, array in whole[4][1].items():
        assert array.shape == (4, 8)
        assert np.array_equal(second[0][1][name], array[2:])
        assert np.array_equal(
            other[0][1][name], np.concatenate([whole[2][1][name], whole[3][1][name]])
        )


def test_another_seed_draws_other_batches(tmp_path):
    data, tokenizer = small.data(tmp_path, "text", "pairs"), make()
    stage = PlanStage("a", 8, {"text": 1, "pairs": 1})
    one, same, other = (
        stream(tmp_path, data, tokenizer, stage, seed=seed).batch_at(0)["decoder_target_tokens"]
        for seed in (1, 1, 2)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_rows_are_told_by_the_dataset_most_of_their_tokens_are_of(tmp_path):
    data, tokenizer = small.data(tmp_path, "pairs", "text"), make()
    stages = (PlanStage("a", 4, {"text": 1}), PlanStage("b", 4, {"pairs": 1}))
    found = stream(tmp_path, data, tokenizer, *stages)
    assert found.plan.names == ("pairs", "text")
    found.batch_at(0)
    short = found.batch_at(4, 3)  # the end of a stage, of which three rows are left
    assert found.dataset_ids(0).tolist() == [1, 1, 1, 1]
    assert found.dataset_ids(4, 3).tolist() == [0, 0, 0]
    assert (short["decoder_segment_ids"].sum(axis=1) > 0).tolist() == [True, True, True, False]
    assert {array.shape for array in short.values()} == {(4, 8)}


def test_tokens_have_the_shares_of_the_plan_on_average(tmp_path):
    (tmp_path / "long.txt").write_text(" ".join("a" * 11) + "\n")
    (tmp_path / "short.txt").write_text("b\n")
    datasets = {
        name: {"kind": "text", "path": [str(tmp_path / f"{name}.txt")], "language": "kor_Hang"}
        for name in ("long", "short")
    }
    data = recipe_data.Data(sequence_length=64, datasets=datasets)
    found = stream(
        tmp_path, data, make(), PlanStage("a", 128, {"long": 1, "short": 3}), batch_size=128
    )
    targets = found.batch_at(0)["decoder_target_tokens"]
    a, b = (int((targets == i).sum()) for i in (263, 264))
    assert 2 * b / (a * 12 / 11) == pytest.approx(3, rel=0.1)  # with their ends: 12 and 2 tokens


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("data.packing=none", "data.packing: none is not what seqio does"),
        ("data.datasets.english.order=length", "data.datasets.english.order: length is not kept"),
        ("train.stages=[{name: a, epochs: 1, mixture: {english: 1}, learn: [{match: a, "
         "schedule: frozen}]}]", "stage 'a': epochs are not kept"),
    ],
)  # fmt: skip
def test_what_seqio_does_not_keep_is_refused(tmp_path, override, why):
    base, _ = write_recipes(tmp_path)
    online.refuse(recipe_file.load(base))
    with pytest.raises(ValueError, match=why):
        online.refuse(recipe_file.load(base, [override]))


def test_counts_of_another_tokenizer_are_refused(tmp_path):
    data = small.data(tmp_path, "text")
    manifests = online.prepare(data, make(), tmp_path)
    with pytest.raises(ValueError, match="counted with another tokenizer"):
        online.Online(
            data,
            plan(manifests, PlanStage("a", 4, {"text": 1})),
            online.read_counts(tmp_path),
            make(("d",)),
            4,
        )


def test_an_error_in_the_text_ends_training_as_it_is(tmp_path):
    data = small.data(tmp_path, "asked")
    found = stream(tmp_path, data, make(), PlanStage("a", 4, {"asked": 1}))
    (tmp_path / "asked.jsonl").write_text('{"prompt": "a"}\n')
    with found.prefetch(0) as batches, pytest.raises(ValueError, match=r"asked.jsonl:1: "):
        next(batches)


# ---------------------------------------------------------------------------- training
STAGE = recipe_train.Stage(name="a", steps=4, mixture={"text": 1, "pairs": 1}, learn=(tiny.ALL,))
CFG = dataclasses.replace(tiny.CFG, vocab_size=make().size)


def train(folder: Path, rows, **fields) -> list[dict]:
    settings, on = tiny.settings((STAGE,), save={"steps": 2}, **fields), tiny.mesh()
    sample = stop if fields else None
    loop.train(
        settings, CFG, lambda: tiny.params(on, CFG), on, rows, folder / "train", sample=sample
    )
    return [tiny.same(m) for m in read(folder / "train" / "metrics.jsonl")]


def stop(params, done):
    if done == 3:
        raise KeyboardInterrupt
    return []


def test_training_goes_on_after_a_stop_and_not_with_another_seed(tmp_path):
    data, tokenizer = small.data(tmp_path, "text", "pairs"), make()

    def rows(seed=1):
        stage = PlanStage("a", 32, {"text": 1, "pairs": 1})
        return stream(tmp_path, data, tokenizer, stage, batch_size=8, seed=seed)

    whole = train(tmp_path / "whole", rows())
    assert set(whole[0]["losses"]) <= {"text", "pairs"}
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", rows(), sample_every=1)
    with pytest.raises(CheckpointMismatchError, match="the seed was 1 and is 2"):
        train(tmp_path / "cut", rows(seed=2))
    assert train(tmp_path / "cut", rows()) == whole


def test_both_routes_train_alike_where_chance_has_no_say(tmp_path):
    """One document, with weights between 0 and 1, is every row of both."""
    data, tokenizer = small.data(tmp_path, "taco", sequence_length=512), make()
    one = data.datasets["taco"].model_copy(update={"take": 1})
    data = data.model_copy(update={"datasets": {"text": one}})
    stage = PlanStage("a", 32, {"text": 1})
    manifest = jobs.prepare_all(data, tokenizer, tmp_path / "out")["text"]
    assert 256 < manifest.tokens <= 512  # no second one fits in a row
    folders = packing.folders(tmp_path / "out")
    packed = train(tmp_path / "packed", Stream(folders, plan({"text": manifest}, stage), 8))
    seqio = train(tmp_path / "seqio", stream(tmp_path, data, tokenizer, stage, batch_size=8))
    for got, want in zip(seqio, packed, strict=True):
        assert got["tokens"] == want["tokens"]
        np.testing.assert_allclose(got["loss"], want["loss"], rtol=1e-6)
