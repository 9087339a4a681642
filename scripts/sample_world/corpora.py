"""Divides the sample world into named texts: train, dev and test pairs, paragraphs and tasks.

A hash of the content words that a sentence combines ("Minsu+eat+apple") decides its split. So dev
and test hold combinations that train never shows, made of words and patterns that train does show.
"""

from collections.abc import Iterator
import functools
import hashlib
import json
import random

from lrl_jax.data.sample.world import NAMES

from . import instruct, patterns, stories
from .phrases import Pair

SIZES = {"train": 24_000, "dev": 300, "test": 500}  # pairs
SEED = 20_250_101
HELD_OUT = {"dev": 3, "test": 5}  # percent of all combinations
MONO_BYTES = 900_000  # of each language: about 6,000 paragraphs
TASK_ROWS = 480  # of each language
WORDS = (4, 14)  # fewest and most words of an English sentence


def lines(name: str) -> Iterator[str]:
    """Makes the lines of one corpus, without newlines; every run makes the same lines.

    Args:
      name: one of NAMES; what each corpus holds is said in `lrl_jax.data.sample.world`.
    """
    if name not in NAMES:
        raise ValueError(f"got {name}, which is not one of {', '.join(NAMES)}")
    corpus, tongue = name.split(".")[:2]
    if corpus == "mono":
        return iter(_paragraphs(tongue))
    if corpus == "instruct":
        return iter(_tasks(tongue))
    return (getattr(pair, tongue) for pair in pairs()[corpus])


@functools.cache
def split_of(combination: str) -> str:
    """Returns the split of one combination of content words: "train", "dev" or "test"."""
    percent = int.from_bytes(hashlib.sha256(combination.encode()).digest()[:4], "big") % 100
    if percent < HELD_OUT["dev"]:
        return "dev"
    return "test" if percent < HELD_OUT["dev"] + HELD_OUT["test"] else "train"


def split_of_text(combinations: tuple[str, ...]) -> str:
    """Returns the split of a text: train if all its combinations are, else the held-out one.

    A text with combinations of both dev and test fits nowhere and returns "".
    """
    splits = {split_of(combination) for combination in combinations} - {"train"}
    if not splits:
        return "train"
    return splits.pop() if len(splits) == 1 else ""


@functools.cache
def pairs() -> dict[str, tuple[Pair, ...]]:
    """Makes all sentence pairs, by split; no English and no Korean sentence occurs twice."""
    rng = random.Random(SEED)
    accepted: dict[str, list[Pair]] = {split: [] for split in SIZES}
    seen: set[str] = set()
    while any(len(accepted[split]) < size for split, size in SIZES.items()):
        pair = patterns.draw(rng)
        split = split_of_text(pair.combinations)
        fits = WORDS[0] <= len(pair.eng.split()) <= WORDS[1]
        if not split or not fits or len(accepted[split]) == SIZES[split]:
            continue
        if pair.eng in seen or pair.kor in seen:
            continue
        seen.update((pair.eng, pair.kor))
        accepted[split].append(pair)
    return {split: tuple(items) for split, items in accepted.items()}


@functools.cache
def _paragraphs(tongue: str) -> tuple[str, ...]:
    """Makes different paragraphs of train combinations until they have MONO_BYTES."""
    rng = random.Random(SEED + 1 + ("eng", "kor").index(tongue))
    paragraphs: dict[str, None] = {}  # a set that keeps the order
    size = 0
    while size < MONO_BYTES:
        story = stories.passage(stories.draw(rng))
        text = getattr(story, tongue)
        if split_of_text(story.combinations) == "train" and text not in paragraphs:
            paragraphs[text] = None
            size += len(text.encode()) + 1
    return tuple(paragraphs)


@functools.cache
def _tasks(tongue: str) -> tuple[str, ...]:
    """Makes TASK_ROWS different instruction rows of train combinations, one JSON object a line."""
    rng = random.Random(SEED + 3 + ("eng", "kor").index(tongue))
    rows: dict[str, None] = {}  # a set that keeps the order
    while len(rows) < TASK_ROWS:
        row, combinations = instruct.draw(rng, tongue)
        if split_of_text(combinations) == "train":
            rows[json.dumps(row, ensure_ascii=False)] = None
    return tuple(rows)
