"""Says what numbers were measured with: versions of packages, and the devices of this process."""

import importlib.metadata
import platform

import jax

PACKAGES = ("lrl-jax", "jax", "flax", "optax", "orbax-checkpoint", "sentencepiece")


def facts() -> dict[str, str]:
    """Returns names and values for the end of a report."""
    device = jax.devices()[0]
    return {
        "devices": f"{jax.device_count()} x {device.device_kind} ({device.platform})",
        "hosts": str(jax.process_count()),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **{package: _version(package) for package in PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
