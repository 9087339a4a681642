"""Asks every request once, many at a time, and keeps each reply before the next is looked at.

    kept = Judgments("judge/judgments.jsonl")
    ask_all({key(request): request, ...}, kept, endpoint.ask, concurrency=8)
    kept.replies[key(request)]

The key of a request is the SHA-256 of what is sent, so that a reply counts wherever the same is
asked again: after a kill, with the models swapped, on another machine. Only a request whose reply
was not there yet when the process ended is sent once more.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import time
from typing import Any

from etils import epath

from lrl_jax.devices import signals
from lrl_jax.evaluate.benchmark.items import KeptLines
from lrl_jax.evaluate.judge.endpoint import TRANSPORT, Reply

Request = Mapping[str, Any]
PARTING = 8.0  # seconds that replies under way have when the process is asked to stop
# Characters that a judge writes: the mean of the 160 judgements that TaCo released
# (arXiv 2311.10797), all in English.
WRITTEN = 581
ASCII_PER_TOKEN = 4.0  # characters of English text in a token, by OpenAI's own rule of thumb


def key(request: Request) -> str:
    """Returns the SHA-256 of a request, which does not depend on the order of its fields."""
    text = json.dumps(request, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


class Judgments:
    """Holds the file of replies, to which lines are only added; the last line of a key counts.

    Args:
      retry: whether failures of the transport count as not asked.
    """

    def __init__(self, path: epath.PathLike, retry: bool = False):
        self.path = epath.Path(path)
        self._kept = KeptLines(path)
        self.replies: dict[str, Reply] = {}
        # reading removes a line that was cut short
        for line in self._kept.read() if self.path.parent.exists() else ():
            if (reply := _reply(line)) is not None:
                self.replies[line["key"]] = reply
        if retry:
            kept = {k: r for k, r in self.replies.items() if r.failure not in TRANSPORT}
            self.replies = kept

    def due(self, requests: Iterable[str]) -> list[str]:
        """Returns the keys that have no reply yet, each once."""
        return [k for k in dict.fromkeys(requests) if k not in self.replies]

    def add(self, name: str, request: Request, reply: Reply) -> None:
        """Stores a reply; it is in the file when this returns."""
        said = {k: v for k, v in dataclasses.asdict(reply).items() if v not in ("", 0)}
        self._kept.add({"key": name, "request": request, "reply": said, "tstamp": time.time()})
        self.replies[name] = reply

    def close(self) -> None:
        """Stores what waits to be sent to an object store."""
        self._kept.flush()


def _reply(line: Any) -> Reply | None:
    """Returns the reply of a line; None for a line that is not one of ours."""
    said = line.get("reply") if isinstance(line, dict) else None
    if not isinstance(said, dict) or not isinstance(line.get("key"), str):
        return None
    defaults = dataclasses.asdict(Reply())
    kept = {name: said.get(name, default) for name, default in defaults.items()}
    sound = all(isinstance(kept[name], type(value)) for name, value in defaults.items())
    return Reply(**kept) if sound and (kept["text"] or kept["failure"]) else None


def ask_all(
    requests: Mapping[str, Request],
    kept: Judgments,
    ask: Callable[[Request, int], Reply],
    concurrency: int = 8,
    tell: Callable[[int, int], None] = lambda done, whole: None,
) -> None:
    """Asks all requests that have no reply yet, by so many threads.

    An error of one request (a wrong key) and a signal end it; replies that came are stored first.
    """
    due = kept.due(requests)
    kept.path.parent.mkdir(parents=True, exist_ok=True)
    tell(0, len(due))
    pool = concurrent.futures.ThreadPoolExecutor(concurrency, "judge")
    futures = {pool.submit(ask, requests[name], tokens(requests[name])): name for name in due}
    waiting = set(futures)
    try:
        for future in concurrent.futures.as_completed(futures):
            reply = future.result()
            waiting.discard(future)
            kept.add(futures[future], requests[futures[future]], reply)
            tell(len(due) - len(waiting), len(due))
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        with signals.deferred():  # what is paid for is stored
            _store_last(waiting, futures, requests, kept)
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        kept.close()


def _store_last(
    waiting: set[concurrent.futures.Future[Reply]],
    futures: Mapping[concurrent.futures.Future[Reply], str],
    requests: Mapping[str, Request],
    kept: Judgments,
) -> None:
    """Stores the replies that come soon, of requests that were sent already."""
    sent = [future for future in waiting if not future.cancelled()]
    with contextlib.suppress(TimeoutError):
        for future in concurrent.futures.as_completed(sent, PARTING):
            if not future.exception():
                kept.add(futures[future], requests[futures[future]], future.result())


# ---------------------------------------------------------------------------- what it costs
@dataclasses.dataclass(frozen=True)
class CallEstimate:
    """Holds what asking will take; tokens are estimated, `tokens_most` is the bound of answers."""

    calls: int
    kept: int  # requests that have a reply already
    tokens_in: int
    tokens_out: int
    tokens_most: int

    def price(self, per_million_in: float, per_million_out: float) -> tuple[float, float]:
        """Returns the expected and the highest price, in the currency of the rates."""
        read = self.tokens_in * per_million_in
        return (
            (read + self.tokens_out * per_million_out) / 1e6,
            (read + self.tokens_most * per_million_out) / 1e6,
        )


def estimate(requests: Mapping[str, Request], kept: Judgments, longest: int) -> CallEstimate:
    """Estimates what the requests without a reply take.

    Args:
      longest: tokens of a reply at most.
    """
    due = kept.due(requests)
    written = min(longest, round(WRITTEN / ASCII_PER_TOKEN))
    return CallEstimate(
        len(due),
        len(requests) - len(due),
        sum(tokens(requests[name]) for name in due),
        written * len(due),
        longest * len(due),
    )


def tokens(request: Request) -> int:
    """Returns about how many tokens a request has.

    Four ASCII characters are a token, and every other character is one: a tokenizer that knows the
    language takes fewer.

    >>> tokens({"messages": [{"content": "four"}, {"content": "\uc11c\uc6b8"}]})
    11
    """
    messages: Sequence[Mapping[str, str]] = request["messages"]
    text = "".join(message["content"] for message in messages)
    others = sum(not character.isascii() for character in text)
    around = 4 * len(messages)  # what marks the turns
    return round((len(text) - others) / ASCII_PER_TOKEN) + others + around
