"""Saves arrays whole or not at all on any store, and loads them again."""

import io
import os

from etils import epath
import numpy as np

from lrl_jax import storage


def save(path: epath.Path, array: np.ndarray) -> None:
    """Writes an array whole or not at all."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    storage.write(path, buffer.getvalue())


def load(path: epath.Path) -> np.ndarray:
    """Loads an array that `save` wrote; a local file is mapped, and read only where it is used."""
    if storage.is_remote(path):
        return np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
    return np.load(os.fspath(path), mmap_mode="r", allow_pickle=False)
