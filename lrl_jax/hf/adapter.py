"""Adapters in PEFT's format: what peft saves we read, and what we write it loads.

save(folder, params, cfg, full={"embed_VD"}, base="meta-llama/Llama-2-7b-hf", dtype="float32")
lora, params = read(folder, cfg, mesh, "float32")  # factors, and weights that it replaces whole

A folder holds adapter_config.json and adapter_model.safetensors; pickles are never read.
"""

from collections.abc import Collection, Iterable, Mapping
import contextlib
import dataclasses
import json
import re
from typing import Any

from etils import epath
import jax
import numpy as np

from lrl_jax import mesh as meshes
from lrl_jax.hf import layout, load, shards
from lrl_jax.hf import save as saving
from lrl_jax.hf.tensors import Tensors, open_file, read_json, some
from lrl_jax.model import llama
from lrl_jax.model.lora import Lora, factors

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."  # peft's, before the names of the model itself
COPY = re.compile(r"\.(modules_to_save|original_module)(?=\.)")  # second copies that peft may write

# What we compute; the first is what peft takes where the file is silent.
FIXED: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "fan_in_fan_out": (False,),
    "init_lora_weights": (True, False, "gaussian", "orthogonal", "eva"),  # these keep the base
}
# Says nothing about the arithmetic, or is read below.
KNOWN = frozenset({
    "auto_mapping", "base_model_name_or_path", "ensure_weight_tying", "exclude_modules",
    "inference_mode", "lora_alpha", "lora_dropout", "megatron_core", "modules_to_save",
    "peft_version", "qalora_group_size", "r", "revision", "target_modules", "task_type",
    "use_rslora",
})  # fmt: skip


# ---------------------------------------------------------------------------- export
def save(
    folder: epath.PathLike,
    params: llama.Params,
    cfg: llama.LlamaConfig,
    full: Collection[str],
    base: str,
    dtype: str,
) -> None:
    """Writes the adapters of `params`, and whole the weights named in `full`.

    Every process calls it; process 0 writes. Tensors are written as `hf.save` writes them.

    Args:
      full: trained weights, or those the base has not: peft's `modules_to_save`.
      base: folder or hub id of the model the adapter is put on.

    Raises:
      ValueError: what PEFT's format cannot say; `merged` can.
    """
    tensors, modules = _adapters(cfg), _modules(cfg, full)
    targets = sorted({name.rpartition(".lora_")[0].rpartition(".")[2] for name in tensors})
    for module in sorted({*modules.values()}):
        if module.rpartition(".")[2] in targets:
            raise ValueError(
                f"export.form: adapter: {module} has an adapter and was trained itself too, which "
                "PEFT's format cannot hold; use export.form: merged"
            )
    tensors |= {PREFIX + name: layout.tensors(cfg)[name] for name in modules}
    if cfg.tie_embeddings and "embed_VD" in full:  # peft looks for both names of the one matrix
        tensors[PREFIX + "lm_head.weight"] = layout.tensors(cfg)["model.embed_tokens.weight"]
    folder = epath.Path(folder)
    if jax.process_index() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        config = _config(cfg, targets, sorted({*modules.values()}), base)
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    saving.write_file(folder / WEIGHTS, tensors, params, cfg, dtype)


def _adapters(cfg: llama.LlamaConfig) -> dict[str, layout.Tensor]:
    """peft's tensors of every factor, by name."""
    assert cfg.lora is not None
    out = {}
    for name in cfg.lora.names:
        (row,) = (row for row in layout.rows(cfg) if row.ours == name)
        if len(layout.tensors(cfg)[row.hf.format(l=0)].rows) > 1:
            raise ValueError(
                f"export.form: adapter: {row.hf} holds several of our weights, each with an "
                "adapter of its own, where peft has one; use export.form: merged"
            )
        for l in range(cfg.depth):
            for factor, letter, num_out in zip(factors(name), "AB", (1, row.num_out), strict=True):
                hf = PREFIX + row.hf.replace(".weight", f".lora_{letter}.weight")
                part = layout.Row(factor, hf, num_out)
                shape = layout.hf_shape(part, cfg)
                out[hf.format(l=l)] = layout.Tensor((part,), l, shape)
    return out


def _modules(cfg: llama.LlamaConfig, full: Collection[str]) -> dict[str, str]:
    """Tensors that are saved whole -> the module peft is told; a module goes with all it has."""
    table = layout.tensors(cfg)
    touched = {
        name.rpartition(".")[0]
        for name, tensor in table.items()
        if any(row.ours in full for row in tensor.rows)
    }
    return {
        name: _module(name.rpartition(".")[0])
        for name in table
        if name.rpartition(".")[0] in touched
    }


def _module(path: str) -> str:
    """What peft matches a module by, which is the end of its path.

    >>> _module("model.layers.3.self_attn.q_proj"), _module("lm_head"), _module("model.norm")
    ('self_attn.q_proj', 'lm_head', 'model.norm')
    """
    if path.endswith("embed_tokens"):
        return "embed_tokens"  # as everybody calls it
    return re.sub(r"^model\.layers\.\d+\.", "", path)


def _config(
    cfg: llama.LlamaConfig, targets: list[str], modules: list[str], base: str
) -> dict[str, Any]:
    assert cfg.lora is not None
    alpha = cfg.lora.alpha
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": cfg.lora.rank,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "use_rslora": cfg.lora.rank_stabilised,
        "target_modules": targets,
        "modules_to_save": modules or None,
        "ensure_weight_tying": cfg.tie_embeddings and "embed_tokens" in modules,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }


# ---------------------------------------------------------------------------- import
def read(
    folder: epath.PathLike, cfg: llama.LlamaConfig, mesh: jax.sharding.Mesh, dtype: str
) -> tuple[Lora, llama.Params]:
    """What an adapter changes of a model: factors, and the weights it replaces whole.

    Args:
      cfg: of the model it is put on.
      dtype: of the weights it replaces; factors are float32.

    Raises:
      ValueError: another method than LoRA, tensors that are missing, of another shape, or that
        we do not know.
    """
    folder = epath.Path(folder)
    config = read_config(folder)
    if not (folder / WEIGHTS).exists():
        raise ValueError(
            f"{folder}: no {WEIGHTS}; pickled adapters are not read, for they can run code: "
            "save it again with a newer peft"
        )
    with contextlib.ExitStack() as stack:
        file = open_file(folder / WEIGHTS, stack)
        tensors = Tensors(dict.fromkeys(file.places, file))
        have = _without_copies(tensors)
        if not any(".lora_" in name for name in have):
            raise ValueError(f"{folder / WEIGHTS}: holds no adapter")
        lora = _lora(config, [row.ours for row in _adapted(have, cfg)])
        cfg = dataclasses.replace(cfg, lora=lora)
        wanted, whole = _adapters(cfg), _whole(have, cfg)
        _check(folder, tensors, have, wanted, whole)
        places = meshes.param_shardings(cfg, mesh)
        params = {}
        for name in lora.names:
            for factor in factors(name):
                layers = [_factor(tensors, have, wanted, factor, l, cfg) for l in range(cfg.depth)]
                params[factor] = _placed(np.stack(layers), places[factor])
        rows = {row.ours: row for tensor in whole.values() for row in tensor.rows}
        params |= shards.fill(
            cfg, places, dtype, lambda _: lambda name, index: tensors.read(have[name], index),
            load.READERS, [*rows.values()],
        )  # fmt: skip
    return lora, params


def read_config(folder: epath.PathLike) -> dict[str, Any]:
    """`adapter_config.json`, of a LoRA that is nothing more.

    Raises:
      ValueError: names the key, what it says, and what is allowed.
    """
    path = epath.Path(folder) / CONFIG
    config = read_json(path)
    for key, allowed in FIXED.items():
        got = config.get(key, allowed[0])
        if got not in allowed:
            want = " or ".join(map(repr, allowed))
            raise ValueError(f"{path}: {key}={got!r} is not supported; want {want}")
    for key, value in config.items():
        if key not in KNOWN and key not in FIXED and value not in (None, False, 0, "", [], {}):
            raise ValueError(
                f"{path}: {key}={value!r} is not supported; plain LoRA has nothing there. Merge "
                "the adapter with peft (merge_and_unload) and begin with the merged model"
            )
    if not isinstance(config.get("r"), int) or config["r"] < 1:
        raise ValueError(f"{path}: r={config.get('r')!r}; want the rank, 1 or more")
    return config


def _lora(config: Mapping[str, Any], names: list[str]) -> Lora:
    return Lora(
        names=tuple(names),
        rank=config["r"],
        alpha=float(config.get("lora_alpha", 8)),  # peft's default
        rank_stabilised=bool(config.get("use_rslora")),
    )


def _without_copies(tensors: Tensors) -> dict[str, str]:
    """The model's name of each tensor, without peft's prefix -> its name in the file.

    Of a module it wrapped peft may save second copies, `original_module` being the untrained one.
    """
    out: dict[str, str] = {}
    for name in sorted(tensors.files, key=lambda name: len(COPY.findall(name)), reverse=True):
        if ".original_module." not in name:
            out[COPY.sub("", name.removeprefix(PREFIX))] = name  # the plain name comes last
    return out


def _adapted(have: Iterable[str], cfg: llama.LlamaConfig) -> list[layout.Row]:
    """Rows of the weights with an adapter in some layer."""
    stems = {re.sub(r"\.\d+\.", ".{l}.", n).partition(".lora_")[0] for n in have if ".lora_" in n}
    return [
        row
        for row in layout.rows(cfg)
        if row.hf.removesuffix(".weight") in stems and row.hf.endswith(".weight")
    ]


def _whole(have: Collection[str], cfg: llama.LlamaConfig) -> dict[str, layout.Tensor]:
    """The model's tensors that the file has itself; one of a layer means those of all layers."""
    table = layout.tensors(cfg)
    rows = {tensor.rows for name, tensor in table.items() if name in have}
    return {name: tensor for name, tensor in table.items() if tensor.rows in rows}


def _check(
    folder: epath.Path,
    tensors: Tensors,
    have: Mapping[str, str],
    wanted: Mapping[str, layout.Tensor],
    whole: Mapping[str, layout.Tensor],
) -> None:
    want = {name.removeprefix(PREFIX): tensor for name, tensor in wanted.items()} | dict(whole)
    tied = {"lm_head.weight"} if "lm_head.weight" not in want else set()
    if tied & set(have):
        _check_tied(folder, tensors, have)
    unknown = sorted(set(have) - set(want) - tied)
    if unknown:
        raise ValueError(
            f"{folder / WEIGHTS}: {some(unknown)} {'are' if len(unknown) > 1 else 'is'} of no "
            "module that can have an adapter here; those are "
            "q, k, v, o, gate, up and down projections of every layer"
        )
    missing = sorted(set(want) - set(have))
    if missing:
        raise ValueError(f"{folder / WEIGHTS}: {some(missing)} missing; save the adapter again")
    for name, tensor in want.items():
        got = tensors.shape(have[name])
        if got != tensor.shape:
            raise ValueError(
                f"{folder / WEIGHTS}: {name} is {got}; {CONFIG} and the model say {tensor.shape}"
            )


def _check_tied(folder: epath.Path, tensors: Tensors, have: Mapping[str, str]) -> None:
    """A model with tied embeddings has one matrix: two that differ cannot both be it."""
    names = ("lm_head.weight", "model.embed_tokens.weight")
    both = [tensors.read(have[n], (slice(None),) * 2) for n in names if n in have]
    if len(both) < 2 or not np.array_equal(both[0], both[1]):
        raise ValueError(
            f"{folder / WEIGHTS}: holds an lm_head that is not its embed_tokens, but the model "
            "ties the two; untie the base, or train the adapter with ensure_weight_tying"
        )


def _factor(tensors, have, wanted, factor: str, l: int, cfg: llama.LlamaConfig) -> np.ndarray:
    """One layer of a factor, float32."""
    name, row = next(
        (name.removeprefix(PREFIX), tensor.rows[0])
        for name, tensor in wanted.items()
        if tensor.l == l and tensor.rows[0].ours == factor
    )
    w = tensors.read(have[name], (slice(None), slice(None))).astype(np.float32)
    return layout.to_ours(w, row, llama.shape(factor, cfg)[1:])


def _placed(w: np.ndarray, place: jax.sharding.Sharding) -> jax.Array:
    return jax.make_array_from_callback(w.shape, place, lambda index: w[index])
