"""Keeps what a model has answered in a file of lines, so that a killed evaluation goes on."""

from collections.abc import Iterable
import hashlib
import json
from typing import Any

from etils import epath

from lrl_jax.evaluate.benchmark import items
from lrl_jax.evaluate.benchmark.items import KeptLines
from lrl_jax.evaluate.kinds import MeasuredModel


def fingerprint(model: MeasuredModel) -> str:
    """Returns a digest of what answers depend on: weights, their config, tokenizer and length.

    Every process calls it; the digest does not depend on the mesh.
    """
    return items.key(model if model.digest else items.with_digest(model))


class Finished:
    """Holds answers by what was asked; each is in the file before it is given to anyone.

    It is what lm-evaluation-harness calls a cache hook.
    """

    def __init__(self, path: epath.Path):
        """Reads the answers that a file has."""
        self._kept = KeptLines(path)
        self._answers: dict[str, Any] = dict(self._kept.read())

    def __len__(self) -> int:
        """Returns how many answers there are."""
        return len(self._answers)

    def get(self, kind: str, request: Iterable[Any]) -> Any:
        """Returns the answer to a request, or None where it is not finished."""
        return self._answers.get(_key(kind, request))

    def add_partial(self, kind: str, request: Iterable[Any], answer: Any) -> None:
        """Adds the answer to a request, as JSON; the harness gave the method its name."""
        key = _key(kind, request)
        self._answers[key] = answer
        self._kept.add([key, answer])

    def flush(self) -> None:
        """Writes the answers that wait to be written."""
        self._kept.flush()


def _key(kind: str, request: Iterable[Any]) -> str:
    return hashlib.sha256(json.dumps([kind, *request]).encode()).hexdigest()
