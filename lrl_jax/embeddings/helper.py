"""Reads the embedding matrix of a helper model, of any architecture, from a local folder.

    rows_HE = embedding("models/polyglot-ko-1.3b", "input")

It reads safetensors and JSON files of that folder and nothing else.
"""

import json
from typing import Any

from etils import epath
import numpy as np
import safetensors

from lrl_jax.embeddings.moments import Matrix

INDEX, WEIGHTS = "model.safetensors.index.json", "model.safetensors"
# Names of the matrix in Hugging Face checkpoints: Llama and most others, GPT-2, BLOOM, OPT, NeoX.
INPUT = (
    "model.embed_tokens.weight",
    "transformer.wte.weight",
    "wte.weight",
    "transformer.word_embeddings.weight",
    "word_embeddings.weight",
    "model.decoder.embed_tokens.weight",
    "gpt_neox.embed_in.weight",
)
OUTPUT = ("lm_head.weight", "embed_out.weight")


def embedding(folder: epath.PathLike, matrix: Matrix) -> np.ndarray:
    """Reads the input or the output matrix, with a row for each token.

    A tied model has one matrix for both.

    Raises:
      ValueError: the folder has no safetensors, damaged ones, or none with the matrix.
    """
    folder = epath.Path(folder)
    wanted = INPUT if matrix == "input" else OUTPUT + INPUT
    where = {}
    for path in _files(folder):
        with _open(path) as file:
            where |= dict.fromkeys(set(file.keys()) & set(wanted), path)
    present = [name for name in wanted if name in where]
    if not present:
        raise ValueError(f"{folder}: holds none of {', '.join(wanted)}; take another helper")
    with _open(where[present[0]]) as file:
        return file.get_tensor(present[0])


def _files(folder: epath.Path) -> list[epath.Path]:
    if not (folder / INDEX).exists():
        return [folder / WEIGHTS]
    try:
        names = sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise ValueError(f"{folder / INDEX}: cannot be read ({e!r}); fetch it again") from None
    for name in names:
        if epath.Path(name).name != name:
            raise ValueError(f"{folder / INDEX}: names {name!r}, which is not a file beside it")
    return [folder / name for name in names]


def _open(path: epath.Path) -> Any:
    if not path.exists():
        raise ValueError(f"{path}: no such file; want a local Hugging Face folder with safetensors")
    try:
        return safetensors.safe_open(str(path), framework="np")
    except safetensors.SafetensorError as e:
        raise ValueError(f"{path}: damaged or cut short ({e}); fetch it again") from None
