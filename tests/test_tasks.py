"""Sources and seqio: what a record is, what is refused, and two routes to the same content."""

import json
from pathlib import Path
import subprocess
import sys

from hand_tokenizer import make
import numpy as np
import pytest

from lrl_jax import recipe, recipe_data
from lrl_jax.data import pack, records, rows, tasks
from lrl_jax.data.sources import Vocabulary, seqio, tf
from lrl_jax.data.stream import Files
from lrl_jax.data.templates import Part

ROOT = Path(__file__).parents[1]
KOREAN = {"language": "kor_Hang"}
LANGUAGES = {"source_language": "eng_Latn", "target_language": "kor_Hang"}


def dataset(kind: str, **fields) -> recipe_data.Dataset:
    data = recipe_data.Data(sequence_length=8, datasets={"d": {"kind": kind, **fields}})
    return data.datasets["d"]


def read(one: recipe_data.Dataset) -> list[dict[str, str]]:
    return [record for shard in records.shards(one) for record in records.read(one, shard)]


def write(path: Path, content: str) -> str:
    path.write_text(content)
    return str(path)


# ---------------------------------------------------------------------------- records
def test_text_is_a_document_a_line(tmp_path):
    path = write(tmp_path / "t", "a\n\n b \r\n")
    assert read(dataset("text", path=[path], **KOREAN)) == [{"text": "a"}, {"text": " b "}]


def test_text_may_be_a_document_a_paragraph(tmp_path):
    path = write(tmp_path / "t", "\na\nb\n\n \nc\n")
    got = read(dataset("text", path=[path], documents="paragraphs", **KOREAN))
    assert got == [{"text": "a\nb"}, {"text": "c"}]


def test_jsonl_gives_the_named_field(tmp_path):
    path = write(tmp_path / "t.jsonl", '{"body": "a", "n": 1}\n\n{"body": "b"}\n')
    got = read(dataset("text", path=[path], columns={"text": "body"}, **KOREAN))
    assert got == [{"text": "a"}, {"text": "b"}]


@pytest.mark.parametrize("as_list", [True, False])
def test_instructions_are_a_json_list_or_json_lines(tmp_path, as_list):
    rows_in = [
        {"instruction": "a", "input": "b", "output": "c"},
        {"instruction": "d", "output": "e"},
    ]
    content = json.dumps(rows_in, indent=1) if as_list else "\n".join(map(json.dumps, rows_in))
    got = read(dataset("instructions", path=[write(tmp_path / "t", content)], **KOREAN))
    assert got == [rows_in[0], rows_in[1] | {"input": ""}]


@pytest.mark.parametrize(
    ("direction", "want"),
    [
        ("forward", ["a>c", "b>d"]),
        ("backward", ["c>a", "d>b"]),
        ("both", ["a>c", "c>a", "b>d", "d>b"]),
    ],
)
def test_pairs_go_the_way_they_are_learnt(tmp_path, direction, want):
    source, target = write(tmp_path / "s", "a\nb\n"), write(tmp_path / "t", "c\nd\n")
    one = dataset("parallel", source=source, target=target, direction=direction, **LANGUAGES)
    got = read(one)
    assert [f"{record['source']}>{record['target']}" for record in got] == want
    for record in got:
        forward = record["source"] in "ab"
        assert record["source_language"] == ("eng_Latn" if forward else "kor_Hang")
        assert record["target_language"] == ("kor_Hang" if forward else "eng_Latn")


@pytest.mark.parametrize(("s", "t", "counts"), [(3, 5, "3 lines.* 5;"), (5, 3, "5 lines.* 3;")])
def test_pairs_of_unequal_length_are_refused_with_both_counts(tmp_path, s, t, counts):
    source, target = write(tmp_path / "s", "a\n" * s), write(tmp_path / "t", "c\n" * t)
    with pytest.raises(ValueError, match=counts):
        read(dataset("parallel", source=source, target=target, **LANGUAGES))


@pytest.mark.parametrize(
    ("kind", "content", "why"),
    [
        (
            "text:t.jsonl",
            '{"text": "a"}\n{"body": "b"}\n',
            r"t(.jsonl)?:2: has no field 'text'; it has body",
        ),
        ("text:t.jsonl", '{"text": "a"}\n{"text"\n', r"t(.jsonl)?:2: not JSON"),
        ("text:t.jsonl", "[1]\n", r"t(.jsonl)?:1: want a JSON object; got '\[1\]'"),
        ("text:t.jsonl", '{"text": 5}\n', r"t(.jsonl)?:1: field 'text' must be a string; got '5'"),
        (
            "text:t.jsonl",
            '{"text": "\\ud800"}\n',
            r"t(.jsonl)?:1: field 'text' holds half a surrogate",
        ),
        ("instructions", '[{"instruction": "a"}]', r"t(.jsonl)?: row 1: has no field 'output'"),
        (
            "instructions",
            '[{"instruction": "a", "output": "b"}, 3]',
            r"t(.jsonl)?: row 2: want a JSON obj",
        ),
        ("instructions", '[{"instruction"', r"t(.jsonl)?: not JSON"),
        ("instructions", '\n{"instruction": "a"}', r"t(.jsonl)?:2: has no field 'output'"),
        ("text", "", r"t(.jsonl)?: is empty"),
    ],
)
def test_a_bad_record_is_named_by_file_and_line(tmp_path, kind, content, why):
    kind, _, name = kind.partition(":")
    path = write(tmp_path / (name or "t"), content)
    with pytest.raises(ValueError, match=why):
        read(dataset(kind, path=[path], **KOREAN))


# ---------------------------------------------------------------------------- seqio
def small(tmp_path: Path, **changes) -> recipe_data.Data:
    text = write(tmp_path / "text", "a b\nc c c c c c c c c\nb d d\n" * 40)
    rows_in = [{"instruction": "a", "input": "", "output": o} for o in ("b", "", "c d")]
    tuned = write(tmp_path / "rows.json", json.dumps(rows_in))
    return recipe_data.Data(
        sequence_length=8,
        datasets={
            "my-text": {"kind": "text", "path": [text], **KOREAN},
            "tuned": {"kind": "instructions", "path": [tuned], **KOREAN},
        },
        workers=1,
        **changes,
    )


def stage(**mixture: float) -> recipe.Stage:
    names = {name.replace("_", "-"): weight for name, weight in mixture.items()}
    learn = [{"match": ".*", "schedule": "frozen"}]
    return recipe.Stage(name="a-b", steps=3, mixture=names, learn=learn)


def test_a_task_gives_templated_documents_and_counts_what_it_left_out(tmp_path):
    task = tasks.register("run", small(tmp_path), make())["tuned"]
    got = list(tasks.examples(task, 0))
    assert [[part.trained for part in parts] for parts in got] == [[False, True]] * 2
    assert [parts[1] for parts in got] == [Part("b", True), Part("c d", True)]
    assert got[0][0].text.endswith("### Instruction:\na\n\n### Response:")
    assert task.source.skipped == 1


def test_registering_again_replaces(tmp_path):
    data = small(tmp_path)
    first = tasks.register("run", data, make())
    again = tasks.register("run", data, make())
    assert again["my-text"] is not first["my-text"]
    assert seqio.TaskRegistry.get(tasks.task_name("run", "my-text")) is again["my-text"]


def test_a_mixture_says_the_weights_of_its_stage(tmp_path):
    tasks.register("run", small(tmp_path), make())
    one = stage(my_text=3, tuned=1)
    for _ in range(2):  # the second registration takes the place of the first
        tasks.register_mixture("run", one)
    assert tasks.rates("run", one) == {"my-text": 0.75, "tuned": 0.25}


def test_an_error_in_the_text_comes_out_of_tensorflow_as_it_was(tmp_path):
    path = write(tmp_path / "t.jsonl", '{"text": "a"}\n{"body": "b"}\n')
    data = recipe_data.Data(
        sequence_length=8, datasets={"d": {"kind": "text", "path": [path], **KOREAN}}
    )
    task = tasks.register("run", data, make())["d"]
    with pytest.raises(ValueError, match=r"t(.jsonl)?:2: has no field 'text'; it has body"):
        list(tasks.examples(task, 0))


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


def documents(batch: dict[str, np.ndarray]) -> list[list[tuple[int, ...]]]:
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


@pytest.mark.parametrize("first", [(), ("\u2581d",)], ids=["id 0 unk", "id 0 text"])
@pytest.mark.parametrize("name", ["my-text", "tuned"])
def test_seqio_online_and_packed_rows_have_the_same_content(tmp_path, first, name):
    data, tokenizer = small(tmp_path), make(first)
    task = tasks.register("run", data, tokenizer)[name]
    online = tasks.online_rows(task, tokenizer, 8).batch(10_000)
    got = next(online.as_numpy_iterator())
    manifest = pack.prepare(data, name, tokenizer, tmp_path / "out")
    packed = Files(tmp_path / "out" / name, manifest).read(np.arange(manifest.rows))
    want = rows.features(packed, 8, tokenizer.bos_id, tokenizer.pad_id)
    assert documents(got) == documents(want)
    assert set(got) == set(want)
    assert (got["decoder_segment_ids"] > 0).sum() == manifest.tokens
    padding = got["decoder_segment_ids"] == 0
    for key in ("decoder_target_tokens", "decoder_input_tokens"):
        assert (got[key][padding] == tokenizer.pad_id).all()
    assert got["decoder_loss_weights"].sum() == manifest.loss_tokens


def test_online_batches_start_anywhere_and_share_among_processes(tmp_path):
    data, tokenizer = small(tmp_path), make()
    stages = [stage(my_text=1, tuned=1), stage(my_text=1)]

    def batches(**where):
        return list(tasks.online_batches(data, stages, tokenizer, 4, seed=1, **where))

    whole = batches()
    assert [g for g, _ in whole] == [0, 4, 8, 12, 16, 20]
    second_half = batches(start_row=16, process_index=1, process_count=2)
    assert [g for g, _ in second_half] == [16, 20]
    for name, array in whole[4][1].items():
        assert array.shape == (4, 8)
        assert np.array_equal(second_half[0][1][name], array[2:])


def test_tensorflow_comes_in_without_a_word():
    code = (
        "from lrl_jax.data.tasks import tf; "
        "print([device.device_type for device in tf.config.get_visible_devices()])"
    )
    got = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert got.stdout == "['CPU']\n"
    assert got.stderr == ""
