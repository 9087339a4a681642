"""Describes the seqio Tasks and Mixtures that a user's Python files register.

Holds no code that runs them: `user_tasks` does that, and `imports` asks it from processes that
have no TensorFlow.
"""

from collections.abc import Iterable
import dataclasses
import hashlib
from pathlib import Path

from lrl_jax import storage


@dataclasses.dataclass(frozen=True)
class Split:
    """Describes what the records of a split of a Task come from.

    Attributes:
      shards: how many shards its source has.
      files: the files of these shards; empty where they are not files.
      modules: the Python files that register it, and those beside them that they import.
    """

    shards: int
    files: tuple[str, ...]
    modules: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Registered:
    """Holds the splits of Tasks that were asked for, and rates by Mixture and Task."""

    splits: dict[tuple[str, str], Split] = dataclasses.field(default_factory=dict)
    rates: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)


def content(files: Iterable[str]) -> str:
    """Returns a digest of the files' content."""
    digest = hashlib.sha256()
    for file in files:
        if "://" in file:
            raise ValueError(
                f"{file}: imports are files of this machine, because they are run; copy it here, "
                "read it, and name the copy"
            )
        if not Path(file).is_file():
            raise ValueError(f"{file}: no such file; data.imports names Python files")
        digest.update(bytes.fromhex(storage.sha256(file)))
    return digest.hexdigest()
