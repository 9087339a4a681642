"""Chooses the few lengths for which programs are compiled, of prompts and of rows."""

from collections.abc import Sequence
import math

from lrl_jax.model import llama
from lrl_jax.model.rope import LongRope

SIZES = 6  # lengths for which programs are compiled


def sizes(longest: int, shortest: int, unit: int) -> list[int]:
    """Returns up to SIZES lengths to which shorter ones are padded, each about half of the next.

    >>> sizes(600, 32, 32), sizes(20, 32, 32)
    ([32, 64, 96, 160, 320, 640], [32])
    """
    halves = [longest / (1 << n) for n in range(SIZES)]
    return sorted({max(shortest, rounded(half, unit)) for half in halves})


def rounded(length: float, unit: int) -> int:
    """Returns a multiple of `unit` that is at least `length`, one of few: four from 2^n to 2^(n+1).

    >>> [rounded(n, 32) for n in (30, 130, 600)], rounded(130, 128)
    ([32, 160, 640], 256)
    """
    step = 1 << max(0, math.ceil(math.log2(max(1.0, length))) - 3)
    step = max(step, unit)
    return math.ceil(length / step) * step


def fitting(lengths: Sequence[int], length: int) -> int:
    """Returns the first of these lengths that is long enough, or the longest of them."""
    return next((n for n in lengths if n >= length), lengths[-1])


def rotated(cfg: llama.LlamaConfig, longest: int) -> int:
    """Returns a length for which rotary positions are those of rows up to `longest`.

    It is the same for most lengths, so that programs are not compiled for each of them.
    """
    scaling = cfg.whole_rope.scaling
    if isinstance(scaling, LongRope):
        return scaling.original_length + (longest > scaling.original_length)
    return 1
