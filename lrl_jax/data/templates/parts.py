"""A stretch of a document, and the record it is written from."""

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
        """Whether the loss counts it."""
        return self.weight > 0


def opening(parts: Iterable[TextPart]) -> list[TextPart]:
    """What stands before the first part that is learnt."""
    return [*itertools.takewhile(lambda part: not part.trained, parts)]


def joined(parts: Iterable[TextPart]) -> list[TextPart]:
    """Neighbouring texts of one weight as one part, so that they are tokenised together.

    >>> joined([TextPart("a", 0), TextPart("b", 0), TextPart("c", 1)])[0]
    TextPart(text='ab', weight=0, control=False)
    """
    found: list[TextPart] = []
    for part in parts:
        last = found[-1] if found else None
        if last and not (last.control or part.control) and last.weight == part.weight:
            found[-1] = TextPart(last.text + part.text, last.weight)
        else:
            found.append(part)
    return found
