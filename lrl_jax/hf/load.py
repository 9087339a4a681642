"""Reads a Hugging Face Llama folder straight into sharded arrays, one tensor at a time.

    folder = resolve(recipe.base)
    cfg = layout.config_from_hf(read_config(folder), dtype="bfloat16")
    params = load(folder, cfg, mesh.param_shardings(cfg, m), "float32")

Only safetensors and JSON are read: no pickle, no code from the folder, no path outside it.
"""

from collections.abc import Callable, Mapping
import contextlib
import functools
import hashlib
import json
import re
from typing import Any

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np
import safetensors

from lrl_jax import recipe
from lrl_jax.hf import layout
from lrl_jax.model import llama
from lrl_jax.text import LFS_POINTER

Grow = Callable[[np.ndarray], np.ndarray]

MANIFEST = "manifest.json"
FORMAT = "lrl_jax export 1"  # what our manifests say they are
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = (".bin", ".pth", ".pt", ".pkl", ".ckpt")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
HUB_FILES = (
    "*.safetensors", "*.safetensors.index.json", "*config.json", "tokenizer*",
    "special_tokens_map.json", "chat_template.jinja", "LICENSE*",
)  # fmt: skip
# Tensors other tools write and no Llama needs: tables of old conversions.
IGNORED = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")


def resolve(base: recipe.Pretrained) -> epath.Path:
    """The folder of a base model: local, gs://, or a snapshot of a hub repository.

    Raises:
      ValueError: no such model, or no safetensors in it.
    """
    folder = epath.Path(base.model)
    if not folder.is_dir():
        if not HUB_ID.fullmatch(base.model):
            raise ValueError(f"{base.model}: no such folder; want a folder, gs:// or a hub id")
        folder = _snapshot(base)
    _check_files(folder)
    return folder


def _snapshot(base: recipe.Pretrained) -> epath.Path:
    import huggingface_hub

    try:
        return epath.Path(
            huggingface_hub.snapshot_download(
                base.model, revision=base.revision, allow_patterns=list(HUB_FILES)
            )
        )
    except Exception as e:  # the hub client's errors have many bases; each is the user's to fix
        line = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
        raise ValueError(
            f"{base.model}: neither a folder here nor a hub repository that can be read "
            f"(revision {base.revision}): {line}. Gated models need `hf auth login`; offline, "
            "give a folder"
        ) from None


def read_config(folder: epath.PathLike) -> dict[str, Any]:
    """`config.json` as plain data."""
    return _read_json(epath.Path(folder) / "config.json")


def source_note(folder: epath.PathLike) -> str:
    """Whether `load` can tell a flipped bit in this folder from a weight."""
    if _manifest(epath.Path(folder)):
        return f"verified against {MANIFEST}"
    return f"unverified source: {folder} has no {MANIFEST} of ours; a flipped bit goes unseen"


def verify(folder: epath.PathLike) -> None:
    """Compares every file with the folder's manifest, when it has one of ours.

    Raises:
      ValueError: a file is missing, of another size, or of another content.
    """
    folder = epath.Path(folder)
    for name, want in _manifest(folder).items():
        path = _inside(folder, name, MANIFEST)
        if not path.exists():
            raise ValueError(f"{path}: missing, but {MANIFEST} lists it; copy the folder again")
        if path.stat().length != want["bytes"]:
            raise ValueError(
                f"{path}: {path.stat().length} bytes, {MANIFEST} says {want['bytes']}; "
                "copy the folder again"
            )
        if sha256(path) != want["sha256"]:
            raise ValueError(f"{path}: content differs from {MANIFEST}; copy the folder again")


def sha256(path: epath.PathLike) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with epath.Path(path).open("rb") as f:
        while block := f.read(1 << 24):
            digest.update(block)
    return digest.hexdigest()


# ---------------------------------------------------------------------------- weights
def load(
    folder: epath.PathLike,
    cfg: llama.LlamaConfig,
    shardings: Mapping[str, jax.sharding.Sharding],
    dtype: str,
    grow: Mapping[str, Grow] | None = None,
    rows: int = 0,
) -> llama.Params:
    """The parameters of a checkpoint, cast to `dtype`, each shard read from its own bytes.

    A host holds, beyond the arrays, one shard (for a grown matrix: the matrix) at a time.

    Args:
      cfg: the config of the result; `cfg.vocab_size` counts new tokens too.
      shardings: of every parameter, as `mesh.param_shardings` gives them.
      grow: "embed_VD", "unembed_DV" -> what turns the old matrix into the new one, both
        with a row a token, float32.
      rows: the old tokenizer's size, where `grow` changes it; more rows than that in the file
        are padding, and are cut.

    Raises:
      ValueError: files missing, damaged or of another shape; names file and tensor.
    """
    folder = epath.Path(folder)
    _check_files(folder)
    verify(folder)
    grow = grow or {}
    with contextlib.ExitStack() as stack:
        tensors = _open(folder, stack)
        _check_tensors(tensors, cfg, folder, rows or cfg.vocab_size)
        params = {}
        for row in layout.rows(cfg):
            read = tensors.read
            if row.ours in grow:
                matrix = _grown(tensors, row, cfg, grow[row.ours], rows or cfg.vocab_size)
                read = functools.partial(_region, matrix)
            params[row.ours] = _assemble(row, cfg, shardings[row.ours], dtype, read)
    return params


class Tensors:
    """Tensor name -> region of it, over all files of a checkpoint."""

    def __init__(self, files: dict[str, Any]):
        self.files = files  # tensor name -> open safetensors file

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.files[name].get_slice(name).get_shape())

    def read(self, name: str, index: layout.Index) -> np.ndarray:
        return np.asarray(self.files[name].get_slice(name)[index])


def _assemble(row, cfg, sharding, dtype, read) -> jax.Array:
    """A sharded array of which no host ever holds more than one shard beyond the array."""
    shape = llama.shape(row.ours, cfg)
    devices: dict[tuple, list] = {}
    for device, index in sharding.addressable_devices_indices_map(shape).items():
        key = tuple(s.indices(n)[:2] for s, n in zip(index, shape, strict=True))
        devices.setdefault(key, []).append(device)
    shards = []
    for key, owners in devices.items():
        index = tuple(slice(*bounds) for bounds in key)
        shard = _shard(row, cfg, index, read, jnp.dtype(dtype))
        shards += [jax.device_put(shard, device, may_alias=False) for device in owners]
    return jax.make_array_from_single_device_arrays(shape, sharding, shards)


def _shard(row, cfg, index, read, dtype) -> np.ndarray:
    """The part `index` of our array; padding rows of the vocabulary are zero."""
    out = np.zeros(tuple(s.stop - s.start for s in index), dtype)
    layers = range(index[0].start, index[0].stop) if row.stacked else (0,)
    inside = tuple(
        slice(min(s.start, cfg.vocab_size), min(s.stop, cfg.vocab_size)) if letter == "V" else s
        for letter, s in zip(row.letters, index[row.stacked :], strict=True)
    )
    shape = tuple(s.stop - s.start for s in inside)
    if 0 in shape:  # nothing but padding
        return out
    region = layout.hf_region(row, inside, cfg)
    filled = tuple(slice(0, n) for n in shape)
    for i, l in enumerate(layers):
        layer = out[i] if row.stacked else out
        layer[filled] = layout.to_ours(read(row.hf.format(l=l), region), row, shape)
    return out


def _region(matrix: np.ndarray, name: str, index: layout.Index) -> np.ndarray:
    del name
    return matrix[index]


def _grown(tensors: Tensors, row, cfg, grow: Grow, rows: int) -> np.ndarray:
    old_VD = tensors.read(row.hf, (slice(0, rows), slice(None))).astype(np.float32)
    new_WD = grow(old_VD)
    if new_WD.shape != (cfg.vocab_size, cfg.width):
        raise ValueError(
            f"{row.hf} grew to {new_WD.shape}; the new tokenizer and model want "
            f"{(cfg.vocab_size, cfg.width)}: build the vocabulary again"
        )
    return new_WD


# ---------------------------------------------------------------------------- checks
def _check_tensors(tensors: Tensors, cfg: llama.LlamaConfig, folder, rows: int) -> None:
    want = layout.tensors(cfg)
    missing = sorted(set(want) - set(tensors.files))
    extra = sorted(set(tensors.files) - set(want))
    extra = [name for name in extra if not IGNORED.fullmatch(name)]
    if cfg.tie_embeddings:
        extra = [name for name in extra if name != "lm_head.weight"]  # a copy of the embeddings
    if missing or extra:
        parts = [f"{word} {_some(names)}" for word, names in
                 (("misses", missing), ("has unknown", extra)) if names]  # fmt: skip
        raise ValueError(
            f"{folder}: the checkpoint {' and '.join(parts)}; is config.json of this model?"
        )
    for name, (row, _) in want.items():
        got, shape = tensors.shape(name), layout.hf_shape(row, cfg)
        if "V" in row.letters:
            _check_vocabulary(folder, name, got, rows)
            got, shape = got[1:], shape[1:]
        if got != shape:
            raise ValueError(f"{folder}: {name} is {got}; config.json says {shape}")


def _check_vocabulary(folder, name: str, got: tuple[int, ...], rows: int) -> None:
    if got[0] < rows:
        raise ValueError(
            f"{folder}: {name} has {got[0]} rows, but the tokenizer has {rows} pieces; "
            "this tokenizer is not this model's: give the model's own tokenizer"
        )


def _open(folder: epath.Path, stack: contextlib.ExitStack) -> Tensors:
    """Every tensor of the checkpoint, by name; the index's own names are not trusted."""
    if not (folder / INDEX).exists():
        file = _open_file(folder / WEIGHTS, stack)
        return Tensors(dict.fromkeys(file.keys(), file))
    weight_map = _read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{folder / INDEX}: has no weight_map; copy the folder again")
    files = {}
    for name in sorted(set(weight_map.values())):
        path = _inside(folder, name, INDEX)
        if not path.exists():
            raise ValueError(f"{path}: missing, but {INDEX} lists it; copy the folder again")
        files[name] = _open_file(path, stack)
    held = {name: set(file.keys()) for name, file in files.items()}
    lost = sorted(tensor for tensor, name in weight_map.items() if tensor not in held[name])
    if lost:
        raise ValueError(f"{folder / INDEX}: lists {_some(lost)}, which its file does not hold")
    return Tensors({tensor: files[name] for name in held for tensor in held[name]})


def _open_file(path: epath.Path, stack: contextlib.ExitStack) -> Any:
    local = path
    if "://" in str(path):  # safetensors maps local files only
        import tempfile

        local = epath.Path(stack.enter_context(tempfile.TemporaryDirectory())) / path.name
        path.copy(local)
    try:
        return stack.enter_context(safetensors.safe_open(str(local), framework="np"))
    except safetensors.SafetensorError as e:
        raise ValueError(f"{path}: damaged or cut short ({e}); fetch it again") from None


def _check_files(folder: epath.Path) -> None:
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if not names:
        raise ValueError(f"{folder}: no such folder, or an empty one; want a Hugging Face model")
    if WEIGHTS not in names and INDEX not in names:
        pickles = [name for name in names if name.endswith(PICKLES)]
        if pickles:
            raise ValueError(
                f"{folder}: only pickled weights ({_some(pickles)}), which can run code when "
                "read; convert them: AutoModelForCausalLM...save_pretrained(folder)"
            )
        raise ValueError(f"{folder}: no {WEIGHTS} and no {INDEX}; want a Hugging Face model")
    for name in names:
        path = folder / name
        if path.is_file() and path.stat().length < 1024:
            with path.open("rb") as f:
                if f.read(len(LFS_POINTER)) == LFS_POINTER:
                    raise ValueError(f"{path}: is a git-lfs pointer; run `git lfs pull` there")


def _manifest(folder: epath.Path) -> dict[str, dict[str, Any]]:
    if not (folder / MANIFEST).exists():
        return {}
    data = _read_json(folder / MANIFEST)
    return data["files"] if data.get("format") == FORMAT else {}


def _inside(folder: epath.Path, name: Any, where: str) -> epath.Path:
    """A file of the folder itself: a name with a path in it could lead outside."""
    if not isinstance(name, str) or not re.fullmatch(r"[\w-][\w.-]*", name):
        raise ValueError(f"{folder / where}: names {name!r}; want plain names of its own files")
    return folder / name


def _read_json(path: epath.Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; want a Hugging Face model folder") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as e:
        raise ValueError(f"{path}: not JSON ({e}); fetch it again") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path}: want a JSON object, got a {type(data).__name__}")
    return data


def _some(names: list[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
