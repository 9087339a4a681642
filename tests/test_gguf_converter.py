"""GGUF files beside those of llama.cpp's own converter: every field and every tensor, by family."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from conftest import DATA, data_file
import gguf_folders as folders
import numpy as np
import pytest

from lrl_jax.hf.gguf import architectures, file, tensors
from lrl_jax.hf.gguf.vocabulary import USER_DEFINED

CARD = """---
license: llama3
base_model: someone/Small-7B-Instruct
language: [kor, tam]
tags: [text-generation]
---
"""
SETTINGS = {"temperature": 1, "top_k": 50, "top_p": 0.9}  # of generation_config.json
NOT_SAID = "not said"


@dataclasses.dataclass(frozen=True)
class Case:
    """What is compared, and all that may differ.

    Attributes:
      pre: how text is cut, which the converter does not find by itself for these vocabularies.
      differs: key -> what ours says, what theirs says.
    """

    kind: str = "f16"
    pre: str = ""
    differs: dict[str, tuple[Any, Any]] = dataclasses.field(default_factory=dict)


# Both are what llama.cpp takes where nothing is said. We always say them; the converter does where
# tokenizer.json has the part from which it guesses them.
SEPARATOR = {"tokenizer.ggml.add_sep_token": (False, NOT_SAID)}
EOS = {"tokenizer.ggml.add_eos_token": (False, NOT_SAID)}
# The converter makes an ordinary piece of one that is whole in any text.
KINDS = [2, 3, 3, *[6] * 256, *[1] * 7]
WHOLE = {"tokenizer.ggml.token_type": ([*KINDS, USER_DEFINED], [*KINDS, 1])}
# The converter leaves theta out, and llama.cpp would take 10,000.
THETA = "{}.rope.freq_base"


def heads(name: str) -> dict[str, tuple[Any, Any]]:
    """What only ours says: llama.cpp would take the model's width over its heads, which is 16."""
    return {f"{name}.attention.{key}_length": (16, NOT_SAID) for key in ("key", "value")}


CASES = {
    "llama": Case("q8_0"),
    # The converter does not look: llama.cpp would put a space before a text.
    "unprefixed": Case(
        "q8_0", differs=WHOLE | {"tokenizer.ggml.add_space_prefix": (False, NOT_SAID)}
    ),
    "llama3": Case(pre="llama-bpe", differs=SEPARATOR),
    "linear": Case("f32", "llama-bpe", SEPARATOR),
    # llama.cpp computes no window here: a longer text would see what the model never saw.
    "mistral": Case(differs={"llama.context_length": (17, 96)}),
    "qwen2": Case(pre="qwen2", differs=SEPARATOR | heads("qwen2")),
    "qwen3": Case(pre="qwen2", differs=SEPARATOR),
    "gemma": Case(
        differs=WHOLE
        | {THETA.format("gemma"): (100.0, NOT_SAID)}
        # Whatever piece has that id: Gemma's own ends a turn.
        | {"tokenizer.ggml.eot_token_id": (NOT_SAID, 107)}
    ),
    "gemma2": Case(differs=WHOLE | {THETA.format("gemma2"): (100.0, NOT_SAID)}),
    "gemma3": Case(differs=WHOLE),
    "olmo2": Case(pre="gpt-2", differs=SEPARATOR | heads("olmo2")),
    "smollm3": Case(pre="llama-bpe", differs=SEPARATOR),
    "stories": Case("f32", differs=EOS),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Case -> our file and the converter's."""
    root = tmp_path_factory.mktemp("gguf")
    jobs, pairs = [], {}
    for name, case in CASES.items():
        if name == "stories":
            folder = DATA / "models/stories260K-hf"
            if not folder.exists():
                continue
        else:
            folder = folders.write_shape(name, root)
            if name in ("llama3", "qwen2", "olmo2"):
                leave_out_head_dim(folder / "config.json")
            (folder / "README.md").write_text(CARD)
            (folder / "generation_config.json").write_text(json.dumps(SETTINGS))
        ours, theirs = root / f"{name}-ours.gguf", root / f"{name}-theirs.gguf"
        file.write(folder, ours, case.kind, ["a"])
        jobs.append((folder, theirs, case.kind, case.pre))
        pairs[name] = ours, theirs
    folders.convert(jobs)
    return pairs


def leave_out_head_dim(path: Path) -> None:
    """Makes a config.json as those of Llama 3, Qwen2 and OLMo-2 on the hub."""
    config = json.loads(path.read_text())
    del config["head_dim"]
    path.write_text(json.dumps(config))


def test_every_family_is_compared():
    assert CASES.keys() == folders.SHAPES.keys() | {"stories"}
    shapes = [changes for _, changes in folders.SHAPES.values()]
    assert {shape.get("family", "llama") for shape in shapes} == {*architectures.ARCHITECTURES}


@folders.needs_llama_cpp
@pytest.mark.parametrize("name", CASES)
def test_every_field_is_the_converters_but_for_those_listed_here(name, files):
    ours, theirs = map(folders.fields, paths(name, files))
    differs = {
        key: tuple(fields[key].contents() if key in fields else NOT_SAID
                   for fields in (ours, theirs))
        for key in {*ours, *theirs} - {"GGUF.kv_count"}  # how many fields there are
    }  # fmt: skip
    assert {k: pair for k, pair in differs.items() if pair[0] != pair[1]} == CASES[name].differs
    for key in ours.keys() & theirs.keys():
        assert ours[key].types == theirs[key].types, key


@folders.needs_llama_cpp
@pytest.mark.parametrize("name", CASES)
def test_every_tensor_is_the_converters_bit_for_bit_but_for_rounded_frequencies(name, files):
    ours, theirs = (folders.read(path)[1] for path in paths(name, files))
    assert ours.keys() == theirs.keys()
    for tensor, want in theirs.items():
        assert ours[tensor].tensor_type == want.tensor_type, tensor
        # Quotients of float32 frequencies: the converter rounds elsewhere.
        rtol = 1e-6 if tensor == tensors.FACTORS else 0
        np.testing.assert_allclose(ours[tensor].data, want.data, rtol, 0, err_msg=tensor)


def paths(name, files):
    if name == "stories":
        data_file("models/stories260K-hf")
    return files[name]
