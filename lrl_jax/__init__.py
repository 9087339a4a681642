"""Brings a Llama to your language, on TPU pods or GPUs, and takes it back to Hugging Face.

    import lrl_jax as lrl

    folder = lrl.run(lrl.Recipe.from_yaml("quickstart"))
    model = lrl.load(folder)
    model.generate(["Minsu"])

The names below are loaded when they are first used (PEP 562): importing the package costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrl_jax.pipeline.api.evaluation import evaluate
    from lrl_jax.pipeline.api.loading import load, load_tokenizer
    from lrl_jax.pipeline.api.model import Model
    from lrl_jax.pipeline.api.older import generate, load_model
    from lrl_jax.pipeline.api.recipes import load_recipe
    from lrl_jax.pipeline.api.results import EvaluationResults, StudyResults
    from lrl_jax.pipeline.api.runs import run
    from lrl_jax.pipeline.api.studies import study
    from lrl_jax.recipe.schema import Recipe

__version__ = "0.1.0"
__all__ = [
    "EvaluationResults",
    "Model",
    "Recipe",
    "StudyResults",
    "evaluate",
    "generate",
    "load",
    "load_model",
    "load_recipe",
    "load_tokenizer",
    "run",
    "study",
]
_HOMES = {  # name -> the module that has it
    "EvaluationResults": "pipeline.api.results",
    "Model": "pipeline.api.model",
    "Recipe": "recipe.schema",
    "StudyResults": "pipeline.api.results",
    "generate": "pipeline.api.older",
    "load": "pipeline.api.loading",
    "load_model": "pipeline.api.older",
    "load_recipe": "pipeline.api.recipes",
    "load_tokenizer": "pipeline.api.loading",
    "run": "pipeline.api.runs",
    "study": "pipeline.api.studies",
}


def __getattr__(name: str) -> Any:
    if name == "evaluate":  # a room of the package, which is called as a function
        return importlib.import_module("lrl_jax.evaluate")
    if name not in _HOMES:
        raise AttributeError(f"module 'lrl_jax' has no attribute {name!r}; it has {__all__}")
    from lrl_jax import terminal

    terminal.quiet_libraries()  # before they are imported
    return getattr(importlib.import_module(f"lrl_jax.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
