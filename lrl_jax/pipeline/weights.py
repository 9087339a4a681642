"""Makes the config and the mesh of a run's model, and loads the weights that the run has made.

Trained weights are those of the plain model, with adapters merged, so that evaluation and export
use the same weights.
"""

from collections.abc import Iterable, Mapping
import dataclasses
import math
from typing import Any

from etils import epath
import jax

from lrl_jax import storage
from lrl_jax.devices import mesh as meshes
from lrl_jax.fit import search
from lrl_jax.fit.compile import CompileJob
from lrl_jax.hf import families
from lrl_jax.model import llama, lora
from lrl_jax.pipeline import vocab
from lrl_jax.pipeline.console import say
from lrl_jax.pipeline.notes import MismatchError
from lrl_jax.pipeline.run import Run, resolved, trained_length
from lrl_jax.recipe import train as recipe_train
from lrl_jax.train import adapt, learn
from lrl_jax.train.checkpoint import Checkpoints, VerificationError
from lrl_jax.train.step import averaged
from lrl_jax.vocab.tokenizer import load as tokenizers

Shapes = dict[str, jax.ShapeDtypeStruct]


def mesh_shape(run: Run, cfg: llama.LlamaConfig) -> recipe_train.Mesh:
    """Returns the mesh of the recipe, or what `auto` means for a plain model and these devices."""
    recipe = run.recipe
    if recipe.train.mesh != "auto":
        return recipe.train.axes
    cfg, length = adapt.adapted(cfg, recipe.train), recipe.data.sequence_length
    job = CompileJob(cfg, recipe.train, length, recipe.init.param_dtype, vocab.new_pieces(run))
    return search.mesh(job, jax.devices())


def make_mesh(run: Run, cfg: llama.LlamaConfig) -> jax.sharding.Mesh:
    """Returns `mesh_shape` built over the devices of this run."""
    return meshes.make(mesh_shape(run, cfg))


def config(run: Run) -> llama.LlamaConfig:
    """Returns the config of the plain model, without what training adds (`adapt.adapted`)."""
    return configured(run, made_config(run))


def made_config(run: Run) -> dict[str, Any]:
    """Returns the `config.json` that the step `init` wrote; ValueError if it is damaged."""
    path = run.at("init") / "config.json"
    config = storage.read_json(path)
    if not isinstance(config, dict):
        raise ValueError(f"{path}: holds no JSON object; run `lrl init --redo`")
    families.refuse_impossible(config, str(path))
    return config


def configured(run: Run, hf: Mapping[str, Any]) -> llama.LlamaConfig:
    """Returns the config that a `config.json` describes, with the recipe's compute settings.

    With `remat: auto` it keeps nothing for the backward pass; the step `train` decides later.
    """
    settings = run.recipe.train
    remat = "nothing" if settings.remat == "auto" else settings.remat
    cfg = families.config_from_hf(hf, settings.compute_dtype, remat)
    return dataclasses.replace(cfg, unroll=min(settings.unroll, cfg.depth))


def context(run: Run) -> int:
    """Returns how many tokens a prompt and its answer may have together; 0: not known."""
    length = trained_length(run) or run.recipe.data.sequence_length
    return families.positions(families.lengthened(made_config(run), length))


def initial(run: Run, cfg: llama.LlamaConfig, mesh: jax.sharding.Mesh) -> llama.Params:
    """Returns the weights that the step `init` has saved."""
    return _restored(run.at("init") / "checkpoint", _places(run, cfg, mesh))


def of_another_run(run: Run, cfg: llama.LlamaConfig, mesh: jax.sharding.Mesh) -> llama.Params:
    """Returns the weights of the checkpoint that `init.weights` names, as parameters of `cfg`.

    They are those that the other run would export: its adapters are merged.

    Raises:
      MismatchError: the other run has another tokenizer or another model.
    """
    other = run.another()
    theirs, ours = other.at("vocab"), run.at("vocab")
    if tokenizers.load(theirs).fingerprint != tokenizers.load(ours).fingerprint:
        raise MismatchError(
            f"init.weights: {theirs} and {ours} are different tokenizers: take the sections base "
            "and vocab of that run's recipe.yaml, and the texts they name"
        )
    refuse_another_model(run, other, cfg)
    source = other.at("train").parent
    say(f"init: weights of {source}, step {other.step}; its optimizer is left behind")
    return trained(other, cfg, mesh)


def refuse_another_model(run: Run, other: Run, cfg: llama.LlamaConfig) -> None:
    """Raises MismatchError if the model of another run has not the shape or dtype of this one."""
    theirs, ours = (
        dataclasses.asdict(plain) | {"init.param_dtype": of.recipe.init.param_dtype}
        for plain, of in ((families.config_from_hf(made_config(other)), other), (cfg, run))
    )
    odd = [f"{name} is {theirs[name]} there, {ours[name]} here" for name in ours]
    odd = [line for line, name in zip(odd, ours, strict=True) if theirs[name] != ours[name]]
    if odd:
        raise MismatchError(
            f"init.weights: {other.at('train').parent} has another model: {'; '.join(odd)}"
        )


def start(run: Run, cfg: llama.LlamaConfig, mesh: jax.sharding.Mesh) -> llama.Params:
    """Returns the weights that training starts with: initial weights and new adapters.

    Frozen weights are quantised if the recipe says so; `cfg` is that of training.
    """
    shapes = _places(run, dataclasses.replace(cfg, lora=None, frozen=None), mesh)

    def read(names: Iterable[str]) -> llama.Params:
        return _restored(run.at("init") / "checkpoint", {name: shapes[name] for name in names})

    return adapt.start(read, cfg, meshes.param_shardings(cfg, mesh), run.recipe.seed)


def trained(run: Run, cfg: llama.LlamaConfig, mesh: jax.sharding.Mesh) -> llama.Params:
    """Returns the trained weights as parameters of `cfg`, the model without adapters.

    Adapters are merged into the weights of the step `init`, not into their quantised form. The base
    was quantised only to save memory in training, and whoever loads an exported adapter puts it on
    the unquantised weights too (docs/decisions/0011-quantised-base.md). With `export.use_ema`,
    running averages are used.
    """
    training = adapt.adapted(cfg, run.recipe.train)
    params = unmerged(run, training, mesh)
    return lora.merge(params, training.lora) if training.lora else params


def unmerged(run: Run, cfg: llama.LlamaConfig, mesh: jax.sharding.Mesh) -> llama.Params:
    """Returns the trained weights before adapters are merged; `cfg` is that of training."""
    plain = _places(run, dataclasses.replace(cfg, frozen=None), mesh)
    stored = cfg.frozen.names if cfg.frozen else ()
    kept = {n: w for n, w in plain.items() if n not in stored}
    params = averaged(_trained(run, kept))
    if stored:
        originals = {name: plain[name] for name in stored}
        params |= _restored(run.at("init") / "checkpoint", originals)
    return {name: params[name] for name in plain}


def _places(run: Run, cfg: llama.LlamaConfig, mesh: jax.sharding.Mesh) -> Shapes:
    places = meshes.param_shardings(cfg, mesh)
    return {
        name: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=places[name])
        for name, a in llama.abstract(cfg, run.recipe.init.param_dtype).items()
    }


def checkpoint(run: Run) -> dict[str, Any]:
    """Returns the step and the digest of the checkpoint that `trained` reads, for results."""
    with Checkpoints(run.at("train") / "checkpoints") as checkpoints:
        step = _step(run, checkpoints)
        return {"step": step, "sha256": checkpoints.sha256(step)}


def called(checkpoint: Mapping[str, Any]) -> str:
    """Returns how results and cards call a checkpoint: its step and the start of its digest."""
    return f"step {checkpoint['step']:,} ({checkpoint['sha256'][:16]})"


def _trained(run: Run, params: Shapes) -> Any:
    """Restores the newest checkpoint of training, or that of `run.step`; no other one will do."""

    def fitting(meta: Mapping[str, Any]) -> Any:
        adapt.check_same(meta["train"], run.recipe.train)
        if not run.recipe.export.use_ema:
            return {"params": params}
        train = resolved(run).train
        phases, done = learn.phases(train.stages), meta["data"]["next_row"] / train.rows_per_step
        phase = phases[learn.phase_at(phases, math.ceil(done))]  # what it trains has averages
        table = learn.groups(phase.learn, [*params])
        means = {n: params[n].update(dtype="float32") for n in learn.trainable(table)}
        return {"params": params, "ema": means}

    with Checkpoints(run.at("train") / "checkpoints") as checkpoints:
        step = _step(run, checkpoints)
        try:
            restored = checkpoints.restore(fitting, partial=True, only=step)
        except VerificationError as e:
            others = ", ".join(str(other) for other in checkpoints.steps() if other != step)
            if not others:
                raise
            raise VerificationError(
                f"{e}\nOr use another of its steps: --step {others}. `lrl train RECIPE --redo` "
                "trains again from the newest one that verifies"
            ) from None
    assert restored is not None  # it is there, and verified
    return restored.state


def _step(run: Run, checkpoints: Checkpoints) -> int:
    steps = checkpoints.agreed_steps()
    if not steps:
        raise _missing(checkpoints.folder)
    return run.step or steps[-1]


def _restored(folder: epath.Path, target: Any) -> Any:
    with Checkpoints(folder) as checkpoints:
        restored = checkpoints.restore(target, partial=True)
    if restored is None:
        raise _missing(folder)
    return restored.state


def _missing(folder: epath.Path) -> VerificationError:
    return VerificationError(f"{folder}: holds no checkpoint; run the step that writes it again")
