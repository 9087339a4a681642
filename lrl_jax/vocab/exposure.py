"""Counts new pieces in a sample of text, and predicts whether training will see them often enough.

An embedding row learns only where its token occurs. Continued training in which the median new
token occurred 143 times did not catch up with the base vocabulary; EEVE kept only pieces counted
6,000 times (arXiv 2402.14714). LLaMA with its own vocabulary and 0.5 billion tokens beat a longer
vocabulary trained on 30 billion (arXiv 2401.01055): with a small budget, better not extend.
"""

from collections import Counter
from collections.abc import Iterable
import dataclasses
import itertools
import math
import statistics

from etils import epath

from lrl_jax import storage
from lrl_jax.vocab.pieces.splice import Splice
from lrl_jax.vocab.tokenizer.load import family
from lrl_jax.vocab.tokenizer.types import Tokenizer, batches

BATCH = 1000  # texts encoded at a time
FEW = 1_000  # expected occurrences below which a new row hardly learns
ENOUGH = 6_000  # what EEVE asks of a piece, arXiv 2402.14714
SHOWN = 10  # pieces listed at either end


@dataclasses.dataclass(frozen=True)
class Exposure:
    """Holds how often each new token occurs on a sample; forecasts how often it will in training.

    Attributes:
      tokens: tokens of the sample, new and old.
      budget: tokens that training will read of text like the sample.
      counts: piece -> times emitted on the sample, the most frequent first.
      min_count: of the recipe; rarer pieces are there because longer ones are joined from them.
    """

    texts: int
    tokens: int
    budget: int
    counts: dict[str, int]
    min_count: int = 0

    @property
    def emitted(self) -> float:
        """Returns the share of new tokens that occur on the sample at all."""
        return sum(count > 0 for count in self.counts.values()) / max(len(self.counts), 1)

    @property
    def share(self) -> float:
        """Returns the share of the sample's tokens that are new."""
        return sum(self.counts.values()) / self.tokens

    @property
    def median(self) -> float:
        """Returns how often the median new token occurs on the sample."""
        return statistics.median(self.counts.values()) if self.counts else 0.0

    def expected(self, count: float) -> float:
        """Returns how often a token occurs in training that occurs `count` times on the sample."""
        return count / self.tokens * self.budget

    def below(self, occurrences: int) -> list[str]:
        """Returns the new pieces expected less than `occurrences` times, the rarest last."""
        return [p for p, count in self.counts.items() if self.expected(count) < occurrences]

    @property
    def summary(self) -> str:
        """Returns one line for the user."""
        return (
            f"{len(self.counts):,} new tokens, {self.emitted:.1%} of them emitted, "
            f"{self.share:.1%} of {self.tokens:,} tokens; in {self.budget:,} tokens of training "
            f"half of them occur {self.expected(self.median):,.0f} times or more, "
            f"{len(self.below(FEW)):,} fewer than {FEW:,} times"
        )

    @property
    def advice(self) -> list[str]:
        """Returns what to do before training; empty when every token is seen often enough."""
        starved, thin = len(self.below(FEW)), len(self.below(ENOUGH))
        total = len(self.counts)
        out = []
        if total and 2 * starved > total:
            out.append(
                f"{_pieces(total)} are many for {self.budget:,} tokens: more than half would occur "
                f"fewer than {FEW:,} times, where larger models did better with none. The text "
                f"feeds {total - starved:,} of them; add no more, train longer, or keep the base "
                "tokenizer (method: keep)"
            )
        elif starved:
            enough = math.ceil(FEW * self.tokens / self.budget)
            instead = f"drop what is rare with min_count: {enough} on this text"
            if enough <= self.min_count:
                instead = (
                    f"longer pieces are joined from them, so that min_count: {self.min_count} "
                    "keeps them; ask for fewer pieces, or train longer"
                )
            out.append(f"{_pieces(starved)} would occur fewer than {FEW:,} times; {instead}")
        if thin > starved:
            out.append(
                f"{_pieces(thin - starved)} would occur {FEW:,} to {ENOUGH:,} times, fewer than "
                "EEVE asks for; start them from their old pieces and give them a stage of their own"
            )
        return out

    def write(self, path: epath.PathLike) -> None:
        """Writes every number as a JSON object."""
        pieces = list(self.counts.items())
        record = {
            "texts": self.texts,
            "tokens": self.tokens,
            "budget": self.budget,
            "new_tokens": len(self.counts),
            "emitted": self.emitted,
            "share": self.share,
            "median_count": self.median,
            "median_expected": self.expected(self.median),
            f"expected_below_{FEW}": len(self.below(FEW)),
            f"expected_below_{ENOUGH}": len(self.below(ENOUGH)),
            "most": dict(pieces[:SHOWN]),
            "least": dict(pieces[::-1][:SHOWN]),
            "advice": self.advice,
            "counts": self.counts,
        }
        storage.write_json(path, record)


def expose(
    tokenizer: Tokenizer, splice: Splice, texts: Iterable[str], budget: int, min_count: int = 0
) -> Exposure:
    """Counts new tokens on `texts`, which are read once and not kept in memory.

    Args:
      texts: a sample of what training will read, in its proportions of languages.
      budget: tokens training will read of such text.
      min_count: of the recipe that the pieces were chosen by.
    """
    if tokenizer.fingerprint != splice.new_fingerprint:
        raise ValueError(
            "the tokenizer is not the one of the splice; pass the folder that holds them both"
        )
    if budget < 1:
        raise ValueError(f"budget: got {budget}; want the tokens training will read, 1 or more")
    counts: Counter[int] = Counter()
    texts_read = 0
    for batch in batches(texts, BATCH):
        texts_read += len(batch)
        counts.update(itertools.chain.from_iterable(tokenizer.encode_batch(batch)))
    if not counts:
        raise ValueError("the sample has no text; name text like that of the training mixture")
    pieces = family(tokenizer).pieces(tokenizer)
    order = sorted(splice.added, key=lambda i: (-counts[i], i))
    return Exposure(
        texts_read, counts.total(), budget, {pieces[i]: counts[i] for i in order}, min_count
    )


def _pieces(n: int) -> str:
    return f"{n:,} piece{'' if n == 1 else 's'}"
