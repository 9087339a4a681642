"""Renders templates in a process of its own, under limits of the kernel on time and memory.

`sandbox.py` runs this file by itself; it imports nothing of lrl_jax. The first line it reads is the
source of a chat template, or a list of sources, the templates of a benchmark task. Each further
line holds a conversation and says which beginnings of it to render; the process answers with a line
for each of them, up to the first error. For a task it holds the fields of a document, and the
answer is a line with the text of each template. All lines are JSON.
"""

from collections.abc import Callable, Iterator
import datetime
import functools
import json
import re
import resource
import signal
import sys
import time
from typing import Any

import jinja2
from jinja2 import ext, nodes, sandbox

OPEN, CLOSE = "\ufdd1", "\ufdd2"  # around what {% generation %} encloses; no text has them
# What strftime_now says, for what a template writes must not depend on the day.
TODAY = datetime.datetime(2024, 7, 26)
MAX_OUTPUT = 1 << 24  # characters of one rendering
CPU_SECONDS = 2  # of one rendering, which usually takes milliseconds
WALL_SECONDS = 30  # of one rendering, on a busy machine too
# The same of one conversation, of which every beginning that ends in an answer may be rendered.
ALL_OUTPUT, ALL_SECONDS = 1 << 26, 20
# The same of the documents of a task, which number tens of thousands.
DOCUMENT_SECONDS = 0.05  # of a document on average, once ALL_SECONDS are over
MEMORY = 128 << 20  # bytes, on top of what the process takes before it renders
MEMORY_ELSEWHERE = 4 << 30  # bytes in all, on systems that do not say what it takes


def to_line(value: Any) -> bytes:
    """Writes a value as a line of JSON, lone surrogates included."""
    return f"{json.dumps(value, ensure_ascii=False)}\n".encode(errors="surrogatepass")


class _Generation(ext.Extension):
    """Puts marks around what stands between {% generation %} and {% endgeneration %}."""

    tags = {"generation"}  # noqa: RUF012  (Jinja declares it on the class, and as no ClassVar)

    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

    def _marked(self, caller: Callable[[], str]) -> str:
        return OPEN + caller() + CLOSE


class _Null:
    """Stands for a field that is null: it can be asked about, and it is an error to print it."""

    def __init__(self, name: str):
        self._name = name

    def __str__(self) -> str:
        raise jinja2.TemplateError(f"field {self._name!r} is null")

    __repr__ = __int__ = __float__ = __str__

    def __bool__(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return other is None or isinstance(other, _Null)

    def __hash__(self) -> int:
        return hash(None)


def _with_nulls(value: Any, name: str) -> Any:
    """Returns a tree of fields with every null in it as one that knows its name."""
    if isinstance(value, dict):
        below = f"{name}." if name not in ("", "doc") else ""
        return {key: _with_nulls(item, f"{below}{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_with_nulls(item, f"{name}[{i}]") for i, item in enumerate(value)]
    return _Null(name) if value is None else value


def _environment() -> sandbox.ImmutableSandboxedEnvironment:
    """Returns Jinja's sandbox with the names transformers gives templates, and nothing random."""
    environment = sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, ext.loopcontrols]
    )
    shown: Any = environment.globals
    shown.update(raise_exception=_raise, strftime_now=TODAY.strftime)
    del shown["lipsum"], environment.filters["random"]
    environment.filters["tojson"] = _tojson
    return environment


def _task_environment() -> sandbox.ImmutableSandboxedEnvironment:
    """Returns Jinja's sandbox as lm-evaluation-harness sets it up: a field that is not there is an
    error, and newlines stay."""
    environment = sandbox.ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    shown: Any = environment.globals
    del shown["lipsum"], environment.filters["random"]
    environment.filters["regex_replace"] = _regex_replace
    environment.tests["none"] = lambda value: value is None or isinstance(value, _Null)
    return environment


def _regex_replace(text: str, pattern: str, replacement: str, count: int = 0) -> str:
    return re.sub(pattern, replacement, text, count=count)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _tojson(value: Any, ensure_ascii: bool = False, **more: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **more)


def _answer(source: str, messages: list[dict[str, str]], ask: bool, names: dict) -> dict[str, str]:
    """Renders a conversation; returns its text, or an error that says why there is none."""
    shown = {"tools": None, "documents": None, **names}
    shown |= {"messages": messages, "add_generation_prompt": ask}
    return _rendered(_environment, source, shown)


def _texts(sources: list[str], names: dict) -> dict[str, Any]:
    """Renders the templates of a task; returns their texts, or the first error.

    An error of the template, which no other document would change, is marked as "lasting".
    """
    texts, names = [], _with_nulls(names, "")
    for source in sources:
        answer = _rendered(_task_environment, source, names)
        if "error" in answer:
            return answer
        texts.append(answer["text"])
    return {"texts": texts}


def _rendered(environment: Callable[[], jinja2.Environment], source: str, names: dict) -> dict:
    try:
        template = _template(environment, source)
    except Exception as e:  # whatever it is, the template caused it
        return {"error": f"cannot be read: {_message(e)}", "lasting": True}
    try:
        text = template.render(names)
    except (jinja2.TemplateError, RecursionError) as e:
        return {"error": f"refuses: {_message(e)}"}
    except MemoryError:
        return {"error": f"needs over {MEMORY >> 20} MiB for one rendering"}
    except Exception as e:
        return {"error": f"fails: {_message(e)}"}
    if len(text) > MAX_OUTPUT:
        return {"error": f"makes a text of more than {MAX_OUTPUT} characters"}
    return {"text": text}


@functools.cache
def _template(environment: Callable[[], jinja2.Environment], source: str) -> jinja2.Template:
    return environment().from_string(source)


def _message(error: BaseException) -> str:
    return f"{str(error) or type(error).__name__:.300}"


def _memory_limit() -> int:
    """Returns how many bytes of address space the process may have."""
    try:
        with open("/proc/self/statm") as f:
            return int(f.read().split()[0]) * resource.getpagesize() + MEMORY
    except OSError:
        return MEMORY_ELSEWHERE


def _serve() -> None:
    memory = _memory_limit()
    for limit, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),  # it writes no files
    ):
        resource.setrlimit(limit, (most, most))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    source = json.loads(sys.stdin.buffer.readline())
    for number, line in enumerate(sys.stdin.buffer, start=1):
        request = json.loads(line)
        answers = (
            _filled(source, request, number)
            if isinstance(source, list)
            else _asked(source, request)
        )
        for answer in answers:
            sys.stdout.buffer.write(to_line(answer))
        sys.stdout.flush()


def _filled(sources: list[str], request: dict[str, Any], number: int) -> Iterator[dict[str, Any]]:
    """Yields the texts of a task's templates for one document, the `number`-th."""
    _limit_time(CPU_SECONDS, WALL_SECONDS)
    answer = _texts(sources, request)
    _limit_time(0, 0)
    if time.process_time() > ALL_SECONDS + number * DOCUMENT_SECONDS:
        spent = f"takes {time.process_time():.0f} s for {number} documents"
        answer = {"error": f"{spent}; want at most {DOCUMENT_SECONDS} s each", "lasting": True}
    yield answer


def _asked(source: str, request: dict[str, Any]) -> Iterator[dict[str, str]]:
    """Yields the beginnings of a conversation that are asked for, up to the first error."""
    size, began = 0, time.process_time()
    for count, ask in request["wanted"]:
        _limit_time(CPU_SECONDS, WALL_SECONDS)
        answer = _answer(source, request["messages"][:count], ask, request["names"])
        size += len(answer.get("text", ""))
        if "error" not in answer and (why := _too_much(size, time.process_time() - began)):
            answer = {"error": why}
        yield answer
        _limit_time(0, 0)
        if "error" in answer:
            return


def _too_much(size: int, seconds: float) -> str:
    """Returns why the renderings of one conversation are refused so far; '' if they are not."""
    if size > ALL_OUTPUT:
        return f"makes texts of more than {ALL_OUTPUT} characters of one conversation"
    return f"takes over {ALL_SECONDS} s for one conversation" if seconds > ALL_SECONDS else ""


def _limit_time(cpu_seconds: float, wall_seconds: float) -> None:
    """Sets timers that end this process by a signal, even within a long call; 0 stops them."""
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
    signal.setitimer(signal.ITIMER_REAL, wall_seconds)


if __name__ == "__main__":
    _serve()
