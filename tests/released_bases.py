"""Tokenizers as transformers 5 saves them, small, of the kinds that released models have."""

from collections.abc import Callable, Iterable, Mapping
import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, processors, trainers
import transformers
from transformers.models.gemma.tokenization_gemma import GemmaTokenizer
from transformers.models.llama.tokenization_llama import LlamaTokenizer
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX, Qwen2Tokenizer

LINES = [
    "Hello there, who are you? I am a cat.", "Be brief and kind to the general.\n",
    "system user assistant model said what it says, because.", "1 + 1 = 2, so why here?",
] * 20  # fmt: skip
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
SPACE = "\u2581"

LLAMA2 = """{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}
{% set system_message = messages[0]['content'] %}
{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}
{% for message in loop_messages %}{% if loop.index0 == 0 and system_message %}
{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}
{% else %}{% set content = message['content'] %}{% endif %}
{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}
{%- elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}
{%- endif %}{% endfor %}"""
LLAMA3 = (
    "{{- bos_token }}{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{{- message['content'] | trim + '<|eot_id|>' }}{%- endfor %}{%- if add_generation_prompt %}"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
MISTRAL = (
    "{{- bos_token }}{%- for message in messages %}{%- if message['role'] == 'user' %}"
    "{{- '[INST] ' + message['content'] + '[/INST]' }}{%- elif message['role'] == 'assistant' %}"
    "{{- ' ' + message['content'] + eos_token }}{%- else %}"
    "{{- raise_exception('Only user and assistant roles are supported!') }}"
    "{%- endif %}{%- endfor %}"
)
PHI3 = (
    "{% for message in messages %}{{'<|' + message['role'] + '|>\n' + message['content'] + "
    "'<|end|>\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}"
    "{% else %}{{ eos_token }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)
QWEN = (
    "{%- if messages[0].role != 'system' %}"
    "{{- '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{%- endif %}"
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)


def merged(lines: Iterable[str], size: int, cut: Any) -> list[tuple[str, str]]:
    """Returns the first `size` merges that BPE learns of lines."""
    fast = tokenizers.Tokenizer(models.BPE())
    fast.pre_tokenizer = cut
    fast.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=size, show_progress=False))
    return [tuple(pair) for pair in json.loads(fast.to_str())["model"]["merges"]]


def spelt(first: Iterable[str], merges: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Returns a vocabulary: these pieces, the characters of the merges, what they make."""
    pieces = [*first, SPACE]
    pieces += sorted({char for pair in merges for char in "".join(pair)})
    pieces += ["".join(pair) for pair in merges]
    return {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}


def sentence_pieces(*first: str) -> dict[str, Any]:
    """Returns vocabulary and merges as SentencePiece has them, after these pieces and all bytes."""
    metaspace = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always")
    merges = merged(LINES, 300, metaspace)
    return {"vocab": spelt((*first, *BYTES), merges), "merges": merges}


def byte_pieces() -> dict[str, Any]:
    """Returns vocabulary and merges of bytes, written in the alphabet of GPT-2."""
    cut = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    merges = merged(LINES, 300, cut)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return {"vocab": spelt(alphabet, merges), "merges": merges}


def specials(*names: str, **flags: bool) -> list[AddedToken]:
    return [AddedToken(name, special=True, normalized=False, **flags) for name in names]


def llama2() -> Any:
    return LlamaTokenizer(**sentence_pieces("<unk>", "<s>", "</s>"))


def llama3() -> Any:
    pieces = byte_pieces()
    del pieces["vocab"][SPACE]
    pieces["vocab"] = {piece: i for i, piece in enumerate(pieces["vocab"])}
    fast = tokenizers.Tokenizer(models.BPE(**pieces, ignore_merges=True))
    fast.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    fast.decoder = decoders.ByteLevel()
    bos, eot = "<|begin_of_text|>", "<|eot_id|>"
    names = (bos, "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", eot)
    fast.add_special_tokens(specials(*names))
    first = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1",
        special_tokens=[(bos, fast.token_to_id(bos))],
    )  # fmt: skip
    fast.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), first])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=fast, bos_token=bos, eos_token=eot, clean_up_tokenization_spaces=True
    )


def mistral() -> Any:
    names = ("[INST]", "[/INST]", "[TOOL_CALLS]")
    made = LlamaTokenizer(**sentence_pieces("<unk>", "<s>", "</s>", *names))
    made.add_tokens(specials(*names))
    return made


def phi3() -> Any:
    pieces = sentence_pieces("<unk>", "<s>", "</s>")
    ends = dict(eos_token="<|endoftext|>", pad_token="<|endoftext|>", add_bos_token=False)
    made = LlamaTokenizer(**pieces, **ends)
    made.add_tokens(specials("<|assistant|>", "<|system|>", "<|end|>", "<|user|>", rstrip=True))
    return made


def gemma() -> Any:
    turns = ("<start_of_turn>", "<end_of_turn>")
    made = GemmaTokenizer(**sentence_pieces("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *turns))
    made.add_tokens(specials(*turns))
    return made


def qwen() -> Any:
    pieces = byte_pieces()
    del pieces["vocab"][SPACE]
    pieces["vocab"] = {piece: i for i, piece in enumerate(pieces["vocab"])}
    made = Qwen2Tokenizer(**pieces, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    made.add_tokens(specials("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    return made


# Name -> what makes its tokenizer, its chat template, and the model_type of its config.json.
BASES: Mapping[str, tuple[Callable[[], Any], str, str]] = {
    "llama2": (llama2, LLAMA2, "llama"),
    "llama3": (llama3, LLAMA3, "llama"),
    "mistral": (mistral, MISTRAL, "mistral"),
    "phi3": (phi3, PHI3, "phi3"),
    "gemma": (gemma, GEMMA, "gemma"),
    "qwen": (qwen, QWEN, "qwen2"),
}


def save(name: str, folder: Path) -> Any:
    """Saves a tokenizer with its chat template by transformers, and the start of a config.json."""
    make, template, model_type = BASES[name]
    made = make()
    made.chat_template = template
    made.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    return made
