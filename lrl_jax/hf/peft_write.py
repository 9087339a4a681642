"""Writes adapters in PEFT's format, which peft loads; `peft_read` reads them.

save(folder, params, cfg, full={"embed_VD"}, base="meta-llama/Llama-2-7b-hf", dtype="float32")
"""

from collections.abc import Collection
import re
from typing import Any

from etils import epath
import jax

from lrl_jax.hf import layout, peft_read
from lrl_jax.hf import save as saving
from lrl_jax.hf.peft_read import CONFIG, PREFIX, WEIGHTS
from lrl_jax.model import llama
from lrl_jax.model.lora import factors


def save(
    folder: epath.PathLike,
    params: llama.Params,
    cfg: llama.LlamaConfig,
    full: Collection[str],
    base: str,
    dtype: str,
) -> None:
    """Writes the adapters of `params`, and whole the weights named in `full`.

    Every process calls it; process 0 writes. Raises ValueError for what PEFT's format cannot say.

    Args:
      full: trained weights, or those the base has not: peft's `modules_to_save`.
      base: folder or hub id of the model the adapter is put on.
    """
    refuse_unfit(cfg, full)
    tensors, modules = _adapters(cfg), _modules(cfg, full)
    targets, whole = _targets(tensors), sorted({*modules.values()})
    tensors |= {PREFIX + name: layout.tensors(cfg)[name] for name in modules}
    if cfg.tie_embeddings and "embed_VD" in full:  # peft looks for both names of the one matrix
        tensors[PREFIX + "lm_head.weight"] = layout.tensors(cfg)["model.embed_tokens.weight"]
    folder = epath.Path(folder)
    if jax.process_index() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        saving.write_json(folder / CONFIG, _config(cfg, targets, whole, base))
    saving.write_file(folder / WEIGHTS, tensors, params, cfg, dtype)


def refuse_unfit(cfg: llama.LlamaConfig, full: Collection[str]) -> None:
    """Raises ValueError for adapters and whole weights that PEFT's format cannot hold together."""
    targets = _targets(_adapters(cfg))
    for module in sorted({*_modules(cfg, full).values()}):
        if module.rpartition(".")[2] in targets:
            raise ValueError(
                f"export.form: adapter: {module} has an adapter and is trained itself too, which "
                "PEFT's format cannot hold; use export.form: merged, or train its adapter alone"
            )


def _targets(tensors: Collection[str]) -> list[str]:
    """Returns the last names of the modules that have adapters."""
    return sorted({name.rpartition(".lora_")[0].rpartition(".")[2] for name in tensors})


def _adapters(cfg: llama.LlamaConfig) -> dict[str, layout.Tensor]:
    """Returns peft's tensors of every factor, by name."""
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
            theirs = peft_read.factors(PREFIX + row.hf)
            for factor, hf, num_out in zip(factors(name), theirs, (1, row.num_out), strict=True):
                factor_row = layout.LayoutRow(factor, hf, num_out)
                shape = layout.hf_shape(factor_row, cfg)
                out[hf.format(l=l)] = layout.Tensor((factor_row,), l, shape)
    return out


def _modules(cfg: llama.LlamaConfig, full: Collection[str]) -> dict[str, str]:
    """Returns tensor -> module as peft calls it, of all tensors of modules that are saved whole."""
    table = layout.tensors(cfg)
    paths = {name: name.rpartition(".")[0] for name in table}
    touched = {paths[name] for name, t in table.items() if any(r.ours in full for r in t.rows)}
    return {name: _module(path) for name, path in paths.items() if path in touched}


def _module(path: str) -> str:
    """Returns what peft matches a module by, which is the end of its path.

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
