"""Reads and writes rotary positions in `config.json`, with the keys of transformers 5 and 4.

transformers 5 says `rope_parameters`, with everything in it; before, `rope_theta` and
`rope_scaling`. Gemma 3 has two sets of them, for layers that see everything and for local ones.
"""

import dataclasses
import math
from typing import Any

from lrl_jax.model import rope
from lrl_jax.model.config import LlamaConfig
from lrl_jax.storage import Json

WHOLE, LOCAL = "full_attention", "sliding_attention"
TYPES = {rope.Linear: "linear", rope.Llama3: "llama3", rope.LongRope: "longrope"}
# Field of a scaling -> its key in config.json, where that is another word.
KEYS = {
    "short": "short_factor", "long": "long_factor", "magnitude": "attention_factor",
    "original_length": "original_max_position_embeddings",
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spelling:
    """Describes how a family spells its rotary positions."""

    theta: float = 10_000.0  # what holds where config.json is silent
    local_theta: float | None = None  # the same of local layers; None: theirs are those of all
    partial: bool = False  # whether `partial_rotary_factor` of a head may turn
    longrope: tuple[str, ...] = ("longrope",)  # what it calls LongRope
    unrotated: bool = False  # whether layers may have no rotary positions


def read(said: Json, spelling: Spelling, head_width: int) -> dict[str, Any]:
    """Returns the fields of LlamaConfig that say how positions turn.

    `said` is config.json, with HF's defaults where it is silent. Raises ValueError for a kind of
    scaling that we do not compute, or one with a key missing.
    """
    # As transformers 5 does it: of both, the old key is heard.
    whole: Json = said.get("rope_scaling") or said.get("rope_parameters") or {}
    local_theta = None
    if spelling.local_theta is not None:
        by_type = said.get("rope_parameters") or {}
        if by_type and not {WHOLE, LOCAL} & set(by_type):
            raise ValueError(f"config.json: rope_parameters={by_type!r}; want {WHOLE} and {LOCAL}")
        whole = {**(by_type.get(WHOLE) or {}), **(said.get("rope_scaling") or {})}
        local = by_type.get(LOCAL) or {}
        if _kind(local) != "default":
            raise ValueError(
                f"config.json: rope_type={_kind(local)!r} of {LOCAL} layers; want default"
            )
        local_theta = local.get("rope_theta") or said.get("rope_local_base_freq")
        local_theta = float(local_theta or spelling.local_theta)
    elif {WHOLE, LOCAL} & set(whole):
        raise ValueError("config.json: rope_parameters by layer type are not supported here")
    share = float(whole.get("partial_rotary_factor") or said.get("partial_rotary_factor") or 1)
    if share != 1 and not spelling.partial:
        raise ValueError(f"config.json: partial_rotary_factor={share} is not supported; want 1")
    width = int(head_width * share)
    layers = unrotated(said) if spelling.unrotated else ()
    return dict(
        rope_theta=float(whole.get("rope_theta") or said.get("rope_theta") or spelling.theta),
        rope_scaling=_scaling(whole, said, spelling),
        local_rope_theta=local_theta,
        rotary_width=None if width == head_width else width,
        unrotated_layers=layers if any(layers) else (),
    )


def unrotated(said: Json) -> tuple[bool, ...]:
    """Tells of each layer whether it has no rotary positions (SmolLM3).

    `no_rope_layers` has 1 for a layer with rotary positions and 0 for one without. If it is not
    given, every layer whose number from 1 is a multiple of `no_rope_layer_interval` has none.
    """
    depth, interval = said["num_hidden_layers"], said["no_rope_layer_interval"]
    rotated = said.get("no_rope_layers")
    if rotated is None:
        if not isinstance(interval, int) or interval < 1:
            raise ValueError(
                f"config.json: no_rope_layer_interval={interval!r}; want 1 or more, or a list in "
                "no_rope_layers"
            )
        rotated = [int(l % interval != 0) for l in range(1, depth + 1)]
    if not isinstance(rotated, list) or len(rotated) < depth or not set(rotated) <= {0, 1}:
        raise ValueError(
            f"config.json: no_rope_layers={rotated!r}; want 1 (with rotary positions) or 0 "
            f"(without) for each of {depth} layers"
        )
    return tuple(not rotates for rotates in rotated[:depth])


def _kind(whole: Json) -> str:
    return whole.get("rope_type") or whole.get("type") or "default"


def _scaling(whole: Json, said: Json, spelling: Spelling) -> rope.Scaling | None:
    kind = _kind(whole)
    try:
        if kind == "default":
            return None
        if kind == "linear":
            return rope.Linear(factor=_positive(whole["factor"], "factor"))
        if kind == "llama3":
            keys = ("factor", "low_freq_factor", "high_freq_factor")
            factor, low, high = (_positive(whole[key], key) for key in keys)
            length = _original(whole, said)
            if low == high:
                raise ValueError(
                    f"config.json: low_freq_factor={low} and high_freq_factor={high} of rope_type "
                    "llama3; want two numbers"
                )
            return rope.Llama3(
                factor=factor, low_freq_factor=low, high_freq_factor=high,
                original_length=length,
            )  # fmt: skip
        if kind in spelling.longrope:
            return _longrope(whole, said)
    except KeyError as e:
        raise ValueError(f"config.json: rope_type {kind} without {e}") from None
    why = "; it changes with the longest row so far, and packed rows have no such length"
    raise ValueError(
        f"config.json: rope_type={kind!r} is not supported{why if kind == 'dynamic' else ''}; "
        f"want one of default, linear, llama3, {', '.join(spelling.longrope)}, or leave it out to "
        "train at the length the base was made for"
    )


def _positive(value: Any, key: str) -> float:
    """Returns a number that frequencies are divided by; ValueError for 0, inf and what is none."""
    number = float(value)
    if not 0 < number < math.inf:
        raise ValueError(f"config.json: {key}={value!r:.60} of rope_scaling; want a number above 0")
    return number


def _original(whole: Json, said: Json) -> int:
    """Returns the length a base was made for; as in transformers, the top level goes first."""
    key = KEYS["original_length"]
    return int(_positive(said.get(key) or whole[key], key))


def _longrope(whole: Json, said: Json) -> rope.LongRope:
    original = _original(whole, said)
    magnitude = whole.get("attention_factor")
    if magnitude is None:  # arXiv 2402.13753, 3.3, as Phi-3 has it
        factor = whole.get("factor") or said["max_position_embeddings"] / original
        magnitude = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    return rope.LongRope(
        short=tuple(_positive(factor, "short_factor") for factor in whole["short_factor"]),
        long=tuple(_positive(factor, "long_factor") for factor in whole["long_factor"]),
        original_length=original,
        magnitude=float(magnitude),
    )


def write(cfg: LlamaConfig, spelling: Spelling) -> dict[str, Any]:
    """Returns the keys of config.json that `read` understands, in both spellings."""
    scaling: dict[str, Any] = {}
    if cfg.rope_scaling is not None:
        scaling["rope_type"] = TYPES[type(cfg.rope_scaling)]
        for field, value in dataclasses.asdict(cfg.rope_scaling).items():
            scaling[KEYS.get(field, field)] = [*value] if isinstance(value, tuple) else value
    out: dict[str, Any] = dict(rope_theta=cfg.rope_theta)
    if cfg.rotary_width is not None:
        out["partial_rotary_factor"] = cfg.rotary_width / cfg.head_width
    whole = dict(rope_type="default") | out | scaling
    if spelling.unrotated:
        layers = cfg.unrotated_layers or (False,) * cfg.depth
        out["no_rope_layers"] = [int(not unrotated) for unrotated in layers]
    if scaling:
        out["rope_scaling"] = whole
    if isinstance(cfg.rope_scaling, rope.LongRope):
        out["original_max_position_embeddings"] = cfg.rope_scaling.original_length
    if spelling.local_theta is None:
        return out | dict(rope_parameters=whole)
    theta = cfg.rope_theta if cfg.local_rope_theta is None else cfg.local_rope_theta
    local = dict(rope_type="default", rope_theta=theta)
    return out | dict(rope_local_base_freq=theta, rope_parameters={WHOLE: whole, LOCAL: local})
