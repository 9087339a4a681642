"""What strategies are told of new tokens: spelled, merged and compared as the text stands."""

import dataclasses
import json
from pathlib import Path

from conftest import DATA, NO_DATA
import hand_tokenizer
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from lrl_jax.embeddings import clues
from lrl_jax.embeddings.strategies import STRATEGIES, grow
from lrl_jax.recipe.schema import Init, Words
from lrl_jax.vocab.pieces import splice
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.types import Tokenizer

SPACE, A, B, C, _A, _B, _C = range(259, 266)  # the hand tokenizer's pieces


@pytest.fixture(scope="module")
def base() -> Tokenizer:
    return hand_tokenizer.make()


def file(tmp_path, name: str, content: str) -> str:
    (tmp_path / name).write_text(content, encoding="utf-8")
    return str(tmp_path / name)


def model(tmp_path, known: Tokenizer, **tensors: np.ndarray) -> Path:
    """A helper's folder: a tokenizer and these tensors, `__` in names for a dot."""
    tokenizers.family(known).write(known, tmp_path)
    named = {name.replace("__", "."): value for name, value in tensors.items()}
    save_file(named, str(tmp_path / "model.safetensors"))
    return tmp_path


# ---------------------------------------------------------------------------- surfaces
def test_a_piece_stands_for_its_text_with_its_space(base):
    got = clues.surfaces(base)
    assert (got[_A], got[B], got[SPACE]) == (b" a", b"b", b" ")


def test_a_byte_piece_stands_for_one_byte_and_a_control_piece_for_none(base):
    got = clues.surfaces(base)
    assert got[3 + 0xEA] == b"\xea"
    assert got[:3] == [b"", b"", b""]


def test_the_space_of_a_word_counts_as_text(base):
    found = clues.build({"bytes_V"}, base, base, splice.identity(base), Init())
    assert found.bytes_V is not None
    assert found.bytes_V[[0, 3, SPACE, A, _A]].tolist() == [0, 1, 1, 1, 2]


def test_the_letter_is_met_and_not_its_byte_piece(base):
    got = clues.overlap(clues.surfaces(base), [b"", b"a", b" b", b"q"])
    assert got == {A: 1, _B: 2, 3 + ord("q"): 3}


# ---------------------------------------------------------------------------- merges
def test_a_token_s_parents_are_what_was_joined_last(base):
    new, plan = splice.splice(base, ["▁ab", "bc", "▁abc"])
    ab, bc, abc = plan.added
    assert clues.parents(base, new, plan) == {ab: (_A, B), bc: (B, C), abc: (ab, C)}


def test_the_rank_of_new_pieces_decides_the_parents(base):
    new, plan = splice.splice(base, ["bc", "▁ab", "▁abc"])
    bc, _, abc = plan.added
    assert clues.parents(base, new, plan)[abc] == (_A, bc)


def test_a_piece_no_join_leads_to_has_no_parents(base):
    new, plan = splice.splice(base, ["abc"])
    assert clues.parents(base, new, plan) == {}


# ---------------------------------------------------------------------------- contexts
def test_a_token_is_aligned_with_what_the_base_wrote_in_its_place(base):
    new, plan = splice.splice(base, ["▁ab", "bc"])
    ab, bc = plan.added
    got = clues.contexts(base, new, plan, ["ab cbc ab", "cbc cbc"])
    assert got == {ab: {(_A, B): 2}, bc: {(B, C): 3}}


def test_where_boundaries_cross_every_old_token_under_it_is_taken():
    old_V = new_W = np.array([1, 2, 3, 5])
    got = list(clues._under([1, 1, 0], [2, 1], old_V, new_W))  # |2 |2 |1 | under |3 |2 |
    assert got == [(2, (1, 1)), (1, (1, 0))]


def test_words_that_come_to_other_text_are_passed_over():
    lengths = np.array([1, 2])
    assert list(clues._under([0, 0], [1, 1], lengths, lengths)) == []
    assert list(clues._under([], [1], lengths, lengths)) == []


def test_the_base_s_tokens_are_counted_on_text(base):
    got = clues.counts(base, ["ab a", "b"])
    assert {i: n for i, n in enumerate(got) if n} == {_A: 2, B: 1, _B: 1}


# ---------------------------------------------------------------------------- spaces
def test_a_token_space_holds_old_tokens_by_their_old_ids(base, tmp_path):
    new, plan = splice.splice(base, ["▁ab", "▁bb"])
    ab, _ = plan.added
    text = file(tmp_path, "ko.txt", "ab c\na c\n" * 10)
    found = clues.build({"tokens"}, base, new, plan, Init(text=(text,)))
    space = found.tokens
    assert space is not None
    assert (space.old_ids.tolist(), space.new_ids.tolist()) == ([_A, _C], [ab])
    cosine = space.new_NE @ space.old_ME.T
    assert abs(cosine[0, 1]) < 1e-5 < cosine[0, 0]


def test_a_token_space_follows_tokens_whose_ids_moved(base):
    new, plan = splice.splice(base, ["▁ab"])
    moved = dataclasses.replace(plan, kept=plan.kept | {_A: _C, _C: _A})
    lines = ["ab c", "a c", "a a"] * 10
    there, here = (clues.token_space(new, one, lines) for one in (plan, moved))
    assert here.old_ids.tolist() == there.old_ids.tolist() == [_A, _C]
    assert here.old_ME.tolist() == there.old_ME[::-1].tolist()


def test_no_more_lines_are_read_than_asked_for(base, tmp_path):
    new, plan = splice.splice(base, ["▁ab"])
    text = file(tmp_path, "ko.txt", "ab\n" * 9)
    found = clues.build({"contexts"}, base, new, plan, Init(text=(text,), lines=4))
    assert found.contexts == {plan.size - 1: {(_A, B): 4}}


def test_words_of_two_languages_meet_by_a_dictionary(base, tmp_path):
    new, plan = splice.splice(base, ["▁ab"])
    source = file(tmp_path, "en.vec", "2 2\na 1 0\nb 0 1\n")
    target = file(tmp_path, "ko.vec", "2 2\nab 0 1\nbb -1 0\n")  # a quarter turn away
    pairs = file(tmp_path, "pairs.tsv", "a\tab\nb\tbb\nc\tnowhere\n")
    init = Init(words=Words(source=source, target=target, dictionary=pairs))
    space = clues.build({"words"}, base, new, plan, init).words
    assert space is not None
    assert (space.old_ids.tolist(), space.new_ids.tolist()) == ([_A, _B], list(plan.added))
    np.testing.assert_allclose(space.new_NE, [[1, 0]], atol=1e-6)
    np.testing.assert_allclose(space.old_ME, [[1, 0], [0, 1]], atol=1e-6)


def test_one_file_of_both_languages_is_one_space(base, tmp_path):
    new, plan = splice.splice(base, ["▁ab"])
    both = file(tmp_path, "both.vec", "2 2\na 1 0\nab 0 1\n")
    init = Init(words=Words(source=both, target=both))
    space = clues.build({"words"}, base, new, plan, init).words
    assert space is not None
    assert space.new_NE.tolist() == [[0, 1]]


def test_word_vectors_of_two_widths_are_refused(base, tmp_path):
    words = Words(
        source=file(tmp_path, "en.vec", "1 2\na 1 0\n"),
        target=file(tmp_path, "ko.vec", "1 1\na 1\n"),
    )
    with pytest.raises(ValueError, match=r"vectors of 1 numbers and .* of 2; take files of one"):
        clues.word_space(base, base, splice.identity(base), words)


def test_a_dictionary_of_other_words_is_refused(base, tmp_path):
    words = Words(
        source=file(tmp_path, "en.vec", "1 2\na 1 0\n"),
        target=file(tmp_path, "ko.vec", "1 2\nb 1 0\n"),
        dictionary=file(tmp_path, "pairs.tsv", "b\ta\n"),
    )
    with pytest.raises(ValueError, match="have none of its pairs; want the word of the base"):
        clues.word_space(base, base, splice.identity(base), words)


def test_a_clue_without_a_source_is_left_to_the_strategy_to_miss(base):
    new, plan = splice.splice(base, ["▁ab"])
    found = clues.build({"tokens"}, base, new, plan, Init())
    with pytest.raises(ValueError, match=r"focus needs the clue `tokens`; set init\.text"):
        grow("focus", np.ones((base.size, 2), np.float32), found, np.random.default_rng(0))


# ---------------------------------------------------------------------------- helpers
def test_a_helper_is_met_by_text_whatever_its_ids(base, tmp_path):
    new, plan = splice.splice(base, ["▁ab", "cc"])
    known, theirs = splice.splice(hand_tokenizer.make(first=("bb",)), ["▁ab"])
    rows = np.arange(known.size * 2, dtype=np.float32).reshape(-1, 2)
    folder = model(tmp_path, known, model__embed_tokens__weight=rows)
    space = clues.helper_space(base, new, plan, folder, "input")
    assert space.new_ids.tolist() == [plan.size - 2]  # it has no "cc"
    assert space.new_NE.tolist() == [rows[next(iter(theirs.added))].tolist()]
    at = space.old_ids.tolist().index(_A)
    assert space.old_ME[at].tolist() == rows[_A + 1].tolist()  # "bb" moved its ids by one
    assert not {0, 1, 2, 3 + ord("a")} & set(space.old_ids.tolist())


def test_a_helper_without_new_tokens_is_refused(base, tmp_path):
    new, plan = splice.splice(base, ["▁ab"])
    rows = np.ones((base.size, 2), np.float32)
    folder = model(tmp_path, base, model__embed_tokens__weight=rows)
    with pytest.raises(ValueError, match="has none of the 1 new tokens"):
        clues.helper_space(base, new, plan, folder, "input")


def test_a_helper_of_two_checkpoints_is_refused(base, tmp_path):
    new, plan = splice.splice(base, ["▁ab"])
    folder = model(tmp_path, new, model__embed_tokens__weight=np.ones((9, 2), np.float32))
    with pytest.raises(ValueError, match=r"9 rows for 267 pieces; model and tokenizer are not"):
        clues.helper_space(base, new, plan, folder, "input")


def test_an_untied_helper_has_a_matrix_for_each_side(base, tmp_path):
    tensors = {"wte__weight": np.zeros((2, 2), np.float32), "lm_head__weight": np.ones((2, 2))}
    folder = model(tmp_path, base, **tensors)
    assert clues.embedding(folder, "input").tolist() == [[0, 0], [0, 0]]
    assert clues.embedding(folder, "output").tolist() == [[1, 1], [1, 1]]


def test_a_tied_helper_has_one_for_both_in_bfloat16_too(base, tmp_path):
    rows = np.full((2, 2), 0.5, ml_dtypes.bfloat16)
    folder = model(tmp_path, base, wte__weight=rows)
    assert clues.embedding(folder, "output").astype(np.float32).tolist() == [[0.5, 0.5]] * 2


def test_each_matrix_is_met_on_its_own_side_of_the_helper(base, tmp_path):
    new, plan = splice.splice(base, ["▁ab"])
    rows = np.arange(new.size * 2, dtype=np.float32).reshape(-1, 2) + 1
    init = Init(helper=str(model(tmp_path, new, wte__weight=rows, lm_head__weight=-rows)))
    for matrix, want in (("input", rows[-1]), ("output", -rows[-1])):
        found = clues.build(("helper",), base, new, plan, init, matrix)
        assert found.matrix == matrix
        assert found.helper is not None
        assert found.helper.new_NE.tolist() == [want.tolist()]


def test_a_helper_in_several_files_is_read(tmp_path):
    save_file({"a": np.ones((1, 1))}, str(tmp_path / "1.safetensors"))
    save_file({"wte.weight": np.ones((2, 1))}, str(tmp_path / "2.safetensors"))
    index = {"weight_map": {"a": "1.safetensors", "wte.weight": "2.safetensors"}}
    file(tmp_path, clues.INDEX, json.dumps(index))
    assert clues.embedding(tmp_path, "input").tolist() == [[1], [1]]


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        (clues.INDEX, '{"weight_map": {"a": "../x.safetensors"}}', "not a file beside it"),
        (clues.INDEX, "{", "cannot be read"),
        (clues.INDEX, '{"weight_map": {"a": "x.safetensors"}}', "x.safetensors: no such file"),
        (clues.WEIGHTS, "nonsense", "damaged or cut short"),
        ("other", "", "model.safetensors: no such file"),
    ],
)
def test_a_folder_that_is_no_model_says_why(name, content, error, tmp_path):
    file(tmp_path, name, content)
    with pytest.raises(ValueError, match=error):
        clues.embedding(tmp_path, "input")


def test_a_model_without_a_known_matrix_is_refused(base, tmp_path):
    folder = model(tmp_path, base, something=np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"holds none of model\.embed_tokens\.weight"):
        clues.embedding(folder, "input")


# ---------------------------------------------------------------------------- together
@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_works_on_what_is_built_for_it(name, base, tmp_path):
    new, plan = splice.splice(base, ["▁ab", "bc", "▁abc", "ca"])
    text = file(tmp_path, "ko.txt", "ab abc cab a b c ab ca\ncbc abc b ab ca a\n" * 20)
    words = file(tmp_path, "both.vec", "3 2\na 1 0\nab 0 1\nabc 1 1\n")
    rows = np.random.default_rng(3).normal(size=(new.size, 8)).astype(np.float32)
    (tmp_path / "helper").mkdir()
    folder = model(tmp_path / "helper", new, model__embed_tokens__weight=rows)
    vectors = Words(source=words, target=words)
    init = Init(text=(text,), lines=100, words=vectors, helper=str(folder))
    found = clues.build(STRATEGIES[name].needs, base, new, plan, init)
    old_VD = np.random.default_rng(4).normal(size=(base.size, 6)).astype(ml_dtypes.bfloat16)
    new_WD = grow(name, old_VD, found, np.random.default_rng(0))
    assert new_WD[: base.size].tobytes() == old_VD.tobytes()
    assert np.isfinite(new_WD.astype(np.float32)).all()


def test_llama_2_with_chinese_pieces_has_parents_and_surfaces_that_spell():
    path = DATA / "tokenizers" / "llama2" / "tokenizer.model"
    if not path.exists():
        pytest.skip(NO_DATA)
    base = tokenizers.load(path)
    new, plan = splice.splice(base, ["中国", "中国人", "▁中", "人民"])
    surfaces = clues.surfaces(base)
    written = clues.surfaces(new)
    for i, ids in plan.added.items():
        assert b"".join(surfaces[old] for old in ids) == written[i]
    found = clues.parents(base, new, plan)
    china, chinese, _, people = plan.added
    assert found[chinese][0] == china
    assert found[people] == tuple(plan.added[people])
