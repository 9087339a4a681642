"""Pieces shared out among languages: the next one goes to the language that costs most."""

import json

import byte_tokenizer
import pytest

from lrl_jax.cli import main
from lrl_jax.recipe.vocab import Extend
from lrl_jax.text import DataError
from lrl_jax.vocab import build
from lrl_jax.vocab.pieces import balance, choose, learn
from lrl_jax.vocab.tokenizer.load import family

ENGLISH = ["the cat sat on the mat", "the dog ran to the cat", "a mat and a hat"] * 3
KOREAN = ["고양이가 집에 갑니다", "강아지가 집에 옵니다", "고양이와 강아지가 갑니다"]
HINDI = ["बिल्ली घर जाती है", "कुत्ता घर आता है", "बिल्ली और कुत्ता जाते हैं"]
TEXTS = {"kor_Hang": KOREAN * 9, "hin_Deva": HINDI * 2}
PARALLEL = {"kor_Hang": KOREAN, "hin_Deva": HINDI}
SCRIPTS = ("Hang", "Deva")


@pytest.fixture(scope="module")
def bases():
    """A base of each family that knows English alone."""
    return {
        "sentencepiece": learn.train(ENGLISH, size=290, coverage=1.0),
        "byte_level": byte_tokenizer.learn(ENGLISH, 280),
    }


def ranked(base):
    return {code: choose.continued(lines, 60, SCRIPTS, 1.0, base) for code, lines in TEXTS.items()}


def tokens(tokenizer, lines):
    return sum(map(len, tokenizer.encode_batch(lines)))


@pytest.fixture
def files(tmp_path):
    for code, lines in (TEXTS | {"eng_Latn": ENGLISH}).items():
        (tmp_path / f"{code}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for code, lines in PARALLEL.items():
        (tmp_path / f"{code}.dev").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def extend(files, **fields) -> Extend:
    section = {
        "method": "extend", "pieces": 44, "scripts": SCRIPTS, "character_coverage": 1.0,
        "text": {code: [f"{files}/{code}.txt"] for code in TEXTS}, "balance": "parity",
        "parallel": {code: f"{files}/{code}.dev" for code in TEXTS},
        "prove_on": [f"{files}/eng_Latn.txt"],
    }  # fmt: skip
    return Extend(**section | fields)


# ---------------------------------------------------------------------------- whose piece is next
@pytest.mark.parametrize("kind", ["sentencepiece", "byte_level"])
def test_each_piece_goes_to_the_language_that_costs_most_before_it(kind, bases):
    base = bases[kind]
    pieces = ranked(base)
    got = balance.shared(base, pieces, PARALLEL, 50)
    order = [*got]
    letters = [] if kind == "byte_level" else [piece for piece in order if len(piece) == 1]
    assert order[: len(letters)] == letters
    for n in range(len(letters), len(order)):
        extended = family(base).extend(base, order[:n])
        cost = {code: tokens(extended, lines) for code, lines in PARALLEL.items()}
        left = [code for code in cost if {*pieces[code]} - {*order[:n]}]
        assert cost[got[order[n]]] == max(cost[code] for code in left), order[n]


def test_without_balance_the_language_with_most_text_takes_the_pieces(files, bases):
    base = bases["byte_level"]
    even = build.build(extend(files), base)
    uneven = build.build(extend(files, balance="none", parallel={}), base)
    assert len(even.splice.added) == len(uneven.splice.added) == 44
    apart = {
        name: balance.spread([tokens(built.new, lines) for lines in PARALLEL.values()])
        for name, built in (("even", even), ("uneven", uneven))
    }
    assert apart["even"] < 1.1 < 1.5 < apart["uneven"]


def test_the_same_text_gives_the_same_pieces_whatever_order_the_files_are_named_in(files, bases):
    base = bases["sentencepiece"]
    asked = extend(files)
    turned = extend(files, parallel=dict(reversed(asked.parallel.items())))
    got = build.build(turned, base)
    assert got.new.fingerprint == build.build(asked, base).new.fingerprint


def test_what_each_language_costs_is_said_before_and_after(files, bases):
    base = bases["sentencepiece"]
    built = build.build(extend(files), base)
    assert [cost.language for cost in built.costs] == ["kor_Hang", "hin_Deva"]
    for cost in built.costs:
        assert cost.before == tokens(base, PARALLEL[cost.language])
        assert cost.after == tokens(built.new, PARALLEL[cost.language])
        assert any(
            note.startswith(f"{cost.language}: its parallel lines take {cost.after} tokens")
            for note in built.notes
        )
    assert sum(cost.pieces for cost in built.costs) == len(built.splice.added)


def test_a_language_whose_pieces_are_used_up_leaves_the_rest_to_the_others(bases):
    base = bases["byte_level"]
    pieces = ranked(base)
    short = pieces | {"hin_Deva": pieces["hin_Deva"][:2]}
    got = balance.shared(base, short, PARALLEL, 1000)
    assert [*got.values()].count("hin_Deva") == 2
    assert {*got} == {*short["hin_Deva"], *short["kor_Hang"]}


def test_a_piece_that_two_languages_have_is_taken_once(bases):
    base = bases["byte_level"]
    pieces = ranked(base)["hin_Deva"][:9]
    got = balance.shared(base, {"hin_Deva": pieces, "mar_Deva": pieces},
                         {"hin_Deva": HINDI, "mar_Deva": HINDI[::-1]}, 50)  # fmt: skip
    assert [*got] == pieces


# ---------------------------------------------------------------------------- what is refused
def test_a_budget_below_the_letters_of_the_languages_is_refused_with_their_numbers(files, bases):
    with pytest.raises(ValueError, match=r"vocab.pieces: 9 are fewer than the \d+ letters that the "
                       r"base lacks \(kor_Hang \d+, hin_Deva \d+\)"):  # fmt: skip
        build.build(extend(files, pieces=9), bases["sentencepiece"])


def test_parallel_texts_of_unequal_length_or_without_text_are_refused_by_name(files, bases):
    short = files / "short.dev"
    short.write_text(KOREAN[0] + "\n", encoding="utf-8")
    parallel = extend(files).parallel | {"kor_Hang": str(short)}
    with pytest.raises(DataError, match="unequal numbers of lines: kor_Hang 1, hin_Deva 3"):
        build.build(extend(files, parallel=parallel), bases["sentencepiece"])
    short.write_text("\n\n\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"vocab\.parallel\.kor_Hang: holds no text"):
        build.build(extend(files, parallel=parallel), bases["sentencepiece"])


def test_a_language_whose_text_is_in_no_script_asked_for_is_named(files, bases):
    with pytest.raises(DataError, match=r"vocab.text.hin_Deva: "):
        build.build(extend(files, scripts=["Hang"]), bases["sentencepiece"])


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"text": ["a.txt"]}, "balance: parity needs text by language"),
        ({"text": {"kor_Hang": ["a"]}}, "for several languages; text has kor_Hang alone"),
        ({"parallel": {"kor_Hang": "a"}}, "needs lines of hin_Deva in parallel"),
        ({"parallel": {}}, "needs lines of kor_Hang in parallel"),
        ({"text": {"kor_Hang": ["a"], "hin_Deva": []}}, "text.*hin_Deva"),
        (
            {"parallel": {"kor_Hang": "a", "hin_Deva": "b", "tha_Thai": "c"}},
            "parallel has tha_Thai, of which text has no file",
        ),
        ({"balance": "none"}, "parallel is read by balance: parity alone"),
        ({"choose": "donor", "donor": "d"}, "choose: donor takes those given"),
    ],
)
def test_a_balance_that_lacks_something_is_refused(files, fields, says):
    with pytest.raises(ValueError, match=says):
        extend(files, **fields)


def test_the_step_writes_the_costs_and_check_refuses_lines_that_do_not_align(
    files, tmp_path, capsys, bases
):
    family(bases["sentencepiece"]).write(bases["sentencepiece"], tmp_path / "base")
    text, parallel = extend(files).text, extend(files).parallel
    recipe = tmp_path / "two.yaml"
    tree = {
        "name": "two", "folder": str(tmp_path / "runs"),
        "base": {"tokenizer": f"{tmp_path}/base", "shape": {
            "hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 8,
            "num_attention_heads": 1, "num_key_value_heads": 1, "max_position_embeddings": 64}},
        "vocab": {"method": "extend", "text": text, "parallel": parallel, "balance": "parity",
                  "pieces": 60, "scripts": SCRIPTS, "prove_on": [f"{files}/eng_Latn.txt"]},
        "data": {"sequence_length": 16, "datasets": {
            "korean": {"kind": "text", "path": text["kor_Hang"], "language": "kor_Hang"}}},
        "train": {"batch_size": 2, "stages": [{"name": "a", "steps": 1, "mixture": {"korean": 1},
                  "learn": [{"match": ".*", "schedule": {"peak": 1e-3}}]}]},
    }  # fmt: skip
    recipe.write_text(json.dumps(tree), encoding="utf-8")
    assert main.main(["vocab", str(recipe)]) == 0
    assert "the dearest of them takes 1." in capsys.readouterr().err
    written = json.loads((tmp_path / "runs/two/vocab/balance.json").read_text())
    assert [row["language"] for row in written] == ["kor_Hang", "hin_Deva"]
    assert all(0 < row["after"] < row["before"] for row in written)
    (files / "kor_Hang.dev").write_text(KOREAN[0] + "\n", encoding="utf-8")
    assert main.main(["check", str(recipe)]) == 3
    assert "vocab.parallel: texts of unequal numbers of lines" in capsys.readouterr().err
