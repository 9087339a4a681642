"""Rows from similar tokens: weights worked out by hand in spaces of two or three dimensions."""

import math

import numpy as np
import pytest

from lrl_jax.embeddings import moments, similar
from lrl_jax.embeddings.moments import Clues, Space
from lrl_jax.vocab.pieces.splice import Splice

OLD_VD = np.array([[10, 0, 0], [0, 10, 0], [0, 0, 10], [9, 9, 9]], np.float32)
SPLICE = Splice({i: i for i in range(4)}, {4: (0, 1), 5: (2, 3)}, "base", "new")
PIECES = [[5, 5, 0], [4.5, 4.5, 9.5]]  # the means of their pieces


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def space(old: dict[int, list[float]], new: dict[int, list[float]]) -> Space:
    width = len(next(iter(old.values())))
    vectors = [np.array([*part.values()], np.float32).reshape(-1, width) for part in (old, new)]
    ids = [np.array([*part], np.int64) for part in (old, new)]
    return Space(ids[0], vectors[0], ids[1], vectors[1])


# ---------------------------------------------------------------------------- sparsemax, focus
def test_sparsemax_of_equal_values_is_even_and_of_far_ones_is_one():
    z_BM = np.array([[0.3, 0.3, 0.3, 0.3], [2, 0.5, 0, 0]], np.float32)
    np.testing.assert_allclose(similar.sparsemax(z_BM), [[0.25] * 4, [1, 0, 0, 0]], atol=1e-7)


def test_sparsemax_is_the_nearest_point_of_the_simplex():
    z_BM = np.random.default_rng(3).normal(size=(20, 40)).astype(np.float32)
    got = similar.sparsemax(z_BM)
    np.testing.assert_allclose(got.sum(1), 1, rtol=1e-5)
    for z, p in zip(z_BM, got, strict=True):  # the slack is one number where p > 0, less elsewhere
        slack = (z - p)[p > 0]
        np.testing.assert_allclose(slack, slack[0], atol=1e-6)
        assert (z[p == 0] <= slack[0] + 1e-6).all()


def test_focus_weighs_old_tokens_by_the_sparsemax_of_their_cosine():
    known = space({0: [1, 0], 1: [0, 5], 2: [-1, 0]}, {4: [0.6, 0.8], 5: [0, -7]})
    got = similar.focus(OLD_VD, Clues(SPLICE, tokens=known), rng())
    # cosines .6, .8, -.6: the threshold is (.6 + .8 - 1) / 2 = .2; and 0, -1, 0: -.5
    np.testing.assert_allclose(got, [[4, 6, 0], [5, 0, 5]], atol=1e-5)


def test_focus_never_sums_new_tokens():
    known = space({0: [1, 0]}, {4: [0, 1], 5: [0, 1]})  # each other's nearest by far
    got = similar.focus(OLD_VD, Clues(SPLICE, tokens=known), rng())
    assert got.tolist() == [[10, 0, 0], [10, 0, 0]]


def test_looking_at_the_largest_first_changes_no_weight(monkeypatch):
    cosine_BM = np.random.default_rng(3).normal(scale=3, size=(9, 50)).astype(np.float32)
    cosine_BM[0] = 0.5  # every one of these counts, of the others few
    monkeypatch.setattr(similar, "FIRST", 5)
    got = similar._sparsemax_rows(cosine_BM)
    np.testing.assert_allclose(got, similar.sparsemax(cosine_BM), atol=1e-7)


@pytest.mark.parametrize(("name", "clue"), [("focus", "tokens"), ("wechsel", "words")])
def test_tokens_without_a_vector_are_drawn_and_the_others_stay_in_place(name, clue):
    known = space({0: [1, 0]}, {5: [1, 0]})
    got = getattr(similar, name)(OLD_VD, Clues(SPLICE, **{clue: known}), rng())
    want = moments.matched_normal(OLD_VD, Clues(SPLICE), rng())[:1]
    np.testing.assert_array_equal(got, [want[0], [10, 0, 0]])


# ---------------------------------------------------------------------------- wechsel
def test_wechsel_takes_the_softmax_over_the_nearest_alone():
    known = space({0: [1, 0], 1: [0, 5], 2: [-1, 0]}, {4: [0.6, 0.8], 5: [0, 7]})
    clues = Clues(SPLICE, words=known)
    got = similar.wechsel(OLD_VD, clues, rng(), nearest=2, temperature=0.4)
    near = 1 / (1 + math.exp(-0.5))  # cosines .8 and .6, apart by .2 / .4
    far = 1 / (1 + math.exp(-2.5))  # cosines 1 and 0; of the two zeros the lower id
    np.testing.assert_allclose(
        got, [[10 * (1 - near), 10 * near, 0], [10 * (1 - far), 10 * far, 0]], rtol=1e-5
    )


def test_wechsel_has_the_paper_s_ten_neighbours_and_temperature():
    old_VD = np.eye(12, dtype=np.float32)
    old = {i: [math.cos(0.1 * i), math.sin(0.1 * i)] for i in range(12)}
    splice = Splice({i: i for i in range(12)}, {12: (0, 1)}, "base", "new")
    clues = Clues(splice, words=space(old, {12: [1, 0]}))
    got = similar.wechsel(old_VD, clues, rng())[0]
    assert (got > 0).tolist() == [True] * 10 + [False] * 2
    np.testing.assert_allclose(got[1] / got[0], math.exp((math.cos(0.1) - 1) / 0.1), rtol=1e-4)


def test_fewer_old_tokens_than_neighbours_are_all_taken():
    known = space({2: [1, 0]}, {4: [1, 1], 5: [1, 1]})
    got = similar.wechsel(OLD_VD, Clues(SPLICE, words=known), rng())
    assert got.tolist() == [[0, 0, 10]] * 2


# ---------------------------------------------------------------------------- clp
def test_clp_weighs_every_old_token_by_its_share_of_the_cosines():
    known = space({0: [2, 0], 1: [0, 3]}, {4: [3, 4], 5: [0.8, 0.6]})
    got = similar.clp(OLD_VD, Clues(SPLICE, helper=known), rng())
    np.testing.assert_allclose(got, [[30 / 7, 40 / 7, 0], [40 / 7, 30 / 7, 0]], rtol=1e-5)


def test_a_token_at_right_angles_to_all_is_the_mean_of_its_pieces():
    known = space({0: [1, 0], 1: [-1, 0]}, {4: [0, 1], 5: [1, 0]})
    assert similar.clp(OLD_VD, Clues(SPLICE, helper=known), rng()).tolist() == PIECES


@pytest.mark.parametrize("name", ["clp", "omp"])
def test_a_token_the_helper_has_not_is_the_mean_of_its_pieces(name):
    known = space({2: [1, 0]}, {5: [1, 0]})
    got = getattr(similar, name)(OLD_VD, Clues(SPLICE, helper=known), rng())
    assert got.tolist() == [PIECES[0], [0, 0, 10]]


def test_clp_in_parts_is_clp(monkeypatch):
    old_VD = np.random.default_rng(3).normal(size=(4, 7)).astype(np.float32)
    known = space({0: [2, 0], 3: [0, 3]}, {4: [3, 4], 5: [0.8, 0.6]})
    whole = similar.clp(old_VD, Clues(SPLICE, helper=known), rng())
    monkeypatch.setattr(similar, "CELLS", 4)
    np.testing.assert_allclose(similar.clp(old_VD, Clues(SPLICE, helper=known), rng()), whole)


# ---------------------------------------------------------------------------- omp
def test_omp_carries_the_weights_that_rebuild_the_token_in_the_helper():
    known = space({0: [2, 0, 0], 1: [0, 1, 0], 2: [0, 0, 1]}, {4: [4, 0, -3], 5: [0, 5, 0]})
    got = similar.omp(OLD_VD, Clues(SPLICE, helper=known), rng())
    np.testing.assert_allclose(got, [[20, 0, -30], [0, 50, 0]], atol=1e-4)


def test_omp_keeps_to_its_sparsity_and_takes_the_best_first():
    known = space({0: [2, 0, 0], 1: [0, 1, 0], 2: [0, 0, 1]}, {4: [4, 0, -3], 5: [1, 5, 0]})
    got = similar.omp(OLD_VD, Clues(SPLICE, helper=known), rng(), sparsity=1)
    np.testing.assert_allclose(got, [[20, 0, 0], [0, 50, 0]], atol=1e-4)


def test_omp_goes_by_angle_not_by_length():
    known = space({0: [100, 100], 1: [1, 0]}, {4: [3, 1], 5: [1, 1]})
    got = similar.omp(OLD_VD, Clues(SPLICE, helper=known), rng(), sparsity=1)
    np.testing.assert_allclose(got, [[0, 30, 0], [0.1, 0, 0]], atol=1e-4)


def test_omp_fits_all_weights_again_when_one_comes_in():
    known = space({0: [1, 0], 1: [0.6, 0.8]}, {4: [1, 0.8], 5: [1, 0]})
    got = similar.omp(OLD_VD, Clues(SPLICE, helper=known), rng())
    np.testing.assert_allclose(got, [[4, 10, 0], [10, 0, 0]], atol=1e-4)  # .4 a + 1 b


def test_omp_looks_at_what_is_left_not_at_the_token_again():
    known = space({0: [1, 0], 1: [0.9, 0.3], 2: [0, 1]}, {4: [4, 1], 5: [4, 1]})
    got = similar.omp(OLD_VD, Clues(SPLICE, helper=known), rng(), sparsity=2)
    # the nearest is 1, then 0; but what 1 leaves is nearer to 2
    np.testing.assert_allclose(got[0], [0, 400 / 9, -10 / 3], rtol=1e-4, atol=1e-4)


def test_omp_leaves_what_least_squares_on_its_support_leaves():
    draw = np.random.default_rng(3)
    old_ME, x_BE = draw.normal(size=(40, 12)), draw.normal(size=(9, 12))
    old_ME, x_BE = old_ME.astype(np.float32), x_BE.astype(np.float32)
    inverse_M = 1 / np.linalg.norm(old_ME, axis=1)
    chosen, weights = similar._pursue(x_BE, old_ME, inverse_M, 5)
    for x, support, weight in zip(x_BE, chosen, weights, strict=True):
        assert len(set(support)) == 5
        want = np.linalg.lstsq(old_ME[support].T, x, rcond=None)[0]
        np.testing.assert_allclose(weight, want, rtol=1e-3, atol=1e-5)


def test_omp_in_blocks_is_omp(monkeypatch):
    known = space({0: [1, 0], 1: [0.6, 0.8]}, {4: [1, 0.8], 5: [1, 0]})
    whole = similar.omp(OLD_VD, Clues(SPLICE, helper=known), rng())
    monkeypatch.setattr(similar, "CELLS", 1)
    np.testing.assert_allclose(similar.omp(OLD_VD, Clues(SPLICE, helper=known), rng()), whole)


# ---------------------------------------------------------------------------- spaces
def test_a_space_without_old_tokens_is_refused():
    with pytest.raises(ValueError, match="no token of the base vocabulary has a vector"):
        Space(np.array([], np.int64), np.empty((0, 2)), np.array([4]), np.ones((1, 2)))


def test_cosines_come_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr(similar, "CELLS", 8)
    known = space({0: [1, 0], 1: [0, 5], 2: [-1, 0]}, {i: [3, 4] for i in range(4, 9)})
    parts = list(similar._cosines(known))
    assert [part.shape for part in parts] == [(2, 3), (2, 3), (1, 3)]
    np.testing.assert_allclose(np.concatenate(parts), [[0.6, 0.8, -0.6]] * 5, rtol=1e-6)
