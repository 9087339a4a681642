"""Cuts an answer where a stop string begins, wherever tokens and characters are cut.

A stop string is looked for in decoded text, for it may be spread over tokens, and a token may end
inside a character: its bytes are decoded together with those that follow.
"""

from collections.abc import Callable, Sequence
import dataclasses

UNFINISHED = "\ufffd"  # what the bytes of a character that is cut short are decoded as
MOST_BYTES = 3  # of a character in UTF-8 that is cut short
BEFORE = 16  # ids of a prompt with which its answer is decoded; more where these are no whole text

Decode = Callable[[Sequence[int]], str]


@dataclasses.dataclass(frozen=True)
class Cut:
    """Holds an answer that a stop string has ended.

    Attributes:
      ids: of the answer, as many as are wholly before the stop string.
      text: up to the stop string.
      tokens: how many tokens had been decoded when the stop string was complete.
    """

    ids: tuple[int, ...]
    text: str
    tokens: int


def continuing(decode: Decode, prompt: Sequence[int]) -> Decode:
    """Returns what decodes ids as they go on with a prompt, a space at their beginning included.

    A tokenizer with a dummy prefix drops the space of the first piece that it decodes. So the ids
    are decoded together with the last ones of the prompt, whose text is then cut off.
    """
    count = BEFORE
    while count < len(prompt) and not _is_whole(decode(prompt[-count:])):
        count *= 2
    before = [*prompt[-count:]]
    begun = decode(before)

    def decoded(ids: Sequence[int]) -> str:
        text = decode([*before, *ids])
        # Bytes that are no character spoil how those before them are decoded.
        return text[len(begun) :] if text.startswith(begun) else decode(ids)

    return decoded


def _is_whole(text: str) -> bool:
    """Tells whether a text begins with a whole character, and is more than spaces."""
    return UNFINISHED not in text and bool(text.strip())


def find(
    decode: Decode, ids: Sequence[int], stops: Sequence[str], forced: int, done: int
) -> Cut | None:
    """Returns the answer cut at its first stop string; None where it has none.

    Args:
      ids: of the answer so far.
      forced: how many of them the model was given; a stop string ends after them.
      done: how many ids are known to be without a stop string.
    """
    if not stops or _first(decode(ids), stops, decode(ids[:forced])) is None:
        return None
    # The whole has one, so the shortest beginning that has one tells where decoding stopped.
    before = decode(ids[:forced])
    for end in range(max(done, forced) + 1, len(ids) + 1):
        text = decode(ids[:end])
        at = _first(text, stops, before)
        if at is not None:
            return Cut(_ids_of(decode, ids[:end], text[:at]), text[:at], end - forced)
    return None


def _first(text: str, stops: Sequence[str], before: str) -> int | None:
    """Returns where the first stop string begins that does not end in the text before."""
    places = [
        place
        for stop in stops
        if (place := text.find(stop, max(0, len(before) - len(stop) + 1))) >= 0
    ]
    return min(places, default=None)


def _ids_of(decode: Decode, ids: Sequence[int], text: str) -> tuple[int, ...]:
    """Returns the most ids from the first on that decode to nothing beyond the text."""
    for end in range(len(ids), -1, -1):
        if text.startswith(decode(ids[:end])):
            return tuple(ids[:end])
    return ()


def finished(text: str) -> str:
    """Returns the text without a character that is cut short at its end: 3 bytes or fewer of it.

    >>> finished("caf\\ufffd")
    'caf'
    """
    for _ in range(MOST_BYTES):
        text = text.removesuffix(UNFINISHED)
    return text


def safe(text: str, stops: Sequence[str]) -> str:
    """Returns as much of a text that grows as no stop string or rest of a character may change.

    >>> safe("One.\\nUs", ["\\nUser:"])
    'One.'
    """
    text = finished(text)
    unsure = max(
        (n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0
    )
    return text[: len(text) - unsure]
