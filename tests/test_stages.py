"""EEVE's seven stages (arXiv 2402.14714): in each, what it names moves, and nothing else a bit."""

import re

import jax
import numpy as np
import pytest
import worker_train as tiny

from lrl_jax.recipe import train as recipe_train

FAST = recipe_train.Schedule(peak=0.05, kind="constant")
NEW_ROWS = np.zeros(128, bool)
NEW_ROWS[30:50] = True


def rule(match, rows="all", schedule=FAST):
    return recipe_train.Rule(match=match, rows=rows, schedule=schedule)


REST = rule(".*", schedule="frozen")
STAGES = [  # learn table, and which of embed, unembed and layers move: none, new rows, all
    ((rule("^embed", "new"), REST), ("new", "none", "none")),
    ((rule("^unembed", "new"), REST), ("none", "new", "none")),
    ((rule("embed", "new"), REST), ("new", "new", "none")),
    ((rule("^unembed"), REST), ("none", "all", "none")),
    ((rule("^embed", "new"), rule("^unembed"), REST), ("new", "all", "none")),
    ((rule(".*"),), ("all", "all", "all")),
    ((rule("^layers"), REST), ("none", "none", "all")),
]


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory):
    """Parameters before training and after each stage, and the state at the end."""
    stages = [tiny.stage(f"s{i}", 3, table) for i, (table, _) in enumerate(STAGES, start=1)]
    settings, mesh = tiny.settings(stages, sample_every=3), tiny.mesh(fsdp=2)
    found = [jax.device_get(tiny.params(mesh))]

    def keep(params, step):
        found.append(jax.device_get(params))
        return [{"kept": step}]

    folder = tmp_path_factory.mktemp("eeve")
    state, _ = tiny.train(folder, settings, mesh, new_rows=NEW_ROWS, sample=keep)
    return found, state


@pytest.mark.parametrize("stage", range(1, 8))
def test_a_stage_moves_what_it_names(snapshots, stage):
    found, _ = snapshots
    before, after = found[stage - 1 : stage + 1]
    embed, unembed, layers = STAGES[stage - 1][1]
    for path, old in before.items():
        moved = old != after[path]
        moves = dict(embed_VD=embed, unembed_DV=unembed).get(path, layers)
        if path == "norm_D" and stage == 7:
            moves = "none"
        if moves == "new":
            rows = np.moveaxis(moved, 0 if path == "embed_VD" else 1, 0).any(axis=1)
            np.testing.assert_array_equal(rows, NEW_ROWS, err_msg=path)
        else:
            assert moved.any() == (moves == "all"), path


def test_the_last_stage_keeps_moments_of_layers_alone(snapshots):
    _, state = snapshots
    layers = [w for path, w in state["params"].items() if re.match("layers/", path)]
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state["opt"]))
    assert size == 2 * sum(w.nbytes for w in layers) + 4
    assert {*state["opt"].mu} == {p for p in state["params"] if p.startswith("layers/")}
