"""Letters, marks, joiners and digits of a language in new pieces; drift; composed text."""

from collections import Counter
import itertools
import unicodedata

from conftest import data_file
import hand_byte_level
import hand_tokenizer
import pytest
from sentencepiece import sentencepiece_model_pb2 as spm

from lrl_jax import text
from lrl_jax.data import dataset as datasets
from lrl_jax.recipe import data as recipe_data
from lrl_jax.recipe.vocab import Extend
from lrl_jax.vocab import build, scripts
from lrl_jax.vocab.pieces import choose, learn, prove, splice
from lrl_jax.vocab.tokenizer.load import family, from_bytes
from lrl_jax.vocab.tokenizer.piece_model import splits_digits
from lrl_jax.vocab.tokenizer.sentencepieces import write

OKINA, APOSTROPHE = "\u02bb", "\u02bc"
ZWSP, ZWNJ, ZWJ = "\u200b", "\u200c", "\u200d"
KHMER = "\u1780\u1781"


def with_digits(split: bool):
    """The tokenizer done by hand, with ten digits; it says itself that it splits them, or not."""
    model = spm.ModelProto.FromString(hand_tokenizer.make().files["tokenizer.model"])
    for i in range(10):
        model.pieces.add(piece=str(i), score=-20.0 - i, type=1)
    if not split:
        model.pieces.add(piece="12", score=-40.0, type=1)
    return from_bytes(model.SerializeToString())


def extend(tmp_path, new, english=("abc",), **fields):
    for name, lines in (("new", new), ("english", english)):
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    given = {
        "method": "extend", "text": [f"{tmp_path}/new"], "pieces": 60, "scripts": ["Latn"],
        "prove_on": [f"{tmp_path}/english"], "character_coverage": 1.0,
    }  # fmt: skip
    return Extend(**given | fields)


def added(built):
    return family(built.new).pieces(built.new)[built.base.size :]


# ---------------------------------------------------------------------------- letters
@pytest.mark.parametrize("letter", [OKINA, APOSTROPHE, "\u02be", "\u02ee"])
@pytest.mark.parametrize("code", ["Latn", "Cyrl"])
def test_a_letter_of_no_script_stays_inside_words(letter, code):
    word = {"Latn": f" o{letter}hana", "Cyrl": f" з{letter}їзд"}[code].encode()
    assert list(scripts.stretches(word, (code,))) == [(0, len(word))]


def test_such_letters_are_of_no_other_script():
    assert not scripts.written_in(f"가{OKINA}", ("Hang",))
    assert not scripts.written_in("o\u2019hana", ("Latn",))  # a quotation mark, no letter


@pytest.mark.parametrize("choose_by", ["continue", "append", "frequency"])
def test_words_with_such_letters_become_pieces(choose_by, tmp_path):
    lines = [f"a{OKINA}b ca{OKINA}b", f"{OKINA}ab a{OKINA}bc"] * 9
    built = build.build(extend(tmp_path, lines, choose=choose_by), hand_tokenizer.make())
    assert OKINA in added(built)
    assert any(OKINA in piece and len(piece.strip("▁")) > 2 for piece in added(built))
    assert len(built.new.encode(lines[0])) <= 4 < len(built.base.encode(lines[0])) / 2


# ---------------------------------------------------------------------------- marks and joiners
@pytest.mark.parametrize(
    ("text", "code", "want"),
    [
        (f"क{ZWJ}ष", "Deva", [ZWJ]),
        (f"می{ZWNJ}خ", "Arab", [ZWNJ]),
        (f"{KHMER}{ZWSP}{KHMER}", "Khmr", [ZWSP]),
        ("a\u0333\u0333b", "Latn", ["\u0333", "\u0333"]),  # on a letter, and on its mark
        (f"가{ZWSP}나", "Hang", []),  # spaces part its words: rubbish of the web
        ("가 \u2764\ufe0f", "Hang", []),  # the mark of an emoji
        ("한\U0001f468\u200d\U0001f4bb", "Hang", []),
    ],
)
def test_marks_and_joiners_of_the_language_are_known_by_where_they_stand(text, code, want):
    assert scripts.marks(text, (code,)) == want


@pytest.mark.parametrize("choose_by", ["continue", "append", "frequency"])
@pytest.mark.parametrize("mark", ["\u0333", ZWNJ, "\u0301"])
def test_marks_the_base_lacks_get_a_piece_however_rare_they_are(choose_by, mark, tmp_path):
    lines = ["abc cab bac abca"] * 4000 + [f"ab{mark}c"] * 2
    settings = dict(choose=choose_by, character_coverage=0.9995)
    built = build.build(extend(tmp_path, lines, **settings), hand_tokenizer.make())
    assert mark in added(built)
    assert prove.unreachable(built.new, built.base.size) == []


def test_the_space_of_no_width_gets_a_piece_and_still_parts_words(tmp_path):
    lines = [f"{KHMER}{ZWSP}{KHMER}\u1782", f"\u1782{ZWSP}{KHMER}"] * 5
    built = build.build(extend(tmp_path, lines, scripts=["Khmr"]), hand_tokenizer.make())
    assert [piece for piece in added(built) if ZWSP in piece] == [ZWSP]
    assert built.new.decode(built.new.encode(lines[0])) == lines[0]


# ---------------------------------------------------------------------------- digits
@pytest.mark.parametrize("choose_by", ["continue", "append", "frequency"])
@pytest.mark.parametrize(("code", "digits"), [("Khmr", "២០១៩"), ("Deva", "२०१९"), ("Ethi", "፩፪፱")])
def test_digits_of_a_script_are_split_where_the_base_splits_digits(
    code, digits, choose_by, tmp_path
):
    letter = {"Khmr": "ក", "Deva": "क", "Ethi": "ሀ"}[code]
    lines = [f"{letter}{letter} {digits}{letter}{letter} {digits}"] * 9
    for split in (True, False):
        fields = dict(scripts=[code], choose=choose_by)
        built = build.build(extend(tmp_path, lines, **fields), with_digits(split))
        glued = [p for p in added(built) if any(c in digits for c in p) and len(p) > 1]
        assert bool(glued) is not split
        assert {*digits} <= {*added(built)} or not split
        assert any(piece.strip("▁") == letter * 2 for piece in added(built))


def test_a_base_says_whether_it_splits_digits():
    assert splits_digits(with_digits(True))
    assert not splits_digits(with_digits(False))
    assert not splits_digits(hand_tokenizer.make())  # it has none
    assert splits_digits(learn.train(["ab 12 3"] * 9, 267, 1.0))  # its settings say so


def test_a_numeral_that_is_a_letter_is_no_digit():
    assert scripts.digits_apart("二〇一九") == ["二〇一九"]


# ---------------------------------------------------------------------------- drift
ENGLISH = ["abc a b c"] * 99 + ["aéc"]  # of 15 tokens a line, é is in one


def test_a_piece_that_the_base_text_has_once_is_left_out_and_said(tmp_path):
    lines = ["éa éb éc abab"] * 50
    built = build.build(extend(tmp_path, lines, ENGLISH), hand_tokenizer.make())
    assert "é" not in added(built)
    [said] = [note for note in built.notes if "prove_on has them" in note]
    assert "'é' (1)" in said
    assert "vocab.drift allows 0" in said
    assert any("1 characters are left to bytes: 'é' (150)" in note for note in built.notes)


def test_a_bound_on_drift_keeps_characters_first_and_is_shown_and_proved(tmp_path):
    lines = ["éa éb éc abab abab"] * 50
    vocab = extend(tmp_path, lines, [*ENGLISH, "abab"] * 3, drift=100)
    base = hand_tokenizer.make()
    built = build.build(vocab, base)
    assert "é" in added(built)
    changed = [note for note in built.notes if "tokens of prove_on change" in note]
    assert len(changed) == 1
    assert "vocab.drift allows 100" in changed[0]
    write(built.new, tmp_path / "out")
    proof = prove.prove(tmp_path / "out", base, text.lines(*vocab.prove_on), lines, drift=100)
    assert proof.ok
    assert 0 < proof.base_tokens_changed <= 0.01 * proof.base_tokens
    assert "vocab.drift allows 100" in proof.summary
    assert f"{proof.base_tokens_changed:,} of {proof.base_tokens:,} tokens" in changed[0]


def test_more_drift_than_allowed_breaks_the_proof(tmp_path):
    base = hand_tokenizer.make()
    new, _ = splice.splice(base, ["é"])
    write(new, tmp_path / "out")
    for drift, ok in ((0.0, False), (50.0, False), (7000.0, True)):
        proof = prove.prove(tmp_path / "out", base, ["aé", "a"], ["é"], drift=drift)
        assert proof.ok is ok  # of ▁a, two bytes and ▁a, two change
        assert (proof.base_tokens_changed, proof.base_tokens) == (2, 4)


@pytest.mark.parametrize("drift", [0.0, 3.0, 10.0, 40.0, 10_000.0])
def test_no_more_tokens_of_the_base_text_change_than_drift_allows(drift):
    base = learn.train(itertools.islice(text.lines("sample:train.eng"), 400), 340, 1.0)
    spare = list(itertools.islice(text.lines("sample:test.eng"), 200))
    new = [line[::-1] for line in itertools.islice(text.lines("sample:train.eng"), 400)]
    candidates = choose.continued(new, 400, ("Latn",), 1.0, base)
    got = splice.pruned(base, candidates, new, 2, spare, drift)
    ids = splice.splice(base, got.pieces)[0].encode_batch(spare)
    changed = sum(i >= base.size for row in ids for i in row)
    assert got.changed <= drift * got.whole / 10_000
    assert bool(changed) is bool(got.changed)
    assert got.whole == sum(map(len, base.encode_batch(spare)))
    if not drift:
        assert got.pieces == splice.prune(base, candidates, new, 2, spare)
        assert changed == 0


def test_more_drift_keeps_more_of_the_language():
    base = hand_tokenizer.make()
    kept = [
        splice.prune(base, ["é", "éb", "éa"], ["aéb aéa"] * 9, 1, ["aé" + " a" * 97, "aéb"], drift)
        for drift in (0, 400, 10_000)  # of 104 tokens é changes 2 in each word, éb 3 in one
    ]
    assert kept == [[], ["é", "éa"], ["é", "éb", "éa"]]


# ---------------------------------------------------------------------------- composed text
HANGUL = ["가나 가다", "나가 다나"] * 20


def test_decomposed_text_is_said_and_composed_where_asked(tmp_path):
    apart = [unicodedata.normalize("NFD", line) for line in HANGUL]
    said = build.build(extend(tmp_path, apart, scripts=["Hang"]), hand_tokenizer.make())
    assert any("100% of the lines of vocab.text are not in NFC" in note for note in said.notes)
    assert said.new.encode_batch(HANGUL) == said.base.encode_batch(HANGUL)  # no use to it
    asked = extend(tmp_path, apart, scripts=["Hang"], normalize="nfc")
    built = build.build(asked, hand_tokenizer.make())
    assert any("they were composed" in note for note in built.notes)
    whole = build.build(extend(tmp_path, HANGUL, scripts=["Hang"]), hand_tokenizer.make())
    assert built.new.fingerprint == whole.new.fingerprint
    assert not any("NFC" in note for note in whole.notes)


VIETNAMESE = ["người Việt", "tiếng Việt"] * 20


@pytest.mark.parametrize(("whole", "share"), [(0, "100%"), (20, "50%")])
def test_letters_apart_from_their_marks_are_said_with_their_share(whole, share, tmp_path):
    apart = [unicodedata.normalize("NFD", line) for line in VIETNAMESE[whole:]]
    lines = VIETNAMESE[:whole] + apart
    said = build.build(extend(tmp_path, lines), hand_tokenizer.make())
    assert any(f"{share} of the lines of vocab.text are not in NFC" in n for n in said.notes)
    asked = build.build(extend(tmp_path, lines, normalize="nfc"), hand_tokenizer.make())
    assert any(f"{share} of the lines" in n and "they were composed" in n for n in asked.notes)
    composed = build.build(extend(tmp_path, VIETNAMESE), hand_tokenizer.make())
    assert asked.new.fingerprint == composed.new.fingerprint
    assert not any("NFC" in note for note in composed.notes)


def test_nothing_is_said_of_decomposed_text_where_the_base_composes_it(tmp_path):
    apart = [unicodedata.normalize("NFD", line) for line in VIETNAMESE]
    for style, says in (("qwen2", False), ("llama3", True)):
        built = build.build(extend(tmp_path, apart), hand_byte_level.make(style))
        assert any("NFC" in note for note in built.notes) is says
        assert (len(built.new.encode("tiếng Việt")) < 5) is not says  # its pieces are of use


def test_records_of_a_dataset_are_composed_where_asked(tmp_path):
    (tmp_path / "a.txt").write_text("cafe\u0301\n", encoding="utf-8")
    fields = dict(kind="text", path=(f"{tmp_path}/a.txt",), language="fra_Latn")
    for normalize, want in (("keep", "cafe\u0301"), ("nfc", "caf\u00e9")):
        dataset = recipe_data.Text(**fields, normalize=normalize)
        [shard] = datasets.shards(dataset)
        assert [*datasets.read(dataset, shard)] == [{"text": want}]


def test_new_fields_are_not_written_where_they_are_not_used(tmp_path):
    dumped = extend(tmp_path, ["a"]).model_dump_json()
    assert "drift" not in dumped
    assert "normalize" not in dumped
    dataset = recipe_data.Text(kind="text", path=("a",), language="fra_Latn").model_dump_json()
    assert "normalize" not in dataset


# ---------------------------------------------------------------------------- languages as they are
@pytest.mark.parametrize(
    ("code", "most"), [("amh_Ethi", 8.0), ("yor_Latn", 3.0), ("khm_Khmr", 3.0), ("nav_Latn", 3.0)]
)
def test_no_letter_of_a_language_is_left_to_bytes_on_a_base_of_512_pieces(code, most):
    base = from_bytes(data_file("tokenizers/tok512/tokenizer.model").read_bytes())
    new = data_file(f"udhr/udhr_{code[:3]}.txt")
    english = data_file("mono/en/tinystories_sample.txt")
    built = build.build(
        Extend(
            method="extend", text=[str(new)], pieces=2048, scripts=[code[4:]], min_count=1,
            character_coverage=1.0, drift=10, prove_on=[str(english)],
        ),
        base,
    )  # fmt: skip
    names = family(built.new).pieces(built.new)
    lines = [line for line in new.read_text(encoding="utf-8").splitlines() if line.strip()]
    letters = {c for c in "".join(lines) if unicodedata.category(c)[0] in "LMN"}
    ids = built.new.encode_batch(sorted(letters))
    assert [c for c, own in zip(sorted(letters), ids, strict=True) if _in_bytes(names, own)] == []
    words = sum(len(line.split()) for line in lines)
    assert sum(map(len, built.new.encode_batch(lines))) < most * words
    english = english.read_text(encoding="utf-8").splitlines()
    was, now = base.encode_batch(english), built.new.encode_batch(english)
    changed = sum((Counter(a) - Counter(b)).total() for a, b in zip(was, now, strict=True))
    assert changed <= 10 * sum(map(len, was)) / 10_000


def _in_bytes(names, ids):
    return any(names[i].startswith("<0x") for i in ids)
