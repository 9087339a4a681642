"""Generates answers to prompts: greedy or drawn, ended by ids, by stop strings or by a length.

    settings = Settings(max_new_tokens=64, ends=model.ends, stops=("\\n\\n",))
    for index, answer in generate(model, prompts, settings, batch_size=16): ...

Rows that end are refilled with the prompts that wait, so answers come in the order in which they
end. How that is done stands in `lrl_jax.evaluate.decoding`.
"""

from collections.abc import Iterator, Sequence

from lrl_jax.data.templates import documents
from lrl_jax.data.templates import table as templates
from lrl_jax.evaluate.decoding import stops
from lrl_jax.evaluate.decoding.engine import Engine
from lrl_jax.evaluate.decoding.settings import Counters, Generated, Settings
from lrl_jax.evaluate.kinds import MeasuredModel

__all__ = ["Counters", "Engine", "Generated", "Settings", "answers", "generate", "stream"]


def generate(
    model: MeasuredModel,
    prompts: Sequence[Sequence[int]],
    settings: Settings,
    batch_size: int,
    counters: Counters | None = None,
) -> Iterator[tuple[int, Generated]]:
    """Yields the index of a prompt and its answer, as soon as that has ended.

    Every process passes the same prompts, and every one yields all answers. A prompt and its answer
    are together no longer than `model.context`: an answer ends there, and a prompt that leaves less
    than half of it, or less than `max_new_tokens`, loses tokens after its bos.

    Args:
      prompts: ids; bos is put in front of those that do not begin with it, if `settings.bos`.
      batch_size: how many rows are decoded together; rounded up to what the mesh can split.
      counters: counts what it took, if given.
    """
    done = 0
    model.tick(done, len(prompts))
    for answer in Engine(model, batch_size).run(prompts, settings, counters):
        if answer.done is not None:
            done += 1
            model.tick(done, len(prompts))
            yield answer.index, answer.done


def stream(engine: Engine, prompt: Sequence[int], settings: Settings) -> Iterator[str]:
    """Yields the text of an answer as it grows, without what a stop string may still cut."""
    said = ""
    for answer in engine.run([prompt], settings, steps=1):
        if answer.done is not None:
            text = answer.done.text
        else:
            text = stops.safe(answer.decode(answer.ids), settings.stops)
        if text.startswith(said) and len(text) > len(said):
            yield text[len(said) :]
            said = text


def answers(
    model: MeasuredModel,
    template: str,
    records: Sequence[templates.Record],
    max_new_tokens: int,
    batch_size: int,
) -> list[str]:
    """Returns greedy answers to records in a template, each up to where the template ends."""
    if not records:
        return []
    tokenizer = model.tokenizer
    ids = [
        documents.ids(templates.prompt_parts(template, record, tokenizer), tokenizer)
        for record in records
    ]
    ends = (templates.ending(template, records[0], tokenizer),)
    texts = [""] * len(ids)
    settings = Settings(max_new_tokens=max_new_tokens, ends=ends)
    for index, answer in generate(model, ids, settings, batch_size):
        texts[index] = answer.text
    return texts
