"""Turns a checkpoint's tensors into those of a GGUF file: names, order of rows, stored types.

    for tensor in tensors(cfg, "q8_0"):
        write(tensor.name, tensor.stored(tensor.read(source)))

One tensor is in memory at a time, in float32.
"""

from collections.abc import Callable, Iterator
import dataclasses
from typing import Any

import numpy as np

from lrl_jax.hf import layout
from lrl_jax.hf.gguf import architectures
from lrl_jax.hf.safetensors_ranges import Read
from lrl_jax.model import rope
from lrl_jax.model.config import LlamaConfig

TYPES = ("f16", "q8_0", "f32")
FACTORS = "rope_freqs.weight"
NORM = "norm.weight"
PERMUTED = {"layers/q_DNH": "num_heads", "layers/k_DKH": "num_kv_heads"}


@dataclasses.dataclass(frozen=True)
class GgufTensor:
    """Describes a tensor of a GGUF file.

    Attributes:
      name: as llama.cpp calls it.
      shape: rows first, as numpy has it.
      kind: of TYPES, how its numbers are stored.
      read: makes its float32 values of a checkpoint.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    read: Callable[[Read], np.ndarray]


def tensors(cfg: LlamaConfig, kind: str) -> Iterator[GgufTensor]:
    """Yields the tensors of a model in a file of this type, of TYPES.

    Norms, biases and all vectors are float32 in any file, as llama.cpp wants them. Rows that do not
    divide into the quantiser's blocks are float16.
    """
    if isinstance(cfg.rope_scaling, rope.Llama3):
        yield _factors(cfg)
    names = _names(cfg)
    architecture = architectures.of(cfg)
    for hf, tensor in layout.tensors(cfg).items():
        row, shape = tensor.rows[0], tensor.shape
        shape = (cfg.vocab_size, *shape[1:]) if "V" in row.letters else shape
        lifted = architecture.lifted and hf.endswith(NORM)
        heads = getattr(cfg, PERMUTED.get(row.ours, ""), 0) if architecture.neighbours else 0

        def read(source: Read, hf=hf, shape=shape, lifted=lifted, heads=heads) -> np.ndarray:
            values = source(hf, tuple(map(slice, shape))).astype(np.float32)
            values = neighbours(values, heads) if heads else values
            return values + np.float32(1) if lifted else values

        yield GgufTensor(names[hf], shape, _kind(names[hf], shape, kind), read)


def neighbours(w_OD: np.ndarray, heads: int) -> np.ndarray:
    """Returns rows of q or k in the order in which neighbours, not halves, turn as a pair.

    >>> neighbours(np.arange(4)[:, None], heads=1).ravel()
    array([0, 2, 1, 3])
    """
    outs = w_OD.shape[0]
    return w_OD.reshape(heads, 2, outs // heads // 2, -1).swapaxes(1, 2).reshape(w_OD.shape)


def stored(values: np.ndarray, kind: str, name: str) -> np.ndarray:
    """Returns values as a file of this type stores them; quantised ones are bytes.

    Raises:
      ValueError: a number that float16 cannot hold.
    """
    from gguf import GGMLQuantizationType, quants

    if kind == "f32":
        return values
    if kind == "q8_0":
        return quants.quantize(values, GGMLQuantizationType.Q8_0)
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        most = np.abs(values[~np.isfinite(half)]).max()
        raise ValueError(
            f"{name}: has {most:g}, and float16 ends at 65504; write q8_0 or f32 instead of f16"
        )
    return half


def read_back(data: np.ndarray, kind: str) -> np.ndarray:
    """Returns float32 values of what a file stores."""
    from gguf import GGMLQuantizationType, quants

    if kind == "q8_0":
        return quants.dequantize(data, GGMLQuantizationType.Q8_0)
    return data.astype(np.float32)


def bound(values: np.ndarray, kind: str) -> np.ndarray:
    """Returns how far each stored value may be from the one meant, for the type of the file.

    A block of 32 numbers in q8_0 has a scale, 1/127 of its largest number, rounded to float16. Each
    number is off by at most half a step, and by what the rounding of the scale (2^-11 of it, and
    2^-25 where it is that small) makes of 127 steps.
    """
    if kind != "q8_0":
        return np.zeros((), np.float32)
    blocks = np.abs(values).reshape(*values.shape[:-1], -1, 32)
    largest = blocks.max(axis=-1, keepdims=True)
    most = largest / 127 * (0.5 + 127 * 2.0**-11) + 127 * 2.0**-25
    return np.broadcast_to(most * (1 + 2.0**-20), blocks.shape).reshape(values.shape)


def library_type(kind: str) -> Any:
    """Returns the type of numbers as the gguf package calls it."""
    from gguf import GGMLQuantizationType

    return GGMLQuantizationType[kind.upper()]


def _kind(name: str, shape: tuple[int, ...], kind: str) -> str:
    if len(shape) == 1 or name.endswith(NORM):
        return "f32"
    if kind == "q8_0" and shape[-1] % 32:
        return "f16"
    return kind


def _names(cfg: LlamaConfig) -> dict[str, str]:
    """Returns the checkpoint's name of each tensor -> llama.cpp's."""
    import gguf

    name = architectures.of(cfg).name
    which = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == name)
    table = gguf.get_tensor_name_map(which, cfg.depth)
    names = {
        hf: table.get_name(hf, try_suffixes=(".weight", ".bias")) for hf in layout.tensors(cfg)
    }
    missing = [hf for hf, name in names.items() if name is None]
    assert not missing, f"llama.cpp's {name} has no name for {missing}"
    return {hf: str(name) for hf, name in names.items()}


def _factors(cfg: LlamaConfig) -> GgufTensor:
    """Returns the divisors of rotary frequencies, where Llama 3's scaling makes them."""
    base = rope.Rope(theta=cfg.rope_theta, width=cfg.head_width)
    scaled = dataclasses.replace(base, scaling=cfg.rope_scaling)

    def read(source: Read) -> np.ndarray:
        freqs, slowed = (np.asarray(rope.frequencies(r, 0)[0], np.float64) for r in (base, scaled))
        return (freqs / slowed).astype(np.float32)

    return GgufTensor(FACTORS, (cfg.head_width // 2,), "f32", read)
