"""Lists the model families we compute and what their `config.json` means; one row a family.

    cfg = config_from_hf(read_config(folder), dtype="bfloat16")
    config = config_to_hf(read_config(folder), cfg, dtype="bfloat16")

A family is a value of `LlamaConfig` and a few names: there is one decoder. Adding one is a row here
and, where its arithmetic is new, a field there (docs/decisions/0010-families.md).
"""

from collections.abc import Callable
import dataclasses
import math
from typing import Any

from lrl_jax.hf import rotary
from lrl_jax.model.config import Dtype, LlamaConfig
from lrl_jax.model.remat import Remat
from lrl_jax.storage import Json

# Field of LlamaConfig -> key of config.json, in every family.
COMMON = {
    "vocab_size": "vocab_size", "width": "hidden_size", "depth": "num_hidden_layers",
    "mlp_width": "intermediate_size", "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads", "head_width": "head_dim", "norm_eps": "rms_norm_eps",
    "tie_embeddings": "tie_word_embeddings",
}  # fmt: skip
# The largest values that can be true of a field, far above those of any published model. What they
# bound is what we build of a config before its weights are seen.
LARGEST = {
    "vocab_size": 1 << 24, "width": 1 << 18, "depth": 1 << 12, "mlp_width": 1 << 22,
    "num_heads": 1 << 14, "num_kv_heads": 1 << 14, "head_width": 1 << 14,
}  # fmt: skip
REQUIRED = ("vocab_size", "width", "depth", "mlp_width", "num_heads")
SILENT: dict[str, Any] = {"rms_norm_eps": 1e-6, "tie_word_embeddings": False}
NUMBERS = (
    "rms_norm_eps", "rope_theta", "rope_local_base_freq", "query_pre_attn_scalar",
    "attn_logit_softcapping", "final_logit_softcapping",
)  # fmt: skip
POSITIONS, MOST_POSITIONS = "max_position_embeddings", 1 << 31
Fixed = dict[str, tuple[Any, ...]]
SILU: Fixed = {"hidden_act": ("silu", "swish")}
# Gemma 1 says gelu and means the other.
GELU: Fixed = {"hidden_act": ("gelu_pytorch_tanh", "gelu")}
GELU_2: Fixed = {"hidden_activation": ("gelu_pytorch_tanh",)}
ONE_WAY: Fixed = {"attention_bias": (False,), "use_bidirectional_attention": (None, False)}
NORM = "model.layers.{l}.%s_layernorm.weight"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """Describes what a `model_type` of transformers means."""

    architecture: str  # its class in transformers
    ours: dict[str, Any] = dataclasses.field(default_factory=dict)  # of LlamaConfig, in all models
    keys: dict[str, str] = dataclasses.field(default_factory=dict)  # field -> key, beside COMMON
    silent: dict[str, Any]  # what transformers takes where config.json is silent
    fixed: Fixed  # the only values we compute of a key, HF's default first
    # Whether layer l is local, where there is a `sliding_window` and no `layer_types`; None: the
    # family has no windows.
    local: Callable[[int, Json], bool] | None = None
    rope: rotary.Spelling = dataclasses.field(default_factory=rotary.Spelling)
    # Our parameter -> HF's tensor, where the checkpoint differs from Llama's.
    tensors: dict[str, str] = dataclasses.field(default_factory=dict)


_LLAMA = Family(
    architecture="LlamaForCausalLM",
    silent=SILENT,
    fixed=SILU | {"attention_bias": (False,), "mlp_bias": (False,)},
)
_QWEN2 = Family(
    architecture="Qwen2ForCausalLM",
    ours=dict(qkv_bias=True),
    silent=SILENT
    | {"num_key_value_heads": 32, "use_sliding_window": False, "sliding_window": 4096}
    | {"max_window_layers": 28},
    fixed=SILU,
    local=lambda l, hf: l >= hf["max_window_layers"],
)
_GEMMA = Family(
    architecture="GemmaForCausalLM",
    ours=dict(centred_norms=True, scaled_embedding=True, activation="gelu_tanh"),
    silent=SILENT | {"num_key_value_heads": 16, "head_dim": 256, "tie_word_embeddings": True},
    fixed=GELU | ONE_WAY | {"hidden_activation": (None, "gelu_pytorch_tanh")},
)
_GEMMA2 = Family(
    architecture="Gemma2ForCausalLM",
    ours=_GEMMA.ours | dict(norms="both"),
    keys={
        "query_scalar": "query_pre_attn_scalar",
        "attention_softcap": "attn_logit_softcapping",
        "logit_softcap": "final_logit_softcapping",
    },
    silent=_GEMMA.silent
    | {"num_key_value_heads": 4, "query_pre_attn_scalar": 256, "sliding_window": 4096}
    | {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    fixed=GELU_2 | ONE_WAY,
    local=lambda l, hf: l % 2 == 0,
    tensors={
        "layers/attn_out_norm_D": NORM % "post_attention",
        "layers/mlp_norm_D": NORM % "pre_feedforward",
        "layers/mlp_out_norm_D": NORM % "post_feedforward",
    },
)
_QKV = "model.layers.{l}.self_attn.qkv_proj.weight"
_GATE_UP = "model.layers.{l}.mlp.gate_up_proj.weight"

FAMILIES: dict[str, Family] = {
    "llama": _LLAMA,
    "mistral": Family(
        architecture="MistralForCausalLM",
        silent=SILENT | {"num_key_value_heads": 8, "sliding_window": 4096},
        fixed=SILU | {"layer_types": (None,)},
        local=lambda l, hf: True,
    ),
    "qwen2": _QWEN2,
    "qwen3": dataclasses.replace(
        _QWEN2,
        architecture="Qwen3ForCausalLM",
        ours=dict(qk_norm="head"),
        silent=_QWEN2.silent | {"head_dim": 128},
        fixed=SILU | {"attention_bias": (False,)},
    ),
    "gemma": _GEMMA,
    "gemma2": _GEMMA2,
    "gemma3_text": dataclasses.replace(
        _GEMMA2,
        architecture="Gemma3ForCausalLM",
        ours=_GEMMA2.ours | dict(qk_norm="head"),
        keys={"query_scalar": "query_pre_attn_scalar", "logit_softcap": "final_logit_softcapping"},
        silent=_GEMMA2.silent
        | {"attn_logit_softcapping": None, "final_logit_softcapping": None}
        | {"sliding_window_pattern": 6},
        fixed=GELU_2 | ONE_WAY | {"attn_logit_softcapping": (None,)},
        local=lambda l, hf: (l + 1) % hf["sliding_window_pattern"] != 0,
        rope=rotary.Spelling(theta=1_000_000.0, local_theta=10_000.0),
    ),
    "phi3": Family(
        architecture="Phi3ForCausalLM",
        silent=SILENT
        | {"rms_norm_eps": 1e-5, "sliding_window": None}
        | {"max_position_embeddings": 4096, "original_max_position_embeddings": 4096},
        fixed=SILU | {"layer_types": (None,)},
        local=lambda l, hf: True,
        rope=rotary.Spelling(partial=True, longrope=("longrope", "su", "yarn")),
        tensors=dict.fromkeys(("layers/q_DNH", "layers/k_DKH", "layers/v_DKH"), _QKV)
        | dict.fromkeys(("layers/gate_DF", "layers/up_DF"), _GATE_UP),
    ),
    "olmo2": Family(
        architecture="Olmo2ForCausalLM",
        ours=dict(norms="after", qk_norm="all heads"),
        silent=SILENT | {"rms_norm_eps": 1e-5},
        fixed=SILU | {"attention_bias": (False,)},
        tensors={
            "layers/attn_out_norm_D": NORM % "post_attention",
            "layers/mlp_out_norm_D": NORM % "post_feedforward",
        },
    ),
    "smollm3": Family(
        architecture="SmolLM3ForCausalLM",
        silent=SILENT
        | {"num_key_value_heads": 4, "tie_word_embeddings": True, "no_rope_layer_interval": 4}
        | {"use_sliding_window": False, "sliding_window": None},
        fixed=_LLAMA.fixed,
        local=lambda l, hf: rotary.unrotated(hf)[l],
        rope=rotary.Spelling(theta=2_000_000.0, unrotated=True),
    ),
}
# What people try, and why not.
OTHERS = {
    "gemma3": "it has an image encoder; save its text model alone, which is a gemma3_text",
    "phi": "Phi-2 has parallel blocks, LayerNorm and biases",
    "bloom": "it has ALiBi positions, LayerNorm and biases",
    "xglm": "it has sinusoidal positions, LayerNorm and biases",
}


# ---------------------------------------------------------------------------- in
def config_from_hf(hf: Json, dtype: Dtype = "bfloat16", remat: Remat = "nothing") -> LlamaConfig:
    """Returns what `config.json` says, of transformers 4 or 5; its defaults are HF's.

    Raises:
      ValueError: no family of ours, or a model with parts we do not compute; names key and value.
    """
    model_type = hf.get("model_type", "llama")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        why = f" ({OTHERS[str(model_type)]})" if str(model_type) in OTHERS else ""
        raise ValueError(
            f"config.json: model_type={model_type!r} is not supported{why}; want one of "
            f"{', '.join(FAMILIES)}"
        )
    family = FAMILIES[model_type]
    for key, allowed in (family.fixed | {"quantization_config": (None,)}).items():
        value = hf.get(key, allowed[0])
        if value not in allowed:
            want = " or ".join(map(repr, allowed))
            raise ValueError(f"config.json: {key}={value!r} is not supported; want {want}")
    missing = [COMMON[field] for field in REQUIRED if hf.get(COMMON[field]) is None]
    if missing:
        raise ValueError(
            f"config.json: {', '.join(missing)} missing; is this a language model's config?"
        )
    unset = [key for key in NUMBERS if key in hf and hf[key] is None and family.silent.get(key)]
    if unset:
        raise ValueError(
            f"config.json: {', '.join(unset)} is null, which transformers refuses; want a number, "
            f"or leave it out for {family.silent[unset[0]]}"
        )
    said = {**family.silent, **hf}
    refuse_impossible(said)
    try:
        fields = _plain(said, family) | _windows(said, family)
        fields |= rotary.read(said, family.rope, fields["head_width"])
        return LlamaConfig(family=model_type, dtype=dtype, remat=remat, **family.ours, **fields)
    except (TypeError, AttributeError, ArithmeticError) as e:  # a list where a number should be
        raise ValueError(f"config.json: cannot be read ({e}); fetch it again") from None


def refuse_impossible(said: Json, where: str = "config.json") -> None:
    """Raises ValueError for numbers that cannot be true, such as a billion layers, or a text.

    Keys that are absent or null are not looked at. `where` names the file.
    """
    for field, most in LARGEST.items():
        if (value := said.get(COMMON[field])) is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= most:
            raise ValueError(
                f"{where}: {COMMON[field]}={value!r:.60}; want a whole number, 1 to {most:,}"
            )
    tied = said.get("tie_word_embeddings")
    if tied is not None and not isinstance(tied, bool):
        raise ValueError(f"{where}: tie_word_embeddings={tied!r:.60}; want true or false")
    for key in NUMBERS:
        value = said.get(key)
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (fits and 0 <= value < math.inf):
            raise ValueError(f"{where}: {key}={value!r:.60}; want a number, 0 or more")
    for key in ("max_position_embeddings", "sliding_window", "max_window_layers"):
        value = said.get(key)
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (whole and 0 <= value <= MOST_POSITIONS):
            raise ValueError(
                f"{where}: {key}={value!r:.60}; want a whole number up to {MOST_POSITIONS:,}"
            )


def _plain(said: Json, family: Family) -> dict[str, Any]:
    out: dict[str, Any] = {field: said.get(key) for field, key in (COMMON | family.keys).items()}
    out["num_kv_heads"] = out["num_kv_heads"] or out["num_heads"]
    out["head_width"] = out["head_width"] or out["width"] // out["num_heads"]
    return out


def _windows(said: Json, family: Family) -> dict[str, Any]:
    window = said.get("sliding_window")
    unused = "use_sliding_window" in family.silent and not said["use_sliding_window"]
    types = said.get("layer_types")
    if unused and rotary.LOCAL in (types or ()):
        raise ValueError(
            f"config.json: layer_types={types!r}, but use_sliding_window is false; want it true, "
            f"or {rotary.WHOLE} in each layer"
        )
    if family.local is None or window is None or unused:
        return dict(window=None, local_layers=())
    depth = said["num_hidden_layers"]
    local = tuple(family.local(l, said) for l in range(depth))
    if types is not None:
        allowed = (rotary.WHOLE, rotary.LOCAL)
        if len(types) != depth or not set(types) <= set(allowed):
            raise ValueError(
                f"config.json: layer_types={types!r}; want {' or '.join(allowed)} for each of "
                f"{depth} layers"
            )
        local = tuple(name == rotary.LOCAL for name in types)
    return dict(
        window=window if any(local) else None,
        local_layers=local if any(local) and not all(local) else (),
    )


# ---------------------------------------------------------------------------- out
def config_to_hf(base: Json, cfg: LlamaConfig, dtype: str) -> dict[str, Any]:
    """Returns `config.json` of an export: the base's, changed only where it would not mean `cfg`.

    Args:
      base: the config the model came from; for a model trained from scratch as little as {}, or
        `bos_token_id`, `eos_token_id` and `max_position_embeddings`.
      dtype: of the exported tensors.
    """
    family = FAMILIES[cfg.family]
    keys = COMMON | family.keys
    out = {key: value for key, value in base.items() if key != "torch_dtype"}  # dtype's old name
    out |= dict(architectures=[family.architecture], model_type=cfg.family, dtype=dtype)
    if "architectures" not in base:  # from scratch: all is said
        out |= {key: values[0] for key, values in family.fixed.items() if values[0] is not None}
        out |= {key: getattr(cfg, field) for field, key in keys.items()}
        out.setdefault("pad_token_id", None)  # else Phi-3 takes 32,000 for granted
        return out | _windows_to_hf(cfg, family) | rotary.write(cfg, family.rope)
    said = {**family.silent, **base}
    fields = _plain(said, family)
    out |= {key: getattr(cfg, f) for f, key in keys.items() if fields[f] != getattr(cfg, f)}
    if not _means(_windows(said, family), cfg):
        out |= _windows_to_hf(cfg, family)
    if not _means(rotary.read(said, family.rope, cfg.head_width), cfg):
        out |= rotary.write(cfg, family.rope)
    return out


def positions(config: Json) -> int:
    """Returns how many tokens a model reads at most, as its `config.json` says; 0 if it does not.

    >>> positions({"max_position_embeddings": 512}), positions({})
    (512, 0)
    """
    return config.get(POSITIONS) or 0


def lengthened(config: Json, length: int) -> dict[str, Any]:
    """Returns `config.json` for rows of `length` tokens, which rotary positions allow.

    It is unchanged if it has room for them, or if another number would mean another model: the
    magnitude of LongRope may be computed from it.
    """
    most = config.get(POSITIONS)
    longer = {**config, POSITIONS: length}
    if most is None or most >= length or config_from_hf(longer) != config_from_hf(config):
        return dict(config)
    return longer


def long_rows(config: Json, length: int) -> str:
    """Says what comes of rows that are longer than a model has positions; '' if they are not."""
    most = config.get(POSITIONS)
    if most is None or most >= length:
        return ""
    about = f"rows of {length:,} tokens are longer than the base's {most:,} positions ({POSITIONS})"
    if lengthened(config, length)[POSITIONS] == length:
        return f"{about}; rotary positions allow it, and the export will say {length:,}"
    return f"{about}, from which its LongRope is computed: the export keeps {most:,}; shorten rows"


def _means(fields: dict[str, Any], cfg: LlamaConfig) -> bool:
    return all(getattr(cfg, field) == value for field, value in fields.items())


def _windows_to_hf(cfg: LlamaConfig, family: Family) -> dict[str, Any]:
    if family.local is None:
        return {}
    out: dict[str, Any] = {"sliding_window": cfg.window}
    if "use_sliding_window" in family.silent:
        out["use_sliding_window"] = cfg.window is not None
    if cfg.window is not None and "layer_types" not in family.fixed:
        layers = cfg.local_layers or (True,) * cfg.depth
        out["layer_types"] = [rotary.LOCAL if local else rotary.WHOLE for local in layers]
    return out
