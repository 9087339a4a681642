"""Writes short sentences of the sample world in a language that a base learns, and in another.

    python scripts/laws/world.py FOLDER

FOLDER/base.{eng,kor,cyr}    pairs that the base learns Korean from (scripts/laws/base.yaml); of
                             base.cyr it has the pieces, and reads nothing
FOLDER/base.asked            requests to translate, so that the vocabulary has their words
FOLDER/train.{eng,kor,cyr}   other pairs, of which a budget is shared out (scripts/laws/recipe.yaml)
FOLDER/test.{eng,kor,cyr}    test sentences

kor is Korean; cyr is English in Cyrillic letters (qaa_Cyrl), of which the base knows no word. They
were chosen so that they differ in how much a pair helps.
"""

from pathlib import Path
import string
import sys

from lrl_jax.data.sample import world
from lrl_jax.data.templates import translation

WORDS = 6  # of an English sentence, at most
POOL = 1_200  # pairs that the base does not read
LETTERS = "абцдефгхијклмнопярстувшыйз"  # for a to z
CYRILLIC = str.maketrans(string.ascii_letters + "'", LETTERS + LETTERS.upper() + "ь")
NAMES = ("Korean", "Cyrillic English")


def short(split: str) -> list[tuple[str, str]]:
    """Returns the pairs of a split of the sample world whose English is short."""
    pairs = zip(world.lines(f"{split}.eng"), world.lines(f"{split}.kor"), strict=True)
    return [(english, korean) for english, korean in pairs if english.count(" ") < WORDS]


def write(folder: Path) -> None:
    """Writes all files."""
    folder.mkdir(parents=True, exist_ok=True)
    learnable = short("train")
    pairs_of = {"train": learnable[:POOL], "base": learnable[POOL:], "test": short("test")}
    for name, pairs in pairs_of.items():
        _write(folder / f"{name}.eng", [english for english, _ in pairs])
        _write(folder / f"{name}.kor", [korean for _, korean in pairs])
        _write(folder / f"{name}.cyr", [english.translate(CYRILLIC) for english, _ in pairs])
    requests: list[str] = [
        translation.FIXED.format(source="English", target=name) for name in NAMES
    ]
    _write(folder / "base.asked", requests * len(pairs_of["base"]))


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
