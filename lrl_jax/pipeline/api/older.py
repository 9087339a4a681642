"""Keeps two names that have shorter ones now, and do what those do."""

from collections.abc import Iterable, Sequence
from typing import Any

import jax

from lrl_jax.model.config import Dtype
from lrl_jax.pipeline.api.loading import load
from lrl_jax.pipeline.api.model import Messages, Model
from lrl_jax.recipe.train import Mesh


def load_model(
    name: str,
    *,
    revision: str = "main",
    dtype: Dtype = "float32",
    mesh: Mesh | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Model:
    """Loads a model as `lrl.load` does, in float32 if nothing else is said.

        model = lrl.load_model("runs/first_steps/export")

    Raises:
      ValueError: as `lrl.load`.
    """
    return load(name, revision=revision, dtype=dtype, mesh=mesh, devices=devices)


def generate(
    model: Model,
    prompts: Iterable[str | Messages],
    max_new_tokens: int = 64,
    batch_size: int = 8,
    **drawing: Any,
) -> list[str]:
    """Continues each prompt, as `model.generate` does.

        lrl.generate(model, ["Minsu"], max_new_tokens=8)

    Raises:
      ValueError: as `model.generate`.
    """
    return model.generate(prompts, max_new_tokens, batch_size, **drawing)
