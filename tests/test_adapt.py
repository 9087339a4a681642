"""Training with adapters: what learns, what it costs, on codes, resumed, on any mesh."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import worker_train as tiny

from lrl_jax.devices import mesh as meshes
from lrl_jax.model import llama
from lrl_jax.recipe import train as recipe_train
from lrl_jax.train import adapt, learn, loop
from lrl_jax.train.checkpoint import CheckpointMismatchError
from lrl_jax.train.log import read
from lrl_jax.train.step import make_step

FAST = recipe_train.Schedule(peak=0.02, kind="constant")
FROZEN = recipe_train.Rule(match=".*", schedule="frozen")
ADAPTERS = (recipe_train.Rule(match="lora", schedule=FAST), FROZEN)
ROWS = (recipe_train.Rule(match="embed", schedule=FAST), *ADAPTERS)
LORA = {"rank": 4, "alpha": 8.0}


def begin(settings, on, cfg=tiny.CFG):
    """The config and the parameters of training, from the tiny model."""
    cfg = adapt.adapted(cfg, settings)
    plain = tiny.params(on, dataclasses.replace(cfg, lora=None, frozen=None))
    plain = {n: w if "norm" in n else 10 * w for n, w in plain.items()}  # a base that says much
    places = meshes.param_shardings(cfg, on)
    start = adapt.start(lambda names: {n: plain[n] for n in names}, cfg, places, seed=5)
    assert {n: (w.shape, w.dtype) for n, w in start.items()} == {
        n: (w.shape, w.dtype) for n, w in llama.abstract(cfg).items()
    }
    return cfg, start


def train(folder, settings, on, **fields):
    cfg = adapt.adapted(tiny.CFG, settings)
    rows = tiny.stream(settings, **fields)
    state = loop.train(settings, cfg, lambda: begin(settings, on)[1], on, rows, folder / "train")
    return state, read(folder / "train/metrics.jsonl")


@pytest.mark.parametrize("dtype", ["as_is", "bfloat16", "int8", "nf4"])
def test_adapters_learn_and_the_base_keeps_its_bits(tmp_path, dtype):
    on = tiny.mesh(fsdp=2)
    settings = tiny.settings([tiny.stage("s", 40, ADAPTERS)], lora=LORA, frozen_dtype=dtype)
    before = jax.device_get(begin(settings, on)[1])
    state, metrics = train(tmp_path, settings, on)
    losses = [m["loss"] for m in metrics]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.1
    for path, old in before.items():
        new = np.asarray(state["params"][path])
        assert new.dtype == old.dtype
        assert np.array_equal(new, old) == ("lora" not in path), path


def test_adapters_begin_alike_from_one_seed_and_on_any_mesh():
    settings = tiny.settings([tiny.stage("s", 4, ADAPTERS)], lora=LORA, frozen_dtype="nf4")
    want = jax.device_get(begin(settings, tiny.mesh())[1])
    got = jax.device_get(begin(settings, tiny.mesh(1, 2, 2))[1])
    jax.tree.map(np.testing.assert_array_equal, got, want)


@pytest.mark.parametrize("dtype", ["as_is", "int8", "nf4"])
def test_losses_are_the_same_on_every_mesh(tmp_path, dtype):
    settings = tiny.settings([tiny.stage("s", 4, ROWS)], lora=LORA, frozen_dtype=dtype)
    _, want = train(tmp_path / "1", settings, tiny.mesh())
    _, got = train(tmp_path / "8", settings, tiny.mesh(2, 2, 2))
    losses = [[m["loss"] for m in metrics] for metrics in (got, want)]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_stages_hand_adapters_on_and_a_killed_run_is_the_run_never_killed(tmp_path):
    """Embeddings first, then adapters beside them: new adapters stay nothing until it is time."""
    embed = (recipe_train.Rule(match="embed", schedule=FAST), FROZEN)
    stages = [tiny.stage("rows", 3, embed), tiny.stage("all", 5, ROWS)]
    fields = dict(lora=LORA, frozen_dtype="nf4", save={"steps": 2, "keep": 9})
    settings, on = tiny.settings(stages, **fields), tiny.mesh(fsdp=2)
    state, metrics = train(tmp_path / "whole", settings, on)
    for cut in (2, 4):  # in the first stage, in the second
        with pytest.raises(loop.DivergedError):  # a run that ends soon after it has saved
            train(tmp_path / f"{cut}", settings.model_copy(update={"max_skipped": 1}), on,
                  bad=range(8 * cut, 8 * cut + 8))  # fmt: skip
        again, after = train(tmp_path / f"{cut}", settings, on)
        jax.tree.map(np.testing.assert_array_equal, jax.device_get(again), jax.device_get(state))
        assert [tiny.same(m) for m in after[cut:]] == [tiny.same(m) for m in metrics[cut:]]


def test_adapters_alone_on_a_longer_vocabulary_are_refused_before_anything_is_read(tmp_path):
    settings = tiny.settings([tiny.stage("s", 4, ADAPTERS)], lora=LORA)
    cfg, on = adapt.adapted(tiny.CFG, settings), tiny.mesh()
    new = np.zeros(128, bool)
    new[40:50] = True
    rows = tiny.stream(settings)
    with pytest.raises(ValueError, match="rows of new tokens would stay as they were made"):
        loop.train(settings, cfg, dict, on, rows, tmp_path / "train", new_rows=new)


# ---------------------------------------------------------------------------- what it costs
WIDE = dataclasses.replace(
    tiny.CFG, width=256, depth=4, mlp_width=1024, num_heads=4, num_kv_heads=4, head_width=64
)


@functools.cache
def compiled(dtype="as_is", rules=ADAPTERS, remat="nothing", lora=LORA):
    settings = tiny.settings([tiny.stage("s", 4, rules)], lora=lora, frozen_dtype=dtype)
    cfg = adapt.adapted(dataclasses.replace(WIDE, remat=remat), settings)
    (phase,) = learn.phases(settings.stages)
    on, new = tiny.mesh(), np.zeros(cfg.padded_vocab_size, bool)
    step = make_step(cfg, phase, settings, on, "float32", new)
    batch = {
        name: jax.ShapeDtypeStruct(w.shape, w.dtype, sharding=meshes.batch_sharding(on))
        for name, w in tiny.stream(settings).batch_at(0).items()
    }
    said = meshes.said_by_each(on, 0), meshes.said_by_all(on, 0)
    with jax.set_mesh(on):
        return step, step.run.lower(step.abstract, batch, *said).compile().memory_analysis()


def size(tree):
    return sum(a.size * jnp.dtype(a.dtype).itemsize for a in jax.tree.leaves(tree))


def test_frozen_weights_have_no_moments_and_no_gradients():
    """In a full step: parameters, two moments, and gradients of all among what is temporary."""
    all_of_it, full = compiled(rules=(tiny.ALL,), lora=None)
    adapters, few = compiled()
    weights = size(all_of_it.abstract["params"])
    small = size({n: w for n, w in adapters.abstract["params"].items() if "lora" in n})
    assert small < 0.1 * weights
    assert size(all_of_it.abstract["opt"]) == pytest.approx(2 * weights, rel=1e-3)
    assert size(adapters.abstract["opt"]) == pytest.approx(2 * small, rel=1e-3)
    assert full.argument_size_in_bytes > 2.99 * weights
    assert few.argument_size_in_bytes < weights + 3.01 * small + 10_000
    assert few.temp_size_in_bytes < full.temp_size_in_bytes - 0.9 * (weights - small)


@pytest.mark.parametrize(
    ("dtype", "most", "remat"),
    [
        ("bfloat16", 0.55, "nothing"), ("int8", 0.30, "nothing"), ("nf4", 0.20, "nothing"),
        ("nf4", 0.20, "full"),
    ],
)  # fmt: skip
def test_a_coded_base_is_held_in_codes_and_never_decoded_whole(dtype, most, remat):
    step, memory = compiled(dtype, remat=remat)
    base = size({n: w for n, w in llama.abstract(WIDE).items() if n.startswith("layers/")})
    beside = size({n: w for n, w in step.abstract["params"].items() if "lora" in n})
    beside += size({n: step.abstract["params"][n] for n in ("embed_VD", "unembed_DV", "norm_D")})
    beside += size(step.abstract["opt"])
    assert memory.argument_size_in_bytes - beside < most * base
    if dtype != "bfloat16":  # CPUs compute on no bfloat16: XLA makes it float32, all of it
        _, plain = compiled(remat=remat)
        assert memory.temp_size_in_bytes < plain.temp_size_in_bytes + 2 * base / WIDE.depth


@pytest.mark.parametrize("changed", [{"alpha": 9.0}, {"rank_stabilised": True}, {"rank": 5}])
def test_adapters_trained_at_one_scale_are_not_read_at_another(tmp_path, changed):
    settings = tiny.settings((tiny.stage("one", 2, learn=ROWS),), lora=LORA)
    saved = settings.model_dump(mode="json")
    adapt.check_same(saved, settings)
    other = settings.model_copy(update={"lora": settings.lora.model_copy(update=changed)})
    (name,) = changed
    with pytest.raises(
        CheckpointMismatchError, match=rf"train.lora.{name} was .*, is {changed[name]}"
    ):
        adapt.check_same(saved, other)
    train(tmp_path, settings, tiny.mesh())
    with pytest.raises(CheckpointMismatchError, match="trained at another rank or scale"):
        train(tmp_path, other, tiny.mesh())


def test_adapters_that_came_or_went_since_training_are_named():
    adapted = tiny.settings((tiny.stage("one", 2, learn=ROWS),), lora=LORA)
    plain = adapted.model_copy(update={"lora": None})
    with pytest.raises(CheckpointMismatchError, match=r"trained with adapters \(train.lora\), and"):
        adapt.check_same(adapted.model_dump(mode="json"), plain)
    with pytest.raises(CheckpointMismatchError, match="trained with no adapters"):
        adapt.check_same(plain.model_dump(mode="json"), adapted)


def test_a_run_without_adapters_has_no_scale_to_compare():
    settings = tiny.settings()
    adapt.check_same(settings.model_dump(mode="json"), settings)
