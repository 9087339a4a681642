"""Records that share text with a test text are found, and only those."""

import json

from etils import epath
import numpy as np
import pytest

from lrl_jax.data.pack import shared
from lrl_jax.data.read import contamination, grams, test_texts
from lrl_jax.text import DataError

WORDS = [
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen",
]  # fmt: skip
CHINESE = "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往"  # 20 letters, none twice
JAPANESE = "いろはにほへとちりぬるをわかよたれそつねならむうゐのおくやまけふこえて"
THAI = "เป็นมนุษย์สุดประเสริฐเลิศคุณค่ากว่าบรรดาฝูงสัตว์เดรัจฉาน"


def held_out(tmp_path, *texts: str, name: str = "test.txt") -> contamination.HeldOut:
    (tmp_path / name).write_text("".join(f"{text}\n" for text in texts))
    return contamination.gather([str(tmp_path / name)])


def is_shared(tests: contamination.HeldOut, *fields: str) -> bool:
    [overlap] = tests.shared([fields])
    return overlap is not None


def words(first: int, last: int) -> str:
    return " ".join(WORDS[first:last])


# ---------------------------------------------------------------------------- what is shared
def test_thirteen_words_in_a_row_are_shared_and_twelve_are_not(tmp_path):
    tests = held_out(tmp_path, words(0, 14))
    assert is_shared(tests, f"so {words(1, 14)} so")
    assert not is_shared(tests, f"so {words(1, 13)} so")
    assert not is_shared(tests, f"{words(0, 7)} so {words(7, 14)}")
    assert not is_shared(tests, words(0, 7), words(7, 14))  # of two fields


@pytest.mark.parametrize(
    ("text", "size"), [(CHINESE, 17), (JAPANESE, 25), (THAI, 50)], ids=["han", "kana", "thai"]
)
def test_letters_count_where_no_space_splits_words(tmp_path, text, size):
    assert len(text) > size
    tests = held_out(tmp_path, text)
    assert is_shared(tests, f"x{text[-size:]}y")
    assert not is_shared(tests, f"x{text[1 - size :]}y")


def test_korean_is_compared_by_words(tmp_path):
    korean = [*"가나다라마바사아자차카타파하"]
    tests = held_out(tmp_path, " ".join(korean))
    assert is_shared(tests, "이 " + " ".join(korean[:13]))
    assert not is_shared(tests, "".join(korean))
    assert not is_shared(tests, " ".join(korean[:12]))


def test_case_marks_and_spaces_make_no_difference(tmp_path):
    tests = held_out(tmp_path, "Ça va, " + words(0, 11), CHINESE[:10] + "，" + CHINESE[10:])
    assert is_shared(tests, "«C\u0327A  VA» - " + "\n".join(WORDS[:11]).upper() + "!")
    assert is_shared(tests, " ".join(CHINESE))
    assert not is_shared(tests, "Ca va " + words(0, 11))


def test_a_shorter_test_text_is_looked_for_as_a_whole(tmp_path):
    tests = held_out(tmp_path, words(0, 9), words(3, 11), words(4, 11), CHINESE[:10], CHINESE[11:])
    assert is_shared(tests, f"so {words(0, 9)} so")
    assert not is_shared(tests, f"so {words(0, 8)} so")
    assert is_shared(tests, f"so {words(3, 11)} so")  # of eight words, the fewest
    assert is_shared(tests, f"so {CHINESE[:10]} so")
    assert not is_shared(tests, f"so {CHINESE[:9]} so")
    assert not is_shared(tests, f"so {words(4, 11)} so")
    assert tests.compared == (contamination.Compared(texts=5, short=2),)


def test_an_english_text_is_not_compared_by_the_chinese_name_in_it(tmp_path):
    tests = held_out(tmp_path, f"{words(0, 13)} {CHINESE[:17]}")
    assert not is_shared(tests, CHINESE)
    assert is_shared(tests, words(0, 13))


def test_each_record_says_the_files_and_the_run(tmp_path):
    for name, lines in (("a.txt", (0, 13)), ("b.txt", (1, 14)), ("c.txt", (0, 13))):
        (tmp_path / name).write_text(f"nothing\n\n{words(*lines)}\n")
    a, b, c = (str(tmp_path / name) for name in ("a.txt", "b.txt", "c.txt"))
    tests = contamination.gather([a, b, c, a])
    got = tests.shared([("so",), (f"So {words(0, 14)}",), (words(1, 14), words(1, 14)), ()])
    assert got == [
        None,
        contamination.Overlap((a, b, c), f"{a}:3: {words(0, 13)}"),
        contamination.Overlap((b,), f"{b}:3: {words(1, 14)}"),
        None,
    ]


def test_long_texts_are_compared_to_their_ends_in_bounded_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(contamination, "WINDOW", 400)
    monkeypatch.setattr(contamination, "OVERLAP", 200)
    monkeypatch.setattr(contamination, "BATCH_CHARS", 500)
    tests = held_out(tmp_path, words(0, 13))
    for before in range(0, 900, 7):
        assert is_shared(tests, "x " * before + words(0, 13) + " x" * 100), before
    assert not is_shared(tests, "x " * 900)


def test_many_texts_are_the_same_in_one_batch_and_in_many(tmp_path, monkeypatch):
    rng = np.random.default_rng(3)
    lines = [" ".join(rng.choice(list("abc"), size)) for size in rng.integers(0, 40, 300)]
    tests = held_out(tmp_path, *lines[:20])
    want = tests.shared([(line,) for line in lines])
    assert sum(overlap is not None for overlap in want) == 13
    monkeypatch.setattr(contamination, "BATCH_CHARS", 1)
    assert held_out(tmp_path, *lines[:20]).shared([(line,) for line in lines]) == want


def test_a_shared_folder_gives_the_same(tmp_path):
    tests = held_out(tmp_path, words(0, 14), words(0, 9), CHINESE)
    shared.write_held_out(tests, epath.Path(tmp_path / "shared"))
    back = shared.open_held_out(str(tmp_path / "shared"))
    assert back is not None
    assert isinstance(back.texts, np.memmap)
    records = [(text,) for text in (words(1, 14), words(0, 9), CHINESE, words(0, 8))]
    assert back.shared(records) == tests.shared(records)
    assert back.compared == tests.compared
    assert shared.open_held_out("") is None


def test_nothing_is_shared_with_texts_that_are_all_too_short(tmp_path):
    tests = held_out(tmp_path, "so", "네")
    shared.write_held_out(tests, epath.Path(tmp_path / "shared"))
    back = shared.open_held_out(str(tmp_path / "shared"))
    for each in (tests, back):
        assert each.shared([("so",), (words(0, 14),)]) == [None, None]
        assert each.compared == (contamination.Compared(2, 2),)


# ---------------------------------------------------------------------------- hashes
@pytest.mark.parametrize("size", [1, 2, 7, 8, 13, 50])
def test_a_run_has_one_hash_wherever_it_stands(size):
    values = np.random.default_rng(size).integers(0, 2**64, 120, np.uint64)
    both = grams.grams(grams.doubled(np.concatenate([values, values]), size), size)
    alone = grams.grams(grams.doubled(values, size), size)
    assert len(alone) == 120 - size + 1
    assert np.array_equal(both[: len(alone)], alone)
    assert np.array_equal(both[120:], alone)
    assert len(np.unique(both)) == 120 if size < 120 else 1
    assert np.array_equal(grams.grams_at(values, np.arange(len(alone)), size), alone)


def test_words_are_told_apart_by_every_letter():
    text = " ".join(["ab", "ba", "a", "b", "aa", "ab"])
    hashes = grams.words(grams.normalised([text, "AB."])).hashes
    assert len({*hashes.tolist()}) == 5
    assert hashes[0] == hashes[5] == hashes[6]


# ---------------------------------------------------------------------------- test files
SQUAD = {"data": [{"title": "t", "paragraphs": [{"context": words(0, 13), "qas": [
    {"question": words(0, 9), "id": "7", "answers": [{"text": words(2, 11), "answer_start": 3}]}
]}]}]}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "want"),
    [
        ("a.devtest", "a b\n\n c\n", [("a b", 1, False), (" c", 3, False)]),
        ("a.jsonl", '{"q": "a", "n": 1}\n\n{"q": ["b", {"x": " "}, "c"]}\n',
         [("a", 1, False), ("b", 3, False), ("c", 3, False)]),
        ("a.json", '{"q": "a"}\n{"q": "b"}\n', [("a", 1, False), ("b", 2, False)]),
        ("a.test", '{"q": "a"}\n{"q": "b"}\n', [("a", 1, False), ("b", 2, False)]),
        ("a.tsv", 'q\ta\n"x" y\tz\n',
         [("q", 1, False), ("a", 1, False), ('"x" y', 2, False), ("z", 2, False)]),
        ("a.csv", '"x\ny",z\n', [("x\ny", 1, False), ("z", 1, False)]),
        ("squad.json", json.dumps(SQUAD),
         [("t", 1, True), (words(0, 13), 1, True), (words(0, 9), 1, True), ("7", 1, True),
          (words(2, 11), 1, True)]),
    ],
)  # fmt: skip
def test_every_text_of_a_test_file_is_read_with_its_place(tmp_path, name, content, want):
    (tmp_path / name).write_text(content)
    assert [tuple(text) for text in test_texts.strings(str(tmp_path / name))] == want


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"test\.txt: is empty"),
        (b"\n \n", r"test\.txt: holds no text to compare with training data"),
        (b"a\n\xff\xfe\x00b\n", r"test\.txt:2: not UTF-8"),
        (b"a\0b\n", r"test\.txt:1: holds a NUL; this is not a text file"),
    ],
)
def test_a_file_that_is_no_test_text_is_refused_by_name(tmp_path, content, message):
    (tmp_path / "test.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        contamination.gather([str(tmp_path / "test.txt")])
    with pytest.raises(DataError, match=r"none\.txt: no such file"):
        contamination.gather([str(tmp_path / "none.txt")])


def test_a_digest_follows_content_and_not_names(tmp_path):
    held_out(tmp_path, "a", name="a.txt")
    held_out(tmp_path, "b", name="b.txt")
    a, b = str(tmp_path / "a.txt"), str(tmp_path / "b.txt")
    got = contamination.mark([a, b])
    (tmp_path / "a.txt").rename(tmp_path / "c.txt")
    assert contamination.mark([b, str(tmp_path / "c.txt")]) == got
    held_out(tmp_path, "c", name="c.txt")
    assert contamination.mark([b, str(tmp_path / "c.txt")]) != got
