"""Says what a GGUF file is to hold of an exported folder, beside its tensors."""

from collections.abc import Mapping
import dataclasses
import math
from pathlib import Path
import re

from etils import epath
import numpy as np

from lrl_jax.hf import families, load
from lrl_jax.hf.gguf import architectures, tensors, vocabulary
from lrl_jax.hf.gguf.architectures import Value
from lrl_jax.hf.gguf.vocabulary import GgufVocabulary
from lrl_jax.model.config import LlamaConfig
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.types import Tokenizer

# llama.cpp takes from these names that spaces beside control tokens are swallowed.
PHI3 = re.compile(r"phi-?3", re.IGNORECASE)
FILE_TYPES = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "q8_0": "MOSTLY_Q8_0"}
TOKENIZER = "tokenizer"
UNSAID = ("general.architecture",)  # every writer says it by itself


@dataclasses.dataclass(frozen=True)
class GgufSource:
    """Holds an exported folder as llama.cpp is to have it."""

    folder: epath.Path
    cfg: LlamaConfig
    positions: int
    metadata: Mapping[str, Value]
    tokenizer: Tokenizer
    vocabulary: GgufVocabulary


def source(folder: epath.PathLike) -> GgufSource:
    """Reads an exported folder; ValueError for what llama.cpp or GGUF cannot say of it."""
    folder = epath.Path(folder)
    if (folder / "adapter_config.json").exists():
        raise ValueError(
            f"{folder}: holds an adapter; llama.cpp wants a whole model: export with export.form: "
            "merged"
        )
    config = load.read_config(folder)
    cfg = families.config_from_hf(config, "float32")
    architectures.of(cfg)  # what is missing there is said before a tokenizer is read
    positions = architectures.positions(cfg, config)
    shape = architectures.metadata(cfg, positions)
    tokenizer = tokenizers.load(folder)
    words = vocabulary.of(folder, cfg.vocab_size, tokenizer)
    return GgufSource(folder, cfg, positions, shape, tokenizer, words)


def said(given: GgufSource, kind: str, name: str) -> dict[str, Value]:
    """Returns all metadata of a file but its architecture, by GGUF's names.

    Args:
      kind: of tensors.TYPES.
      name: of the model, for people.
    """
    words = given.vocabulary
    pieces: dict[str, Value] = {
        "model": words.model,
        "pre": words.pre,
        "tokens": [*words.pieces],
        "token_type": [*words.types],
        **({"scores": [*words.scores]} if words.scores else {}),
        **({"merges": [*words.merges]} if words.merges else {}),
        **words.ids,
        "add_bos_token": words.add_bos,
        "add_eos_token": words.add_eos,
        "add_sep_token": False,
    }
    if words.model == "llama" and not words.add_space_prefix:  # else llama.cpp puts a space
        pieces["add_space_prefix"] = False
    fields = _general(given, kind, name) | dict(given.metadata)
    fields |= {f"{TOKENIZER}.ggml.{key}": value for key, value in pieces.items()}
    return fields | ({f"{TOKENIZER}.chat_template": words.template} if words.template else {})


def _general(given: GgufSource, kind: str, name: str) -> dict[str, Value]:
    """Returns what a file says of itself: name, size, type and, from the card, licence, origin."""
    import gguf
    import yaml  # gguf reads the card with it

    folder = Path(given.folder)
    size = sum(math.prod(tensor.shape) for tensor in tensors.tensors(given.cfg, kind))
    try:
        card = gguf.Metadata.load(None, folder, PHI3.sub("phi 3", name), size)
    except yaml.YAMLError as e:
        raise ValueError(f"{folder}/README.md: its front matter is no YAML ({e})") from None
    card.size_label = card.size_label or gguf.size_label(size, size, 0, 0)
    scratch = gguf.GGUFWriter(None, "")
    card.set_gguf_meta_model(scratch)
    kinds = {gguf.GGUFValueType.INT32: np.int32, gguf.GGUFValueType.FLOAT32: float}
    about = {
        key: kinds.get(field.type, lambda value: value)(field.value)
        for key, field in scratch.kv_data[0].items()
        if key not in UNSAID
    }
    return {
        "general.type": "model",
        "general.file_type": int(gguf.LlamaFileType[FILE_TYPES[kind]]),
        "general.quantization_version": int(gguf.GGML_QUANT_VERSION),
        **about,
    }
