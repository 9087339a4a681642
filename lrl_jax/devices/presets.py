"""Chooses the mesh for a machine: the rule behind `train.mesh: auto`.

    preset(chips=64, rows=64, cfg=cfg, chip_memory=15.75 * GIB)  # data=2, fsdp=32, tensor=1

It uses numbers only, so that a recipe can be planned for a machine that is not here.
"""

import math

from lrl_jax.model import llama, sharding
from lrl_jax.recipe import train as recipe_train
from lrl_jax.storage import GIB

ADAM = 12  # bytes for each parameter: a float32 weight and two moments


def preset(
    chips: int,
    rows: int,
    cfg: llama.LlamaConfig,
    chip_memory: float,
    slices: int = 1,
    state: float = 0.0,
) -> recipe_train.Mesh:
    """Returns the mesh over `chips` chips for steps that read `rows` rows at once.

    1. Each slice holds whole copies of the model (data), so that the slow network between slices
       carries gradients only.
    2. fsdp is preferred to tensor, because gathers of weights can run beside arithmetic and sums of
       split products cannot. tensor is used only if there are too few rows for all chips, with the
       smallest size that divides heads, feed-forward and vocabulary. Then the residual stream is
       split too (`sequence`).
    3. Two copies are made within a slice. The TPU compiler turns the scatter of a gradient over all
       devices into an all-reduce, but over half of them into a reduce-scatter (7B on v5e-64: 0.107
       s instead of 0.168 s of exposed communication in a step). The copies share weights and
       moments (`sharding.resting`), so the second copy needs no extra memory.

    A program may use `chip_memory` bytes on a chip. `state` counts the bytes of parameters and
    optimizer state; 0 means that all parameters are float32 and trained by AdamW. If no mesh works,
    says how many rows or chips would.
    """
    if chips % slices:
        raise ValueError(f"{chips} chips do not make {slices} slices of one size")
    state = state or ADAM * sum(math.prod(a.shape) for a in llama.abstract(cfg).values())
    within = chips // slices
    tensor = _tensor(chips, within, rows, cfg)
    for copies in _copies(within // tensor):
        fsdp = within // tensor // copies
        holders = sharding.holders(cfg.width, dict(data=copies, fsdp=fsdp, tensor=tensor))
        if cfg.width % fsdp == 0 and state / holders <= chip_memory:
            return recipe_train.Mesh(
                data=slices * copies, fsdp=fsdp, tensor=tensor, slices=slices, sequence=tensor > 1
            )
    needed = math.ceil(state / chip_memory)
    if needed > within:
        raise ValueError(
            f"parameters and optimizer are {state / GIB:.1f} GiB, {within} chips of a slice hold "
            f"{within * chip_memory / GIB:.1f} GiB; take {needed} chips or more, train less "
            "(train.lora), or store moments in fewer bits (train.optimizer.moments)"
        )
    raise ValueError(
        f"a width of {cfg.width} does not divide over {within // tensor} chips; take a number of "
        f"chips that has only factors of it"
    )


def _tensor(chips: int, within: int, rows: int, cfg: llama.LlamaConfig) -> int:
    possible = [n for n in _divisors(within) if not undivided(cfg, n)]
    for tensor in possible:
        if rows % (chips // tensor) == 0:
            return tensor
    raise ValueError(
        f"{rows} rows at once (train.batch_size / accumulate) do not divide over {chips} chips, "
        f"nor with the tensor axis as far as {cfg.num_kv_heads} kv heads, {cfg.num_heads} heads, "
        f"{cfg.mlp_width} of feed-forward and {cfg.padded_vocab_size} pieces allow "
        f"({', '.join(map(str, possible))}); use a multiple of {chips} rows, or at least of "
        f"{chips // possible[-1]}"
    )


def undivided(cfg: llama.LlamaConfig, tensor: int) -> list[str]:
    """Returns the letters of dimensions that a tensor axis of this size would split unevenly."""
    split = [letter for letter, axis in sharding.DIMENSIONS.items() if axis == "tensor"]
    return [letter for letter in split if cfg.sizes[letter] % tensor]


def _copies(shards: int) -> list[int]:
    """Returns numbers of copies within a slice in order of preference: two, one, then more.

    More than two copies are needed only for widths that do not divide over fewer.

    >>> _copies(8)
    [2, 1, 4, 8]
    """
    return sorted(_divisors(shards), key=lambda copies: copies != 2 or shards == 2)


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]
