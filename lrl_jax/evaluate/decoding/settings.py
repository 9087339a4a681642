"""Says how answers are generated, what an answer is, and what generating took."""

from collections.abc import Callable
import dataclasses
import numbers
from typing import Any, Literal

from lrl_jax.evaluate.decoding import sampling

Why = Literal["end", "stop", "length"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Says how answers are generated.

    Attributes:
      max_new_tokens: steps that an answer takes at most.
      ends: ids that end an answer, and are no part of it.
      stops: texts that end an answer, and are no part of it.
      temperature: 0 takes the most probable token every time; the others then do nothing.
      top_p: only the most probable tokens are drawn that have so much probability together.
      min_p: only tokens are drawn that are at least so probable, relative to the most probable one.
      repetition_penalty: tokens read or written before count for less, if it is above 1.
      seed: of what is drawn. An answer depends on it and its prompt, not on the batch.
      prefix: ids that every answer begins with.
      continues: whether the text of an answer is what it adds to that of its prompt, a space at its
        beginning included; a text by itself begins without the space of its first piece.
      bos: whether bos is put in front of prompts that do not begin with it.
    """

    max_new_tokens: int
    ends: tuple[int, ...]
    stops: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    prefix: tuple[int, ...] = ()
    continues: bool = False
    bos: bool = True

    def __post_init__(self):
        """Refuses a setting of another type, or out of its range, with a ValueError."""
        infinite = float("inf")
        wanted = {
            "max_new_tokens": (lambda x: is_whole(x) and x >= 1, "a whole number, 1 or more"),
            "ends": (_are(is_whole), "a tuple of ids"),
            "stops": (_are(_is_some_text), "a tuple of texts that are not empty"),
            "temperature": (_is(lambda x: 0 <= x < infinite), "0 (greedy) or more"),
            "top_p": (_is(lambda x: 0 < x <= 1), "above 0 and up to 1"),
            "min_p": (_is(lambda x: 0 <= x <= 1), "0 to 1"),
            "repetition_penalty": (_is(lambda x: 0 < x < infinite), "above 0"),
            "seed": (lambda x: is_whole(x) and 0 <= x < 1 << 32, "a whole number below 2^32"),
            "prefix": (_are(is_whole), "a tuple of ids"),
        }
        for name, (fits, want) in wanted.items():
            if not fits(value := getattr(self, name)):
                raise ValueError(f"{name}={value!r}; want {want}")

    @property
    def way(self) -> sampling.Way:
        """Returns what is computed to choose a token."""
        sampled = self.temperature > 0
        return sampling.Way(
            sampled=sampled,
            nucleus=sampled and self.top_p < 1,
            floored=sampled and self.min_p > 0,
            penalised=self.repetition_penalty != 1,
        )


def is_whole(value: Any) -> bool:
    """Tells whether a value is a whole number; True and False are none."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Returns what tells whether a value is a number that fits."""
    return lambda x: isinstance(x, numbers.Real) and not isinstance(x, bool) and fits(x)


def _are(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Returns what tells whether a value is a tuple or a list of values that fit."""
    return lambda values: isinstance(values, tuple | list) and all(map(fits, values))


def _is_some_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


@dataclasses.dataclass(frozen=True)
class Generated:
    """Holds an answer.

    Attributes:
      ids: without the end. Of an answer that a stop string cut, those wholly before it.
      text: without the stop string. A character that the last step cut short ends it as U+FFFD, as
        in transformers.
      why: what ended it: an end id, a stop string, or that no step was left.
      tokens: steps that were decoded for it, that of its end included.
    """

    ids: tuple[int, ...]
    text: str
    why: Why
    tokens: int


@dataclasses.dataclass
class Counters:
    """Counts what generating took; pass one to `generate` and read it at any time."""

    answers: int = 0
    prompt_tokens: int = 0  # read, those that all prompts share once
    new_tokens: int = 0
    truncated: int = 0  # prompts that lost their beginning, as the model reads no more
    steps: int = 0  # of all rows together
    row_steps: int = 0  # that rows could have done: steps times rows
    seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """Returns decoded tokens a second, the time to read prompts and to compile included."""
        return self.new_tokens / self.seconds if self.seconds else 0.0

    @property
    def occupancy(self) -> float:
        """Returns the share of decoded tokens that belong to an answer, 0 to 1."""
        return self.new_tokens / self.row_steps if self.row_steps else 0.0
