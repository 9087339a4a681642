"""Measures everything a recipe wants of one model: what before.json and after.json hold."""

import importlib.metadata
import platform
import time
from typing import Any

import jax

from lrl_jax.evaluate import kinds
from lrl_jax.recipe.evaluate import Evaluate


def measure(settings: Evaluate, model: kinds.MeasuredModel) -> dict[str, Any]:
    """Measures every entry of every kind.

    Returns:
      kind -> name -> result, and "facts": what the numbers were made with.
    """
    started = time.time()
    results: dict[str, Any] = {}
    for name, entries in settings.kinds().items():
        kind = kinds.find(name)
        assert kind is not None, name  # a recipe with another key is refused where it is read
        results[name] = {key: kind.measure(x, model, settings) for key, x in entries.items()}
    return results | {"facts": facts() | {"seconds": round(time.time() - started, 1)}}


def facts() -> dict[str, Any]:
    """Returns what numbers are made with: versions and devices of this process."""
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
