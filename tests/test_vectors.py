"""Auxiliary vectors: files are read strictly, learnt ones are the same at every run."""

import gzip
import math

import hand_tokenizer
import numpy as np
import pytest

from lrl_jax.embeddings import vectors
from lrl_jax.text import DataError
from lrl_jax.vocab.pieces import splice

A, B, C = 263, 264, 265  # the hand tokenizer's " a", " b", " c"


def write(tmp_path, content: str):
    path = tmp_path / "words.vec"
    path.write_text(content, encoding="utf-8")
    return str(path)


# ---------------------------------------------------------------------------- files
def test_a_vec_file_is_read_in_its_order(tmp_path):
    got = vectors.read(write(tmp_path, "2 3\nb 1 2 3\na -0.5 1e-2 0 \n"))
    assert got.words == ["b", "a"]
    np.testing.assert_array_equal(got.rows_NE, np.array([[1, 2, 3], [-0.5, 0.01, 0]], np.float32))


def test_a_compressed_file_is_read(tmp_path):
    path = tmp_path / "words.vec.gz"
    path.write_bytes(gzip.compress("1 2\n고양이 1 2\n".encode()))
    assert vectors.read(str(path)).words == ["고양이"]


def test_a_word_may_hold_a_no_break_space(tmp_path):
    assert vectors.read(write(tmp_path, "1 2\na\u00a0b 1 2\n")).words == ["a\u00a0b"]


def test_only_the_most_frequent_words_are_read(tmp_path):
    got = vectors.read(write(tmp_path, "3 1\na 1\nb 2\nthis is no line\n"), limit=2)
    assert got.words == ["a", "b"]


def test_a_word_without_direction_is_left_out(tmp_path):
    assert vectors.read(write(tmp_path, "2 2\na 0 0\nb 1 0\n")).words == ["b"]


@pytest.mark.parametrize("line", ["a 1", "a 1 2 3x", "a 1 nan", "1 2", ""])
def test_a_damaged_line_is_named_by_its_number(line, tmp_path):
    path = write(tmp_path, f"2 2\nok 1 2\n{line}\n")
    with pytest.raises(DataError, match=r"words\.vec:3: want a word and 2 numbers"):
        vectors.read(path)


def test_a_file_that_ends_early_is_refused(tmp_path):
    with pytest.raises(DataError, match="says it has 3 words, but ends after 1"):
        vectors.read(write(tmp_path, "3 2\na 1 2\n"))


@pytest.mark.parametrize("head", ["a 1 2", "2", "0 2", "2 -1"])
def test_a_file_without_a_first_line_of_sizes_is_refused(head, tmp_path):
    with pytest.raises(DataError, match=r"words\.vec:1: want a first line such as"):
        vectors.read(write(tmp_path, f"{head}\na 1 2\n"))


def test_a_dictionary_is_pairs_with_a_tab(tmp_path):
    assert vectors.read_pairs(write(tmp_path, "cat\t고양이\nbig dog\t큰 개\n")) == [
        ("cat", "고양이"),
        ("big dog", "큰 개"),
    ]


@pytest.mark.parametrize("line", ["cat 고양이", "cat\t", "a\tb\tc"])
def test_a_pair_that_is_none_is_named_by_its_number(line, tmp_path):
    with pytest.raises(DataError, match=r"words\.vec:2: want a word, a tab"):
        vectors.read_pairs(write(tmp_path, f"a\tb\n{line}\n"))


# ---------------------------------------------------------------------------- words to tokens
def test_a_token_is_the_mean_of_its_words_by_zipf_s_law():
    known = vectors.WordVectors(["ab", "a"], np.array([[3, 0], [0, 3]], np.float32))
    ids, rows_NE = vectors.of_tokens(hand_tokenizer.make(), known)
    assert ids.tolist() == [261, A]  # "b" is in the first word alone, " a" in both: 1 to 1/2
    np.testing.assert_allclose(rows_NE, [[3, 0], [2, 1]], rtol=1e-6)


def test_words_are_spelled_without_a_stray_space():
    known = vectors.WordVectors(["ab"], np.ones((1, 2), np.float32))
    ids, _ = vectors.of_tokens(hand_tokenizer.make(), known)
    assert 259 not in ids  # the lone space mark, which the reference code put before every word


def test_added_tokens_have_words_too():
    new, plan = splice.splice(hand_tokenizer.make(), ["▁ab"])
    known = vectors.WordVectors(["ab"], np.ones((1, 2), np.float32))
    assert vectors.of_tokens(new, known)[0].tolist() == list(plan.added)


def test_words_of_no_token_give_no_vector():
    known = vectors.WordVectors([], np.empty((0, 2), np.float32))
    ids, rows_NE = vectors.of_tokens(hand_tokenizer.make(), known)
    assert (len(ids), rows_NE.shape) == (0, (0, 2))


def test_procrustes_finds_the_rotation_that_was_made():
    draw = np.random.default_rng(3)
    turn_EE, _ = np.linalg.qr(draw.normal(size=(5, 5)))
    from_NE = draw.normal(size=(20, 5))
    np.testing.assert_allclose(vectors.procrustes(from_NE, from_NE @ turn_EE), turn_EE, atol=1e-9)


# ---------------------------------------------------------------------------- learning
def test_tokens_in_the_same_company_point_the_same_way():
    lines = ["a c"] * 10 + ["b c"] * 10
    ids, rows_NE = vectors.learn(hand_tokenizer.make(), lines)
    assert ids.tolist() == [A, B, C]
    share = 20**0.75 / (20**0.75 + 2 * 10**0.75)  # of c among contexts, smoothed
    of_c = math.sqrt(math.sqrt(2) * math.log(1 / share))  # both values under a root, as in U S^.5
    of_ab = math.sqrt(math.sqrt(2) * math.log(1 / (1 - share)))
    want = [[of_c**2 / 2, of_c**2 / 2, 0], [of_c**2 / 2, of_c**2 / 2, 0], [0, 0, of_ab**2]]
    np.testing.assert_allclose(rows_NE @ rows_NE.T, want, atol=1e-5)


def test_rare_tokens_get_no_vector():
    lines = ["a c"] * 10 + ["b c"] * 9 + ["a a"]
    with pytest.raises(ValueError, match="only 2 tokens occur 10 times"):
        vectors.learn(hand_tokenizer.make(), lines)


def test_neighbours_stand_within_the_window_and_in_one_text():
    tokenizer = hand_tokenizer.make()
    count_W, pairs_WW = vectors._neighbours(tokenizer, iter(["a b c", "c", "b"]), window=1)
    assert count_W[[A, B, C]].tolist() == [1, 2, 2]
    want = [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
    assert pairs_WW[[A, B, C]][:, [A, B, C]].toarray().tolist() == want


def test_two_of_a_token_side_by_side_are_neighbours_both_ways():
    _, pairs_WW = vectors._neighbours(hand_tokenizer.make(), ["a a b"], window=2)
    assert pairs_WW[[A, B]][:, [A, B]].toarray().tolist() == [[2, 2], [2, 0]]


def test_many_batches_count_as_one(monkeypatch):
    lines = ["a b c", "b c", "", "c a b a"] * 3
    tokenizer = hand_tokenizer.make()
    whole = vectors._neighbours(tokenizer, lines, window=3)
    monkeypatch.setattr(vectors, "LINES", 2)
    parts = vectors._neighbours(tokenizer, lines, window=3)
    assert (whole[0] == parts[0]).all()
    assert abs(whole[1] - parts[1]).sum() == 0


def test_learning_again_gives_the_same_bits():
    draw = np.random.default_rng(3)
    lines = [" ".join(draw.choice(["a", "b", "c", "ab", "ca", "bb"], 8)) for _ in range(200)]
    one, two = (vectors.learn(hand_tokenizer.make(), lines, width=4) for _ in range(2))
    assert one[1].tobytes() == two[1].tobytes()
    assert one[1].shape[1] == 4
