"""Reads the sample text that ships with the package, so that everything can run offline.

`lines(NAME)` serves `sample:NAME`. The text is dedicated to the public domain (CC0 1.0); in a
checkout, scripts/sample_world makes it.
"""

from collections.abc import Iterator
import functools
from importlib import resources
import lzma
import tarfile

NAMES = (
    "train.eng", "train.kor", "dev.eng", "dev.kor", "test.eng", "test.kor",
    "mono.eng", "mono.kor", "instruct.eng.jsonl", "instruct.kor.jsonl",
)  # fmt: skip


def lines(name: str) -> Iterator[str]:
    """Returns the lines of one corpus, without newlines.

    train, dev and test (.eng, .kor) are aligned sentence pairs; mono (.eng, .kor) are paragraphs,
    not translations of each other; instruct (.eng.jsonl, .kor.jsonl) are JSON rows with
    instruction, input and output. Dev and test combine the words of train in ways that train never
    shows.
    """
    if name not in NAMES:
        raise ValueError(f"got sample:{name}, which is not one of {', '.join(NAMES)}")
    return iter(_texts()[name].split("\n")[:-1])


@functools.cache
def _texts() -> dict[str, str]:
    """Unpacks the archive, 4 MB of text, once in a process."""
    path = resources.files("lrl_jax.data.sample") / "sample.tar.xz"
    texts = {}
    with path.open("rb") as packed, lzma.open(packed) as tar, tarfile.open(fileobj=tar) as archive:
        for entry in archive:
            file = archive.extractfile(entry)
            assert file, f"{entry.name} is no file"
            texts[entry.name] = file.read().decode()
    return texts
