"""Turns the texts of lm-evaluation-harness into ids, those of a chat template too."""

from collections.abc import Mapping, Sequence
import json
import re

from lrl_jax.data.templates import documents
from lrl_jax.data.templates import table as templates
from lrl_jax.data.templates.parts import TextPart
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.types import Tokenizer

OPEN, CLOSE = "\ufdd1", "\ufdd2"  # noncharacters around the control tokens of a chat template
CONTROL = re.compile(f"{OPEN}([^{CLOSE}]*){CLOSE}")


class HarnessText:
    """Encodes texts, with bos in front where transformers would put it.

    A control token in a text is ordinary text, unless a chat template wrote it.
    """

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        first = tokenizers.family(tokenizer).reading(tokenizer).encode("a").ids[0]
        self._bos = [tokenizer.bos_id] * (first == tokenizer.bos_id)

    def encode(self, text: str, special: bool = True) -> list[int]:
        """Returns the ids of a text; with `special`, behind the bos that the model expects."""
        pieces = CONTROL.split(text)  # text and name of a control token by turns
        parts = [TextPart(piece, 0, control=n % 2 == 1) for n, piece in enumerate(pieces)]
        ids = documents.ids([p for p in parts if p.text or p.control], self.tokenizer)
        return [*(self._bos if special else ()), *ids]

    def chat(self, history: Sequence[Mapping[str, str]], ask: bool) -> str:
        """Returns a conversation in the tokenizer's own chat template, as `encode` reads it.

        Args:
          ask: whether the answer begins here; else the last message is the beginning of one.
        """
        turns, begun = (history, "") if ask else (history[:-1], history[-1]["content"])
        record = {"messages": json.dumps([*turns])}
        parts = templates.prompt_parts(templates.OWN, record, self.tokenizer)
        written = (f"{OPEN}{p.text}{CLOSE}" if p.control else p.text for p in parts)
        return "".join(written) + begun

    def chat_end(self) -> int:
        """Returns the id that ends an answer in the chat template."""
        question = json.dumps([{"role": "user", "content": "a"}])
        return templates.ending(templates.OWN, {"messages": question}, self.tokenizer)
