"""Writes an Ollama Modelfile beside a GGUF file: chat template, what ends an answer, length.

Ollama reads Go templates and no Jinja. The pieces of text around messages are found by rendering
the chat template for a few conversations. Where joining those pieces does not give what the
template renders, the Modelfile says so in words, and has no template.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import itertools
import json

Message = Mapping[str, str]
Render = Callable[[Sequence[Message]], str]  # a conversation, the answer to it being asked for

SYSTEM, ASKED, ANSWERED, AGAIN = "sYSTEMq", "qASKEDx", "xANSWERz", "zAGAINs"
OTHER = ("one line\nand another", 'a "quoted" {{ word }}', "x")
TRIPLE = '"""'


class UnsayableError(ValueError):
    """Says why a chat template has no Go template."""


@dataclasses.dataclass(frozen=True)
class Turns:
    """Holds what stands around messages of each role.

    Attributes:
      preface: before a conversation without a system message.
      system: before and after a system message; None where the template takes none.
      user: before a question, and after it up to where the model begins to answer.
      answer: before an answer that was given, and after it.
    """

    preface: str
    system: tuple[str, str] | None
    user: tuple[str, str]
    answer: tuple[str, str]

    def render(self, messages: Sequence[Message]) -> str:
        """Returns a conversation in these pieces; ValueError for a system message without place."""
        return "".join(self._parts(messages))

    def _parts(self, messages: Sequence[Message]) -> Iterator[str]:
        for n, message in enumerate(messages):
            if message["role"] == "system":
                if self.system is None:
                    raise ValueError("there is no place for a system message")
                yield self.system[0] + message["content"] + self.system[1]
            elif message["role"] == "user":
                yield self.preface if n == 0 else ""
                yield self.user[0] + message["content"] + self.user[1]
            else:
                yield self.answer[0] + message["content"] + self.answer[1]


def modelfile(
    gguf: str, render: Render, bos: str, stops: Sequence[str], length: int
) -> tuple[str, str]:
    """Returns the text of a Modelfile, and why it has no template; "" where it has one.

    Args:
      gguf: name of the file beside it.
      render: renders the chat template, the answer being asked for; ValueError where there is none.
      bos: the token that llama.cpp puts before a text by itself; "" where it puts none.
      stops: tokens that end an answer.
      length: most tokens of a text and its answer.
    """
    why, lines = "", [f"FROM ./{gguf}"]
    try:
        made = turns(render, bos)
        lines.append(f"TEMPLATE {TRIPLE}{go_template(made)}{TRIPLE}")
        if made.system is None:
            lines.append("# The template has no place for a system message.")
    except UnsayableError as e:
        why = str(e)
    if why:
        lines.append(f"# No TEMPLATE: {why}. `ollama run` then gives the model bare text.")
    for stop in dict.fromkeys(stops):
        quoted = _quoted(stop)
        lines.append(f"PARAMETER stop {quoted}" if quoted else f"# No stop: {stop!a}")
    lines.append(f"PARAMETER num_ctx {length}")
    return "\n".join(lines) + "\n", why


def _quoted(text: str) -> str:
    """Returns a text between quotes, which Ollama takes off and reads nothing in; "" if it cannot.

    >>> print(_quoted("</s>"), _quoted('a"b'))
    "</s>" \"\"\"a"b\"\"\"
    """
    if '"' not in text and "\n" not in text:
        return f'"{text}"'
    return "" if TRIPLE in text or text.endswith('"') else f"{TRIPLE}{text}{TRIPLE}"


# ---------------------------------------------------------------------------- finding the pieces
def turns(render: Render, bos: str = "") -> Turns:
    """Returns what stands around messages, proved on other conversations.

    Raises:
      UnsayableError: the template does more than put text around messages.
    """

    def rendered(*messages: str) -> str:
        text = render(conversation(*messages)).removeprefix(bos)
        if any(text.count(message) != 1 for message in messages if message):
            raise UnsayableError("its chat template changes messages, or leaves some out")
        return text

    try:
        first, after = _cut(rendered("", ASKED), ASKED)
        talk = rendered("", ASKED, ANSWERED, AGAIN)
    except UnsayableError:
        raise
    except ValueError as e:  # of the template itself
        raise UnsayableError(str(e)) from None
    opening, until, between, last = _cut(talk, ASKED, ANSWERED, AGAIN)
    if (opening, last) != (first, after) or not until.startswith(after):
        raise UnsayableError("its chat template writes a question otherwise after an answer")
    before = _common_end(first, between)
    answer = (until.removeprefix(after), between.removesuffix(before))
    preface = first.removesuffix(before)
    made = Turns(preface, _system(rendered, before), (before, after), answer)
    _prove(made, render, bos)
    return made


def _system(rendered: Callable[..., str], before: str) -> tuple[str, str] | None:
    """Returns what stands around a system message; None where the template refuses one."""
    try:
        start, inside, _ = _cut(rendered(SYSTEM, ASKED), SYSTEM, ASKED)
    except UnsayableError:
        raise
    except ValueError:
        return None
    if not inside.endswith(before):
        raise UnsayableError("its chat template writes a question otherwise after a system message")
    return start, inside.removesuffix(before)


def conversation(system: str, *contents: str) -> list[Message]:
    """Returns messages of a user and an assistant in turn, after a system message if there is one.

    >>> conversation("", "a", "b")
    [{'role': 'user', 'content': 'a'}, {'role': 'assistant', 'content': 'b'}]
    """
    roles = itertools.cycle(("user", "assistant"))
    talk: list[Message] = [
        {"role": role, "content": text} for role, text in zip(roles, contents, strict=False)
    ]
    opening: list[Message] = [{"role": "system", "content": system}] if system else []
    return opening + talk


def _prove(made: Turns, render: Render, bos: str) -> None:
    talks = [("", OTHER[0]), ("", *OTHER), ("", *OTHER, *OTHER[:2])]
    if made.system is not None:
        talks += [(OTHER[1], *talk[1:]) for talk in talks]
    for talk in talks:
        messages = conversation(*talk)
        if made.render(messages) != render(messages).removeprefix(bos):
            raise UnsayableError(
                f"its chat template writes {len(messages)} messages otherwise than one after the "
                "other"
            )


def _cut(text: str, *marks: str) -> list[str]:
    """Returns what stands before, between and after marks that come in this order."""
    pieces = []
    for mark in marks:
        before, separator, text = text.partition(mark)
        if not separator:
            raise UnsayableError("its chat template puts messages in another order")
        pieces.append(before)
    return [*pieces, text]


def _common_end(left: str, right: str) -> str:
    """Returns the longest text that both end with.

    >>> _common_end("abcd", "xcd")
    'cd'
    """
    pairs = zip(reversed(left), reversed(right), strict=False)
    count = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    return left[len(left) - count :]


# ---------------------------------------------------------------------------- Go
def go_template(made: Turns) -> str:
    """Returns a Go template for Ollama; a text in it is a Go string, so that nothing can end it."""
    system = _text(made.system[0]) + "{{ .Content }}" + _text(made.system[1]) if made.system else ""
    preface = f"{{{{ if eq $i 0 }}}}{_text(made.preface)}{{{{ end }}}}" if made.preface else ""
    user = preface + _text(made.user[0]) + "{{ .Content }}" + _text(made.user[1])
    answer = _text(made.answer[0]) + "{{ .Content }}" + _text(made.answer[1])
    return (
        "{{ range $i, $m := .Messages }}"
        f'{{{{ if eq .Role "system" }}}}{system}'
        f'{{{{ else if eq .Role "user" }}}}{user}'
        f'{{{{ else if eq .Role "assistant" }}}}{answer}'
        "{{ end }}{{ end }}"
    )


def _text(text: str) -> str:
    r"""Returns an action that writes a text; no three quotes can stand in it.

    >>> print(_text('a "{{"'))
    {{ "a \"{{\"" }}
    """
    return f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}" if text else ""
