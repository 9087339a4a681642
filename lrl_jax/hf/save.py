"""Writes parameters as a Hugging Face folder that `from_pretrained` loads.

save(temp, params, cfg, read_config(base), "bfloat16", 5_000_000_000)
...                     # tokenizer and card go into temp; the gate reads it back
finish(temp, final)     # manifest, then one rename: half a folder never looks whole
"""

from collections.abc import Iterator, Mapping, Sequence
import functools
import itertools
import json
import math
from typing import Any

from etils import epath
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np

from lrl_jax import storage
from lrl_jax.hf import families, layout, load, shards
from lrl_jax.hf.safetensors_ranges import SIZES
from lrl_jax.model import llama

DTYPES = {"float32": "F32", "bfloat16": "BF16"}  # ours -> the safetensors header's
Stored = tuple[str, tuple[int, ...]]  # the dtype of a tensor, as headers say it, and its shape


def save(
    folder: epath.PathLike,
    params: llama.Params,
    cfg: llama.LlamaConfig,
    hf_config: Mapping[str, Any],
    dtype: str,
    max_shard_bytes: int,
    generation: Mapping[str, Any] | None = None,
) -> None:
    """Writes weights, `config.json` and `generation_config.json` into `folder`.

    Every process calls it (arrays are gathered a layer at a time); process 0 writes, and holds a
    few pieces of shards.PIECE bytes in memory.

    Args:
      hf_config: the base's `config.json`, or {} with at least `bos_token_id`, `eos_token_id`
        and `max_position_embeddings`.
      dtype: of the tensors on disk, "float32" or "bfloat16".
      generation: the base's `generation_config.json`, which still holds as ids keep their meaning;
        without it, the ends that `config.json` names.
    """
    folder = epath.Path(folder)
    writer = jax.process_index() == 0
    if writer:
        folder.mkdir(parents=True, exist_ok=True)
        config = families.config_to_hf(hf_config, cfg, dtype)
        write_json(folder / "config.json", config)
        ids = ("bos_token_id", "eos_token_id", "pad_token_id")
        said = {key: config[key] for key in ids if config.get(key) is not None}
        write_json(folder / load.GENERATION, generation or {"_from_model_config": True} | said)
    table = layout.tensors(cfg)
    stored = {name: (DTYPES[dtype], tensor.shape) for name, tensor in table.items()}
    files = plan(stored, max_shard_bytes)
    for file, names in files.items():
        write_file(folder / file, {name: table[name] for name in names}, params, cfg, dtype)
    if writer:
        write_index(folder, files, stored)


def finish(temp: epath.PathLike, final: epath.PathLike) -> None:
    """Writes the SHA-256 manifest of `temp` and renames it to `final`, replacing that."""
    temp, final = epath.Path(temp), epath.Path(final)
    digests = load.sha256s(sorted(p for p in temp.iterdir() if p.name != load.MANIFEST))
    files = {p.name: {"bytes": p.stat().length, "sha256": digest} for p, digest in digests.items()}
    write_json(temp / load.MANIFEST, {"format": load.FORMAT, "files": files})
    old = final.parent / f".{final.name}.old"
    old.rmtree(missing_ok=True)
    if final.exists():
        storage.move(final, old)
    storage.move(temp, final)
    old.rmtree(missing_ok=True)


# ---------------------------------------------------------------------------- safetensors
def plan(stored: Mapping[str, Stored], most: int) -> dict[str, list[str]]:
    """Returns the tensors of each file; at most `most` bytes a file, or one tensor."""
    files, size = [[]], 0
    for name in stored:
        nbytes = _nbytes(stored[name])
        if files[-1] and size + nbytes > most:
            files, size = [*files, []], 0
        files[-1].append(name)
        size += nbytes
    if len(files) == 1:
        return {load.WEIGHTS: files[0]}
    count = len(files)
    return {f"model-{i:05}-of-{count:05}.safetensors": of for i, of in enumerate(files, 1)}


def write_index(
    folder: epath.Path, files: Mapping[str, Sequence[str]], stored: Mapping[str, Stored]
) -> None:
    """Writes which file holds which tensor, where there are several files."""
    if len(files) == 1:
        return
    weight_map = {tensor: file for file, tensors in files.items() for tensor in tensors}
    total = sum(_nbytes(stored[tensor]) for tensor in weight_map)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    write_json(folder / load.INDEX, index)


def header(stored: Mapping[str, Stored]) -> bytes:
    """Returns what a safetensors file begins with: the length of its header, and the header."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, shape) in stored.items():
        start, end = end, end + _nbytes((dtype, shape))
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text


def _nbytes(stored: Stored) -> int:
    return math.prod(stored[1]) * SIZES[stored[0]]


def write_file(
    path: epath.Path,
    tensors: Mapping[str, layout.Tensor],
    params: llama.Params,
    cfg: llama.LlamaConfig,
    dtype: str,
) -> None:
    """Writes one safetensors file piece by piece: header length, header, tensors.

    Every process calls it; process 0 writes. `params` hold what `tensors` consist of.
    """
    begins = header({name: (DTYPES[dtype], tensor.shape) for name, tensor in tensors.items()})
    rows = [(row, tensor.l) for tensor in tensors.values() for row in tensor.rows]
    if jax.process_index() != 0:
        for row, l in rows:  # the gathers need every process
            _local(params[row.ours], row, l, dtype)
        return
    pieces = (piece for row, l in rows for piece in _pieces(params[row.ours], row, l, cfg, dtype))
    with path.open("wb") as f:
        f.write(begins)
        # In pairs, so that the devices make the next piece while one is written.
        for piece, _ in itertools.pairwise(itertools.chain(pieces, [None])):
            f.write(np.asarray(piece).reshape(-1).view(np.uint8).data)


def _pieces(w: jax.Array, row: layout.LayoutRow, l: int, cfg, dtype: str) -> Iterator[jax.Array]:
    """Yields the HF tensor of a layer as ranges of its rows, each on one device.

    Accelerators transpose. On a CPU, bringing a transposed array in costs a fifth of what the
    compiled program takes.
    """
    w, layer = _local(w, row, l, dtype)
    letter = row.letters[row.outer]
    size = cfg.vocab_size if letter == "V" else cfg.sizes[letter]
    row_bytes = math.prod(layout.hf_shape(row, cfg)) // size * jnp.dtype(dtype).itemsize
    most = max(1, shards.PIECE // row_bytes)
    for start in range(0, size, most):
        count = min(most, size - start)
        (device,) = w.devices()
        turn = device.platform != "cpu"
        piece = _cut(row, count, dtype, turn)(w, layer, np.int32(start))
        yield piece if turn else jax.device_put(layout.to_hf(np.asarray(piece), row), device)


def _local(
    w: jax.Array, row: layout.LayoutRow, l: int, dtype: str
) -> tuple[jax.Array, np.int32 | None]:
    """Returns a parameter on one device and the layer that is meant in it.

    Of a parameter that is split over devices only that layer is gathered; the second value is None.
    """
    layer = np.int32(l) if row.stacked else None
    if w.sharding.is_fully_replicated:
        return w.addressable_data(0), layer
    assert isinstance(w.sharding, NamedSharding)
    whole = NamedSharding(w.sharding.mesh, P())
    return _gather(dtype, whole)(w, layer).addressable_data(0), None


@functools.lru_cache
def _gather(dtype: str, whole: jax.sharding.Sharding):
    def gather(w, l):
        w = w if l is None else jax.lax.dynamic_index_in_dim(w, l, keepdims=False)
        return w.astype(dtype)

    return jax.jit(gather, out_shardings=whole)


@functools.lru_cache
def _cut(row: layout.LayoutRow, count: int, dtype: str, turn: bool):
    def cut(w, l, start):
        layer = w.shape if l is None else w.shape[1:]
        size = (*layer[: row.outer], count, *layer[row.outer + 1 :])
        at = [start if i == row.outer else 0 for i in range(len(layer))]
        if l is None:
            piece = jax.lax.dynamic_slice(w, at, size)
        else:  # one slice, not a layer and then a slice of it: that would copy the layer
            piece = jax.lax.dynamic_slice(w, [l, *at], (1, *size))[0]
        return layout.to_hf(piece.astype(dtype), row) if turn else piece.astype(dtype)

    return jax.jit(cut)


def write_json(path: epath.Path, data: Mapping[str, Any]) -> None:
    """Writes JSON as transformers and peft do, indented by two spaces."""
    path.write_text(json.dumps(data, indent=2) + "\n")
