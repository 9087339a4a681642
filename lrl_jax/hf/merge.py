"""Merges models of one tokenizer and one shape, a piece of a tensor at a time.

    with contextlib.ExitStack() as stack:
        merge = opened(folders, (0.5, 0.5), None, stack)
        write(merge, staged)
        params = gathered(merge, cfg, shardings)  # the same, to compare with

What comes out is anchor + sum of weight * (model - anchor), in float32, rounded to the dtype that
the models are stored in. The anchor of task arithmetic (arXiv 2212.04089) is the base. That of a
mean (model soups, arXiv 2203.05482) is the first model, whose own weight is what the others leave
of 1: so a number that all models have is not changed by rounding.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import hashlib
import math

from etils import epath
import jax
import numpy as np

from lrl_jax import text
from lrl_jax.hf import families, layout, load, save, shards, vector
from lrl_jax.hf.safetensors_ranges import WEIGHT_DTYPES, Index, Read, Tensors
from lrl_jax.model import llama
from lrl_jax.vocab.tokenizer import load as tokenizers

DTYPES = ("F32", "BF16", "F16")  # what is stored in more bits would be rounded by float32

Tell = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True)
class Merge:
    """Holds open models and how they are merged.

    Attributes:
      anchor: what differences are taken from: name and tensors.
      others: name, tensors and weight of each model whose difference is added.
      stored: dtype and shape of each tensor, the same in all of them.
    """

    anchor: tuple[str, Tensors]
    others: Sequence[tuple[str, Tensors, float]]
    stored: Mapping[str, save.Stored]


def opened(
    folders: Sequence[epath.Path],
    weights: Sequence[float],
    base: epath.Path | None,
    stack: contextlib.ExitStack,
) -> Merge:
    """Opens and verifies the models, and compares them, before any weight is read.

    Args:
      base: with it differences from it are added (task arithmetic), else the models' mean is taken.

    Raises:
      ValueError: models of different tokenizers, shapes or dtypes, an adapter, a damaged folder.
    """
    every = [*([base] if base is not None else []), *folders]
    for folder in every:
        _refuse_adapter(folder)
    for folder in every[1:]:
        same_tokenizer(folder, every[0])
        _same_config(folder, every[0])
    cfg = families.config_from_hf(load.read_config(every[0]))
    sources = [(str(f), load.opened(f, cfg, stack, cfg.vocab_size)) for f in every]
    stored = {name: _stored(sources, name) for name in layout.tensors(cfg)}
    joined = [*weights] if base is not None else [*weights[1:]]
    others = [(*source, weight) for source, weight in zip(sources[1:], joined, strict=True)]
    return Merge(sources[0], others, stored)


def write(
    merge: Merge, folder: epath.Path, most: int, tell: Tell = lambda what, done, whole: None
) -> None:
    """Writes the merged tensors as safetensors files of at most `most` bytes, or one tensor."""
    files, read, done = save.plan(merge.stored, most), reader(merge), 0
    for file, names in files.items():
        with (folder / file).open("wb") as f:
            f.write(save.header({name: merge.stored[name] for name in names}))
            for name in names:
                tell(name, done, len(merge.stored))
                for index in _pieces(merge.stored[name]):
                    f.write(np.ascontiguousarray(read(name, index)).reshape(-1).view(np.uint8).data)
                done += 1
    save.write_index(folder, files, merge.stored)


def gathered(
    merge: Merge, cfg: llama.LlamaConfig, shardings: Mapping[str, jax.sharding.Sharding]
) -> llama.Params:
    """Returns the merged model as parameters, computed from the models and not from what `write`
    wrote.
    """
    return shards.fill(cfg, shardings, "float32", lambda row: reader(merge), load.READERS)


def reader(merge: Merge) -> Read:
    """Returns what reads a region of a merged tensor, in the dtype it is stored in.

    Reading raises ValueError where a model holds a number that is not finite, or the sum is none.
    """
    place, anchor = merge.anchor
    moves = [
        (name, weight, vector.difference(tensors, anchor, None))
        for name, tensors, weight in merge.others
    ]

    def read(name: str, index: Index) -> np.ndarray:
        first = anchor.read(name, index)
        _refuse_odd_numbers(first, place, name)
        moved = np.zeros(first.shape, np.float32)
        for other, weight, move in moves:
            difference = move(name, index)
            _refuse_odd_numbers(difference, other, name)
            moved += np.float32(weight) * difference
        with np.errstate(over="ignore"):  # said below
            total = (first.astype(np.float32) + moved).astype(first.dtype)
        _refuse_odd_numbers(total, "the merge", name)
        return np.where(moved == 0, first, total)  # zero keeps its sign

    return read


def digest(folder: epath.Path) -> str:
    """Returns a SHA-256 of the weights of a folder: of the digests of its safetensors files."""
    files = sorted(path for path in folder.iterdir() if path.suffix == ".safetensors")
    lines = "".join(f"{path.name} {text.digest(str(path))}\n" for path in files)
    return hashlib.sha256(lines.encode()).hexdigest()


# ---------------------------------------------------------------------------- checks
def same_tokenizer(folder: epath.Path, other: epath.Path) -> None:
    """Refuses folders whose tokenizers are not the same; names the first token that differs."""
    pair = [tokenizers.load(place) for place in (other, folder)]
    if pair[0].fingerprint == pair[1].fingerprint:
        return
    pieces = [tokenizers.family(tokenizer).pieces(tokenizer) for tokenizer in pair]
    apart = vector.first_apart(*pieces) or "the same pieces, but other scores, merges or rules"
    raise ValueError(
        f"{other} and {folder} have different tokenizers ({len(pieces[0]):,} and "
        f"{len(pieces[1]):,} pieces): {apart}; merge models that were trained with one tokenizer"
    )


def _same_config(folder: epath.Path, other: epath.Path) -> None:
    numbers, others = (
        dataclasses.asdict(families.config_from_hf(load.read_config(place)))
        for place in (other, folder)
    )
    differ = [
        f"{name} is {value} and {others[name]}"
        for name, value in numbers.items()
        if value != others[name]
    ]
    if differ:
        raise ValueError(
            f"{other} and {folder} are different models: {'; '.join(differ)}; merge models that "
            "were trained from one model"
        )


def _refuse_adapter(folder: epath.Path) -> None:
    names = ("adapter_config.json", "adapter_model.safetensors")
    if any((folder / name).exists() for name in names):
        raise ValueError(
            f"{folder}: holds an adapter, which is no whole model; export it with export.form: "
            "merged, and merge that"
        )


def _stored(sources: Sequence[tuple[str, Tensors]], name: str) -> save.Stored:
    """Returns the dtype and shape of a tensor; refuses models that have it otherwise."""
    every = [tensors.files[name].places[name] for _, tensors in sources]
    for (folder, _), place in zip(sources[1:], every[1:], strict=True):
        for what in ("shape", "dtype"):
            own, first = getattr(place, what), getattr(every[0], what)
            if own != first:
                raise ValueError(
                    f"{name}: its {what} is {first} in {sources[0][0]} and {own} in {folder}; "
                    "export both alike (export.dtype)"
                )
    if every[0].dtype not in DTYPES:
        allowed = ", ".join(WEIGHT_DTYPES[dtype] for dtype in DTYPES)
        raise ValueError(f"{sources[0][0]}: {name} is stored as {every[0].dtype}; want {allowed}")
    return every[0].dtype, every[0].shape


def _refuse_odd_numbers(w: np.ndarray, where: str, name: str) -> None:
    if not np.isfinite(w).all():
        raise ValueError(
            f"{where}: {name} holds numbers that are not finite; no model is made of those"
        )


def _pieces(stored: save.Stored) -> Iterator[Index]:
    """Yields ranges of a tensor's rows, of some shards.PIECE bytes each in float32."""
    shape = stored[1]
    rows = max(1, shards.PIECE // (4 * math.prod(shape[1:])))
    for start in range(0, shape[0], rows):
        stop = min(start + rows, shape[0])
        yield (slice(start, stop), *(slice(0, size) for size in shape[1:]))
