"""Bring a Llama to your language, on TPU pods or GPUs, and take it back to Hugging Face.

    recipe = lrl_jax.load_recipe("quickstart")
    lrl_jax.run(recipe)

The names below are loaded when they are first used (PEP 562): importing the package costs nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrl_jax.pipeline.api import (
        LoadedModel,
        generate,
        load_model,
        load_recipe,
        load_tokenizer,
        run,
    )

__version__ = "0.1.0"
__all__ = ["LoadedModel", "generate", "load_model", "load_recipe", "load_tokenizer", "run"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'lrl_jax' has no attribute {name!r}; it has {__all__}")
    from lrl_jax.pipeline import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
