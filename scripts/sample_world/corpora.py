"""The sample world by name: `lines(NAME)` serves `sample:NAME`, so that everything runs offline.

Dedicated to the public domain (CC0 1.0), text and code alike. The split of a sentence is decided by
the hash of its combinations of content words ("Minsu+eat+apple"): dev and test hold combinations
that train never shows, made of words and patterns that it does.
"""

from collections.abc import Iterator
import functools
import hashlib
import json
import random

from lrl_jax.sample import instruct, patterns, stories
from lrl_jax.sample.phrases import Pair

SIZES = {"train": 24_000, "dev": 300, "test": 500}  # pairs
SEED = 20_250_101
HELD = {"dev": 3, "test": 5}  # percent of all combinations
MONO_BYTES = 900_000  # of each language: about 6,000 paragraphs
TASK_ROWS = 480  # of each language
WORDS = (4, 14)  # of an English sentence

NAMES = tuple(
    [f"{split}.{tongue}" for split in SIZES for tongue in ("eng", "kor")]
    + ["mono.eng", "mono.kor", "instruct.eng.jsonl", "instruct.kor.jsonl"]
)


def lines(name: str) -> Iterator[str]:
    """The lines of one corpus, without newlines; the same for ever.

    train, dev and test (.eng, .kor) are aligned sentence pairs; mono (.eng, .kor) are paragraphs,
    not translations of each other; instruct (.eng.jsonl, .kor.jsonl) are JSON rows with
    instruction, input and output.
    """
    if name not in NAMES:
        raise ValueError(f"got sample:{name}, which is not one of {', '.join(NAMES)}")
    corpus, tongue = name.split(".")[:2]
    if corpus == "mono":
        return iter(_paragraphs(tongue))
    if corpus == "instruct":
        return iter(_tasks(tongue))
    return (getattr(pair, tongue) for pair in pairs()[corpus])


@functools.cache
def split_of(combination: str) -> str:
    """Where a combination belongs: "train", "dev" or "test"."""
    at = int.from_bytes(hashlib.sha256(combination.encode()).digest()[:4], "big") % 100
    if at < HELD["dev"]:
        return "dev"
    return "test" if at < HELD["dev"] + HELD["test"] else "train"


def home_of(combinations: tuple[str, ...]) -> str:
    """The split of a text: test if one combination is held out for it; "" if dev and test meet."""
    homes = {split_of(combination) for combination in combinations} - {"train"}
    if not homes:
        return "train"
    return homes.pop() if len(homes) == 1 else ""


@functools.cache
def pairs() -> dict[str, tuple[Pair, ...]]:
    """All sentence pairs by split; no English and no Korean sentence occurs twice."""
    rng = random.Random(SEED)
    found: dict[str, list[Pair]] = {split: [] for split in SIZES}
    seen: set[str] = set()
    while any(len(found[split]) < size for split, size in SIZES.items()):
        pair = patterns.draw(rng)
        home = home_of(pair.combinations)
        fits = WORDS[0] <= len(pair.eng.split()) <= WORDS[1]
        if not home or not fits or len(found[home]) == SIZES[home]:
            continue
        if pair.eng in seen or pair.kor in seen:
            continue
        seen.update((pair.eng, pair.kor))
        found[home].append(pair)
    return {split: tuple(items) for split, items in found.items()}


@functools.cache
def _paragraphs(tongue: str) -> tuple[str, ...]:
    """Paragraphs of train combinations only, until the language has its bytes."""
    rng = random.Random(SEED + 1 + ("eng", "kor").index(tongue))
    found: dict[str, None] = {}
    size = 0
    while size < MONO_BYTES:
        story = stories.passage(stories.draw(rng))
        text = getattr(story, tongue)
        if home_of(story.combinations) == "train" and text not in found:
            found[text] = None
            size += len(text.encode()) + 1
    return tuple(found)


@functools.cache
def _tasks(tongue: str) -> tuple[str, ...]:
    """Instruction rows of train combinations only, one JSON object a line."""
    rng = random.Random(SEED + 3 + ("eng", "kor").index(tongue))
    found: dict[str, None] = {}
    while len(found) < TASK_ROWS:
        row, combinations = instruct.draw(rng, tongue)
        if home_of(combinations) == "train":
            found[json.dumps(row, ensure_ascii=False)] = None
    return tuple(found)
