"""Rows of new tokens: old rows stay bit for bit, new ones follow the named strategy."""

import ml_dtypes
import numpy as np
import pytest

from lrl_jax import embeddings
from lrl_jax.embeddings import STRATEGIES
from lrl_jax.recipe import Init
from lrl_jax.vocab.splice import Splice

SPLICE = Splice({0: 0, 1: 1, 2: 2}, {3: (1, 2), 4: (2,)}, "base", "new")
OLD_VD = np.array([[1, 7], [256, 0], [1, 4]], np.float32)
DTYPES = (np.float32, ml_dtypes.bfloat16)


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", STRATEGIES)
def test_old_rows_are_bit_equal_and_the_dtype_is_kept(name, dtype):
    old_VD = np.random.default_rng(3).normal(size=(3, 5)).astype(dtype)
    new_WD = STRATEGIES[name](old_VD, SPLICE, rng())
    assert new_WD.shape == (5, 5)
    assert new_WD.dtype == dtype
    assert new_WD[:3].tobytes() == old_VD.tobytes()
    assert np.isfinite(new_WD.astype(np.float32)).all()


@pytest.mark.parametrize("name", STRATEGIES)
def test_kept_rows_follow_their_token_when_ids_move(name):
    moved = Splice({0: 2, 2: 0, 3: 1}, {1: (0, 1)}, "base", "new")
    new_WD = STRATEGIES[name](OLD_VD, moved, rng())
    assert new_WD[[0, 2, 3]].tolist() == OLD_VD[[2, 0, 1]].tolist()


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_same_seed_gives_the_same_rows(name):
    one, two = (STRATEGIES[name](OLD_VD, SPLICE, rng()) for _ in range(2))
    assert one.tobytes() == two.tobytes()


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_matrix_of_another_tokenizer_is_refused(name):
    with pytest.raises(ValueError, match=r"has 4 rows, but the splice extends .* of 3 pieces"):
        STRATEGIES[name](np.zeros((4, 2), np.float32), SPLICE, rng())


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_splice_that_adds_nothing_gives_the_matrix_back(name):
    same = Splice({0: 0, 1: 1, 2: 2}, {}, "base", "base")
    assert STRATEGIES[name](OLD_VD, same, rng()).tolist() == OLD_VD.tolist()


def test_the_recipe_names_these_strategies():
    names = Init.model_json_schema()["properties"]["input_rows"]["enum"]
    assert names == list(STRATEGIES)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_subword_mean_is_the_mean_of_the_rows_that_spell_it(dtype):
    new_WD = embeddings.subword_mean(OLD_VD.astype(dtype), SPLICE, rng())
    want = np.array([[128.5, 2], [1, 4]], np.float32).astype(dtype)
    assert new_WD[3:].tolist() == want.tolist()


def test_a_mean_in_bfloat16_is_taken_in_float32():
    old_VD = np.array([[256], [1], [1], [1]], ml_dtypes.bfloat16)  # bfloat16 has 256 + 1 = 256
    plan = Splice({0: 0, 1: 1, 2: 2, 3: 3}, {4: (0, 1, 2, 3)}, "base", "new")
    want = np.array([259 / 4], np.float32).astype(ml_dtypes.bfloat16)
    assert embeddings.subword_mean(old_VD, plan, rng())[4] == want
    assert embeddings.mean(old_VD, plan, rng())[4] == want


def test_the_mean_row_is_that_of_all_old_rows():
    new_WD = embeddings.mean(OLD_VD, SPLICE, rng())
    np.testing.assert_allclose(new_WD[3:], [[86, 11 / 3]] * 2, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_random_rows_have_the_mean_and_deviation_of_the_old_columns(dtype):
    old_VD = np.array([[9, -1], [11, -1]] * 3000, np.float32).astype(dtype)  # over one BLOCK
    same = {i: i for i in range(6000)}
    plan = Splice(same, {6000 + i: (0,) for i in range(4000)}, "base", "new")
    new_AD = embeddings.random(old_VD, plan, rng())[6000:].astype(np.float32)
    np.testing.assert_allclose(new_AD.mean(0), [10, -1], atol=0.05)
    np.testing.assert_allclose(new_AD.std(0), [1, 0], atol=0.05)
