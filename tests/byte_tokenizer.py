"""A byte-level BPE tokenizer learnt on a few lines, cut into words as Llama 3 cuts them."""

from collections.abc import Iterable
import json

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers

from lrl_jax.vocab.tokenizer.load import from_files
from lrl_jax.vocab.tokenizer.types import Tokenizer

WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BOS, EOS = "<|begin_of_text|>", "<|end_of_text|>"


def learn(lines: Iterable[str], size: int, controls: Iterable[str] = ()) -> Tokenizer:
    """All bytes, then merges up to `size` pieces, then bos, eos and `controls`, as Llama 3's."""
    fast = tokenizers.Tokenizer(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    fast.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, show_progress=False, special_tokens=[]
    )
    fast.train_from_iterator(lines, trainer)
    special = (BOS, EOS, *controls)
    fast.add_special_tokens([AddedToken(name, normalized=False) for name in special])
    config = {"bos_token": BOS, "eos_token": EOS}
    return from_files(
        {
            "tokenizer.json": fast.to_str().encode(),
            "tokenizer_config.json": json.dumps(config).encode(),
        },
        "byte_tokenizer",
    )
