"""Writes parameters as a Hugging Face folder that `from_pretrained` loads.

save(temp, params, cfg, read_config(base), "bfloat16", 5_000_000_000)
...                     # tokenizer and card go into temp; the gate reads it back
finish(temp, final)     # manifest, then one rename: half a folder never looks whole
"""

from collections.abc import Mapping
import functools
import json
import math
from typing import Any

from etils import epath
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np

from lrl_jax.hf import layout, load
from lrl_jax.model import llama

DTYPES = {"float32": "F32", "bfloat16": "BF16"}  # ours -> the safetensors header's


def save(
    folder: epath.PathLike,
    params: llama.Params,
    cfg: llama.LlamaConfig,
    hf_config: Mapping[str, Any],
    dtype: str,
    max_shard_bytes: int,
) -> None:
    """Writes weights, `config.json` and `generation_config.json` into `folder`.

    Every process calls it (arrays are gathered a tensor at a time); process 0 writes.

    Args:
      hf_config: the base's `config.json`, or {} with at least `bos_token_id`, `eos_token_id`
        and `max_position_embeddings`.
      dtype: of the tensors on disk, "float32" or "bfloat16".
    """
    if dtype not in DTYPES:
        raise ValueError(f"export dtype {dtype!r}; want one of {', '.join(DTYPES)}")
    folder = epath.Path(folder)
    writer = jax.process_index() == 0
    if writer:
        folder.mkdir(parents=True, exist_ok=True)
        config = layout.config_to_hf(hf_config, cfg, dtype)
        _write_json(folder / "config.json", config)
        _write_json(folder / "generation_config.json", _generation_config(config))
    shards = _plan(cfg, dtype, max_shard_bytes)
    names = _file_names(len(shards))
    for file, tensors in zip(names, shards, strict=True):
        _write_shard(folder / file, tensors, params, cfg, dtype, writer)
    if writer and len(shards) > 1:
        weight_map = {t: file for file, shard in zip(names, shards, strict=True) for t in shard}
        total = sum(_nbytes(t, cfg, dtype) for t in weight_map)
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        _write_json(folder / load.INDEX, index)


def finish(temp: epath.PathLike, final: epath.PathLike) -> None:
    """Writes the SHA-256 manifest of `temp` and renames it to `final`, replacing that."""
    temp, final = epath.Path(temp), epath.Path(final)
    _write_json(temp / load.MANIFEST, manifest(temp))
    old = final.parent / f".{final.name}.old"
    if old.exists():
        old.rmtree()
    if final.exists():
        final.rename(old)
    temp.rename(final)
    if old.exists():
        old.rmtree()


def manifest(folder: epath.PathLike) -> dict[str, Any]:
    """Size and SHA-256 of every file of an export; `load.verify` compares them."""
    paths = sorted(p for p in epath.Path(folder).iterdir() if p.name != load.MANIFEST)
    files = {p.name: {"bytes": p.stat().length, "sha256": load.sha256(p)} for p in paths}
    return {"format": load.FORMAT, "files": files}


# ---------------------------------------------------------------------------- safetensors
def _plan(cfg: llama.LlamaConfig, dtype: str, most: int) -> list[list[str]]:
    """Tensor names by file, each file at most `most` bytes (or one tensor)."""
    shards, size = [[]], 0
    for name in layout.tensors(cfg):
        nbytes = _nbytes(name, cfg, dtype)
        if shards[-1] and size + nbytes > most:
            shards, size = [*shards, []], 0
        shards[-1].append(name)
        size += nbytes
    return shards


def _file_names(count: int) -> list[str]:
    if count == 1:
        return [load.WEIGHTS]
    return [f"model-{i:05}-of-{count:05}.safetensors" for i in range(1, count + 1)]


def _nbytes(name: str, cfg: llama.LlamaConfig, dtype: str) -> int:
    row, _ = layout.tensors(cfg)[name]
    return math.prod(layout.hf_shape(row, cfg)) * jnp.dtype(dtype).itemsize


def _write_shard(path: epath.Path, names, params, cfg, dtype: str, writer: bool) -> None:
    """One safetensors file: header length, header, tensors; written here to hold one at a time."""
    table = layout.tensors(cfg)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        start, end = end, end + _nbytes(name, cfg, dtype)
        shape = list(layout.hf_shape(table[name][0], cfg))
        header[name] = {"dtype": DTYPES[dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8 bytes
    arrays = (_gathered(params[table[n][0].ours], *table[n], dtype) for n in names)
    if not writer:
        for _ in arrays:  # the gathers need every process
            pass
        return
    with path.open("wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for name, w in zip(names, arrays, strict=True):
            w = np.ascontiguousarray(layout.to_hf(w, table[name][0], cfg))
            f.write(w.reshape(-1).view(np.uint8).data)


def _gathered(w: jax.Array, row: layout.Row, l: int, dtype: str) -> np.ndarray:
    """One layer of a parameter, whole, in the export's dtype."""
    whole = w.sharding
    if isinstance(whole, NamedSharding):
        whole = NamedSharding(whole.mesh, P())
    layer = np.int32(l) if row.stacked else None
    return np.asarray(_pick(dtype, whole)(w, layer).addressable_data(0))


@functools.lru_cache
def _pick(dtype: str, whole: jax.sharding.Sharding):
    def pick(w, l):
        w = w if l is None else jax.lax.dynamic_index_in_dim(w, l, keepdims=False)
        return w.astype(dtype)

    return jax.jit(pick, out_shardings=whole)


def _generation_config(config: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {"_from_model_config": True} | {k: config[k] for k in keys if config.get(k) is not None}


def _write_json(path: epath.Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n")
