"""Writes two languages to translate into: Korean, and English in Cyrillic letters.

    python scripts/laws/world.py FOLDER

FOLDER/{train,test}.{eng,kor,cyr}: aligned short sentences of the sample world. A base of English
and Korean has to learn every word of the second language, and hardly any of the first.
"""

from pathlib import Path
import string
import sys

from lrl_jax.data.sample import world

WORDS = 6  # of an English sentence, at most
LETTERS = "абцдефгхијклмнопярстувшыйз"  # for a to z
CYRILLIC = str.maketrans(string.ascii_letters + "'", LETTERS + LETTERS.upper() + "ь")


def write(folder: Path) -> None:
    """Writes the six files."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        pairs = zip(world.lines(f"{split}.eng"), world.lines(f"{split}.kor"), strict=True)
        short = [(english, korean) for english, korean in pairs if english.count(" ") < WORDS]
        texts = {
            "eng": [english for english, _ in short],
            "kor": [korean for _, korean in short],
            "cyr": [english.translate(CYRILLIC) for english, _ in short],
        }
        for name, lines in texts.items():
            (folder / f"{split}.{name}").write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
