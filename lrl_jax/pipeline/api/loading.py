"""Loads models and tokenizers for Python code, by the place where they lie."""

from collections.abc import Sequence
import os
from typing import Literal

from etils import epath
import jax

from lrl_jax.devices import mesh as meshes
from lrl_jax.hf import load as hf_load
from lrl_jax.model.config import Dtype
from lrl_jax.pipeline import models
from lrl_jax.pipeline.api.model import Model
from lrl_jax.pipeline.api.session import uses_devices
from lrl_jax.pipeline.console import progress
from lrl_jax.recipe.schema import Pretrained
from lrl_jax.recipe.train import Mesh
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.types import Tokenizer


def load(
    place: str | os.PathLike,
    *,
    dtype: Dtype | Literal["auto"] = "auto",
    length: int = 0,
    revision: str = "main",
    adapter: str | os.PathLike = "",
    mesh: Mesh | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Model:
    """Loads a model and its tokenizer: of a run, a Hugging Face folder, or the hub.

        model = lrl.load("runs/first_steps")
        model.generate(["Minsu"], max_new_tokens=8)

    Args:
      place: a folder, local or `gs://`, or a hub id. Of a run the export is taken; where it has
        none, the newest checkpoint that verifies. The folder of an adapter is put on the model
        that its adapter_config.json names.
      dtype: what weights are stored and computed in; "auto": float32 on a CPU, else bfloat16.
      length: tokens of a row when text is scored; 0: 2,048, or as many as the model reads.
      revision: of a model on the hub.
      adapter: folder or hub id of a LoRA in PEFT's format, which is merged into the weights.
      mesh: how devices share the weights; by default each holds a part of every weight (`fsdp`).
      devices: which are used; by default all.

    Raises:
      ValueError: no such place, a model of no family of ours, a tokenizer that is not the model's,
        a run with neither export nor checkpoint, or a mesh that does not fit.
      VerificationError: a run without an export, none of whose checkpoints verifies.
    """
    name = os.fspath(place).rstrip("/")
    if not uses_devices():  # else this process is alone, or has been joined to others
        meshes.start()
    with progress("load") as tell:
        tell(name, 0, 0)
        opened = models.opened(
            name, dtype=models.chosen_dtype(dtype), length=length, mesh=mesh, devices=devices,
            revision=revision, adapter=os.fspath(adapter),
        )  # fmt: skip
    return Model(name, opened.measured, opened.source)


def load_tokenizer(place: str | os.PathLike, revision: str = "main") -> Tokenizer:
    """Loads the tokenizer of a folder, a file, a run, `gs://` or a hub id.

        tokenizer = lrl.load_tokenizer("runs/first_steps")
        tokenizer.decode(tokenizer.encode("Minsu ate three apples."))

    No such place, or no usable tokenizer in it, is a ValueError.
    """
    name = os.fspath(place)
    path = epath.Path(name)
    if path.is_dir() and (run := models.run_at(name)) is not None:
        path = run.at("export") if models.exported(run) else run.at("vocab")
    if not path.exists() and hf_load.HUB_ID.fullmatch(name):
        path = hf_load.resolve(Pretrained(model=name, revision=revision))
    return tokenizers.load(path)
