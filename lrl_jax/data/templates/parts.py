"""Defines records and text parts, the stretches of a document that a template writes."""

from collections.abc import Iterable
import dataclasses
import itertools

Record = dict[str, str]


@dataclasses.dataclass(frozen=True)
class TextPart:
    """Holds a stretch of a document.

    Attributes:
      weight: of its tokens in the loss; 0 for what is only read.
      control: the text names one control token, such as <|eot_id|>, and is not text itself.
    """

    text: str
    weight: float
    control: bool = False

    @property
    def trained(self) -> bool:
        """Returns whether the loss counts its tokens."""
        return self.weight > 0


def opening(parts: Iterable[TextPart]) -> list[TextPart]:
    """Returns the parts before the first one that is learnt."""
    return [*itertools.takewhile(lambda text_part: not text_part.trained, parts)]


def joined(parts: Iterable[TextPart]) -> list[TextPart]:
    """Joins neighbouring texts of the same weight, so that they are tokenised together.

    >>> joined([TextPart("a", 0), TextPart("b", 0), TextPart("c", 1)])[0]
    TextPart(text='ab', weight=0, control=False)
    """
    result: list[TextPart] = []
    for text_part in parts:
        last = result[-1] if result and not result[-1].control else None
        if last and not text_part.control and last.weight == text_part.weight:
            result[-1] = TextPart(last.text + text_part.text, last.weight)
        else:
            result.append(text_part)
    return result
