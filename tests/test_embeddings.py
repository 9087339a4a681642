"""Rows of new tokens: old rows stay bit for bit, new ones follow the named strategy."""

import dataclasses

import ml_dtypes
import numpy as np
import pytest

from lrl_jax.embeddings import moments, pieces, strategies
from lrl_jax.embeddings.moments import Clues, Snippets, Space
from lrl_jax.embeddings.strategies import STRATEGIES, grow
from lrl_jax.recipe.schema import Init
from lrl_jax.vocab.pieces.splice import Splice

SPLICE = Splice({0: 0, 1: 1, 2: 2}, {3: (1, 2), 4: (2,)}, "base", "new")
OLD_VD = np.array([[1, 7], [256, 0], [1, 4]], np.float32)
NO_SNIPPETS = Snippets(*[np.zeros((0, 1), np.int32)] * 6, counts={})  # `distil` reads them
DTYPES = (np.float32, ml_dtypes.bfloat16)
MATRICES = ("input", "output")


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def space(splice: Splice) -> Space:
    """The old tokens on the axes of three dimensions, every added token between them."""
    added = np.array(sorted(splice.added), np.int64)
    between = np.tile(np.array([1, 2, 3], np.float32), (len(added), 1))
    return Space(np.arange(3), np.eye(3, dtype=np.float32), added, between)


def clues(splice: Splice = SPLICE, matrix: moments.Matrix = "input") -> Clues:
    """Every clue there is, for a splice of three old tokens."""
    known = space(splice)
    return Clues(
        splice,
        matrix,
        bytes_V=np.array([1, 1, 3]),
        parents={new: (new_id(splice, 0), new_id(splice, 2)) for new in splice.added},
        contexts={new: {(0, 1): 1.0} for new in splice.added},
        words=known,
        tokens=known,
        helper=known,
        snippets=NO_SNIPPETS,
    )


def new_id(splice: Splice, old: int) -> int:
    return next(new for new, was in splice.kept.items() if was == old)


def of(*added: tuple[int, ...], size: int = 3) -> Splice:
    """A splice that appends tokens with these spellings."""
    fresh = {size + i: ids for i, ids in enumerate(added)}
    return Splice({i: i for i in range(size)}, fresh, "base", "new")


def new_rows(name: str, old_VD: np.ndarray, known: Clues) -> list[list[float]]:
    """Rows of added tokens."""
    return grow(name, old_VD, known, rng())[len(old_VD) :].astype(np.float32).tolist()


# ---------------------------------------------------------------------------- every strategy
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("name", STRATEGIES)
def test_old_rows_are_bit_equal_and_the_dtype_is_kept(name, matrix, dtype):
    old_VD = np.random.default_rng(3).normal(size=(3, 5)).astype(dtype)
    old_VD[1, 1] = -0.0
    new_WD = grow(name, old_VD, clues(matrix=matrix), rng())
    assert new_WD.shape == (5, 5)
    assert new_WD.dtype == dtype
    assert new_WD[:3].tobytes() == old_VD.tobytes()
    assert np.isfinite(new_WD.astype(np.float32)).all()


@pytest.mark.parametrize("name", STRATEGIES)
def test_kept_rows_follow_their_token_when_ids_move(name):
    moved = Splice({0: 2, 2: 0, 3: 1}, {1: (0, 1)}, "base", "new")
    new_WD = grow(name, OLD_VD, clues(moved), rng())
    assert new_WD[[0, 2, 3]].tolist() == OLD_VD[[2, 0, 1]].tolist()


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_token_that_one_old_token_spells_copies_its_row(name, matrix):
    old_VD = np.random.default_rng(3).normal(size=(3, 5)).astype(np.float32)
    new_WD = grow(name, old_VD, clues(of((1, 2), (2,), (0,)), matrix), rng())
    assert new_WD[4:].tobytes() == old_VD[[2, 0]].tobytes()


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_same_seed_gives_the_same_rows(name):
    one, two = (grow(name, OLD_VD, clues(), rng()) for _ in range(2))
    assert one.tobytes() == two.tobytes()


@pytest.mark.parametrize("name", STRATEGIES)
def test_rows_do_not_depend_on_the_order_in_which_the_splice_lists_them(name):
    turned = dataclasses.replace(SPLICE, added=dict(reversed(SPLICE.added.items())))
    one, two = (grow(name, OLD_VD, clues(splice), rng()) for splice in (SPLICE, turned))
    assert one.tobytes() == two.tobytes()


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_matrix_of_another_tokenizer_is_refused(name):
    with pytest.raises(ValueError, match=r"has 4 rows, but the splice extends .* of 3 pieces"):
        grow(name, np.zeros((4, 2), np.float32), clues(), rng())


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_splice_that_adds_nothing_gives_the_matrix_back(name):
    assert grow(name, OLD_VD, clues(of()), rng()).tolist() == OLD_VD.tolist()


@pytest.mark.parametrize("name", [name for name in STRATEGIES if STRATEGIES[name].needs])
def test_a_missing_clue_names_what_to_set(name):
    with pytest.raises(ValueError, match=rf"{name} needs the clue `\w+`; set (init\.|it with)"):
        grow(name, OLD_VD, Clues(SPLICE), rng())


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_names_known_clues_and_its_source(name):
    assert STRATEGIES[name].source
    assert set(STRATEGIES[name].needs) <= set(strategies.FIELDS)


def test_the_recipe_names_these_strategies():
    names = Init.model_json_schema()["properties"]["input_rows"]["enum"]
    assert names == list(STRATEGIES)


def test_focus_on_a_matrix_that_was_resized_already_is_refused():
    resized_WD = np.zeros((5, 2), np.float32)
    with pytest.raises(ValueError, match=r"5 rows \(it was resized already\)"):
        grow("focus", resized_WD, clues(), rng())


# ---------------------------------------------------------------------------- from pieces
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_subword_mean_is_the_mean_of_the_rows_that_spell_it(dtype):
    got = grow("subword_mean", OLD_VD.astype(dtype), clues(), rng())[3:]
    want = np.array([[128.5, 2], [1, 4]], np.float32).astype(dtype)
    assert got.tolist() == want.tolist()


def test_a_piece_that_comes_twice_counts_twice():
    assert new_rows("subword_mean", OLD_VD, Clues(of((0, 0, 0, 2)))) == [[1, 6.25]]


def test_a_mean_in_bfloat16_is_taken_in_float32():
    old_VD = np.array([[256], [1], [1], [1]], ml_dtypes.bfloat16)  # bfloat16 has 256 + 1 = 256
    known = Clues(of((0, 1, 2, 3), size=4))
    want = np.array([[259 / 4]], np.float32).astype(ml_dtypes.bfloat16).tolist()
    assert new_rows("subword_mean", old_VD, known) == want
    assert new_rows("mean", old_VD, known) == want


def test_first_and_last_take_one_piece():
    known = Clues(of((1, 2, 0)))
    assert new_rows("subword_first", OLD_VD, known) == [[256, 0]]
    assert new_rows("subword_last", OLD_VD, known) == [[1, 7]]


def test_weighted_favours_the_last_piece_for_input_unlike_the_code_of_mergekit():
    old_VD = np.array([[6, 0, 0], [0, 6, 0], [0, 0, 6]], np.float32)
    known = Clues(of((0, 1, 2)), "input")
    assert new_rows("subword_weighted", old_VD, known) == [[1, 2, 3]]


def test_weighted_favours_the_first_piece_for_output():
    old_VD = np.array([[6, 0, 0], [0, 6, 0], [0, 0, 6]], np.float32)
    known = Clues(of((0, 1, 2)), "output")
    assert new_rows("subword_weighted", old_VD, known) == [[3, 2, 1]]


def test_eeve_is_the_mean_for_input_and_the_first_piece_for_output():
    splice = of((1, 2))
    assert new_rows("eeve", OLD_VD, Clues(splice, "input")) == [[128.5, 2]]
    assert new_rows("eeve", OLD_VD, Clues(splice, "output")) == [[256, 0]]


def test_a_piece_weighs_as_many_bytes_as_it_spells():
    known = Clues(of((0, 1)), bytes_V=np.array([1, 3, 9]))
    old_VD = np.array([[4, 0], [0, 4], [9, 9]], np.float32)
    assert new_rows("length_weighted", old_VD, known) == [[1, 3]]


def test_pieces_that_spell_nothing_count_alike():
    known = Clues(of((0, 1)), bytes_V=np.array([0, 0, 9]))
    assert new_rows("length_weighted", np.eye(3, dtype=np.float32), known) == [[0.5, 0.5, 0]]


def test_a_token_merged_from_a_new_one_uses_its_new_row():
    parents = {3: (0, 1), 4: (3, 2)}  # ((0 1) 2), where the pieces alone would be 0, 1, 2
    known = Clues(of((0, 1), (0, 1, 2)), parents=parents)
    old_VD = np.eye(3, dtype=np.float32)
    assert new_rows("merge_tree", old_VD, known) == [[0.5, 0.5, 0], [0.25, 0.25, 0.5]]


def test_parents_may_come_after_their_child():
    known = Clues(of((0, 1, 2), (0, 1)), parents={3: (4, 2), 4: (0, 1)})
    got = new_rows("merge_tree", np.eye(3, dtype=np.float32), known)
    assert got == [[0.25, 0.25, 0.5], [0.5, 0.5, 0]]


def test_merge_tree_follows_parents_whose_ids_moved():
    moved = Splice({0: 2, 2: 0, 3: 1}, {1: (0, 1, 1)}, "base", "new")
    known = Clues(moved, parents={1: (2, 3)})  # old 0 and old 1
    assert grow("merge_tree", OLD_VD, known, rng())[1].tolist() == [128.5, 3.5]


def test_a_token_merged_from_a_copy_uses_the_copy():
    known = Clues(of((2,), (0, 1)), parents={3: (0, 1), 4: (3, 0)})
    got = new_rows("merge_tree", np.eye(3, dtype=np.float32), known)
    assert got == [[0, 0, 1], [0.5, 0, 0.5]]


def test_a_token_no_merge_leads_to_is_the_mean_of_its_pieces():
    assert new_rows("merge_tree", OLD_VD, Clues(of((1, 2)), parents={})) == [[128.5, 2]]


def test_the_output_row_of_a_merged_token_has_nothing_of_the_input_matrix():
    input_VD = np.full((3, 2), 999, np.float32)
    known = Clues(of((0, 1), (0, 1, 2)), parents={3: (0, 1), 4: (3, 2)})
    grow("merge_tree", input_VD, known, rng())
    output = dataclasses.replace(known, matrix="output")
    assert new_rows("merge_tree", OLD_VD, output) == [[128.5, 3.5], [64.75, 3.75]]


def test_align_takes_the_means_by_how_often_the_base_wrote_them():
    contexts = {3: {(0, 1): 3.0, (2,): 1.0}}
    known = Clues(of((0, 1)), contexts=contexts)
    got = new_rows("align", np.eye(3, dtype=np.float32), known)
    assert got == [[0.375, 0.375, 0.25]]


def test_a_token_the_text_has_not_is_the_mean_of_its_pieces():
    assert new_rows("align", OLD_VD, Clues(of((1, 2)), contexts={})) == [[128.5, 2]]


@pytest.mark.parametrize("strategy", [pieces.subword_mean, pieces.subword_first])
def test_a_wide_matrix_is_summed_in_parts(strategy, monkeypatch):
    monkeypatch.setattr(moments, "CELLS", 8)
    monkeypatch.setattr(moments, "BLOCK", 2)
    old_VD = np.random.default_rng(3).normal(size=(6, 9)).astype(np.float32)
    known = Clues(of((0, 1), (2, 3), (4, 5), (1, 2), (5, 0), size=6))
    want = [old_VD[list(ids)].mean(0) for ids in known.spelled]
    if strategy is pieces.subword_first:
        want = [old_VD[ids[0]] for ids in known.spelled]
    np.testing.assert_allclose(strategy(old_VD, known, rng()), want, rtol=1e-5)


# ---------------------------------------------------------------------------- from all rows
def test_the_mean_row_is_that_of_all_old_rows():
    got = new_rows("mean", OLD_VD, Clues(of((1, 2), (0, 1))))
    np.testing.assert_allclose(got, [[86, 11 / 3]] * 2, rtol=1e-6)


MANY = of(*[(0, 1)] * 4000, size=6000)


@pytest.mark.parametrize("dtype", DTYPES)
def test_matched_rows_have_the_mean_and_deviation_of_the_old_columns(dtype):
    old_VD = np.array([[9, -1], [11, -1]] * 3000, np.float32).astype(dtype)  # over one BLOCK
    new_AD = np.array(new_rows("matched_normal", old_VD, Clues(MANY)))
    np.testing.assert_allclose(new_AD.mean(0), [10, -1], atol=0.05)
    np.testing.assert_allclose(new_AD.std(0), [1, 0], atol=0.05)


def test_random_rows_look_at_no_old_row():
    new_AD = np.array(new_rows("random_normal", np.full((6000, 2), 9, np.float32), Clues(MANY)))
    np.testing.assert_allclose(new_AD.mean(0), [0, 0], atol=1e-3)
    np.testing.assert_allclose(new_AD.std(0), [0.02, 0.02], rtol=0.05)


def test_hewitt_rows_have_the_mean_and_a_part_of_the_covariance():
    old_VD = np.array([[9, 9], [11, 11], [9, 11], [11, 11]] * 1500, np.float32)
    known = Clues(MANY)
    new_AD = moments.hewitt(old_VD, known, rng(), epsilon=4.0)
    np.testing.assert_allclose(new_AD.mean(0), [10, 10.5], atol=0.1)
    np.testing.assert_allclose(np.cov(new_AD.T), [[4, 2], [2, 3]], atol=0.2)
    near_AD = grow("hewitt", old_VD, known, rng())[6000:]
    np.testing.assert_allclose(near_AD, [[10, 10.5]] * 4000, atol=2e-4)
    assert len(np.unique(near_AD, axis=0)) > 1


def test_hewitt_is_the_mean_where_columns_depend_on_each_other():
    old_VD = np.array([[0, 0], [2, 2]], np.float32)
    assert new_rows("hewitt", old_VD, Clues(of((0, 1), size=2))) == [[1, 1]]


# ---------------------------------------------------------------------------- calibration
def test_new_rows_get_the_norm_of_the_rows_the_language_uses():
    old_VD = np.array([[3, 4], [0, 9], [8, 6]], np.float32)  # norms 5, 9, 10
    splice = of((0, 2), (1,), (0, 1))
    new_WD = np.concatenate([old_VD, [[0.3, 0.4], [0, 9], [0, 0]]]).astype(np.float32)
    got = moments.calibrate(new_WD, splice, np.array([3, 0, 1]))  # (3 * 5 + 10) / 4 = 6.25
    want = [[3.75, 5], [0, 9], [0, 0]]  # a copy stays a copy, zero stays zero
    np.testing.assert_allclose(got[3:], want, rtol=1e-6)
    assert got[:3].tolist() == old_VD.tolist()


@pytest.mark.parametrize("dtype", DTYPES)
def test_calibration_keeps_the_dtype_and_what_it_was_given(dtype):
    given_WD = np.array([[3, 4], [1, 1], [2, 2], [1, 0]], dtype)
    before = given_WD.tobytes()
    got = moments.calibrate(given_WD, of((0, 1)), np.array([1, 0, 0]))
    assert got.dtype == dtype
    assert got[3].tolist() == [5, 0]
    assert given_WD.tobytes() == before


def test_calibration_weighs_old_tokens_whose_ids_moved():
    moved = Splice({0: 2, 2: 0, 3: 1}, {1: (0, 1)}, "base", "new")
    given_WD = np.array([[2, 0], [1, 0], [7, 0], [9, 0]], np.float32)
    assert moments.calibrate(given_WD, moved, np.array([0, 0, 1]))[1].tolist() == [2, 0]


@pytest.mark.parametrize("weights", [[1, 1], [0, 0, 0]])
def test_calibration_by_no_text_is_refused(weights):
    with pytest.raises(ValueError, match="weights with sum"):
        moments.calibrate(np.ones((4, 2), np.float32), of((0, 1)), np.array(weights))
