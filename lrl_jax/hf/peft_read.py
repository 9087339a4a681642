"""Reads a checkpoint with an adapter on it: of a weight W it gives W + scale B A.

    tensors = put(folder, open_folder(base, stack), cfg, stack)
    tensors.read("model.layers.0.self_attn.q_proj.weight", (slice(0, 128), slice(0, 4096)))

Adapters lie in PEFT's format: a folder with adapter_config.json and adapter_model.safetensors;
pickles are never read. The sum is made in float32 of the pieces that are asked for.
"""

from collections.abc import Callable, Collection, Mapping
import contextlib
import dataclasses
import functools
import math
import re
from typing import Any

from etils import epath
import numpy as np

from lrl_jax import storage
from lrl_jax.hf import layout
from lrl_jax.hf.safetensors_ranges import Index, Tensors, open_file, read_json, some
from lrl_jax.model import llama
from lrl_jax.model.lora import LoraConfig

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."  # peft's, before the names of the model itself
WRAPPED = re.compile(r"\.(modules_to_save|original_module|base_layer)(?=\.)")  # peft's, in names
FACTOR = re.compile(r"(.+)\.lora_[AB]\.weight")
EMBEDDINGS = "embed_tokens.weight"
MAX_RANK = 1 << 16  # above the width of any model

# What we compute; the first is what peft takes where the file is silent.
FIXED: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "fan_in_fan_out": (False,),
    "init_lora_weights": (True, False, "gaussian", "orthogonal", "eva"),  # these keep the base
}
# Keys that say nothing about the arithmetic, or are read below.
ALLOWED = frozenset({
    "auto_mapping", "base_model_name_or_path", "ensure_weight_tying", "exclude_modules",
    "inference_mode", "lora_alpha", "lora_dropout", "megatron_core", "modules_to_save",
    "peft_version", "qalora_group_size", "r", "revision", "target_modules", "task_type",
    "use_rslora",
})  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Adapted(Tensors):
    """Gives the base's tensors, changed as they are read."""

    adapter: Tensors  # factors, and tensors that stand in place of the base's
    names: Mapping[str, str]  # the model's name of each of these -> its name in the adapter's file
    scale: float  # what a product of factors is multiplied by

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of a tensor; an adapter may bring embeddings with more rows."""
        if name in self.names:
            return self.adapter.shape(self.names[name])
        return super().shape(name)

    def read(self, name: str, index: Index) -> np.ndarray:
        """Reads a region of a tensor with its adapter added, one slice a dimension."""
        replaced = name in self.names
        w = self.adapter.read(self.names[name], index) if replaced else super().read(name, index)
        first, second = factors(name)
        if first not in self.names:
            return w
        rows, columns = index
        product = self._factor(second)[rows] @ self._factor(first)[:, columns]
        return w.astype(np.float32) + np.float32(self.scale) * product

    @functools.cached_property
    def _factor(self) -> Callable[[str], np.ndarray]:
        """Reads a whole factor in float32; keeps a few, as a weight is read in many pieces."""

        @functools.lru_cache(16)
        def read(name: str) -> np.ndarray:
            w = self.adapter.read(self.names[name], (slice(None), slice(None)))
            return w.astype(np.float32)

        return read


def factors(name: str) -> tuple[str, str]:
    """Returns the names of the factors A [r, in] and B [out, r] of a weight [out, in].

    >>> factors("model.layers.0.mlp.up_proj.weight")
    ('model.layers.0.mlp.up_proj.lora_A.weight', 'model.layers.0.mlp.up_proj.lora_B.weight')
    """
    stem = name.removesuffix(".weight")
    return f"{stem}.lora_A.weight", f"{stem}.lora_B.weight"


def put(
    folder: epath.Path, base: Tensors, cfg: llama.LlamaConfig, stack: contextlib.ExitStack
) -> Adapted:
    """Returns a base with the adapter in `folder` on it; `cfg` may count more or fewer tokens.

    Raises:
      ValueError: another method than LoRA, tensors that are missing, of another shape, or of
        modules that cannot have an adapter here.
    """
    config, adapter = read_config(folder), _opened(folder, stack)
    names = _without_copies(adapter)
    if not any(map(FACTOR.fullmatch, names)):
        raise ValueError(f"{folder / WEIGHTS}: holds no adapter")
    if cfg.tie_embeddings and "lm_head.weight" in names:
        _check_tied(folder, adapter, names)
        del names["lm_head.weight"]
    _check_names(folder, names, cfg)
    lora = LoraConfig(
        names=(),  # they are in the file
        rank=config["r"],
        alpha=float(config.get("lora_alpha", 8)),  # peft's default
        rank_stabilised=bool(config.get("use_rslora")),
    )
    adapted = Adapted(base.files, adapter, names, lora.scale)
    _check_shapes(folder, adapted, lora.rank, cfg)
    return adapted


def read_config(folder: epath.PathLike) -> dict[str, Any]:
    """Reads `adapter_config.json`; raises ValueError for what is more than plain LoRA."""
    path = epath.Path(folder) / CONFIG
    if not path.exists():
        raise ValueError(f"{path}: no such file; want the folder of an adapter, as peft saves it")
    config = read_json(path)
    for key, allowed in FIXED.items():
        value = config.get(key, allowed[0])
        if value not in allowed:
            want = " or ".join(map(repr, allowed))
            raise ValueError(f"{path}: {key}={value!r} is not supported; want {want}")
    for key, value in config.items():
        if key not in ALLOWED and key not in FIXED and value not in (None, False, 0, "", [], {}):
            raise ValueError(
                f"{path}: {key}={value!r} is not supported; plain LoRA has nothing there. Merge "
                "the adapter with peft (merge_and_unload) and begin with the merged model"
            )
    rank = config.get("r")
    if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= MAX_RANK:
        raise ValueError(f"{path}: r={rank!r:.60}; want the rank, 1 to {MAX_RANK:,}")
    alpha = config.get("lora_alpha", 8)
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not math.isfinite(alpha):
        raise ValueError(f"{path}: lora_alpha={alpha!r:.60}; want a number")
    return config


def note(folder: epath.PathLike) -> str:
    """Describes an adapter in words."""
    config = read_config(folder)
    return f"an adapter of rank {config['r']} for {config.get('base_model_name_or_path')}, merged"


def vocab_size(folder: epath.Path) -> int | None:
    """Returns how many rows an adapter's own embeddings have; None if it brings none."""
    with contextlib.ExitStack() as stack:
        adapter = _opened(folder, stack)
        names = _without_copies(adapter).items()
        sizes = [adapter.shape(file)[0] for name, file in names if name.endswith(EMBEDDINGS)]
        return sizes[0] if sizes else None


def _opened(folder: epath.Path, stack: contextlib.ExitStack) -> Tensors:
    if not (folder / WEIGHTS).exists():
        raise ValueError(
            f"{folder}: no {WEIGHTS}; pickled adapters are not read, for they can run code: "
            "save it again with a newer peft"
        )
    file = open_file(storage.within(folder, WEIGHTS), stack)
    return Tensors(dict.fromkeys(file.places, file))


def _without_copies(tensors: Tensors) -> dict[str, str]:
    """Returns the model's name of each tensor, without peft's prefix -> its name in the file.

    Of a module it wrapped peft may save second copies, `original_module` being the untrained one,
    and `base_layer` the weight under factors.
    """
    out: dict[str, str] = {}
    for name in sorted(tensors.files, key=lambda name: len(WRAPPED.findall(name)), reverse=True):
        if ".original_module." not in name:
            out[WRAPPED.sub("", name.removeprefix(PREFIX))] = name  # the plain name comes last
    return out


# ---------------------------------------------------------------------------- checks
def _check_names(folder: epath.Path, names: Collection[str], cfg: llama.LlamaConfig) -> None:
    allowed = {*layout.tensors(cfg)}
    for name, tensor in layout.tensors(cfg).items():
        if len(tensor.shape) == 2 and not name.endswith(EMBEDDINGS):
            allowed |= {*factors(name)}
    if unknown := sorted(set(names) - allowed):
        raise ValueError(
            f"{folder / WEIGHTS}: {some(unknown)} {'are' if len(unknown) > 1 else 'is'} of no "
            "module that can have an adapter here; those are the head, and "
            "q, k, v, o, gate, up and down projections of every layer"
        )
    wanted = set()
    for name in names:
        factor = FACTOR.fullmatch(name)
        for needed in factors(factor[1]) if factor else (name,):  # in each layer, if in any
            wanted |= {re.sub(r"\.\d+\.", f".{l}.", needed) for l in range(cfg.depth)}
    if missing := sorted(wanted - set(names)):
        raise ValueError(f"{folder / WEIGHTS}: {some(missing)} missing; save the adapter again")


def _check_shapes(folder: epath.Path, adapted: Adapted, rank: int, cfg: llama.LlamaConfig) -> None:
    """Compares shapes, but for the number of tokens: `load` compares that with the tokenizer."""
    for name, tensor in layout.tensors(cfg).items():
        vocabulary, shape = "V" in tensor.rows[0].letters, tensor.shape
        if vocabulary and name in adapted.files:
            shape = (adapted.shape(name)[0], *shape[1:])
        wanted = {name: shape}
        if len(shape) == 2:
            wanted |= dict(zip(factors(name), ((rank, shape[1]), (shape[0], rank)), strict=True))
        for tensor_name in filter(adapted.names.__contains__, wanted):
            got, want = adapted.adapter.shape(adapted.names[tensor_name]), wanted[tensor_name]
            if got != want:
                raise ValueError(
                    f"{folder / WEIGHTS}: {tensor_name} is {got}; {CONFIG} and the model say {want}"
                )


def _check_tied(folder: epath.Path, adapter: Tensors, names: Mapping[str, str]) -> None:
    """Refuses two matrices that differ for the one of a model with tied embeddings."""
    tied = ("lm_head.weight", "model.embed_tokens.weight")
    matrices = [adapter.read(names[n], (slice(None),) * 2) for n in tied if n in names]
    if len(matrices) < 2 or not np.array_equal(matrices[0], matrices[1]):
        raise ValueError(
            f"{folder / WEIGHTS}: holds an lm_head that is not its embed_tokens, but the model "
            "ties the two; untie the base, or train the adapter with ensure_weight_tying"
        )
