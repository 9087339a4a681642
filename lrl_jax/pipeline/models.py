"""Opens any model to measure it or to generate with it: a folder, a hub id, or a run.

model = open_model("runs/quickstart")                   # its export, or its newest checkpoint
model = open_model("meta-llama/Llama-3.2-1B", dtype="bfloat16", length=4096)
opened("runs/quickstart").source                        # where it was read from
"""

from collections.abc import Sequence
import dataclasses
from typing import Literal, get_args

from etils import epath
import jax

from lrl_jax import storage
from lrl_jax.data.seqio import imports
from lrl_jax.data.templates import table as templates
from lrl_jax.data.templates import tokenizer_chat
from lrl_jax.devices import mesh as meshes
from lrl_jax.evaluate.kinds import MeasuredModel
from lrl_jax.hf import families, load, peft_read
from lrl_jax.model.config import Dtype, LlamaConfig
from lrl_jax.pipeline import prompt, weights
from lrl_jax.pipeline import run as runs
from lrl_jax.pipeline.console import say
from lrl_jax.pipeline.run import Run
from lrl_jax.recipe.schema import Pretrained
from lrl_jax.recipe.train import Mesh as MeshShape
from lrl_jax.train import checkpoint
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.types import Tokenizer

ROW = 2048  # tokens of a row when text is scored, unless the model reads fewer
LARGE = 1 << 16  # pieces; the logits of a larger vocabulary are computed in BLOCKS
BLOCKS = 8


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """Describes a model that was read from a Hugging Face folder.

    Attributes:
      folder: of the weights and config.json.
      adapter: of the adapter that was put on them, if any.
      tokenizer: of the tokenizer's files.
    """

    folder: epath.Path
    adapter: epath.Path | None
    tokenizer: epath.Path


@dataclasses.dataclass(frozen=True)
class OpenedModel:
    """Holds a model that is ready to be measured, and what it was read from.

    `source` is a folder, or the run whose checkpoint `run.step` it is.
    """

    measured: MeasuredModel = dataclasses.field(repr=False)
    source: FolderSource | Run


@dataclasses.dataclass(frozen=True)
class _How:
    """Holds how a model is read, as `opened` describes."""

    dtype: Dtype
    length: int
    mesh: MeshShape | None
    devices: Sequence[jax.Device] | None


def open_model(
    place: str,
    *,
    dtype: Dtype = "float32",
    length: int = 0,
    mesh: MeshShape | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> MeasuredModel:
    """Loads a model and its tokenizer, ready to be measured and to generate; as `opened`."""
    return opened(place, dtype=dtype, length=length, mesh=mesh, devices=devices).measured


def opened(
    place: str,
    *,
    dtype: Dtype = "float32",
    length: int = 0,
    mesh: MeshShape | None = None,
    devices: Sequence[jax.Device] | None = None,
    revision: str = "main",
    adapter: str = "",
) -> OpenedModel:
    """Loads a model and its tokenizer, and says what they were read from.

    Args:
      place: a Hugging Face folder, local or `gs://`, a hub id, or the folder of a run. Of a run the
        export is taken; where it has none, the newest checkpoint that verifies. The folder of an
        adapter is put on the model that its adapter_config.json names.
      dtype: what weights are stored and computed in.
      length: tokens of a row when text is scored; 0: ROW, or what the model reads if that is less.
      mesh: how devices share the weights; by default each holds a part of every weight (`fsdp`).
      revision: of a model on the hub.
      adapter: folder or hub id of a LoRA in PEFT's format, which is merged into the weights.

    Raises:
      ValueError: no such place, a model of no family of ours, a tokenizer that is not the model's,
        a run with neither export nor checkpoint, or a mesh that does not fit.
      VerificationError: a run without an export, none of whose checkpoints verifies.
    """
    how, run = _How(dtype, length, mesh, devices), run_at(place)
    if run is not None and adapter:
        raise ValueError(f"adapter={adapter}: {place} is a run; put it on a Hugging Face model")
    if run is not None and not exported(run):
        return _of_checkpoint(run, how)
    where = str(run.at("export")) if run is not None else place
    if not adapter and (base := _adapted(epath.Path(where))):
        where, adapter = base, where
    named = Pretrained(model=where, revision=revision, adapter=adapter)
    return _of_folder(where, load.resolve(named), load.resolve_adapter(named), how)


def chosen_dtype(dtype: Dtype | Literal["auto"]) -> Dtype:
    """Returns the dtype that `auto` stands for: float32 on a CPU, else bfloat16."""
    if dtype not in ("auto", *get_args(Dtype)):
        raise ValueError(f"dtype {dtype!r}; there are auto, {', '.join(get_args(Dtype))}")
    if dtype != "auto":
        return dtype
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def run_at(place: str) -> Run | None:
    """Returns the run whose folder this is; None if it is no run folder.

    A recipe file in place of the folder of its run is a ValueError.
    """
    storage.refuse_odd(place)
    folder = epath.Path(place)
    if place.endswith((".yaml", ".yml")) and not folder.is_dir():
        raise ValueError(f"{place}: is a recipe; name the folder of its run, such as runs/NAME")
    path = folder / "recipe.yaml"
    if not path.exists():
        return None
    return Run(imports.load_recipe(str(path), (), ()), runs.places(folder))


def check_place(place: str) -> None:
    """Refuses a place of no model, before work begins that wants it later.

    A repository of the hub is fetched. No weights are read.

    Raises:
      ValueError: no such folder or repository, or one without the files of a model.
    """
    if run_at(place) is None:
        model = _adapted(epath.Path(place)) or place
        load.resolve(Pretrained(model=model))


def exported(run: Run) -> bool:
    """Tells whether a run has exported a whole model; an adapter alone is none."""
    folder = run.at("export")
    return any((folder / name).exists() for name in (load.WEIGHTS, load.INDEX))


def template(place: str, tokenizer: Tokenizer) -> str:
    """Returns the name of the template in which a model is asked; "" if none is known.

    It is the tokenizer's own chat template where it has one. A run without an export is asked as
    its last stage asks.
    """
    run = run_at(place)
    if run is not None and not exported(run):
        return prompt.last_template(run)
    try:
        tokenizer_chat.template(tokenizer)
    except ValueError:
        return prompt.last_template(run) if run is not None else ""
    return templates.OWN


def base_of(place: str) -> str:
    """Returns the folder or hub id of the model that a run began with.

    ValueError if the place is no run, or a run that began from scratch or on an adapter.
    """
    run = run_at(place)
    base = run.recipe.base if run is not None else None
    if not isinstance(base, Pretrained):
        raise ValueError(f"{place}: has no base model to compare with; name a run that adapts one")
    if base.adapter:
        raise ValueError(f"{place}: its base is {base.model} with the adapter {base.adapter}")
    return base.model


# ---------------------------------------------------------------------------- loading
def _adapted(folder: epath.Path) -> str:
    """Returns the model that an adapter in this folder is for; "" where there is no adapter."""
    if not (folder / peft_read.CONFIG).exists() or (folder / "config.json").exists():
        return ""
    base = peft_read.read_config(folder).get("base_model_name_or_path")
    if not base:
        raise ValueError(
            f"{folder}: is an adapter, and does not say of which model; name the model, and this "
            "folder with adapter="
        )
    return str(base)


def _of_folder(
    where: str, folder: epath.Path, adapter: epath.Path | None, how: _How
) -> OpenedModel:
    said = load.read_config(folder, adapter)
    cfg = families.config_from_hf(said, how.dtype, "nothing")
    grid = meshes.make(how.mesh or MeshShape(), how.devices)
    shardings = meshes.param_shardings(cfg, grid)
    params = load.load(folder, cfg, shardings, how.dtype, adapter=adapter)
    home = runs.tokenizer_folder(folder, adapter)
    tokenizer, context = tokenizers.load(home), families.positions(said)
    if tokenizer.size > cfg.vocab_size:
        raise ValueError(
            f"{where}: the tokenizer has {tokenizer.size} pieces, the model {cfg.vocab_size}; "
            "give the model's own tokenizer"
        )
    ends = tuple(dict.fromkeys((*load.ends(folder, tokenizer.size), tokenizer.eos_id)))
    length = _row(where, how.length, context)
    measured = MeasuredModel(
        cfg, params, tokenizer, grid, length, _blocks(cfg), context=context, ends=ends
    )
    return OpenedModel(measured, FolderSource(folder, adapter, home))


def _of_checkpoint(run: Run, how: _How) -> OpenedModel:
    folder = run.at("train") / "checkpoints"
    if not checkpoint.committed_steps(folder):
        raise ValueError(
            f"{run.at('train').parent}: has neither export/ nor a checkpoint of training; "
            "`lrl run RECIPE` makes them"
        )
    used = weights.checkpoint(run)
    run = dataclasses.replace(run, step=used["step"])  # another may come while this one is read
    cfg = dataclasses.replace(weights.config(run), dtype=how.dtype)
    grid = meshes.make(how.mesh or MeshShape(), how.devices)
    params = {name: x.astype(how.dtype) for name, x in weights.trained(run, cfg, grid).items()}
    say(f"{folder}: {weights.called(used)}, as the run has no export")
    tokenizer = tokenizers.load(run.at("vocab"))
    context = weights.context(run)
    measured = MeasuredModel(
        cfg, params, tokenizer, grid, _row(str(folder), how.length, context), _blocks(cfg),
        context=context, ends=(tokenizer.eos_id,),
    )  # fmt: skip
    return OpenedModel(measured, run)


def _blocks(cfg: LlamaConfig) -> int:
    return BLOCKS if cfg.padded_vocab_size > LARGE else 1


def _row(place: str, length: int, context: int) -> int:
    """Returns the tokens of a row when text is scored; refuses more than the model reads."""
    if context and length > context:
        raise ValueError(f"length={length}: {place} reads {context} tokens at most")
    return length or (min(ROW, context) if context else ROW)
