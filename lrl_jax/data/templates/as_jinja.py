"""Writes the template that a dataset was trained with as a chat template in Jinja, and proves it.

    made = write(dataset, tokenizer, read)
    made.source          for chat_template.jinja; "" where `made.why` says what stands against it

What the template puts around messages is found by writing messages that are known. The Jinja
template is taken if conversations rendered by it have the ids that training gave them, bos first.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import itertools
import json
from typing import NamedTuple

from lrl_jax.data.read import kinds
from lrl_jax.data.templates import documents, sandbox, table
from lrl_jax.data.templates.chat import Turn
from lrl_jax.data.templates.parts import Record, TextPart, opening
from lrl_jax.recipe import data as recipe_data
from lrl_jax.vocab.tokenizer.types import Tokenizer

Read = Callable[[str], Sequence[int]]  # ids of a text in which control tokens are read as such
Trained = Callable[[Sequence[Turn]], list[TextPart]]  # what training writes of a conversation
# Two texts meet at EDGE that training tokenises each by itself; text that follows bos, at START.
EDGE, START = "\ufdd5", "\ufdd6"
AROUND = "\t"  # stands on both sides of messages that are known, to see whether they are stripped
NAMES = ("q0", "a0", "q1", "a1")
# Conversations that are tried: the system prompt, or "", then user and assistant by turns.
TRIED = (
    ("", "Hello"),
    ("", "two\nlines, caf\u00e9", "\uc548\ub155, 12"),
    ("", "Who?", "A cat."),
    ("", "Who? ", "A cat.", "Where?", "Here."),
    ("", "1 + 1 = ?", "2", "Why?"),
    ("Be brief.", "Hello"),
    ("Be brief.\nBe kind.", "Hello", "Hi!", "Bye"),
)
ROLES = ("user", "assistant")
SYSTEM = "system = messages[0]['content']"
ORDER = "want user and assistant by turns, the user first"


@dataclasses.dataclass(frozen=True)
class Made:
    """Holds the chat template of a dataset.

    Attributes:
      source: in Jinja; "" where there is none.
      why: what stands against one.
      text: what the model reads before it answers, with a name in braces for each text it is given.
      stop: the token that ends an answer.
    """

    source: str
    why: str
    text: str
    stop: str


class Slot(NamedTuple):
    """Describes what stands before a message, and which method strips it ("" for none)."""

    before: str
    strip: str


@dataclasses.dataclass(frozen=True)
class Frame:
    """Holds what a template writes around messages.

    Attributes:
      start: of the whole.
      first, later: the question that begins a conversation, and any other.
      system: the system prompt; None where a template has no place for one.
      instructed: the question after a system prompt.
      asked: what closes a question and opens its answer.
      strip: the method that strips answers ("" for none).
      leads: what an answer begins with, one that others follow and the last.
      ended: what closes the last answer.
    """

    start: str
    first: Slot
    later: Slot
    system: Slot | None
    instructed: Slot
    asked: str
    strip: str
    leads: tuple[str, str]
    ended: str


class _UnfitError(ValueError):
    """Says why a template cannot be a chat template."""


def write(dataset: recipe_data.Dataset, tokenizer: Tokenizer, read: Read) -> Made | None:
    """Returns the chat template of a dataset; None where its template asks nothing.

    Args:
      read: reads what a chat template has rendered, as users of the export will.
    """
    names = {i: name for name, i in tokenizer.controls.items()}
    bos, eos = (names.get(i, "") for i in (tokenizer.bos_id, tokenizer.eos_id))
    text = ""
    try:
        if not _specimens(dataset, tokenizer):
            return None
        text = _specimen(dataset, tokenizer)
        return _made(dataset, tokenizer, read, bos, eos)
    except _UnfitError as e:
        return Made("", str(e), text, eos)
    except Exception as e:  # a user's template raises anything for texts that it does not expect
        return Made("", f"it writes no text but its own ({type(e).__name__}: {e!s:.80})", text, eos)


def _made(
    dataset: recipe_data.Dataset, tokenizer: Tokenizer, read: Read, bos: str, eos: str
) -> Made:
    several = table.is_chat(dataset.template)
    trained = _conversation(dataset, tokenizer) if several else _exchange(dataset, tokenizer)
    frame = _of_format(trained, bos, eos) if several else _of_exchange(trained, bos, eos)
    default = str(dataset.template_options().get("system", ""))
    tried = [talk for talk in _tried(default) if several or talk.exchange]
    asking = [talk for talk in tried if talk.turns[-1].role == "user"]
    ways = itertools.product((tried, asking), ("", " "), ("", " "))
    for talks, start, edge in ways:  # an answer may be cut from its prompt in training alone
        source = _jinja(frame, default).replace(START, start).replace(EDGE, edge)
        if _proved(source, trained, tokenizer, read, talks):
            return Made(source, "", shown(source), _stop(trained, eos))
    raise _UnfitError("transformers reads no text as the ids that it had in training")


def shown(source: str, names: Mapping[str, str] | None = None) -> str:
    """Returns what a chat template writes of one message, of which {message} shows the place.

    `names` are variables that a template may read, such as bos_token.
    """
    messages = [{"role": "user", "content": "{message}"}]
    return sandbox.compiled(source).render(messages, add_generation_prompt=True, names=names)


# ---------------------------------------------------------------------------- what training writes
def _specimens(dataset: recipe_data.Dataset, tokenizer: Tokenizer) -> list[Record]:
    """Returns a record for each direction in which a dataset asks; none where all is learnt.

    Texts that may be empty are, unless nothing of the record would be asked then.
    """
    writer, specimens = table.writer(dataset, tokenizer), kinds.of(dataset).specimens(dataset)
    asking = [r for r in specimens if any(text_part.text for text_part in opening(writer(r)))]
    if not table.is_chat(dataset.template):
        asking = [r for r in asking if _shown(writer, r)] or asking
    chosen = {"forward": asking[:1], "both": asking, "either": asking}
    return chosen.get(getattr(dataset, "direction", ""), asking[-1:])


def _exchange(dataset: recipe_data.Dataset, tokenizer: Tokenizer) -> Trained:
    """Returns what a template without turns writes of a question and its answer.

    Raises:
      _UnfitError: a prompt takes more than one text, or depends on the direction.
    """
    writer, records = table.writer(dataset, tokenizer), _specimens(dataset, tokenizer)
    if len(records) > 1:
        raise _UnfitError("it asks in both directions, and a message says none")
    blank = records[0] | dict.fromkeys(kinds.answers(), "")
    field, learnt = _asked(writer, blank), kinds.of(dataset).learnt

    def trained(turns: Sequence[Turn]) -> list[TextPart]:
        question, answer = turns[0].content, turns[1].content
        asked = opening(writer(blank | {field: question}))
        whole = writer(blank | {field: question, learnt: answer})
        same = whole[: len(asked)] == asked
        if same and "".join(text_part.text for text_part in whole[len(asked) :]) == answer:
            return whole
        return [*asked, TextPart(answer, 1)]  # of a template that writes more than the answer

    return trained


def _asked(writer: table.Template, record: Record) -> str:
    """Returns the one field of a record that its prompt shows."""
    fields = _shown(writer, record)
    if len(fields) != 1:
        often = " more than once" * (len({*fields}) == 1)
        taken = " and ".join(dict.fromkeys(fields)) or "no text"
        raise _UnfitError(f"its prompt takes {taken}{often}, and a message is one text")
    return fields[0]


def _shown(writer: table.Template, record: Record) -> list[str]:
    """Returns the fields that a prompt shows, as often as it does; those of languages left out."""
    return [
        field
        for field, text in record.items()
        if text and not field.endswith(("language", "language_name"))
        for text_part in opening(writer(record | {field: EDGE}))
        for _ in range(text_part.text.count(EDGE))
    ]


def _specimen(dataset: recipe_data.Dataset, tokenizer: Tokenizer) -> str:
    """Returns a prompt of a dataset, in which braces hold the names of what it is given."""
    record = _specimens(dataset, tokenizer)[0]
    fields = {name: f"{{{name}}}" for name, text in record.items() if text == name}
    writer = table.writer(dataset, tokenizer)
    return "".join(text_part.text for text_part in opening(writer(record | fields)))


def _conversation(dataset: recipe_data.Dataset, tokenizer: Tokenizer) -> Trained:
    """Returns what a chat format writes of turns, of which it learns what the dataset says."""
    write = table.chat_format(dataset.template, tokenizer)
    last_only = getattr(dataset, "learn", "") == "last_answer"

    def trained(turns: Sequence[Turn]) -> list[TextPart]:
        learnt = [n for n, turn in enumerate(turns) if turn.role == "assistant"]
        learnt = learnt[-1:] if last_only else learnt
        return write([dataclasses.replace(t, weight=n in learnt) for n, t in enumerate(turns)])

    return trained


def _stop(trained: Trained, eos: str) -> str:
    last = [text_part for text_part in trained(_turns("", "q", "a")) if text_part.trained][-1]
    return last.text if last.control else eos


def _turns(system: str, *contents: str) -> list[Turn]:
    turns = [Turn(role, text) for role, text in zip(itertools.cycle(ROLES), contents, strict=False)]
    return [Turn("system", system), *turns] if system else turns


# ---------------------------------------------------------------------------- around messages
def _of_format(trained: Trained, bos: str, eos: str) -> Frame:
    """Returns what a chat format writes around messages."""
    (first, answer, later, last), lead, ended = _slots(trained, eos, "", *NAMES)
    asked = last.before.removesuffix(lead)
    leads = answer.before.removeprefix(asked), lead
    system, instructed = None, first
    try:
        (system, instructed, *rest), _, end = _slots(trained, eos, "s0", *NAMES)
    except _UnfitError:
        raise
    except ValueError:  # the format has no place for it
        rest, end = [answer, later, last], ended
    alike = answer.before.startswith(asked) and answer.strip == last.strip
    if not alike or (rest, end) != ([answer, later, last], ended):
        raise _UnfitError("it writes later turns in another way than the first ones")
    return Frame(bos + START, first, later, system, instructed, asked, last.strip, leads, ended)


def _of_exchange(trained: Trained, bos: str, eos: str) -> Frame:
    """Returns what is written around questions of which each is a document with its answer."""
    (first, answer), lead, ended = _slots(trained, eos, "", *NAMES[:2])
    first = first._replace(before=bos + START + first.before)
    later = first._replace(before=ended + first.before)
    asked = answer.before.removesuffix(lead)
    return Frame("", first, later, None, first, asked, answer.strip, (lead, lead), ended)


def _slots(trained: Trained, eos: str, system: str, *names: str) -> tuple[list[Slot], str, str]:
    """Returns what stands before each message, what the last answer begins with, and what ends it.

    `names` are messages of user and assistant by turns; `system` is the system prompt, or "".
    """
    edged = [f"{AROUND}{name}{AROUND}" if name else "" for name in (system, *names)]
    parts = trained(_turns(*edged))
    last = max(n for n, text_part in enumerate(parts) if text_part.trained)
    whole = _joined(parts if parts[last].control else parts[: last + 1])
    whole += "" if parts[last].control else eos
    slots, at, start = [], 0, 0
    for name in filter(None, (system, *names)):
        start = whole.find(name, at)
        if start < 0:
            raise _UnfitError("it does not write messages as they stand, one after another")
        end = start + len(name)
        left, right = whole[at:start].endswith(AROUND), whole[end:].startswith(AROUND)
        strip = {(0, 0): "strip", (0, 1): "lstrip", (1, 0): "rstrip", (1, 1): ""}[left, right]
        start -= left
        slots.append(Slot(whole[at:start], strip))
        at = end + right
    return slots, whole[len(_joined(_before_answer(parts))) : start], whole[at:]


def _before_answer(parts: Sequence[TextPart]) -> list[TextPart]:
    """Returns the parts before the last answer."""
    backwards = itertools.dropwhile(lambda text_part: not text_part.trained, reversed(parts))
    return [*itertools.dropwhile(lambda text_part: text_part.trained, backwards)][::-1]


def _joined(parts: Sequence[TextPart]) -> str:
    """Returns the text of parts, with EDGE where two texts meet."""
    parts = [text_part for text_part in parts if text_part.text]
    met = [not (a.control or b.control) for a, b in itertools.pairwise(parts)]
    edges = [EDGE * meet for meet in (False, *met)]
    return "".join(edge + text_part.text for edge, text_part in zip(edges, parts, strict=True))


# ---------------------------------------------------------------------------- Jinja
def _jinja(frame: Frame, default: str) -> str:
    """Returns the source; START and EDGE are still in it."""
    closed = frame.ended if frame.asked.startswith(frame.ended) else frame.asked
    every = frame.later.before.startswith(frame.ended)  # answer, or only the last
    first, later = _put(frame.first), frame.later.before[len(frame.ended) * every :]
    if frame.system is not None:
        system = [*_put(frame.system, "system"), *_put(frame.instructed)]
        first = _if("system", system, first)
        take = [f"{{%- set {SYSTEM} -%}}", "{%- set turns = messages[1:] -%}"]
    else:
        take = ["{{- raise_exception('this model was trained without system prompts') -}}"]
    question = [
        *_if("loop.first", first, _put(Slot(later, frame.later.strip))),
        *_text(closed),
        *_if("not loop.last or add_generation_prompt", _text(frame.asked[len(closed) :])),
    ]
    answer = [
        *_if("loop.last", _text(frame.leads[1]), _text(frame.leads[0])),
        *_put(Slot("", frame.strip)),
        *_if("loop.last", _text(frame.ended), _text(frame.ended * every)),
    ]
    refused = [f"{{{{- raise_exception('{ORDER}') -}}}}"]
    return "\n".join([
        f"{{%- set turns, system = messages, {_quoted(default)} -%}}",
        *_if("messages and messages[0]['role'] == 'system'", take),
        *_text(frame.start),
        "{%- for message in turns -%}",
        *_if("message['role'] != ['user', 'assistant'][loop.index0 % 2]", refused),
        *_if("message['role'] == 'user'", question, answer),
        "{%- endfor -%}",
    ])  # fmt: skip


def _if(condition: str, then: list[str], otherwise: Sequence[str] = ()) -> list[str]:
    """Returns statements of which some hold under a condition; those alone where none differ."""
    if then == [*otherwise]:
        return then
    rest = ["{%- else -%}", *otherwise] if otherwise else []
    return [f"{{%- if {condition} -%}}", *then, *rest, "{%- endif -%}"]


def _put(slot: Slot, name: str = "message['content']") -> list[str]:
    method = f".{slot.strip}()" if slot.strip else ""
    return [*_text(slot.before), f"{{{{- {name}{method} -}}}}"]


def _text(text: str) -> list[str]:
    return [f"{{{{- {_quoted(text)} -}}}}"] if text else []


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


# ---------------------------------------------------------------------------- the proof
class _Talk(NamedTuple):
    """Holds a conversation as it is given to a chat template, and as training has it."""

    messages: list[dict[str, str]]
    turns: list[Turn]
    exchange: bool  # whether it is one question


def _tried(default: str) -> Iterator[_Talk]:
    """Yields conversations; those without a system prompt have `default` in training."""
    for system, *contents in TRIED:
        given, turns = _turns(system, *contents), _turns(system or default, *contents)
        messages = [{"role": turn.role, "content": turn.content} for turn in given]
        yield _Talk(messages, turns, not system and len(contents) < 3)


def _proved(
    source: str, trained: Trained, tokenizer: Tokenizer, read: Read, tried: Sequence[_Talk]
) -> bool:
    """Tells whether transformers reads what a chat template renders as the ids of training.

    White space after the last answer does not count.
    """
    template = sandbox.compiled(source)
    for messages, turns, _ in tried:
        asks = turns[-1].role == "user"
        try:
            parts = trained([*turns, Turn("assistant", "a")] if asks else turns)
        except ValueError:  # the format has no place for a system prompt
            continue
        got = [*read(template.render(messages, add_generation_prompt=asks))]
        if asks:
            want = [tokenizer.bos_id, *documents.ids(_before_answer(parts), tokenizer)]
        else:
            tokens = documents.encode([parts], tokenizer)[0].tokens.tolist()
            want = [tokenizer.bos_id, *tokens]
            if tokenizer.decode(got[len(want) :]).isspace():
                got = got[: len(want)]
        if got != want:
            return False
    return True
