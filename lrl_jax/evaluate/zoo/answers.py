"""Answers the requests of lm-evaluation-harness, each once, with its conventions."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import math
from typing import Any

from lrl_jax.evaluate.generate import Settings
from lrl_jax.evaluate.kinds import MeasuredModel
from lrl_jax.evaluate.zoo.finished import Finished
from lrl_jax.evaluate.zoo.relay import Relay
from lrl_jax.evaluate.zoo.text import HarnessText
from lrl_jax.text import DataError

Pair = tuple[list[int], list[int]]  # ids of a context and of a continuation
LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
DEFAULT_LENGTH = 256  # new tokens, where a task does not say (as in the harness)
SAMPLING = ("temperature", "top_p", "min_p", "repetition_penalty")


class Answers:
    """Answers requests with a model; an answer is kept as soon as it is there."""

    def __init__(self, model: MeasuredModel, work: Relay, finished: Finished, chat: bool = False):
        self.text, self.work, self.finished = HarnessText(model.tokenizer), work, finished
        self.keep: Callable[[str, Any, Any], None] = finished.add_partial
        self.length, self._context = model.length, model.context or model.length
        self._ends = model.ends or (model.tokenizer.eos_id,)
        if chat:
            self._ends = (*self._ends, self.text.chat_end())

    def likelihoods(self, texts: Sequence[tuple], pairs: Sequence[Pair]) -> list[tuple]:
        """Returns log-probability in nats and whether it is greedy, of every pair.

        Args:
          texts: context and continuation of every pair, under which its answer is kept.
        """
        for (context, continuation), (_, ids) in zip(texts, pairs, strict=True):
            if not 0 < len(ids) <= self.length:
                raise DataError(
                    f"choice {continuation[:60]!r} after {context[-60:]!r} has {len(ids)} tokens; "
                    f"want 1 to {self.length}, the length of a row: score with longer rows"
                )

        def scores(todo: Sequence[int]) -> Iterator[tuple[int, Any]]:
            for at, scored in self.work.continuations([pairs[n] for n in todo]):
                yield at, (-scored.nats, scored.greedy)

        return self._each("loglikelihood", texts, scores)

    def rolling(self, texts: Sequence[tuple[str]]) -> list[float]:
        """Returns the log-probability in nats of whole texts, however long."""

        def sums(todo: Sequence[int]) -> Iterator[tuple[int, Any]]:
            windows: list[tuple[int, Pair]] = []
            nats = defaultdict[int, list[float]](list)
            for at, n in enumerate(todo):
                ids = self.text.encode(texts[n][0])
                windows += [(at, pair) for pair in self._windows(ids)]
            whole = Counter(at for at, _ in windows)
            for n, scored in self.work.continuations([pair for _, pair in windows]):
                at = windows[n][0]
                nats[at].append(scored.nats)
                if len(nats[at]) == whole[at]:
                    yield at, -math.fsum(nats[at])
            yield from ((at, 0.0) for at in range(len(todo)) if not whole[at])

        return self._each("loglikelihood_rolling", texts, sums)

    def generated(self, requests: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
        """Returns the answers to prompts, each with generation settings of its own."""

        def answers(todo: Sequence[int]) -> Iterator[tuple[int, Any]]:
            alike = defaultdict[Settings, list[int]](list)  # settings -> places in todo
            for at, n in enumerate(todo):
                alike[self.settings(requests[n][1])].append(at)
            for settings, places in alike.items():
                room = self._context - settings.max_new_tokens - 1  # a token for bos
                if room < 1:
                    raise DataError(
                        f"max_gen_toks={settings.max_new_tokens}: the model reads {self._context} "
                        "tokens, prompt and answer together; set a smaller number in the task file"
                    )
                ids = [self.text.encode(requests[todo[at]][0])[-room:] for at in places]
                for n, answer in self.work.generate(ids, settings):
                    yield places[n], answer.text

        return self._each("generate_until", requests, answers)

    def settings(self, given: Mapping[str, Any]) -> Settings:
        """Returns the settings that the `generation_kwargs` of a task ask for.

        Raises:
          DataError: one that cannot be honoured.
        """
        wanted = {key: value for key, value in given.items() if value is not None}
        odd = sorted({*wanted} - {"until", "do_sample", *LENGTHS, *SAMPLING})
        if odd:
            raise DataError(
                f"generation_kwargs: {', '.join(odd)} cannot be honoured; want some of until, "
                f"do_sample, {', '.join((*LENGTHS[:1], *SAMPLING))}"
            )
        until = wanted.get("until", ())
        until = (until,) if isinstance(until, str) else until
        sampled = wanted.get("do_sample", wanted.get("temperature", 0) > 0)
        numbers: dict[str, Any] = {key: float(wanted[key]) for key in SAMPLING if key in wanted}
        numbers["temperature"] = numbers.get("temperature", 1.0) if sampled else 0.0
        lengths = (wanted[key] for key in LENGTHS if key in wanted)
        return Settings(
            max_new_tokens=int(next(lengths, DEFAULT_LENGTH)),
            ends=self._ends,
            stops=tuple(stop for stop in until if stop),
            **numbers,
        )

    def _windows(self, ids: Sequence[int]) -> Iterator[Pair]:
        """Yields contexts and continuations that score every token once.

        As in the harness, all but the last window have a context of one token.
        """
        for start in range(0, len(ids), self.length):
            end = min(start + self.length, len(ids))
            context = ids[max(0, end - self.length - 1) : start]
            yield list(context) or [self.text.tokenizer.bos_id], list(ids[start:end])

    def _each(
        self,
        kind: str,
        requests: Sequence[Any],
        compute: Callable[[Sequence[int]], Iterable[tuple[int, Any]]],
    ) -> list[Any]:
        """Returns the answers to requests; those that are finished are not computed again."""
        answers = [self.finished.get(kind, request) for request in requests]
        todo = [n for n, answer in enumerate(answers) if answer is None]
        for at, answer in compute(todo) if todo else ():
            self.keep(kind, requests[todo[at]], answer)
            answers[todo[at]] = answer
        return [tuple(answer) if isinstance(answer, list) else answer for answer in answers]
