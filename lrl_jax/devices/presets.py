"""Chooses the mesh for a machine: the rule behind `train.mesh: auto`.

    preset(chips=64, rows=64, cfg=cfg, chip_memory=15.75 * GIB)  # data=2, fsdp=32, tensor=1

A pure function of numbers, so that a recipe can be planned for a machine that is not here.
"""

from collections.abc import Iterator
import math

from lrl_jax.model import llama, sharding
from lrl_jax.recipe import train as recipe_train
from lrl_jax.storage import GIB

ADAM = 12  # bytes a parameter: float32 weights and two moments


def preset(
    chips: int,
    rows: int,
    cfg: llama.LlamaConfig,
    chip_memory: float,
    slices: int = 1,
    state: float = 0.0,
) -> recipe_train.Mesh:
    """Returns the mesh of `chips` for steps of `rows` rows at once.

    1. Slices hold whole copies (data): the network between them carries gradients only.
    2. fsdp before tensor: gathering weights can hide behind arithmetic, the sums of split products
       cannot. tensor only where rows are too few for all chips, then the least that divides heads,
       feed-forward and vocabulary; the residual stream is then split too (`sequence`).
    3. Two copies within a slice: a gradient that is scattered over *all* devices becomes an
       all-reduce in the TPU compiler, over a part of them a reduce-scatter (7B on v5e-64: 0.107 s
       of exposed communication a step for 0.168 s). They share weights and moments
       (`sharding.resting`), so the second costs no memory.

    Args:
      rows: of the batch, that are not accumulated one after another.
      chip_memory: bytes.
      state: bytes of parameters and optimizer together; 0: all learn by AdamW in float32.

    Raises:
      ValueError: no mesh will do; says how many rows or chips would.
    """
    if chips % slices:
        raise ValueError(f"{chips} chips do not make {slices} slices of one size")
    state = state or ADAM * sum(math.prod(a.shape) for a in llama.abstract(cfg).values())
    within = chips // slices
    tensor = _tensor(chips, within, rows, cfg)
    for copies, fsdp in _copies(within // tensor):
        holders = sharding.holders(cfg.width, dict(data=copies, fsdp=fsdp, tensor=tensor))
        if cfg.width % fsdp == 0 and state / holders <= chip_memory:
            return recipe_train.Mesh(
                data=slices * copies, fsdp=fsdp, tensor=tensor, slices=slices, sequence=tensor > 1
            )
    raise ValueError(_no_room(within, tensor, cfg, chip_memory, state))


def _tensor(chips: int, within: int, rows: int, cfg: llama.LlamaConfig) -> int:
    possible = [n for n in _divisors(within) if not undivided(cfg, n)]
    for tensor in possible:
        if rows % (chips // tensor) == 0:
            return tensor
    least = chips // possible[-1]
    raise ValueError(
        f"{rows} rows at once (train.batch_size / accumulate) do not divide over {chips} chips, "
        f"nor with the tensor axis as far as {cfg.num_kv_heads} kv heads, {cfg.num_heads} heads, "
        f"{cfg.mlp_width} of feed-forward and {cfg.padded_vocab_size} pieces allow "
        f"({', '.join(map(str, possible))}); use a multiple of {chips} rows, or at least of {least}"
    )


def undivided(cfg: llama.LlamaConfig, tensor: int) -> list[str]:
    """Returns dimension letters that a tensor axis of this size would cut unevenly."""
    split = [letter for letter, axis in sharding.DIMENSIONS.items() if axis == "tensor"]
    return [letter for letter in split if cfg.sizes[letter] % tensor]


def _copies(shards: int) -> Iterator[tuple[int, int]]:
    """Yields (data within a slice, fsdp): two copies, then one, then more, for widths that ask for
    it.

    >>> [*_copies(8)]
    [(2, 4), (1, 8), (4, 2), (8, 1)]
    """
    first = [2] if shards % 2 == 0 and shards > 2 else []
    for copies in [*first, 1, *(n for n in _divisors(shards) if n > 1 and n not in first)]:
        yield copies, shards // copies


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def _no_room(within: int, tensor: int, cfg, chip_memory: float, state: float) -> str:
    needed = math.ceil(state / chip_memory)
    if needed > within:
        return (
            f"parameters and optimizer are {state / GIB:.1f} GiB, {within} chips of a slice hold "
            f"{within * chip_memory / GIB:.1f} GiB; take {needed} chips or more, train less "
            "(train.lora), or store moments in fewer bits (train.optimizer.moments)"
        )
    return (
        f"a width of {cfg.width} does not divide over {within // tensor} chips; take a number of "
        f"chips that has only factors of it"
    )
