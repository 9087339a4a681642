"""Asks a model behind an OpenAI-compatible address: the only door to `openai`.

    endpoint = Endpoint("http://127.0.0.1:8000/v1")
    reply = endpoint.ask({"model": "judge", "messages": [...], "temperature": 0.0})

Whatever the server does, a request ends as a reply with a text or with the name of a failure. Only
what would fail for every request (a wrong key, no such model, no server there) is raised. The
client tries again after a time-out, 408, 409, 429 (when the server says so) and 5xx; bodies that
are no answer are asked for again here. The key is read from the environment, and is in no message
and no file.
"""

from collections.abc import Callable, Mapping
import dataclasses
import importlib.util
import ipaddress
import json
import os
import re
import time
from typing import Any
import urllib.parse

from lrl_jax.evaluate.judge.pace import Pace
from lrl_jax.recipe.extras import how_to_install

KEY = "OPENAI_API_KEY"
NOT_INSTALLED = "asking a judge needs openai: " + how_to_install("judge")
DUMMY = "none"  # what a server of one's own is given, which asks for no key
MOST_BYTES = 8 << 20  # of the body of an answer
PAUSE, LONGEST_PAUSE = 0.5, 8.0  # seconds before a body is asked for again, doubled each time
SHOWN = 300  # characters of a server's message that are kept

# Failures of a reply. Of the judge: it was asked, and this is what it said.
FILTERED, REFUSED = "content filter", "refusal"
# Of the transport: nothing came back, and asking again may help.
TIMEOUT, LIMITED, SERVER, CONNECTION = "timeout", "rate limit", "server error", "no connection"
MALFORMED, NO_CHOICES, EMPTY = "malformed body", "no choices", "empty answer"
BAD_REQUEST = "request refused by the server"
TRANSPORT = (TIMEOUT, LIMITED, SERVER, CONNECTION, MALFORMED, NO_CHOICES, EMPTY, BAD_REQUEST)
AGAIN = (TIMEOUT, MALFORMED, NO_CHOICES, EMPTY)  # what `ask` itself tries again


class EndpointError(ValueError):
    """Reports what would fail for every request: a key, a model or an address that is wrong."""


@dataclasses.dataclass(frozen=True)
class Reply:
    """Holds what a judge wrote, or the name of a failure and what the server said of it."""

    text: str = ""
    failure: str = ""
    detail: str = ""
    finish: str = ""  # why the judge stopped, in the words of the server
    tokens_in: int = 0
    tokens_out: int = 0


class Endpoint:
    """Holds a client of one address; threads may share it. Close it when done.

    Args:
      url: such as http://127.0.0.1:8000/v1.
      timeout: seconds until an answer has to be there, and between two of its packets.
      retries: how often a request is tried again.

    Raises:
      EndpointError: no openai, an address that is none, or no key for a server elsewhere.
    """

    def __init__(
        self,
        url: str,
        timeout: float = 120.0,
        retries: int = 4,
        pace: Pace | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._openai, self._http = _libraries()
        self.url, self._timeout, self._retries = checked(url), timeout, retries
        self._pace, self._sleep = pace or Pace(), sleep
        self._was_there = False  # whether the server was ever connected to
        self._key = _key(url)
        # Each request, also one that the client sends again by itself, waits for its turn.
        hooks = {"request": [lambda request: self._pace.wait_request()]}
        self._client = self._openai.OpenAI(
            base_url=url,
            api_key=self._key,
            timeout=timeout,
            max_retries=retries,
            http_client=self._openai.DefaultHttpxClient(event_hooks=hooks, timeout=timeout),
        )

    def close(self) -> None:
        """Closes all connections; requests that wait for an answer fail."""
        self._client.close()

    def ask(self, request: Mapping[str, Any], tokens: int = 0) -> Reply:
        """Returns the reply to a request of so many tokens; raises EndpointError."""
        reply = Reply(failure=MALFORMED)
        for attempt in range(self._retries + 1):
            if attempt:
                self._sleep(min(LONGEST_PAUSE, PAUSE * 2 ** (attempt - 1)))
            self._pace.wait_tokens(tokens)
            reply = self._once(request)
            if reply.failure not in AGAIN or reply.detail == CLIENT:
                break
        return dataclasses.replace(reply, detail=self._plain(reply.detail))

    def _once(self, request: Mapping[str, Any]) -> Reply:
        """Returns the reply to a request, which the client may send several times."""
        openai, more = self._openai, dict(request)
        arguments = {name: more.pop(name) for name in ("model", "messages")}
        create = self._client.chat.completions.with_streaming_response.create
        deadline = time.monotonic() + self._timeout * (self._retries + 2)
        try:
            with create(**arguments, extra_body=more) as response:
                self._was_there = True
                return parsed(self._body(response.iter_bytes(), deadline))
        except openai.APITimeoutError:
            return Reply(failure=TIMEOUT, detail=CLIENT)
        except openai.APIConnectionError as e:
            if isinstance(e.__cause__, self._http.ConnectError) and not self._was_there:
                raise EndpointError(
                    f"{host(self.url)}: nobody answers there ({e.__cause__}); start the server, or "
                    "name its address with --base-url"
                ) from None
            return Reply(failure=CONNECTION, detail=str(e.__cause__ or e))
        except openai.APIStatusError as e:
            return self._of_status(e)
        except (self._http.TimeoutException, TimeoutError):  # while the body was read
            return Reply(failure=TIMEOUT, detail="the body came too slowly")
        except self._http.HTTPError as e:
            return Reply(failure=MALFORMED, detail=str(e))

    def _body(self, blocks: Any, deadline: float) -> bytes:
        """Returns the body of an answer; a server that never comes to an end is left."""
        body = b""
        for block in blocks:
            body += block
            if len(body) > MOST_BYTES:
                return body  # cut short, so no JSON
            if time.monotonic() > deadline:
                raise TimeoutError
        return body

    def _of_status(self, error: Any) -> Reply:
        """Returns the reply that a status other than 200 stands for, or raises EndpointError."""
        self._was_there = True
        status, detail = error.status_code, self._plain(str(error))
        if status in (401, 403, 404):
            why = {401: f"the key in {KEY} is wrong or missing", 403: "the key may not do this"}
            said = why.get(status, "there is no such model, or no such address")
            if status == 404 and not re.search(r"/v\d", urllib.parse.urlsplit(self.url).path):
                said += ": that of most servers ends in /v1"
            raise EndpointError(f"{host(self.url)}: {said} (status {status}: {detail})")
        if "content_filter" in (error.code, *_codes(error.body)):
            return Reply(failure=FILTERED, detail=detail)
        if status == 429:
            return Reply(failure=LIMITED, detail=detail)
        return Reply(failure=SERVER if status >= 500 else BAD_REQUEST, detail=detail)

    def _plain(self, message: str) -> str:
        """Returns a message of the server without our key, in case it repeats it."""
        return message.replace(self._key, "***")[:SHOWN] if self._key != DUMMY else message[:SHOWN]


CLIENT = "after all retries of the client"


# ---------------------------------------------------------------------------- bodies
def parsed(body: bytes) -> Reply:
    """Returns the reply that a body of status 200 holds, whatever it is.

    >>> parsed(b'{"choices": [{"message": {"content": "[[8]]"}, "finish_reason": "stop"}]}').text
    '[[8]]'
    >>> parsed(b"<html>").failure, parsed(b'{"choices": []}').failure
    ('malformed body', 'no choices')
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as e:
        return Reply(failure=MALFORMED, detail=f"not JSON: {e}"[:SHOWN])
    if not isinstance(value, dict):
        return Reply(failure=MALFORMED, detail=f"{value!r}"[:SHOWN])
    choices = value.get("choices")
    if choices == []:
        return Reply(failure=NO_CHOICES)
    first = choices[0] if isinstance(choices, list) else None
    choice: dict[str, Any] = first if isinstance(first, dict) else {}
    message = choice.get("message")
    if not isinstance(message, dict):
        return Reply(failure=MALFORMED, detail=f"{value!r}"[:SHOWN])
    usage = value.get("usage") if isinstance(value.get("usage"), dict) else {}
    counts = {
        "finish": str(choice.get("finish_reason") or ""),
        "tokens_in": _count(usage.get("prompt_tokens")),
        "tokens_out": _count(usage.get("completion_tokens")),
    }
    text, refusal = message.get("content"), message.get("refusal")
    if choice.get("finish_reason") == "content_filter":
        return Reply(failure=FILTERED, **counts)
    if refusal:
        return Reply(failure=REFUSED, detail=str(refusal)[:SHOWN], **counts)
    if not isinstance(text, str) or not text.strip():
        failure = EMPTY if text is None or isinstance(text, str) else MALFORMED
        return Reply(failure=failure, **counts)
    return Reply(text=text.encode(errors="replace").decode(), **counts)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def _codes(body: Any) -> list[Any]:
    """Returns the codes that the body of an error has, on either of its levels."""
    inner = body.get("error") if isinstance(body, dict) else None
    return [level.get("code") for level in (body, inner) if isinstance(level, dict)]


# ---------------------------------------------------------------------------- addresses and keys
def check_ready(url: str) -> None:
    """Raises EndpointError for what would keep an address from being asked, as `Endpoint` does."""
    checked(url)
    _key(url)
    if any(importlib.util.find_spec(name) is None for name in ("openai", "httpx2")):
        raise EndpointError(NOT_INSTALLED)


def checked(url: str) -> str:
    """Returns an address; EndpointError if it is none, or has a name and password in it."""
    try:
        address = urllib.parse.urlsplit(url)
        good = address.scheme in ("http", "https") and address.hostname and address.port != 0
    except ValueError:
        address, good = None, False
    if not good or address is None:
        raise EndpointError(f"--base-url {url!r}: want an address such as http://127.0.0.1:8000/v1")
    if address.username is not None or address.query:
        raise EndpointError(
            f"--base-url: has a password or a query for {address.hostname}; put the key into {KEY}"
        )
    return url


def host(url: str) -> str:
    """Returns the scheme, host and port of an address, which hold no secret."""
    address = urllib.parse.urlsplit(url)
    return f"{address.scheme}://{address.netloc.rpartition('@')[2]}"


def is_local(url: str) -> bool:
    """Tells whether an address is on this machine or in its own network.

    >>> is_local("http://localhost:8000/v1"), is_local("https://api.openai.com/v1")
    (True, False)
    """
    name = urllib.parse.urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(name).is_private
    except ValueError:
        return "." not in name or name.endswith((".local", ".internal", ".localhost"))


def _key(url: str) -> str:
    key = os.environ.get(KEY, "").strip()
    if not key and not is_local(url):
        raise EndpointError(f"{host(url)} wants a key: put it into the environment as {KEY}")
    if not key.isascii() or not key.isprintable():
        raise EndpointError(f"{KEY} has a character that no key has; copy it again")
    return key or DUMMY


def _libraries() -> tuple[Any, Any]:
    try:
        import httpx2
        import openai
    except ImportError:
        raise EndpointError(NOT_INSTALLED) from None
    return openai, httpx2
