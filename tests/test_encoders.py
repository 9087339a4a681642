"""One shard on several cores: the same documents in the same order, and no process left behind."""

import io
import os
import select
import signal

from hand_tokenizer import make
import numpy as np
import pytest

from lrl_jax.data.pack import encoders, jobs, packing
from lrl_jax.data.templates import documents
from lrl_jax.data.templates.parts import TextPart
from lrl_jax.recipe import data as recipe_data
from lrl_jax.text import DataError

TOKENIZER = make()
BATCHES = [
    [[TextPart(f"{'a b ' * (9 * n % 40)}c", 1.0), TextPart("b", 0.0)]] * (n % 3 + 1)
    for n in range(40)
]


@pytest.fixture
def folder(tmp_path):
    for name, content in TOKENIZER.files.items():
        (tmp_path / name).write_bytes(content)
    return str(tmp_path)


@pytest.fixture
def started(monkeypatch):
    """The other processes, which here are there before the first text is tokenised."""
    monkeypatch.setattr(encoders, "ALONE", 0)
    children = []
    begin = encoders._Helper.__init__

    def begun(self, folder):
        begin(self, folder)
        children.append(self._child)
        select.select([self], [], [])

    monkeypatch.setattr(encoders._Helper, "__init__", begun)
    return children


def test_documents_come_in_their_order_from_two_processes_and_an_error_at_its_place(
    folder, started
):
    bad = [[TextPart("<no such token>", 1.0, control=True)]]
    got = encoders.encoded(iter([*BATCHES, bad, *BATCHES]), TOKENIZER, folder, 2)
    for want in BATCHES:
        batch, encoded = next(got)
        assert batch is want
        for one, other in zip(encoded, documents.encode(want, TOKENIZER), strict=True):
            assert np.array_equal(one.tokens, other.tokens)
            assert np.array_equal(one.weights, other.weights)
            assert (one.tokens.dtype, one.weights.dtype) == (np.int32, np.float32)
            assert one.bytes == other.bytes
    with pytest.raises(ValueError, match="no control token '<no such token>'"):
        next(got)
    assert len(started) == 2
    assert all(child.returncode is not None for child in started)


def test_a_process_answers_on_after_an_error(folder, monkeypatch):
    monkeypatch.setattr(encoders.tokenizers, "share_cores", lambda threads: None)
    requests, answers = io.BytesIO(), io.BytesIO()
    for batch in ([[["<x>", 1.0, True]]], [[["a", 1.0, False]]]):
        encoders._send(requests, batch)
    requests.seek(0)
    encoders.serve(folder, requests, answers)
    answers.seek(0)
    assert encoders._receive(answers) == {"ready": True}
    assert "no control token '<x>'" in encoders._receive(answers)["error"]
    assert encoders._receive(answers)["bytes"] == [1]


def test_a_process_that_is_killed_is_named_and_the_others_end(folder, started):
    got = encoders.encoded(iter(BATCHES), TOKENIZER, folder, 2)
    next(got)
    os.kill(started[0].pid, signal.SIGKILL)
    with pytest.raises(DataError, match=r"was killed.*lower data\.workers"):
        list(got)
    assert all(child.returncode is not None for child in started)


def test_a_tokenizer_that_cannot_be_loaded_there_is_said(folder, started):
    with pytest.raises(ValueError, match="no such file"):
        list(encoders.encoded(iter(BATCHES), TOKENIZER, f"{folder}/none", 2))


def test_a_short_shard_and_a_single_worker_start_no_process(monkeypatch):
    def never(*args):
        raise AssertionError("a process was started")

    monkeypatch.setattr(encoders, "_Helper", never)
    short = [batch for batch, _ in encoders.encoded(iter(BATCHES), TOKENIZER, "", 8)]
    monkeypatch.setattr(encoders, "ALONE", 0)
    alone = [batch for batch, _ in encoders.encoded(iter(BATCHES), TOKENIZER, "", 1)]
    assert short == alone == BATCHES


def test_a_dataset_of_one_shard_is_packed_to_the_same_bytes_on_two_cores(
    tmp_path, started, monkeypatch
):
    monkeypatch.setattr(packing, "BATCH", 8)
    lines = [" ".join("abc"[(i * j) % 3] for j in range(i % 30 + 1)) for i in range(400)]
    (tmp_path / "text.txt").write_text("\n".join(lines) + "\n")
    dataset = {"kind": "text", "path": [str(tmp_path / "text.txt")], "language": "kor_Hang"}
    shards = []
    for workers in (1, 2):
        data = recipe_data.Data(sequence_length=64, datasets={"d": dataset}, workers=workers)
        manifest = jobs.prepare_all(data, TOKENIZER, tmp_path / f"{workers}")["d"]
        assert len(started) == 2 * (workers == 2)
        shards.append((manifest.fingerprint, manifest.tokens, manifest.shards))
    assert shards[0] == shards[1]
    assert len(shards[0][2]) == 1
