"""Loads the weights of a run: those that training starts with, and those it has made.

Trained weights are those of the plain model, with adapters merged, so that evaluation and export
use the same weights.
"""

from collections.abc import Iterable, Mapping
import dataclasses
import json
from typing import Any

from etils import epath
import jax

from lrl_jax.devices import mesh as meshes
from lrl_jax.hf import families
from lrl_jax.model import llama, lora
from lrl_jax.pipeline.run import Run
from lrl_jax.train import adapt, learn
from lrl_jax.train.checkpoint import Checkpoints, VerificationError
from lrl_jax.train.step import averaged

Params = llama.Params
Shapes = dict[str, jax.ShapeDtypeStruct]


def config(run: Run) -> llama.LlamaConfig:
    """Returns the config of the plain model, without what training adds (`adapt.adapted`)."""
    return configured(run, json.loads((run.at("init") / "config.json").read_text()))


def configured(run: Run, hf: Mapping[str, Any]) -> llama.LlamaConfig:
    """Returns the config that a `config.json` describes, with the recipe's compute settings.

    With `remat: auto` it keeps nothing for the backward pass; the step `train` decides later.
    """
    settings = run.recipe.train
    remat = "nothing" if settings.remat == "auto" else settings.remat
    cfg = families.config_from_hf(hf, settings.compute_dtype, remat)
    return dataclasses.replace(cfg, unroll=min(settings.unroll, cfg.depth))


def initial(run: Run, cfg: llama.LlamaConfig, mesh: jax.sharding.Mesh) -> Params:
    """Returns the weights that the step `init` has saved."""
    return _restored(run.at("init") / "checkpoint", _places(run, cfg, mesh))


def start(run: Run, cfg: llama.LlamaConfig, mesh: jax.sharding.Mesh) -> Params:
    """Returns the weights that training starts with: initial weights and new adapters.

    Frozen weights are quantised if the recipe says so.

    Args:
      cfg: the config of training.
    """
    shapes = _places(run, dataclasses.replace(cfg, lora=None, frozen=None), mesh)
    folder, places = run.at("init") / "checkpoint", meshes.param_shardings(cfg, mesh)

    def read(names: Iterable[str]) -> Params:
        return _restored(folder, {name: shapes[name] for name in names})

    return adapt.start(read, cfg, places, run.recipe.seed)


def trained(run: Run, cfg: llama.LlamaConfig, mesh: jax.sharding.Mesh) -> Params:
    """Returns the trained weights as parameters of `cfg`, the model without adapters.

    Adapters are merged into the weights of the step `init`, not into their quantised form. The base
    was quantised only to save memory in training, and whoever loads an exported adapter puts it on
    the unquantised weights too (docs/decisions/0011-quantised-base.md). With `export.use_ema`,
    running averages are used.
    """
    training = adapt.adapted(cfg, run.recipe.train)
    params = unmerged(run, training, mesh)
    return lora.merge(params, training.lora) if training.lora else params


def unmerged(run: Run, cfg: llama.LlamaConfig, mesh: jax.sharding.Mesh) -> Params:
    """Returns the trained weights before adapters are merged; `cfg` is that of training."""
    plain = _places(run, dataclasses.replace(cfg, frozen=None), mesh)
    stored = cfg.frozen.names if cfg.frozen else ()
    target: dict[str, Shapes] = {"params": {n: w for n, w in plain.items() if n not in stored}}
    if run.recipe.export.use_ema:
        target["ema"] = {n: _float32(plain[n]) for n in _last(run, target["params"])}
    state = _restored(run.at("train") / "checkpoints", target)
    originals = {name: plain[name] for name in stored}
    params = averaged(state)
    if originals:
        params |= _restored(run.at("init") / "checkpoint", originals)
    return {name: params[name] for name in plain}


def _last(run: Run, names: Iterable[str]) -> tuple[str, ...]:
    """Returns the names of the parameters that the last phase trains, which have averages."""
    table = run.recipe.train.stages[-1].learn
    return learn.trainable(learn.groups(table, [*names]))


def _float32(w: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(w.shape, "float32", sharding=w.sharding)


def _places(run: Run, cfg: llama.LlamaConfig, mesh: jax.sharding.Mesh) -> Shapes:
    places = meshes.param_shardings(cfg, mesh)
    return {
        name: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=places[name])
        for name, a in llama.abstract(cfg, run.recipe.init.param_dtype).items()
    }


def _restored(folder: epath.Path, target: Any) -> Any:
    with Checkpoints(folder) as checkpoints:
        restored = checkpoints.restore(target, partial=True)
    if restored is None:
        raise VerificationError(f"{folder}: holds no checkpoint; run the step that writes it again")
    return restored.state
