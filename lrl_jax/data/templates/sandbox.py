"""Renders Jinja templates that may come from anyone: of tokenizers, for chats, and of task files.

    template = compiled(source)
    template.render(messages, add_generation_prompt=True, names={"bos_token": "<s>"})
    DocumentTemplates(["{{question}}"]).render({"question": "Who?"})      ["Who?"]

A template gets the names that `transformers` gives it, in Jinja's immutable sandbox. It is read and
rendered in a child process only (`renderer.py`), whose time and memory the kernel limits. The
sandbox does not stop endless loops and giant strings; these limits do, and the conversation ends
in an error.
"""

from collections.abc import Mapping, Sequence
import functools
import json
import signal
import subprocess
import sys
import threading
from typing import Any
import weakref

from lrl_jax.data.templates import renderer

MAX_SOURCE = 1 << 20  # characters; published templates have tens of thousands at most
INSTEAD = "replace chat_template.jinja, or name another template in the recipe"
TRIED = (
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
    [{"role": "user", "content": "a"}],
)
NAMED = {"bos_token": "<s>", "eos_token": "</s>"}

Messages = Sequence[Mapping[str, str]]
Prefix = tuple[int, bool]  # how many of the messages, and whether to ask for an answer


class LastingError(ValueError):
    """Says that templates fail whatever the document is: unread, endless or without bounds."""


class Template:
    """Holds a chat template and the child process that renders it.

    Its {% generation %} blocks come out between renderer.OPEN and renderer.CLOSE.
    """

    def __init__(self, source: str):
        """Keeps the source; the child starts with the first rendering."""
        self._child = _Child(source)

    def render(
        self,
        messages: Messages,
        add_generation_prompt: bool,
        names: Mapping[str, str] | None = None,
    ) -> str:
        """Renders one conversation; raises what `prefixes` raises."""
        return self.prefixes(messages, [(len(messages), add_generation_prompt)], names)[0]

    def prefixes(
        self,
        messages: Messages,
        wanted: Sequence[Prefix],
        names: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Renders several beginnings of one conversation together.

        ValueError if the template cannot be read, raises an exception, or does not end within the
        limits of `renderer`.
        """
        request = {"messages": [*messages], "wanted": [*wanted], "names": dict(names or {})}
        answers = self._child.ask(renderer.to_line(request), len(wanted))
        if "error" in answers[-1]:
            raise ValueError(f"the chat template {answers[-1]['error']}")
        return [answer["text"] for answer in answers]


class DocumentTemplates:
    """Holds the templates of a benchmark task, which turn a document into texts."""

    def __init__(self, sources: Sequence[str]):
        """Keeps the sources; the child starts with the first rendering."""
        self._child = _Child([*sources])

    def render(self, fields: Mapping[str, Any]) -> list[str]:
        """Returns the text of each template for a document.

        ValueError if a template names a field that is not there, or fails; or a field is no JSON.
        LastingError if one cannot be read, or does not end within the limits of `renderer`.
        """
        try:
            request = renderer.to_line(dict(fields))
        except (TypeError, ValueError, RecursionError) as e:
            raise ValueError(f"a field that no template can read ({e})") from None
        [answer] = self._child.ask(request, 1)
        if "error" in answer:
            kind = LastingError if answer.get("lasting") else ValueError
            raise kind(f"the template {answer['error']}")
        return answer["texts"]


class _Child:
    """Holds the process that renders, which starts with the first request, anew after it ended."""

    def __init__(self, opening: str | list[str]):
        self._opening = opening
        self._turn = threading.Lock()
        self._process: subprocess.Popen | None = None

    def ask(self, request: bytes, count: int) -> list[dict[str, Any]]:
        """Sends a line to the child and returns its answers, `count` or up to the first error."""
        with self._turn:
            return self._answers(request, count)

    def _answers(self, request: bytes, count: int) -> list[dict[str, Any]]:
        child, self._process = self._process, None  # it is put back only when it has answered all
        if child is None:
            child, request = self._started(), renderer.to_line(self._opening) + request
        assert child.stdin
        assert child.stdout
        answers: list[dict[str, Any]] = []
        try:
            child.stdin.write(request)
            child.stdin.flush()
            while len(answers) < count and not (answers and "error" in answers[-1]):
                answers.append(json.loads(child.stdout.readline()))
        except (BrokenPipeError, json.JSONDecodeError):  # it has ended
            child.wait()
            self._end()
            return [{"error": _why_ended(child.returncode), "lasting": True}]
        self._process = child
        return answers

    def _started(self) -> subprocess.Popen:
        child = subprocess.Popen(
            [sys.executable, "-P", renderer.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._end = weakref.finalize(self, _end, child)
        return child


def _end(child: subprocess.Popen) -> None:
    """Ends the child where it still runs, and closes its pipes."""
    child.kill()
    child.communicate()


def _why_ended(code: int) -> str:
    """Returns why a child ended without an answer, by its exit status."""
    limits = {-signal.SIGPROF: renderer.CPU_SECONDS, -signal.SIGALRM: renderer.WALL_SECONDS}
    if code in limits:
        return f"takes over {limits[code]} s for one rendering"
    return f"crashes, or needs over {renderer.MEMORY >> 20} MiB for one rendering"


@functools.lru_cache(maxsize=16)
def compiled(source: str) -> Template:
    """Returns a template that has rendered short conversations; ValueError if it is refused."""
    if len(source) > MAX_SOURCE:
        raise ValueError(
            f"the chat template has {len(source)} characters; want at most {MAX_SOURCE}"
        )
    template = Template(source)
    try:
        for messages in TRIED:
            template.render(messages, add_generation_prompt=len(messages) == 1, names=NAMED)
    except ValueError as e:
        raise ValueError(f"{e}; {INSTEAD}") from None
    return template
