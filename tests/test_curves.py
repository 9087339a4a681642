"""Fifty steps give the same losses on any number of devices and under every mesh."""

import curves
import numpy as np
import pytest

from lrl_jax.recipe import train as recipe_train


@pytest.fixture(scope="module")
def alone():
    return curves.curve(recipe_train.Mesh(fsdp=1))


@pytest.mark.parametrize("name", curves.MESHES)
def test_losses_of_fifty_steps_do_not_depend_on_the_mesh(alone, name):
    got = curves.curve(recipe_train.Mesh(**curves.MESHES[name]))
    assert got[-1] < got[0]
    np.testing.assert_allclose(got, alone, rtol=1e-5)
