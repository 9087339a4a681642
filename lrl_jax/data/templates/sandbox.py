"""Renders the Jinja chat template of a tokenizer, which may come from anyone.

    render = compiled(source)
    render(messages, add_generation_prompt=True, names={"bos_token": "<s>"})

A template sees what `transformers` shows it, in Jinja's immutable sandbox. What that leaves open,
endless loops and giant strings, is counted and bounded here; and before a template is used at all,
a child process tries it with a limit on time and memory. This file runs by itself in that child.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import datetime
import functools
import itertools
import json
import re
import resource
import subprocess
import sys
from typing import Any

import jinja2
from jinja2 import compiler, ext, nodes, sandbox

OPEN, CLOSE = "\ufdd1", "\ufdd2"  # around what {% generation %} encloses; no text has them
TODAY = datetime.datetime(
    2024, 7, 26
)  # of strftime_now: what is written must not depend on the day
MAX_SOURCE = 1 << 20  # characters; published templates have some tens of thousands
MAX_OUTPUT = 1 << 24  # characters
STEPS = 1 << 20  # of one rendering, an item of a loop each; a conversation takes some hundreds
STEPS_A_CALL = 8  # a call takes longer than an item
CHARS_A_STEP = 1 << 10  # of strings that are put together
MAX_REPEAT = 1 << 20  # length of what `*` repeats
MAX_BITS = 1 << 10  # of whole numbers
MAX_WIDTH = 1 << 10  # of padding and indents
CPU_SECONDS = 2  # of the trial; it needs some hundredths
WALL_SECONDS = 30  # the same where the machine is busy
MEMORY = 128 << 20  # bytes the trial may take on top of what an idle interpreter has
MEMORY_ELSEWHERE = 4 << 30  # the same where that is not known, all in all
FILTERS = (
    "abs", "attr", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first",
    "float", "groupby", "int", "items", "last", "length", "lower", "map", "max", "min", "reject",
    "rejectattr", "reverse", "round", "safe", "select", "selectattr", "sort", "string", "title",
    "trim", "unique", "upper",
)  # fmt: skip
TRIED = (
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
    [{"role": "user", "content": "a"}],
)

Messages = Sequence[Mapping[str, str]]
Render = Callable[..., str]


class Refused(jinja2.TemplateError):
    """A template does something that a template has no business with."""


# ---------------------------------------------------------------------------- the environment
class _Counting(compiler.CodeGenerator):
    """Sends what loops go over, and what `~` joins, through filters that count."""

    def visit_Template(self, node: nodes.Template, frame: Any = None) -> None:  # noqa: N802
        for loop in list(node.find_all(nodes.For)):
            loop.iter = nodes.Filter(loop.iter, "_counted", [], [], None, None)
        for joined in list(node.find_all(nodes.Concat)):
            texts = nodes.List(joined.nodes)
            joined.nodes = [nodes.Filter(texts, "_joined", [], [], None, None)]
        super().visit_Template(node, frame)


class _Generation(ext.Extension):
    """{% generation %} ... {% endgeneration %}: what a model writes, kept between two marks."""

    tags = {"generation"}  # noqa: RUF012  Jinja's own way to say it

    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

    def _marked(self, caller: Callable[[], str]) -> str:
        return OPEN + caller() + CLOSE


class _Environment(sandbox.ImmutableSandboxedEnvironment):
    code_generator_class = _Counting
    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, ext.loopcontrols]
        )
        self.spent = 0
        shown: Any = self.globals
        shown.update(raise_exception=_raise, strftime_now=TODAY.strftime)
        del shown["lipsum"]
        joined: Any = self._joined
        self.concat = joined  # of macros, blocks and the whole
        kept = {name: self.filters[name] for name in FILTERS}
        self.filters = kept | {
            "_counted": self._counted,
            "_joined": self._joined,
            "join": self._join,
            "list": lambda items: list(self._counted(items)),
            "indent": self._indent,
            "replace": lambda text, old, new: self.call_method(str(text), "replace", (old, new)),
            "tojson": self._tojson,
        }

    def charge(self, steps: int) -> None:
        """Counts steps of one rendering.

        Raises:
          Refused: there were too many.
        """
        self.spent += steps
        if self.spent > STEPS:
            raise Refused(f"it takes more than {STEPS} steps")

    def sized(self, length: int) -> None:
        """Counts a string or list that is about to be made.

        Raises:
          Refused: it would be too long.
        """
        if length > MAX_OUTPUT:
            raise Refused(f"it makes a text of more than {MAX_OUTPUT} characters")
        self.charge(length // CHARS_A_STEP)

    def call(__self, __context, __obj, *args, **kwargs):  # noqa: N805  Jinja's own signature
        __self.charge(STEPS_A_CALL)
        method = getattr(__obj, "__wrapped__", __obj)  # the sandbox wraps `format`
        owner = getattr(method, "__self__", None)
        if isinstance(owner, str):
            __self.check_method(owner, method.__name__, (*args, *kwargs.values()))
        return super().call(__context, __obj, *args, **kwargs)

    def call_method(self, owner: str, name: str, args: Sequence[Any]) -> Any:
        self.check_method(owner, name, args)
        return getattr(owner, name)(*args)

    def check_method(self, owner: str, name: str, args: Sequence[Any]) -> None:
        """Bounds what the methods of a string make."""
        if any(isinstance(arg, int) and arg > MAX_WIDTH for arg in args):
            raise Refused(f"it calls {name} with a number over {MAX_WIDTH}")
        if name == "translate" or ("format" in name and re.search(r"\{[^{}]*[:!{]", owner)):
            raise Refused(f"it calls {name}, which may make long texts; write the text out")
        size = len(owner) + sum(len(arg) for arg in args if isinstance(arg, str))
        if name == "replace" and len(args) > 1:
            size += owner.count(str(args[0])) * len(str(args[1]))
        if name == "join":
            size += sum(len(str(item)) + len(owner) for item in self._counted(args[0]))
        if name == "expandtabs":
            size += owner.count("\t") * MAX_WIDTH
        self.sized(size)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "+" and isinstance(left, str) and isinstance(right, str):
            self.sized(len(left) + len(right))
        elif operator == "+" and hasattr(left, "__len__") and hasattr(right, "__len__"):
            self.charge(len(left) + len(right))
        if operator == "*":
            self._check_times(left, right)
        if operator == "**" and not _power(left, right):
            raise Refused(f"it makes a number of more than {MAX_BITS} bits")
        if operator == "%" and isinstance(left, str) and re.search(r"%[^%a-zA-Z]*(\*|\d{4})", left):
            raise Refused("it formats by widths; write the text out")
        return super().call_binop(context, operator, left, right)

    def _check_times(self, left: Any, right: Any) -> None:
        for one, times in ((left, right), (right, left)):
            if hasattr(one, "__len__") and isinstance(times, int):
                if len(one) * times > MAX_REPEAT:
                    raise Refused(f"it repeats a text to more than {MAX_REPEAT} characters")
                self.charge(max(len(one) * times, 0) // CHARS_A_STEP)
        numbers = isinstance(left, int) and isinstance(right, int)
        if numbers and left.bit_length() + right.bit_length() > MAX_BITS:
            raise Refused(f"it makes a number of more than {MAX_BITS} bits")

    def _counted(self, items: Any) -> Any:
        if not hasattr(items, "__len__"):
            items = list(itertools.islice(items, STEPS + 1))
        self.charge(len(items))
        return items

    def _joined(self, items: Iterable[Any]) -> str:
        texts = [str(item) for item in items]
        self.sized(sum(map(len, texts)))
        return "".join(texts)

    def _join(self, items: Any, by: str = "", attribute: str | None = None) -> str:
        items = self._counted(items)
        if attribute is not None:
            items = [self.getitem(item, attribute) for item in items]
        return self.call_method(str(by), "join", ([str(item) for item in items],))

    def _indent(self, text: str, width: int = 4, first: bool = False, blank: bool = False) -> str:
        lines = str(text).splitlines()
        if not 0 <= width <= MAX_WIDTH:
            raise Refused(f"it indents by {width}; at most {MAX_WIDTH}")
        self.sized(len(text) + len(lines) * width)
        space = " " * width
        wide = [space + line if line or blank else line for line in lines]
        return "\n".join(wide if first else lines[:1] + wide[1:])

    def _tojson(self, value: Any, ensure_ascii: bool = False, indent: int | None = None, **more):
        if indent is not None and not 0 <= indent <= MAX_WIDTH:
            raise Refused(f"it indents by {indent}; at most {MAX_WIDTH}")
        text = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **more)
        self.sized(len(text))
        return text


def _power(base: Any, exponent: Any) -> bool:
    if isinstance(base, int) and isinstance(exponent, int):
        return exponent < 0 or base.bit_length() * exponent <= MAX_BITS
    return True


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


# ---------------------------------------------------------------------------- rendering
@functools.lru_cache(maxsize=16)
def compiled(source: str, where: str = "the chat template") -> Render:
    """A function (messages, add_generation_prompt, names) -> text of a template found fit to use.

    Args:
      source: the template; its {% generation %} blocks come out between OPEN and CLOSE.
      where: what it is called in errors.

    Raises:
      ValueError: the template cannot be read, or is refused; so does the function it returns.
    """
    if len(source) > MAX_SOURCE:
        raise ValueError(f"{where} has {len(source)} characters; want at most {MAX_SOURCE}")
    _try(source, where)
    return _compiled(source, where)


def _compiled(source: str, where: str) -> Render:
    environment = _Environment()
    try:
        template = environment.from_string(source)
    except (jinja2.TemplateError, RecursionError, ArithmeticError, TypeError, ValueError) as e:
        raise ValueError(f"{where} cannot be read: {_said(e)}") from None

    def render(
        messages: Messages, add_generation_prompt: bool, names: Mapping[str, str] | None = None
    ) -> str:
        environment.spent = 0
        shown = {"tools": None, "documents": None, **(names or {})}
        try:
            return template.render(
                shown, messages=messages, add_generation_prompt=add_generation_prompt
            )
        except (jinja2.TemplateError, RecursionError, MemoryError) as e:
            raise ValueError(f"{where} refuses: {_said(e)}") from None
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as e:
            raise ValueError(f"{where} fails: {_said(e)}") from None

    return render


def _said(error: BaseException) -> str:
    return f"{str(error) or type(error).__name__:.300}"


# ---------------------------------------------------------------------------- the trial
def _try(source: str, where: str) -> None:
    """Renders short conversations in a child process.

    A template that raises an exception by itself passes: some ask for a system prompt, or refuse
    one, and say so where it matters.
    """
    given = json.dumps({"source": source, "where": where})
    try:
        done = subprocess.run(
            [sys.executable, "-P", __file__],
            input=given.encode(),
            capture_output=True,
            timeout=WALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"{where} takes over {WALL_SECONDS} s; {INSTEAD}") from None
    if done.returncode < 0:
        raise ValueError(f"{where} takes over {CPU_SECONDS} s, or crashes; {INSTEAD}")
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise ValueError(f"{said[-1] if said else f'{where} fails'}; {INSTEAD}")


INSTEAD = "replace chat_template.jinja, or name another template in the recipe"


def _trial() -> int:
    given = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (_allowed(), _allowed()))
    try:
        render = _compiled(given["source"], given["where"])
        for messages in TRIED:
            render(messages, add_generation_prompt=len(messages) == 1, names=NAMED)
    except ValueError as e:
        sys.stderr.write(f"{e}\n")
        return 3
    return 0


NAMED = {"bos_token": "<s>", "eos_token": "</s>"}


def _allowed() -> int:
    try:
        with open("/proc/self/statm") as f:
            return int(f.read().split()[0]) * resource.getpagesize() + MEMORY
    except OSError:
        return MEMORY_ELSEWHERE


if __name__ == "__main__":
    sys.exit(_trial())
