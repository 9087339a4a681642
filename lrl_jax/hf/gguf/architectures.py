"""Says how llama.cpp calls each family of ours, what it must be told of it, and what it lacks.

The names of its metadata are those of `gguf.constants`; what it computes of them was read in
llama.cpp 0c1e570 (src/models), which llama_cpp_python 0.3.36 carries.
"""

from collections.abc import Callable, Iterator
import dataclasses
from typing import Any

import numpy as np

from lrl_jax.hf import families
from lrl_jax.model import rope
from lrl_jax.model.config import LlamaConfig
from lrl_jax.storage import Json

Value = bool | int | np.int32 | float | str | list[Any]
SMOLLM3_STEP = 4  # llama.cpp leaves rotary positions out of every fourth layer
# Depth of the one model of each family whose scores llama.cpp divides by another root.
WIDE = {"gemma2": 46, "gemma3": 62}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
    """Describes a family as llama.cpp knows it.

    Attributes:
      name: what llama.cpp calls it.
      neighbours: whether its rotary positions pair neighbouring dimensions, not halves.
      lifted: whether norms are stored with the 1 added that the checkpoint leaves out.
      period: which layers are local: all but every `period`th; 0 where none is.
      lacks: what it cannot compute of a model of ours, a phrase each.
    """

    name: str
    neighbours: bool = False
    lifted: bool = False
    period: int = 0
    lacks: Callable[[LlamaConfig], Iterator[str]] = lambda cfg: iter(())


def _square(cfg: LlamaConfig) -> Iterator[str]:
    if cfg.num_heads * cfg.head_width != cfg.width:
        yield f"{cfg.num_heads} heads of {cfg.head_width} that are not as wide as the model"


def _no_window(cfg: LlamaConfig) -> Iterator[str]:
    if cfg.window is not None:
        yield f"a window of {cfg.window} tokens"


def _qwen2(cfg: LlamaConfig) -> Iterator[str]:
    yield from _square(cfg)
    yield from _no_window(cfg)


def _olmo2(cfg: LlamaConfig) -> Iterator[str]:
    yield from _square(cfg)
    if cfg.tie_embeddings:
        yield "an OLMo-2 whose head is its embeddings"


def _smollm3(cfg: LlamaConfig) -> Iterator[str]:
    yield from _no_window(cfg)
    want = tuple((l + 1) % SMOLLM3_STEP == 0 for l in range(cfg.depth))
    if (cfg.unrotated_layers or (False,) * cfg.depth) != want:
        yield f"layers without rotary positions other than every {SMOLLM3_STEP}th"


def _gemma(cfg: LlamaConfig) -> Iterator[str]:
    if not cfg.tie_embeddings:
        yield "a Gemma whose head is not its embeddings"
    name = ARCHITECTURES[cfg.family].name
    wide = cfg.depth == WIDE.get(name)
    scalar = cfg.width // cfg.num_heads if wide else cfg.head_width
    if cfg.attention_scale != scalar**-0.5:
        yield f"query_pre_attn_scalar={cfg.query_scalar}; it takes {scalar} for this depth"


ARCHITECTURES = {
    "llama": Architecture(name="llama", neighbours=True),
    "mistral": Architecture(name="llama", neighbours=True),
    "qwen2": Architecture(name="qwen2", lacks=_qwen2),
    "qwen3": Architecture(name="qwen3", lacks=_no_window),
    "gemma": Architecture(name="gemma", lifted=True, lacks=_gemma),
    "gemma2": Architecture(name="gemma2", lifted=True, period=2, lacks=_gemma),
    "gemma3_text": Architecture(name="gemma3", lifted=True, period=6, lacks=_gemma),
    "olmo2": Architecture(name="olmo2", lacks=_olmo2),
    "smollm3": Architecture(name="smollm3", neighbours=True, lacks=_smollm3),
}
WHY = {"phi3": "it takes from the model's name how spaces beside control tokens are read"}


def of(cfg: LlamaConfig) -> Architecture:
    """Returns what llama.cpp makes of a model; ValueError for what it cannot compute."""
    if cfg.family not in ARCHITECTURES:
        why = f" ({WHY[cfg.family]})" if cfg.family in WHY else ""
        raise ValueError(
            f"models of the family {cfg.family} are not written for llama.cpp{why}; want one of "
            f"{', '.join(ARCHITECTURES)}"
        )
    architecture = ARCHITECTURES[cfg.family]
    lacks = [*architecture.lacks(cfg), *_windows(cfg, architecture)]
    if isinstance(cfg.rope_scaling, rope.Llama3) and architecture.name != "llama":
        lacks.append("the scaling llama3 of rotary positions")
    if lacks:
        raise ValueError(f"llama.cpp's {architecture.name} does not compute {' and '.join(lacks)}")
    return architecture


def _windows(cfg: LlamaConfig, architecture: Architecture) -> Iterator[str]:
    if not architecture.period:
        return
    want = tuple((l + 1) % architecture.period != 0 for l in range(cfg.depth))
    local = cfg.local_layers or (cfg.window is not None,) * cfg.depth
    if cfg.window is None or local != want:
        yield f"local layers other than all but every {architecture.period}th"


def positions(cfg: LlamaConfig, config: Json) -> int:
    """Returns the most tokens of a text that llama.cpp computes as we do, by config.json."""
    positions = families.positions(config)
    if not positions:
        raise ValueError(
            f"config.json: {families.POSITIONS} missing, and llama.cpp must be told how long a "
            "text may be; put it in"
        )
    if ARCHITECTURES[cfg.family].period == 0 and cfg.window is not None:
        return min(positions, cfg.window)  # llama.cpp has no window there: none is needed
    return positions


def metadata(cfg: LlamaConfig, positions: int) -> dict[str, Value]:
    """Returns what llama.cpp is told of a model's shape, by its names of metadata.

    Args:
      positions: most tokens of a text.
    """
    name = of(cfg).name
    said: dict[str, Value] = {
        "block_count": cfg.depth,
        "context_length": positions,
        "embedding_length": cfg.width,
        "feed_forward_length": cfg.mlp_width,
        "attention.head_count": cfg.num_heads,
        "attention.head_count_kv": cfg.num_kv_heads,
        "attention.key_length": cfg.head_width,
        "attention.value_length": cfg.head_width,
        "attention.layer_norm_rms_epsilon": float(cfg.norm_eps),
        "rope.freq_base": float(cfg.rope_theta),
    }
    if ARCHITECTURES[cfg.family].neighbours:
        said |= {"rope.dimension_count": cfg.head_width, "vocab_size": cfg.vocab_size}
    if isinstance(cfg.rope_scaling, rope.Linear):
        said |= {"rope.scaling.type": "linear", "rope.scaling.factor": cfg.rope_scaling.factor}
    if cfg.window is not None and ARCHITECTURES[cfg.family].period:
        said["attention.sliding_window"] = cfg.window
    if cfg.local_rope_theta is not None:
        said["rope.freq_base_swa"] = float(cfg.local_rope_theta)
    if cfg.attention_softcap is not None:
        said["attn_logit_softcapping"] = float(cfg.attention_softcap)
    if cfg.logit_softcap is not None:
        said["final_logit_softcapping"] = float(cfg.logit_softcap)
    return {f"{name}.{key}": value for key, value in said.items()}
