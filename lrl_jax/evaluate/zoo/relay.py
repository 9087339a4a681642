"""Lets one process of several decide what is scored, while the others compute it with it.

The evaluation harness runs in process 0 alone, for it does not ask in the same order in every
process. Process 0 sends what it asks as arrays of ids; the others run the same programs on them,
until it sends what came of it.

    if meshes.lead():
        relay = Relay(model, batch_size)
        ... relay.continuations(pairs) ...
        return relay.end(results)
    return follow(model, batch_size)
"""

import base64
from collections.abc import Iterator, Sequence
import dataclasses
import json
from typing import Any
import zlib

import numpy as np

from lrl_jax.devices import peers
from lrl_jax.evaluate import generate as generation
from lrl_jax.evaluate import likelihood
from lrl_jax.evaluate.generate import Generated, Settings
from lrl_jax.evaluate.kinds import MeasuredModel
from lrl_jax.evaluate.likelihood import Scored

Ids = Sequence[int]
PIECE = 1 << 20  # characters of a message to the other processes


class Relay:
    """Scores and generates in all processes; only process 0 has one."""

    def __init__(self, model: MeasuredModel, batch_size: int):
        self._model, self._batch_size = model, batch_size

    def continuations(self, pairs: Sequence[tuple[Ids, Ids]]) -> Iterator[tuple[int, Scored]]:
        """Yields the index of a pair and its score, as `likelihood.continuations`."""
        results = likelihood.continuations(self._model, pairs, self._batch_size)  # or raises
        self._send("continuations", [ids for pair in pairs for ids in pair])
        return results

    def generate(
        self, prompts: Sequence[Ids], settings: Settings
    ) -> Iterator[tuple[int, Generated]]:
        """Yields the index of a prompt and its answer, as `generate.generate`."""
        self._send("generate", prompts, dataclasses.asdict(settings))
        return generation.generate(self._model, prompts, settings, self._batch_size)

    def end(self, results: Any) -> Any:
        """Ends the work of the other processes, which return these results, as JSON."""
        self._send("end", (), results)
        return results

    def _send(self, work: str, rows: Sequence[Ids], about: Any = None) -> None:
        text = json.dumps({"work": work, "about": about, "rows": _written(rows)})
        for start in range(0, len(text), PIECE):
            last = start + PIECE >= len(text)
            peers.exchange(f"{'.' if last else '+'}{text[start : start + PIECE]}")


def follow(model: MeasuredModel, batch_size: int) -> Any:
    """Computes what process 0 asks, until it ends; returns its results."""
    while True:
        message = json.loads(_heard())
        rows, about = _read(message["rows"]), message["about"]
        if message["work"] == "end":
            return about
        if message["work"] == "continuations":
            pairs = list(zip(rows[::2], rows[1::2], strict=True))
            results: Iterator[Any] = likelihood.continuations(model, pairs, batch_size)
        else:
            about |= {key: tuple(value) for key, value in about.items() if isinstance(value, list)}
            results = generation.generate(model, rows, Settings(**about), batch_size)
        for _ in results:
            pass


def _heard() -> str:
    """Returns what process 0 sends next."""
    pieces = [peers.exchange("")[0]]
    while pieces[-1].startswith("+"):
        pieces.append(peers.exchange("")[0])
    return "".join(piece[1:] for piece in pieces)


def _written(rows: Sequence[Ids]) -> str:
    """Writes rows of ids as text: their number, their lengths, and the ids, compressed.

    >>> _read(_written([[5, 6], [], [7]]))
    [[5, 6], [], [7]]
    """
    lengths = [len(row) for row in rows]
    flat = [len(rows), *lengths, *(i for row in rows for i in row)]
    return base64.b85encode(zlib.compress(np.asarray(flat, "<i4").tobytes(), 1)).decode()


def _read(text: str) -> list[list[int]]:
    flat = np.frombuffer(zlib.decompress(base64.b85decode(text)), "<i4")
    ends = np.cumsum(flat[1 : 1 + flat[0]])
    return [row.tolist() for row in np.split(flat[1 + flat[0] :], ends[:-1])] if len(ends) else []
