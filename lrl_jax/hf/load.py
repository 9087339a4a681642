"""Reads a Hugging Face Llama folder straight into sharded arrays, piece by piece.

    folder = resolve(recipe.base)
    cfg = families.config_from_hf(read_config(folder), dtype="bfloat16")
    params = load(folder, cfg, mesh.param_shardings(cfg, m), "float32")

Only safetensors and JSON are read: no pickle, no code from the folder, no path outside it.
"""

from collections.abc import Callable, Collection, Mapping
import concurrent.futures
import contextlib
import re
from typing import Any

from etils import epath
import jax
import numpy as np

from lrl_jax import storage
from lrl_jax.hf import families, layout, peft_read, shards
from lrl_jax.hf import safetensors_ranges as ranges
from lrl_jax.hf.safetensors_ranges import INDEX, WEIGHTS, some
from lrl_jax.model import llama
from lrl_jax.recipe import schema
from lrl_jax.text import LFS_POINTER

Grow = Callable[[np.ndarray], np.ndarray]

HEAD, EMBEDDINGS = "lm_head.weight", "model.embed_tokens.weight"
MANIFEST, GENERATION = "manifest.json", "generation_config.json"
FORMAT = "lrl_jax export 1"  # what our manifests say they are
READERS, READERS_REMOTE = 4, 16  # threads; an object store is slow to begin, not to go on
PICKLES = (".bin", ".pth", ".pt", ".pkl", ".ckpt")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
HUB_FILES = (
    "*.safetensors", "*.safetensors.index.json", "*config.json", "tokenizer*",
    "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
    "additional_chat_templates/*.jinja", "LICENSE*", "USE_POLICY*", "NOTICE*",
)  # fmt: skip
# Data types with more bits than a dtype of ours has in some part of a number.
FINER = {"bfloat16": {"F16", "F32", "F64"}, "float32": {"F64"}}
COMPARED = 1 << 14  # rows of two matrices that are compared at a time
# Tensors other tools write and no Llama needs: tables of old conversions.
IGNORED = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")


def resolve(base: schema.Pretrained) -> epath.Path:
    """Returns the folder of a base model: local, gs://, or a snapshot of a hub repository."""
    folder = _folder(base.model, base.revision)
    _check_files(folder)
    return folder


def resolve_adapter(base: schema.Pretrained) -> epath.Path | None:
    """Returns the folder of the adapter that is put on a base, if any; raises as `resolve`."""
    if not base.adapter:
        return None
    folder = _folder(base.adapter, base.adapter_revision)
    _check_pointers(folder)
    return folder


def refuse_absent(name: str) -> None:
    """Raises ValueError for a name that is neither a model's folder nor an id; asks no hub."""
    if (folder := _local(name)) is not None:
        _check_files(folder)


def _local(name: str) -> epath.Path | None:
    """Returns the folder of this name, or None for a hub id."""
    storage.refuse_odd(name)
    folder = epath.Path(name)
    if folder.is_dir():
        return folder
    if not HUB_ID.fullmatch(name):
        raise ValueError(f"{name}: no such folder; want a folder, gs:// or a hub id")
    return None


def _folder(name: str, revision: str) -> epath.Path:
    if (folder := _local(name)) is not None:
        return folder
    from lrl_jax.hf.hub import client

    try:
        return client.snapshot(name, revision, HUB_FILES)
    except Exception as e:  # the hub client's errors have many bases; each is the user's to fix
        line = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
        raise ValueError(
            f"{name}: neither a folder here nor a hub repository that can be read "
            f"(revision {revision}): {line}. Gated models need `hf auth login`; offline, "
            "give a folder"
        ) from None


def read_config(folder: epath.PathLike, adapter: epath.Path | None = None) -> dict[str, Any]:
    """Reads `config.json`; an adapter that brings embeddings decides its `vocab_size`."""
    path = epath.Path(folder) / "config.json"
    config = ranges.read_json(path)
    families.refuse_impossible(config, str(path))
    size = peft_read.vocab_size(adapter) if adapter is not None else None
    return config if size is None else config | {"vocab_size": size}


def read_generation(folder: epath.PathLike) -> dict[str, Any]:
    """Reads `generation_config.json`: how text is generated, and where it ends; {} without it."""
    path = epath.Path(folder) / GENERATION
    return ranges.read_json(path) if path.exists() else {}


def ends(folder: epath.PathLike, size: int) -> tuple[int, ...]:
    """Returns the ids below `size` that end an answer, as `generation_config.json` names them."""
    named = read_generation(folder).get("eos_token_id")
    named = named if isinstance(named, list) else [named]
    return tuple(i for i in named if isinstance(i, int) and 0 <= i < size)


def source_note(folder: epath.PathLike) -> str:
    """Says whether `load` would notice a flipped bit in this folder."""
    if _manifest(epath.Path(folder)):
        return f"verified against {MANIFEST}"
    return f"unverified source: {folder} has no {MANIFEST} of ours; a flipped bit goes unseen"


def remarks(folder: epath.PathLike, dtype: str) -> list[str]:
    """Says what of a checkpoint is not read, and what `dtype` rounds; reads headers only.

    Raises:
      ValueError: the files cannot be opened.
    """
    folder, notes = epath.Path(folder), []
    with contextlib.ExitStack() as stack:
        tensors = ranges.open_folder(folder, stack)
        if stale := _unread(folder):
            notes.append(
                f"{folder / INDEX} and {some(stale)} are not read: {WEIGHTS} lies beside them, and "
                "transformers reads that one too; remove what is old"
            )
        kinds = {file.places[name].dtype for name, file in tensors.files.items()}
        finer = sorted(kinds & FINER.get(dtype, set()))
        if finer:
            stored = " and ".join(ranges.WEIGHT_DTYPES[kind] for kind in finer)
            notes.append(
                f"{folder}: stored as {stored}, which {dtype} rounds; set init.param_dtype: "
                "float32 to keep every bit"
            )
    return notes


def _unread(folder: epath.Path) -> list[str]:
    """Returns the files that an index beside a whole file names."""
    if not ((folder / WEIGHTS).exists() and (folder / INDEX).exists()):
        return []
    weight_map = ranges.read_json(folder / INDEX).get("weight_map")
    names = weight_map.values() if isinstance(weight_map, dict) else ()
    return sorted({str(name) for name in names} - {WEIGHTS})


def check(folder: epath.PathLike, cfg: llama.LlamaConfig) -> None:
    """Refuses weights that `config.json` does not describe; reads headers, and a tied head.

    The tokenizer is not looked at: it may have fewer pieces than there are rows.
    """
    folder = epath.Path(folder)
    with contextlib.ExitStack() as stack:
        _check_tensors(ranges.open_folder(folder, stack), cfg, folder, 0)


def verify(folder: epath.PathLike) -> None:
    """Compares every file with the manifest, if the folder has one of ours; raises ValueError."""
    folder = epath.Path(folder)
    files = _manifest(folder)
    paths = {name: ranges.inside(folder, name, MANIFEST) for name in files}
    for name, path in paths.items():
        if not path.exists():
            raise ValueError(f"{path}: missing, but {MANIFEST} lists it; copy the folder again")
        if path.stat().length != files[name]["bytes"]:
            raise ValueError(
                f"{path}: {path.stat().length} bytes, {MANIFEST} says {files[name]['bytes']}; "
                "copy the folder again"
            )
    for path, digest in sha256s(paths.values()).items():
        if digest != files[path.name]["sha256"]:
            raise ValueError(f"{path}: content differs from {MANIFEST}; copy the folder again")


def sha256s(paths: Collection[epath.Path]) -> dict[epath.Path, str]:
    """Returns the SHA-256 of each file, in hex; READERS of them are read at a time."""
    with concurrent.futures.ThreadPoolExecutor(READERS, "sha256") as pool:
        return dict(zip(paths, pool.map(storage.sha256, paths), strict=True))


# ---------------------------------------------------------------------------- weights
def load(
    folder: epath.PathLike,
    cfg: llama.LlamaConfig,
    shardings: Mapping[str, jax.sharding.Sharding],
    dtype: str,
    grow: Mapping[str, Grow] | None = None,
    rows: int = 0,
    adapter: epath.Path | None = None,
) -> llama.Params:
    """Reads the parameters of a checkpoint, cast to `dtype`; each shard reads its own bytes alone.

    Beside the arrays a host keeps a few pieces of shards.PIECE bytes, and the matrix that is grown.

    Args:
      cfg: the config of the result; `cfg.vocab_size` counts new tokens too.
      grow: "embed_VD", "unembed_DV" -> what turns the old matrix into the new one, both
        with a row a token, float32.
      rows: the old tokenizer's size, where `grow` changes it; more rows than that in the file
        are padding, and are cut.
      adapter: folder of an adapter that is put on the checkpoint and merged, in float32.

    Raises:
      ValueError: files missing, damaged or of another shape; names file and tensor.
    """
    grow, rows = grow or {}, rows or cfg.vocab_size
    with contextlib.ExitStack() as stack:
        tensors = opened(folder, cfg, stack, rows, adapter)

        def source(row: layout.LayoutRow) -> ranges.Read:
            if row.ours not in grow:
                return tensors.read
            matrix = _grown(tensors, row, cfg, grow[row.ours], rows)
            return lambda name, index: matrix[index]

        readers = READERS_REMOTE if storage.is_remote(folder) else READERS
        rows_of = layout.rows(cfg)
        # What grows is in memory twice in float32: it comes first, while few arrays are there.
        first = sorted(rows_of, key=lambda row: row.ours not in grow)
        params = shards.fill(cfg, shardings, dtype, source, readers, first)
        return {row.ours: params[row.ours] for row in rows_of}


def opened(
    folder: epath.PathLike,
    cfg: llama.LlamaConfig,
    stack: contextlib.ExitStack,
    rows: int,
    adapter: epath.Path | None = None,
) -> ranges.Tensors:
    """Opens and verifies the tensors of a checkpoint of this shape with `rows` tokens or more."""
    folder = epath.Path(folder)
    _check_files(folder)
    verify(folder)
    tensors = ranges.open_folder(folder, stack)
    if adapter is not None:
        verify(adapter)
        tensors = peft_read.put(adapter, tensors, cfg, stack)
    _check_tensors(tensors, cfg, folder, rows)
    return tensors


def _grown(tensors: ranges.Tensors, row, cfg, grow: Grow, rows: int) -> np.ndarray:
    old_VD = tensors.read(row.hf, (slice(0, rows), slice(None))).astype(np.float32)
    new_WD = grow(old_VD)
    if new_WD.shape != (cfg.vocab_size, cfg.width):
        raise ValueError(
            f"{row.hf} grew to {new_WD.shape}; the new tokenizer and model want "
            f"{(cfg.vocab_size, cfg.width)}: build the vocabulary again"
        )
    return new_WD


# ---------------------------------------------------------------------------- checks
def _check_tensors(tensors: ranges.Tensors, cfg: llama.LlamaConfig, folder, rows: int) -> None:
    want = layout.tensors(cfg)
    missing = sorted(set(want) - set(tensors.files))
    copies = {HEAD} if cfg.tie_embeddings else set()  # of the embeddings
    extra = sorted(set(tensors.files) - set(want) - copies)
    extra = [name for name in extra if not IGNORED.fullmatch(name)]
    if missing or extra:
        problems = [f"{verb} {some(names)}" for verb, names in
                    (("misses", missing), ("has unknown", extra)) if names]  # fmt: skip
        raise ValueError(
            f"{folder}: the checkpoint {' and '.join(problems)}; is config.json of this model?"
        )
    for name, tensor in want.items():
        shape, want_shape = tensors.shape(name), tensor.shape
        if "V" in tensor.rows[0].letters:
            if shape[0] < rows:
                raise ValueError(
                    f"{folder}: {name} has {shape[0]} rows, but the tokenizer has {rows} pieces; "
                    "this tokenizer is not this model's: give the model's own tokenizer"
                )
            shape, want_shape = shape[1:], want_shape[1:]
        if shape != want_shape:
            raise ValueError(f"{folder}: {name} is {shape}; config.json says {want_shape}")
    if cfg.tie_embeddings and HEAD in tensors.files:
        _check_head(tensors, folder)


def _check_head(tensors: ranges.Tensors, folder: epath.Path) -> None:
    """Refuses a head of its own where config.json says that the embeddings are the head."""
    shape = tensors.shape(HEAD)
    same = shape == tensors.shape(EMBEDDINGS) and all(
        np.array_equal(tensors.read(HEAD, rows), tensors.read(EMBEDDINGS, rows))
        for rows in (
            (slice(start, start + COMPARED), slice(None)) for start in range(0, shape[0], COMPARED)
        )
    )
    if not same:
        raise ValueError(
            f"{folder}: config.json says tie_word_embeddings, but {HEAD} is not {EMBEDDINGS}, and "
            "transformers computes with both; set tie_word_embeddings to false there, or remove "
            f"{HEAD} if the embeddings are meant"
        )


def _check_files(folder: epath.Path) -> None:
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if not names:
        raise ValueError(f"{folder}: no such folder, or an empty one; want a Hugging Face model")
    if WEIGHTS not in names and INDEX not in names:
        if pickles := [name for name in names if name.endswith(PICKLES)]:
            raise ValueError(
                f"{folder}: only pickled weights ({some(pickles)}), which can run code when "
                "read; convert them: AutoModelForCausalLM...save_pretrained(folder)"
            )
        raise ValueError(f"{folder}: no {WEIGHTS} and no {INDEX}; want a Hugging Face model")
    _check_pointers(folder)


def _check_pointers(folder: epath.Path) -> None:
    """Refuses links out of the folder, and what `git clone` leaves where git-lfs is absent."""
    storage.refuse_links_out(folder)
    for path in sorted(folder.iterdir()):
        if path.is_file():  # a pipe too, in epath's eyes
            storage.refuse_endless(path)
        small = path.is_file() and path.stat().length < 1024
        if small and path.read_bytes().startswith(LFS_POINTER):
            raise ValueError(f"{path}: is a git-lfs pointer; run `git lfs pull` there")


def _manifest(folder: epath.Path) -> dict[str, dict[str, Any]]:
    if not (folder / MANIFEST).exists():
        return {}
    data = ranges.read_json(folder / MANIFEST)
    if data.get("format") != FORMAT:
        return {}
    try:
        return {
            name: {"bytes": int(said["bytes"]), "sha256": str(said["sha256"])}
            for name, said in data["files"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise ValueError(
            f"{folder / MANIFEST}: does not say what the files are ({e!r}); copy the folder again"
        ) from None
