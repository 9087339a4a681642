"""Writes the instructions of the miniatures: rows of the sample world in English and Korean.

    python -m scripts.mini.world FOLDER

FOLDER/english.jsonl            instructions in English, of every kind
FOLDER/english.txt              their words and those of chains, for a vocabulary
FOLDER/sums.{eng,kor}.jsonl     sums, row n in English and in Korean; their Korean rows never add
                                two numbers of `HELD_OUT`
FOLDER/asked.jsonl              sums in Korean that add only these, with the English beside
FOLDER/korean.txt               instructions in Korean with their answers, as plain text
FOLDER/{small,large,unchecked}.jsonl   instructions in Korean; of the last, every third answer is
                                that of another row
FOLDER/questions.jsonl          other instructions in Korean, that no file above has

They are made by the generator of the sample world (scripts/sample_world), with seeds of their own.
"""

from collections.abc import Callable, Iterable, Iterator
import itertools
import json
from pathlib import Path
import random
import sys

from lrl_jax.data.templates import taco
from scripts.sample_world import instruct
from scripts.sample_world import lexicon as x

SEED = 20_261_130
# Numbers that Korean training rows never add: each stands on either side of other sums there, and
# each total is the answer of another one.
HELD_OUT = {(2, 4), (4, 2), (3, 5), (5, 3), (4, 6), (6, 4), (2, 6), (6, 2), (3, 6), (6, 3)}
SIZES = {
    "english": 8_000,
    "sums": 1_200,
    "asked": 240,
    "small": 240,
    "large": 1_920,
    "questions": 320,
}
SUMS = (instruct.count, instruct.total)
CHECKED = (  # kinds with a single right answer
    instruct.count, instruct.total, instruct.opposite, instruct.classify, instruct.odd,
    instruct.past, instruct.deny, instruct.to_question,
)  # fmt: skip
NUMBER_OF = {word: i + 1 for i, (word, _) in enumerate(x.NUMBERS)}

Row = dict[str, str]
Make = Callable[[random.Random], instruct.Task]


def row(task: instruct.Task, language: str) -> Row:
    """Returns a task as a row in a language, "eng" or "kor"."""
    at = ("eng", "kor").index(language)
    return {"instruction": task.instruction[at], "input": task.input[at], "output": task.output[at]}


def asked_in_english(row: Row) -> str:
    """Returns the words of a chain, without those in another language, for a vocabulary."""
    request = taco.REQUEST.format(language="Korean")
    question = f"{row['instruction']} {row['input']}"
    return (
        f"### Human: {request} {question}### Assistant: {taco.PREFIX} {question} "
        f"Response in English: {row['output']} Response in Korean:"
    )


def added(task: instruct.Task) -> tuple[int, ...]:
    """Returns the two numbers that a sum adds, in the order in which they are told."""
    words = task.input[0].replace(".", " ").split()
    return tuple(NUMBER_OF[word] for word in words if word in NUMBER_OF)


def different(rng: random.Random, makers: tuple[Make, ...]) -> Iterator[instruct.Task]:
    """Draws tasks without end, none of which has the Korean words of an earlier one."""
    seen: set[str] = set()
    while True:
        task = makers[int(rng.random() * len(makers))](rng)
        words = json.dumps(row(task, "kor"), ensure_ascii=False)
        if words not in seen:
            seen.add(words)
            yield task


def exchanged(rows: list[Row]) -> list[Row]:
    """Returns rows in which every third answer is that of the third row before it, in a ring."""
    wrong = [i for i in range(len(rows)) if i % 3 == 0]
    answers = {
        i: rows[before]["output"] for before, i in zip(wrong, [*wrong[1:], wrong[0]], strict=True)
    }
    return [each | {"output": answers.get(i, each["output"])} for i, each in enumerate(rows)]


def write(folder: Path) -> None:
    """Writes all files; every call writes the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(SEED)
    english = itertools.islice(_every(rng), SIZES["english"])
    rows = [row(task, "eng") for task in english]
    _write(folder / "english.jsonl", rows)
    _write_lines(folder / "english.txt", map(asked_in_english, rows))

    sums = different(rng, SUMS)
    apart = [task for task in itertools.islice(sums, 4 * SIZES["sums"])]
    known = [task for task in apart if added(task) not in HELD_OUT][: SIZES["sums"]]
    asked = [task for task in apart if added(task) in HELD_OUT][: SIZES["asked"]]
    for language in ("eng", "kor"):
        _write(folder / f"sums.{language}.jsonl", (row(task, language) for task in known))
    _write(
        folder / "asked.jsonl", (row(task, "kor") | {"english": task.input[0]} for task in asked)
    )

    korean = different(rng, CHECKED)
    for name in ("questions", "small", "large"):
        rows = [row(task, "kor") for task in itertools.islice(korean, SIZES[name])]
        _write(folder / f"{name}.jsonl", rows)
    _write(folder / "unchecked.jsonl", exchanged(rows))
    texts = (" ".join(row(task, "kor").values()) for task in itertools.islice(korean, 24_000))
    _write_lines(folder / "korean.txt", texts)


def _every(rng: random.Random) -> Iterator[instruct.Task]:
    while True:
        makers = SUMS if rng.random() < 0.6 else CHECKED
        yield makers[int(rng.random() * len(makers))](rng)


def _write(path: Path, rows: Iterable[Row]) -> None:
    _write_lines(path, (json.dumps(each, ensure_ascii=False) for each in rows))


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
