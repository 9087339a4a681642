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
    """Describes the source of a split of a Task.

    Attributes:
      shards: how many shards the source has.
      files: the shards' files; empty where shards are not files.
    """

    shards: int
    files: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Registered:
    """Holds the Tasks and Mixtures of files that were asked for.

    Attributes:
      splits: (task, split) -> its source.
      rates: mixture -> task -> rate.
      modules: the files, and those beside them that they import.
    """

    splits: dict[tuple[str, str], Split]
    rates: dict[str, dict[str, float]]
    modules: tuple[str, ...]


def content(files: Iterable[str]) -> str:
    """Returns a digest of the files' content.

    Raises:
      ValueError: a file that is remote, or is not there.
    """
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
