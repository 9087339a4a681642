"""A recipe's datasets as seqio Tasks: their documents are those that are packed."""

import json
from pathlib import Path
import subprocess
import sys

from hand_tokenizer import make
import numpy as np
import pytest
from small_datasets import KINDS, data

from lrl_jax.data import dataset as datasets
from lrl_jax.data.read import filters
from lrl_jax.data.seqio import registry
from lrl_jax.data.seqio.libraries import seqio, tf
from lrl_jax.data.seqio.sources import Records
from lrl_jax.data.seqio.vocabulary import Vocabulary
from lrl_jax.data.templates import documents
from lrl_jax.data.templates import table as templates
from lrl_jax.recipe import data as recipe_data
from lrl_jax.vocab.tokenizer.types import Tokenizer

ROOT = Path(__file__).parents[1]


def as_packed(one: recipe_data.Dataset, tokenizer: Tokenizer) -> list[documents.Document]:
    """What packing makes of a dataset without copies, before rows."""
    write = templates.writer(one, tokenizer)
    found = []
    for shard in datasets.shards(one):
        sieve = filters.Sieve(one)
        found += [write(record) for record in sieve.sift(datasets.read(one, shard))]
    return documents.encode(found, tokenizer)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"copies"}))
def test_the_documents_of_a_task_are_those_that_are_packed(tmp_path, kind):
    recipe, tokenizer = data(tmp_path, kind), make()
    task = registry.register_datasets("run", recipe, tokenizer)[kind]
    got = list(task.get_dataset(None, shuffle=False).as_numpy_iterator())
    want = as_packed(recipe.datasets[kind], tokenizer)
    assert len(got) == len(want) > 0
    for example, document in zip(got, want, strict=True):
        assert example["targets"].tolist() == document.tokens.tolist()
        assert np.array_equal(example["weights"], document.weights)
        assert example["weights"].dtype == document.weights.dtype == np.float32


def test_weights_between_0_and_1_come_through_a_task(tmp_path):
    task = registry.register_datasets("run", data(tmp_path, "taco"), make())["taco"]
    (first, *_) = task.get_dataset(None, shuffle=False).as_numpy_iterator()
    want = np.array([0, 0.25, 0.3, 1], np.float32)
    assert np.array_equal(np.unique(first["weights"]), want)


def test_control_tokens_come_through_a_task_as_ids(tmp_path):
    tokenizer = make()
    task = registry.register_datasets("run", data(tmp_path, "chat"), tokenizer)["chat"]
    (one,) = task.get_dataset(None, shuffle=False).as_numpy_iterator()
    end = tokenizer.control("</s>")
    assert (one["targets"] == end).sum() == 2  # one an answer, both learnt, no further end
    assert (one["weights"][one["targets"] == end] == 1).all()
    assert (one["targets"] == tokenizer.control("<s>")).sum() == 1  # before the second question


def test_a_task_leaves_out_what_filters_do(tmp_path):
    task = registry.register_datasets("run", data(tmp_path, "copies"), make())["copies"]
    got = [example["parts"] for example in _records(task)]
    assert got == [["a b"], ["c c c c c c c c c"], ["b d d"]]


def test_long_documents_become_what_the_recipe_says(tmp_path):
    def lengths(long_documents):
        recipe = data(tmp_path, "text", long_documents=long_documents)
        task = registry.register_datasets("run", recipe, make())["text"]
        length = dict.fromkeys(task.output_features, 4)
        got = task.get_dataset(length, shuffle=False).as_numpy_iterator()
        return [len(example["targets"]) for example in got]

    assert lengths("split") == [3, 4, 4, 2, 4, 2, 4] * 3
    assert lengths("truncate") == [3, 4, 4, 4] * 3
    assert lengths("drop") == [3, 4] * 3


@pytest.mark.parametrize(
    ("answers", "want"),
    [("truncate", [3, 4]), ("drop", [3]), ("split", [3, 4, 2, 2])],
)
def test_long_answers_become_what_the_recipe_says(tmp_path, answers, want):
    recipe = data(tmp_path, "asked", long_answers=answers)
    rows = ("a", "b"), ("a a", "b b b"), ("a a a a", "b")  # tokens: 3, 6, and 6 of which 4 ask
    lines = [json.dumps({"prompt": prompt, "completion": answer}) for prompt, answer in rows]
    (tmp_path / "asked.jsonl").write_text("\n".join(lines))
    task = registry.register_datasets("run", recipe, make())["asked"]
    length = dict.fromkeys(task.output_features, 4)
    got = task.get_dataset(length, shuffle=False).as_numpy_iterator()
    assert [len(example["targets"]) for example in got] == want


def test_shards_of_a_task_are_those_of_the_dataset(tmp_path):
    recipe = data(tmp_path, "text")
    paths = [str(tmp_path / name) for name in ("en.txt", "text.txt", "ko.txt")]
    one = recipe.datasets["text"].model_copy(update={"path": tuple(paths)})
    source = Records(one)
    count = len(source.list_shards("train"))
    assert count == len(datasets.shards(one))
    got = [
        [row["text"].numpy().decode() for row in source.get_dataset(shuffle=False, shard_info=info)]
        for info in (seqio.ShardInfo(i, count) for i in range(count))
    ]
    want = [[record["text"] for record in datasets.read(one, s)] for s in datasets.shards(one)]
    assert got == want


def test_registering_again_replaces(tmp_path):
    recipe = data(tmp_path, "text")
    first, again = (registry.register_datasets("my-run", recipe, make())["text"] for _ in range(2))
    assert again is not first
    assert seqio.TaskRegistry.get(registry.task_name("my-run", "text")) is again


def test_an_error_in_the_text_comes_out_of_tensorflow_as_it_was(tmp_path):
    recipe = data(tmp_path, "asked")
    (tmp_path / "asked.jsonl").write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "a"}\n')
    task = registry.register_datasets("run", recipe, make())["asked"]
    with pytest.raises(ValueError, match=r"asked.jsonl:2: .*completion"), registry.errors([task]):
        list(task.get_dataset(None, shuffle=False))


def test_the_vocabulary_is_the_tokenizer():
    vocabulary = Vocabulary(make())
    assert vocabulary.encode("a b") == [263, 264]
    assert vocabulary.encode_tf(tf.constant("a b")).numpy().tolist() == [263, 264]
    assert vocabulary.encode_tf(tf.constant(["a", "", "b c"])).to_list() == [[263], [], [264, 265]]
    assert vocabulary.decode([263, 264, 2, 265]) == "a b"  # seqio stops at the first eos
    assert vocabulary.decode_tf(tf.constant([263, 264])).numpy() == b"a b"
    assert (vocabulary.vocab_size, vocabulary.bos_id, vocabulary.eos_id) == (266, 1, 2)
    assert vocabulary == Vocabulary(make())
    assert vocabulary != Vocabulary(make(("d",)))


def test_tensorflow_comes_in_without_a_word():
    code = (
        "from lrl_jax.data.seqio.registry import tf; "
        "print([device.device_type for device in tf.config.get_visible_devices()])"
    )
    got = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert got.stdout == "['CPU']\n"
    assert got.stderr == ""


def _records(task: seqio.Task) -> list[dict]:
    """A Task up to its cache boundary."""
    found = task.preprocess_precache(task.source.get_dataset(shuffle=False))
    return [{"parts": [part.decode() for part in example["parts"].numpy()]} for example in found]
