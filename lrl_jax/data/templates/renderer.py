"""Renders a chat template in a process of its own, under limits of the kernel on time and memory.

`sandbox.py` runs this file by itself; it imports nothing of lrl_jax. The first line it reads is the
template's source. Each further line holds a conversation and says which beginnings of it to render;
the process answers with a line for each of them, up to the first error. All lines are JSON.
"""

from collections.abc import Callable
import datetime
import functools
import json
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


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _tojson(value: Any, ensure_ascii: bool = False, **more: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **more)


def _answer(source: str, messages: list[dict[str, str]], ask: bool, names: dict) -> dict[str, str]:
    """Renders a conversation; returns its text, or an error that says why there is none."""
    try:
        template = _template(source)
    except Exception as e:  # whatever it is, the template caused it
        return {"error": f"cannot be read: {_message(e)}"}
    shown = {"tools": None, "documents": None, **names}
    try:
        text = template.render(shown, messages=messages, add_generation_prompt=ask)
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
def _template(source: str) -> jinja2.Template:
    return _environment().from_string(source)


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
    for line in sys.stdin.buffer:
        request = json.loads(line)
        size, began = 0, time.process_time()
        for count, ask in request["wanted"]:
            _limit_time(CPU_SECONDS, WALL_SECONDS)
            answer = _answer(source, request["messages"][:count], ask, request["names"])
            size += len(answer.get("text", ""))
            if "error" not in answer and (why := _too_much(size, time.process_time() - began)):
                answer = {"error": why}
            sys.stdout.buffer.write(to_line(answer))
            _limit_time(0, 0)
            if "error" in answer:
                break
        sys.stdout.flush()


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
