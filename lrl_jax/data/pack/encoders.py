"""Tokenises the documents of one shard in several processes, and gives them back in their order.

    for batch, documents in encoded(batches, tokenizer, folder, processes=8): ...

A shard is packed by one process, so that its bytes are the same on any number of cores. What takes
most of its time, the tokenizer, is handed to others: each is this file, run as a program that loads
the tokenizer from its folder, reads batches on its standard input and writes documents. They start
when a shard turns out to be long, and end when it is done or when the process that asks has ended.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
from typing import IO, Any

import numpy as np

from lrl_jax.data.templates import documents
from lrl_jax.data.templates.documents import Document
from lrl_jax.data.templates.parts import TextPart
from lrl_jax.text import DataError
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.types import Tokenizer

ALONE = 1 << 21  # characters of a shard that are tokenised before other processes are started
MOST = 8  # processes that one shard keeps busy: reading and packing are left to one
WAITING = 3  # batches for each process that may be tokenised, or wait for one that is not

Batch = Sequence[Sequence[TextPart]]


def encoded(
    batches: Iterable[Batch], tokenizer: Tokenizer, folder: str, processes: int
) -> Iterator[tuple[Batch, list[Document]]]:
    """Yields each batch with its documents, in order, tokenised here or in other processes.

    Args:
      folder: where the other processes load the same tokenizer from.
      processes: how many may be started; with fewer than two, none is.
    """
    helpers: list[_Helper] = []
    pending: deque[_Turn] = deque()
    chars = 0
    try:
        for batch in batches:
            if processes > 1 and not helpers and chars >= ALONE:
                helpers = [_Helper(folder) for _ in range(min(processes, MOST))]
            chars += sum(len(text_part.text) for text_parts in batch for text_part in text_parts)
            turn = _Turn(batch)
            pending.append(turn)
            if helper := _idle(helpers):
                helper.start(turn)
            else:
                turn.documents = documents.encode(batch, tokenizer)
            while pending and (pending[0].done or len(pending) > WAITING * len(helpers)):
                yield pending.popleft().finished(helpers)
        while pending:
            yield pending.popleft().finished(helpers)
    finally:
        for helper in helpers:
            helper.end()


@dataclasses.dataclass
class _Turn:
    """Holds a batch, and its documents or what is wrong with them once that is known."""

    batch: Batch
    documents: list[Document] | Exception | None = None

    @property
    def done(self) -> bool:
        return self.documents is not None

    def finished(self, helpers: Sequence["_Helper"]) -> tuple[Batch, list[Document]]:
        while self.documents is None:
            _collect(helpers, None)
        if isinstance(self.documents, Exception):
            raise self.documents
        return self.batch, self.documents


class _Helper:
    """Holds another process that tokenises one batch at a time."""

    def __init__(self, folder: str):
        path = os.pathsep.join(map(os.path.abspath, sys.path))
        self._child = subprocess.Popen(
            [sys.executable, "-P", __file__, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # errors come as answers
            env={**os.environ, "PYTHONPATH": path},
        )
        self.idle = False  # until it says that it has the tokenizer
        self._turn: _Turn | None = None

    def fileno(self) -> int:
        assert self._child.stdout
        return self._child.stdout.fileno()

    def start(self, turn: _Turn) -> None:
        """Sends a batch; the process is waiting for one, so this does not wait for long."""
        self.idle, self._turn = False, turn
        assert self._child.stdin
        plain = [[(p.text, p.weight, p.control) for p in text_parts] for text_parts in turn.batch]
        try:
            _send(self._child.stdin, plain)
        except BrokenPipeError:
            raise _killed() from None

    def collect(self) -> None:
        """Reads an answer that has begun to arrive."""
        assert self._child.stdout
        answer = _receive(self._child.stdout)
        if answer is None:
            raise _killed()
        if self._turn is None and "error" in answer:
            raise _error(answer)
        if self._turn is not None:
            self._turn.documents = _answered(answer, self._child.stdout)
        self.idle, self._turn = True, None

    def end(self) -> None:
        """Ends the process where it still runs, and closes its pipes."""
        self._child.kill()
        self._child.communicate()


def _idle(helpers: Sequence[_Helper]) -> _Helper | None:
    """Returns a process that waits for a batch, or None while they start.

    Once one has started, it waits for the first that is done: those that work use the cores.
    """
    started = any(helper.idle or helper._turn for helper in helpers)
    _collect(helpers, 0)
    while started and not any(helper.idle for helper in helpers):
        _collect(helpers, None)
    return next((helper for helper in helpers if helper.idle), None)


def _collect(helpers: Sequence[_Helper], seconds: float | None) -> None:
    """Reads the answers that arrive within some seconds; None waits for the first."""
    busy = [helper for helper in helpers if not helper.idle]
    if busy:
        for helper in select.select(busy, [], [], seconds)[0]:
            helper.collect()


def _killed() -> DataError:
    return DataError(
        "a process that tokenises was killed, most likely for lack of memory; lower data.workers "
        "and run the same command again: what is packed stays packed"
    )


# ---------------------------------------------------------------------------- messages
def _send(stream: IO[bytes], message: Any, *arrays: np.ndarray) -> None:
    """Writes a line of JSON, and the bytes of arrays whose sizes it says."""
    stream.write(json.dumps(message).encode() + b"\n")
    for array in arrays:
        stream.write(array.tobytes())
    stream.flush()


def _receive(stream: IO[bytes]) -> Any:
    """Reads a line of JSON; returns None if the other side has ended."""
    line = stream.readline()
    return json.loads(line) if line.endswith(b"\n") else None


def _answered(answer: dict[str, Any], stream: IO[bytes]) -> list[Document] | Exception:
    if "error" in answer:
        return _error(answer)
    lengths = answer["lengths"]
    size = 4 * sum(lengths)
    content = stream.read(2 * size)
    if len(content) < 2 * size:
        raise _killed()
    tokens = np.frombuffer(content[:size], np.int32)
    weights = np.frombuffer(content[size:], np.float32)
    ends = np.cumsum(lengths).tolist()
    return [
        Document(tokens[end - length : end], weights[end - length : end], count)
        for end, length, count in zip(ends, lengths, answer["bytes"], strict=True)
    ]


def _error(answer: dict[str, Any]) -> ValueError:
    return (DataError if answer["of data"] else ValueError)(answer["error"])


# ---------------------------------------------------------------------------- the other process
def serve(folder: str, requests: IO[bytes], answers: IO[bytes]) -> None:
    """Says that the tokenizer is loaded, then answers each batch until there are no more."""
    tokenizers.share_cores(1)
    try:
        tokenizer = tokenizers.load(folder)
    except (ValueError, OSError) as e:
        _send(answers, _message(e))
        return
    _send(answers, {"ready": True})
    while (plain := _receive(requests)) is not None:  # None: the process that asks has ended
        batch = [[TextPart(*fields) for fields in text_parts] for text_parts in plain]
        try:
            encoded_documents = documents.encode(batch, tokenizer)
        except ValueError as e:  # the next batch is answered all the same
            _send(answers, _message(e))
            continue
        tokens = [document.tokens for document in encoded_documents]
        weights = [document.weights for document in encoded_documents]
        sizes = {
            "lengths": [*map(len, tokens)],
            "bytes": [document.bytes for document in encoded_documents],
        }
        _send(
            answers, sizes, np.concatenate(tokens, dtype=np.int32),
            np.concatenate(weights, dtype=np.float32),
        )  # fmt: skip


def _message(error: Exception) -> dict[str, Any]:
    return {"error": str(error), "of data": isinstance(error, DataError)}


def main() -> None:
    """Serves on standard input and output; what libraries print goes elsewhere."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the asking process gets it too, and ends this
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.argv[1], sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
