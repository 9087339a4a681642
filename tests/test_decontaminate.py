"""What shares text with a test text is not packed, whatever its kind and whoever packs it."""

import importlib.util
import json
from pathlib import Path

from hand_tokenizer import make
import pytest
from test_jobs import tree

from lrl_jax.data.feed import show
from lrl_jax.data.pack import beam, jobs, packed, packing, shared
from lrl_jax.data.read import contamination, filters
from lrl_jax.recipe import data as recipe_data

LANGUAGE = {"language": "und_Zyyy"}
PAIR = {"source_language": "eng_Latn", "target_language": "kor_Hang"}
ENGLISH = "a a b a c a b b a c b c a"  # 13 words
KOREAN = "가 나 다 라 마 바 사 아 자 차 카 타 파"
CHINESE = "天地玄黄宇宙洪荒日月盈昃辰宿列张寒"  # 17 letters
THAI = "เป็นมนุษย์สุดประเสริฐเลิศคุณค่ากว่าบรรดาฝูงสัตว์เดรัจ"[:50]
PLANTED = {"english": ENGLISH, "korean": KOREAN, "chinese": CHINESE, "thai": THAI}
SHORTER = {"english": ENGLISH[:-2], "korean": KOREAN[:-2], "chinese": CHINESE[1:], "thai": THAI[1:]}


def rows(path: Path, records: list) -> str:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    return str(path)


def dataset(folder: Path, kind: str, texts: list[str]) -> dict:
    """A dataset of a kind in which each text stands in one record, in a field that is read."""
    path = folder / f"{kind}.jsonl"
    if kind == "text":
        return {"kind": kind, "path": [rows(path, [{"text": t} for t in texts])], **LANGUAGE}
    if kind == "source":
        pairs = [{"source": t, "target": "a"} for t in texts]
        return {"kind": "parallel", "path": [rows(path, pairs)], **PAIR}
    if kind == "target":
        pairs = [{"source": "a", "target": t} for t in texts]
        return {"kind": "parallel", "path": [rows(path, pairs)], **PAIR}
    if kind == "instructions":
        asked = [{"instruction": "a", "input": t, "output": "b"} for t in texts]
        return {"kind": kind, "path": [rows(path, asked)], **LANGUAGE}
    if kind == "completion":
        asked = [{"prompt": t, "completion": "b"} for t in texts]
        return {"kind": kind, "path": [rows(path, asked)], **LANGUAGE}
    if kind == "chat":
        turns = [[("system", t), ("user", "a"), ("assistant", "b")] for t in texts]
        said = [{"messages": [{"role": r, "content": c} for r, c in turn]} for turn in turns]
        path = rows(path, said)
        return {"kind": kind, "path": [path], "template": "llama2_chat", **LANGUAGE}
    assert kind == "taco"
    english = [{"instruction": t, "input": "", "output": "a"} for t in texts]
    other = [{"instruction": "c", "input": "", "output": "b"} for t in texts]
    sides = rows(path, english), rows(folder / "other.jsonl", other)
    return {"kind": kind, "english": sides[0], "translated": sides[1], "language": "kor_Hang"}


KINDS = ("text", "source", "target", "instructions", "completion", "chat", "taco")


def data_of(datasets: dict, tests: tuple[str, ...] = (), **changes) -> recipe_data.Data:
    values = {"sequence_length": 8, "long_answers": "split", "workers": 1}
    return recipe_data.Data(**values | changes, datasets=datasets, decontaminate=tests)


def write_tests(folder: Path, name: str = "test.txt", texts: tuple[str, ...] = ()) -> str:
    path = folder / name
    path.write_text("".join(f"{text}\n" for text in texts or PLANTED.values()))
    return str(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_test_text_is_left_out_of_every_kind(tmp_path, kind):
    kept = ["a b", *SHORTER.values(), "c"]
    texts = [f"b {text} b" for text in PLANTED.values()]
    test = write_tests(tmp_path)
    data = data_of({"d": dataset(tmp_path, kind, [*kept, *texts])}, (test,))
    got = jobs.prepare_all(data, make(), tmp_path / "out")["d"]
    assert (got.records, got.docs) == (10, 6)
    assert got.left_out == {filters.IN_TEST: 4}
    assert got.in_tests == {test: 4}
    samples = json.loads((packing.folders(tmp_path / "out")["d"] / "samples.json").read_text())
    want = [f"{test}:{line}: {text}" for line, text in enumerate(PLANTED.values(), start=1)]
    assert samples == {
        filters.IN_TEST: [text[:117] + "..." * (len(text) > 120) for text in want[:3]]
    }


@pytest.fixture
def corpus(tmp_path, monkeypatch) -> dict:
    """Datasets of several shards, of which every ninth record has a planted text."""
    monkeypatch.setattr("lrl_jax.data.dataset.SHARD_BYTES", 1500)
    planted = [*PLANTED.values()]
    lines = [planted[i // 9 % 4] if i % 9 == 4 else f"a b c {'a ' * (i % 11)}" for i in range(180)]
    text = dataset(tmp_path, "text", lines)
    return {
        "plain": text,
        "taken": {**text, "take": 50},
        "copies": {**text, "filters": {"duplicates": "near", "min_chars": 8}},
        "pairs": dataset(tmp_path, "target", lines[:60]),
    }


def test_any_number_of_workers_packs_the_same_bytes(corpus, tmp_path):
    test = write_tests(tmp_path)
    for workers in (1, 2):
        data = data_of(corpus, (test,), workers=workers)
        got = jobs.prepare_all(data, make(), tmp_path / f"{workers}")
    assert tree(tmp_path / "1") == tree(tmp_path / "2")
    assert not (tmp_path / "1" / shared.TESTS).exists()
    assert len(got["plain"].shards) > 2
    assert (got["plain"].records, got["plain"].left_out) == (180, {filters.IN_TEST: 20})
    assert (got["taken"].docs, got["taken"].left_out) == (50, {filters.IN_TEST: 6})
    assert got["taken"].records == 56  # none is read that is not asked for
    assert (got["copies"].docs, got["copies"].in_tests) == (2, {test: 20})
    assert got["pairs"].in_tests == {test: 7}


@pytest.mark.skipif(
    not importlib.util.find_spec("apache_beam"), reason="needs Apache Beam: the extra `beam`"
)
def test_beam_packs_the_same_bytes(corpus, tmp_path):
    data = data_of(corpus, (write_tests(tmp_path),))
    want = jobs.prepare_all(data, make(), tmp_path / "local")
    got = jobs.prepare_all(data, make(), tmp_path / "beam", runner=beam.runner("direct"))
    assert got == want
    assert tree(tmp_path / "beam") == tree(tmp_path / "local")


def test_without_test_texts_nothing_is_as_much_as_named_another_way(tmp_path):
    data = data_of({"d": dataset(tmp_path, "text", ["a b", ENGLISH])})
    got = jobs.prepare_all(data, make(), tmp_path / "out")["d"]
    folder = packing.folders(tmp_path / "out")["d"]
    assert "in_tests" not in json.loads((folder / "manifest.json").read_text())
    [note] = folder.glob("rows-*.json")
    assert "in_tests" not in json.loads(note.read_text())["count"]
    assert "decontaminate" not in data.model_dump()
    compared = data_of({"d": data.datasets["d"]}, (write_tests(tmp_path),))
    assert jobs.fingerprint(data, "d", make()) == got.fingerprint
    assert jobs.fingerprint(compared, "d", make()) != got.fingerprint


def test_a_changed_test_text_is_another_fingerprint_and_a_moved_one_is_not(tmp_path):
    datasets = {"d": dataset(tmp_path, "text", ["a b", ENGLISH])}
    test = write_tests(tmp_path)

    def mark(*tests: str) -> str:
        return jobs.fingerprint(data_of(datasets, tests), "d", make())

    before = mark(test)
    moved = write_tests(tmp_path, "moved.txt")
    assert mark(moved) == mark(test, moved) == before
    write_tests(tmp_path, "moved.txt", (KOREAN,))
    assert mark(moved) != before


def test_what_was_packed_before_a_kill_is_not_packed_again(corpus, tmp_path, monkeypatch):
    data = data_of(corpus, (write_tests(tmp_path),))
    want = jobs.prepare_all(data, make(), tmp_path / "whole")
    write, written = packed.write, []

    def failing(job, done):
        if len(written) == 4:
            raise OSError("killed")
        written.append(job.path().name)
        write(job, done)

    monkeypatch.setattr(packed, "write", failing)
    with pytest.raises(OSError, match="killed"):
        jobs.prepare_all(data, make(), tmp_path / "out")
    again = []
    monkeypatch.setattr(packed, "write", lambda job, done: (again.append(1), write(job, done)))
    assert jobs.prepare_all(data, make(), tmp_path / "out") == want
    assert len(again) == len([*(tmp_path / "whole").glob("*/*/rows-*.json")]) - 4
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_the_table_of_what_was_compared_follows_the_recipe(tmp_path):
    datasets = {"d": dataset(tmp_path, "text", ["a b", ENGLISH])}
    test = write_tests(tmp_path, texts=(KOREAN, "a b"))
    got = jobs.prepare_all(data_of(datasets, (test,)), make(), tmp_path / "out")
    assert got["d"].in_tests == {test: 0}
    assert shared.read_compared(tmp_path / "out") == {test: contamination.Compared(2, 1)}
    assert [*shared.remarks(tmp_path / "out")] == [
        f"{test}: 1 of 2 test texts are too short to be compared with training data"
    ]
    assert [*show.remarks(got)] == [f"d: 0 of 2 records share text with {test}"]
    jobs.prepare_all(data_of(datasets), make(), tmp_path / "out")
    assert shared.read_compared(tmp_path / "out") == {}


def test_the_remark_names_the_test_files_with_their_counts(tmp_path):
    datasets = {"d": dataset(tmp_path, "text", ["a b", ENGLISH, f"{ENGLISH} c", KOREAN])}
    tests = [write_tests(tmp_path, f"{i}.txt", (text,)) for i, text in enumerate((KOREAN, ENGLISH))]
    got = jobs.prepare_all(data_of(datasets, tuple(tests)), make(), tmp_path / "out")
    remarks = [*show.remarks(got)]
    want = f"1 with {tests[0]}, 2 with {tests[1]}"
    assert f"d: 3 of 4 records share text with test texts and are left out: {want}" in remarks


def test_a_dataset_of_which_nothing_is_left_is_refused(tmp_path):
    data = data_of({"d": dataset(tmp_path, "text", [ENGLISH])}, (write_tests(tmp_path),))
    with pytest.raises(ValueError, match=r"'d' has no record left of 1 \(1 in a test text\)"):
        jobs.prepare_all(data, make(), tmp_path / "out")
