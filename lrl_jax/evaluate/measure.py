"""Measures one model on everything a recipe lists; before.json and after.json hold the results."""

import importlib.metadata
import platform
import time
from typing import Any

import jax

from lrl_jax.evaluate import kinds
from lrl_jax.recipe.evaluate import Evaluate


def measure(settings: Evaluate, model: kinds.MeasuredModel) -> dict[str, Any]:
    """Measures every entry of every kind of evaluation.

    Returns:
      kind -> name -> result, and under "facts" the versions and devices that were used.
    """
    started = time.time()
    results: dict[str, Any] = {}
    for name, entries in settings.kinds().items():
        kind = kinds.find(name)
        assert kind is not None, name  # a recipe with another key is refused where it is read
        results[name] = {key: kind.measure(x, model, settings) for key, x in entries.items()}
    return results | {"facts": facts() | {"seconds": round(time.time() - started, 1)}}


def facts() -> dict[str, Any]:
    """Returns the versions of libraries and the devices that this process measures with."""
    device = jax.devices()[0]
    packages = ("lrl-jax", "jax", "flax", "optax", "orbax-checkpoint", "sentencepiece")
    return {
        "devices": f"{jax.device_count()} x {device.device_kind} ({device.platform})",
        "hosts": str(jax.process_count()),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **{package: _version(package) for package in packages},
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
