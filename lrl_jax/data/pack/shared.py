"""Puts what all jobs read, the tokenizer and test texts, where every process finds it.

compared = share(data, tokenizer, folder)       before the jobs run
home(tokenizer, folder), tests(data, folder)    the folders, for the jobs
open_held_out(tests(data, folder))              the test texts, in any process
remove(folder)                                  when they are done
"""

from collections.abc import Iterator, Mapping
import functools
import hashlib
import os

from etils import epath
import numpy as np

from lrl_jax import storage
from lrl_jax.data import arrays
from lrl_jax.data.read import contamination
from lrl_jax.data.read.contamination import Compared, HeldOut, Key, Runs
from lrl_jax.recipe import data as recipe_data
from lrl_jax.vocab.tokenizer.types import Tokenizer

# in the folder of packed data; no dataset can have these names
TOKENIZER, TESTS = ".tokenizer", ".test_texts"
COMPARED = "test_texts.json"  # test file -> `Compared`
FACTS, HASHES, OWNERS, TEXTS = "facts.json", "hashes.npy", "owners.npy", "texts.npy"


def home(tokenizer: Tokenizer, folder: epath.Path) -> str:
    """Returns the folder from which every process loads the tokenizer."""
    return os.fspath(folder / TOKENIZER / tokenizer.fingerprint[:16])


def tests(data: recipe_data.Data, folder: epath.Path) -> str:
    """Returns the folder of the test texts that no record may share; '' if there are none."""
    if not data.decontaminate:
        return ""
    names = hashlib.sha256("\0".join(data.decontaminate).encode()).hexdigest()[:16]
    return os.fspath(folder / TESTS / f"{contamination.mark(data.decontaminate)}-{names}")


def share(data: recipe_data.Data, tokenizer: Tokenizer, folder: epath.Path) -> dict[str, Compared]:
    """Writes the folders; returns what was counted of each test file.

    Raises DataError for a test file that cannot be read.
    """
    place = epath.Path(home(tokenizer, folder))
    place.mkdir(parents=True, exist_ok=True)
    for file, content in tokenizer.files.items():
        storage.write(place / file, content)
    if not data.decontaminate:
        return {}
    held_out = contamination.gather(data.decontaminate)
    write_held_out(held_out, epath.Path(tests(data, folder)))
    return dict(zip(held_out.sources, held_out.compared, strict=True))


def write_held_out(held_out: HeldOut, folder: epath.Path) -> None:
    """Writes the runs of test texts to a folder from which other processes open them."""
    folder.mkdir(parents=True, exist_ok=True)
    groups = held_out.groups
    none = [np.empty(0, np.uint64)]  # all texts may be too short
    arrays.save(folder / HASHES, np.concatenate([*none, *(r.hashes for r in groups.values())]))
    owners = np.concatenate([*none, *(r.owners for r in groups.values())]).astype(np.uint32)
    arrays.save(folder / OWNERS, owners)
    arrays.save(folder / TEXTS, held_out.texts)
    facts = {
        "sources": held_out.sources,
        "compared": held_out.compared,
        "files": held_out.files,
        "source_of": held_out.source_of.tolist(),
        "groups": [[*key, len(runs.hashes)] for key, runs in groups.items()],
    }
    storage.write_json(folder / FACTS, facts)


def open_held_out(folder: str) -> HeldOut | None:
    """Opens what `write_held_out` wrote; None for the name ''. Local arrays are mapped."""
    return _opened(folder) if folder else None


@functools.lru_cache(maxsize=1)
def _opened(folder: str) -> HeldOut:
    path = epath.Path(folder)
    facts = storage.read_json(path / FACTS)
    hashes, owners, texts = (arrays.load(path / name) for name in (HASHES, OWNERS, TEXTS))
    groups, start = {}, 0
    for *key, count in facts["groups"]:
        end = start + count
        groups[Key(*key)] = Runs(hashes[start:end], owners[start:end])
        start = end
    compared = tuple(Compared(*counts) for counts in facts["compared"])
    of_file, names = np.array(facts["source_of"]), (tuple(facts["sources"]), tuple(facts["files"]))
    return HeldOut(names[0], compared, names[1], of_file, texts, groups)


def write_compared(folder: epath.Path, compared: Mapping[str, Compared]) -> None:
    """Writes how many texts were compared; removes an older file where there are none."""
    path = folder / COMPARED
    if compared:
        storage.write_json(path, {source: counts._asdict() for source, counts in compared.items()})
    else:
        path.unlink(missing_ok=True)


def read_compared(folder: epath.Path) -> dict[str, Compared]:
    """Reads what `write_compared` wrote; {} where no texts were compared."""
    path = folder / COMPARED
    counts = storage.read_json(path) if path.exists() else {}
    return {source: Compared(**of_source) for source, of_source in counts.items()}


def remarks(folder: epath.Path) -> Iterator[str]:
    """Yields a line on each test file of which texts are too short to be compared."""
    for source, counts in read_compared(folder).items():
        if counts.short:
            yield (
                f"{source}: {counts.short:,} of {counts.texts:,} test texts are too short to be "
                "compared with training data"
            )


def remove(folder: epath.Path) -> None:
    """Removes the folders."""
    for name in (TOKENIZER, TESTS):
        if (folder / name).exists():
            (folder / name).rmtree()
