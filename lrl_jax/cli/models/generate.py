"""Generates with a model from the command line: `lrl generate` answers prompts, `lrl chat` talks.

What a model or a person writes is shown without control characters that a terminal would obey.
"""

import argparse
from collections.abc import Generator, Iterator, Mapping, Sequence
import dataclasses
import io
import json
import re
import sys
from typing import Any

from etils import epath
from rich.live import Live
from rich.table import Table

from lrl_jax import terminal, text
from lrl_jax.cli import begin
from lrl_jax.data.read import kinds
from lrl_jax.data.templates import documents
from lrl_jax.data.templates import table as templates
from lrl_jax.devices import mesh as meshes
from lrl_jax.evaluate import generate as generation
from lrl_jax.evaluate.generate import Engine, Settings
from lrl_jax.evaluate.kinds import MeasuredModel
from lrl_jax.pipeline import models
from lrl_jax.pipeline.console import say
from lrl_jax.text import Bad, DataError
from lrl_jax.vocab.tokenizer.types import half

HELP = "/reset forgets the conversation, /system TEXT instructs the model, /exit ends"
LOCAL = ("text", "source", "instruction", "prompt", "inputs")  # fields that a prompt can stand for
PRINTED = ("line", "prompt", "text", "why", "tokens")  # fields of an answer
STDIN = "/dev/stdin"
HALVES = re.compile("[\ud800-\udfff]")  # of surrogate pairs; no UTF-8 text can hold them


@dataclasses.dataclass(frozen=True)
class Asked:
    """Holds a prompt: the number of its line, what it was given as, and its ids.

    `beside` are the other fields of its line; `continues` tells that no template wrote it.
    """

    line: int
    given: Any
    beside: Mapping[str, Any]
    continues: bool
    ids: Sequence[int]
    ends: tuple[int, ...]


# ---------------------------------------------------------------------------- lrl generate
def generate(args: argparse.Namespace) -> None:
    """Prints the continuation of a prompt, or a line of JSON for each prompt of a file."""
    begin.start(args)
    _refuse_overrides(args)
    rows = [*_rows(args)]
    model = _opened(args.model, args)
    prompts = [_asked(line, row, args, model) for line, row in rows]
    counters = generation.Counters()
    for continues in (True, False):
        _answer_all([p for p in prompts if p.continues == continues], args, model, counters)
    say(_summary(counters, model))


def _answer_all(
    prompts: Sequence[Asked],
    args: argparse.Namespace,
    model: MeasuredModel,
    counters: generation.Counters,
) -> None:
    """Prints the answers to prompts that are all continued, or all written by templates."""
    if not prompts:
        return
    ends = tuple(dict.fromkeys(end for prompt in prompts for end in prompt.ends))
    continues, own = prompts[0].continues, args.template or templates.OWN
    bos = continues or templates.begins_with_bos(own, model.tokenizer)
    settings = _settings(args, ends, continues, bos)
    ids = [prompt.ids for prompt in prompts]
    for index, answer in generation.generate(model, ids, settings, args.batch_size, counters):
        if not meshes.lead():
            continue
        if args.file:
            asked = prompts[index]
            said = {"prompt": asked.given, "text": answer.text, "why": answer.why}
            _print_json({"line": asked.line, **said, "tokens": answer.tokens, **asked.beside})
        else:
            print(terminal.visible(answer.text))


def _rows(args: argparse.Namespace) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yields the line and the record of every prompt: fields, or messages of a conversation."""
    if args.file is None:
        yield 1, {"prompt": args.prompt}
        return
    empty, file = True, STDIN if args.file == "-" else args.file
    if file != STDIN:
        if epath.Path(file).is_dir():
            raise DataError(f"{file}: is a folder; name a file with a prompt a line")
        text.check_file(epath.Path(file))
    for number, line in text.numbered(file):
        where = f"{file}:{number}"
        if isinstance(line, Bad):
            raise DataError(f"{line.where}: {line.why}")
        if line.strip():
            empty = False
            yield number, _record(where, line, args.template)
    if empty:
        raise DataError(f'{file}: no prompts; want lines such as {{"prompt": "..."}}')


def _record(where: str, line: str, template: str) -> Mapping[str, Any]:
    """Returns the record of a line; DataError if it has no prompt."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as e:
        raise DataError(f"{where}: not JSON ({e})") from None
    want = 'want {"prompt": "..."}, or {"messages": [{"role": "user", "content": "..."}]}'
    if not isinstance(record, dict):
        raise DataError(f"{where}: {line[:60]!r} is no JSON object; {want}")
    read = _read(record, template)
    odd = [key for key, value in read.items() if not isinstance(value, str)]
    if "messages" in record:
        try:
            templates.asked(record["messages"])
        except ValueError as e:
            raise DataError(f"{where}: {e}") from None
    elif odd or not any(record.get(field) for field in (LOCAL if template else ("prompt",))):
        why = f"{odd[0]} is no text" if odd else "no prompt"
        raise DataError(f"{where}: {why}; {want}")
    if taken := [key for key in PRINTED if key in record and key not in read]:
        raise DataError(
            f"{where}: has a field {taken[0]!r}, as its answer will have; give it another name"
        )
    return record


def _read(row: Mapping[str, Any], template: str) -> dict[str, Any]:
    """Returns the fields of a record of which its prompt is made."""
    fields = {"messages"} if "messages" in row else {"prompt"}
    if template and "messages" not in row:
        fields.update(LOCAL, *(kind.fields for kind in kinds.KINDS.values()))
        fields.difference_update({*kinds.answers()} - {*LOCAL})
    return {key: value for key, value in row.items() if key in fields}


def _asked(
    line: int, row: Mapping[str, Any], args: argparse.Namespace, model: MeasuredModel
) -> Asked:
    """Returns the ids of a prompt: as it stands, in the template, or as a conversation."""
    template, read = args.template, _read(row, args.template)
    beside = {key: value for key, value in row.items() if key not in read}
    alone = [*read] in (["messages"], ["prompt"])
    given = next(iter(read.values())) if alone else read
    try:
        if "messages" in read:
            record = templates.asked(read["messages"])
            ids, ends = _written(template or templates.OWN, record, model)
        elif template:
            first = next(read[field] for field in LOCAL if read.get(field))
            ids, ends = _written(template, {**dict.fromkeys(LOCAL, first), **read}, model)
        else:
            ids, ends = model.tokenizer.encode(read["prompt"]), model.ends
    except ValueError as e:
        if args.file is None:
            raise ValueError(f"--prompt: {e}") from None
        raise DataError(f"{STDIN if args.file == '-' else args.file}:{line}: {e}") from None
    continues = not template and "messages" not in read
    return Asked(line, given, beside, continues, ids, ends)


def _written(
    name: str, record: Mapping[str, str], model: MeasuredModel
) -> tuple[list[int], tuple[int, ...]]:
    """Returns the ids of a prompt in a template, and the ids that end its answer."""
    parts = templates.prompt_parts(name, dict(record), model.tokenizer)
    end = templates.ending(name, dict(record), model.tokenizer)
    return documents.ids(parts, model.tokenizer), tuple(dict.fromkeys((end, *model.ends)))


def _print_json(said: Mapping[str, Any]) -> None:
    line = json.dumps(said, ensure_ascii=False)
    for odd in (terminal.CONTROL, HALVES):
        line = odd.sub(lambda match: f"\\u{ord(match[0]):04x}", line)
    print(line, flush=True)


def _summary(counters: generation.Counters, model: MeasuredModel) -> str:
    line = (
        f"generate: {counters.answers:,} answers, {counters.new_tokens:,} tokens, "
        f"{counters.tokens_per_second:,.0f} tokens/s, rows {counters.occupancy:.0%} busy"
    )
    if counters.truncated:
        line += (
            f"; {counters.truncated:,} prompts lost their beginning: the model reads "
            f"{model.context:,} tokens"
        )
    return line


# ---------------------------------------------------------------------------- lrl chat
def chat(args: argparse.Namespace) -> None:
    """Talks in the terminal: streams the answer to each line; with --base, those of two models."""
    _refuse_overrides(args)
    sides = [Side("after" if args.base is not None else "", args.model, args)]
    if args.base is not None:
        place = args.base or models.base_of(args.model)
        sides.insert(0, Side("before", place, args, like=sides[0].template))
    for side in sides:
        say(f"chat: {side.about}")
    say(f"chat: {HELP}")
    for line in _lines():
        if why := half(line):
            say(f"chat: this line is not UTF-8 ({why}), so it was not asked; type it again")
            continue
        command, _, rest = line.strip().partition(" ")
        if command == "/exit":
            return
        if command in ("/reset", "/system"):
            for side in sides:
                side.reset(rest.strip() if command == "/system" else side.system)
            say("chat: a new conversation")
        elif re.fullmatch("/[a-z]+", command):
            say(f"chat: there is no {command}; {HELP}")
        elif line.strip():
            _answer(sides, line)


class Side:
    """Holds one model that is talked to, and the conversation with it.

    Args:
      title: of its column; "" where there is one model.
      like: the template of the other model, in which this one is asked too, if it can be.
    """

    def __init__(self, title: str, place: str, args: argparse.Namespace, like: str = ""):
        self.title, self.place, self.args = title, place, args
        self.model = _opened(place, args)
        self.engine = Engine(self.model, batch_size=1)
        self.system = args.system
        self.messages: list[dict[str, str]] = []
        self.template = args.template or ("" if like == templates.OWN else like)
        if self.template:
            self._prompt("a")  # refuses a template that does not fit the model
        else:
            self.template = models.template(place, self.model.tokenizer)

    @property
    def about(self) -> str:
        """Returns how this model is asked, as a line."""
        title = f"{self.title}: " if self.title else ""
        if not self.template:
            return f"{title}{self.place} has no chat template: each line is continued as it stands"
        alone = "" if templates.is_chat(self.template) else ", which asks each line by itself"
        return f"{title}{self.place}, template {self.template}{alone}"

    def reset(self, system: str) -> None:
        """Forgets the conversation; the next one has this instruction."""
        self.messages, self.system = [], system
        if system and not templates.is_chat(self.template):
            say(f"chat: {self.about}: there is no place for an instruction")

    def ask(self, line: str) -> Generator[str]:
        """Yields the answer as it grows, and adds both to the conversation."""
        ids, ends = self._prompt(line)
        answer = ""
        try:
            bos = templates.begins_with_bos(self.template, self.model.tokenizer)
            settings = _settings(self.args, ends, bos=bos)
            for piece in generation.stream(self.engine, ids, settings):
                answer += piece
                yield piece
        finally:  # what was said counts, though it was interrupted
            turns = {"user": line, "assistant": answer}
            self.messages += [{"role": role, "content": turns[role]} for role in turns]

    def _prompt(self, line: str) -> tuple[list[int], tuple[int, ...]]:
        """Returns the ids of the conversation, without its oldest turns if it is too long."""
        model = self.model
        if not self.template:
            return model.tokenizer.encode(line), model.ends
        system = [{"role": "system", "content": self.system}] if self.system else []
        room = model.context - min(self.args.max_new_tokens, model.context // 2)
        while True:
            asked = {"role": "user", "content": line}
            record = _said(self.template, [*system, *self.messages, asked])
            ids, ends = _written(self.template, record, model)
            if not model.context or len(ids) < room or not self.messages:
                return ids, ends
            self.messages = self.messages[2:]
            say(f"chat: the oldest turn is forgotten, as the model reads {model.context:,} tokens")


def _said(template: str, messages: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Returns the record of a conversation, of which other templates ask the last message."""
    if templates.is_chat(template):
        return {"messages": json.dumps([*messages])}
    return dict.fromkeys(LOCAL, messages[-1]["content"])


def _answer(sides: Sequence[Side], line: str) -> None:
    """Prints the answers to a line as they grow; an interrupt ends them, not the conversation."""
    streams = [side.ask(line) for side in sides]
    try:
        if len(sides) == 1:
            for piece in streams[0]:
                print(terminal.visible(piece), end="", flush=True)
        else:
            _beside(sides, streams)
    except KeyboardInterrupt:
        say("chat: interrupted")
    except ValueError as e:  # of a template that refuses the conversation
        say(f"chat: {e}")
    finally:
        for stream in streams:
            stream.close()
    print(flush=True)


def _beside(sides: Sequence[Side], streams: Sequence[Generator[str]]) -> None:
    """Shows the answers of two models in two columns that grow."""
    texts = [""] * len(sides)

    def shown() -> Table:
        columns = Table(*(side.title for side in sides), expand=True)
        columns.add_row(*(terminal.styled(answer) for answer in texts))
        return columns

    growing = dict(enumerate(streams))
    with Live(shown(), console=terminal.console(), auto_refresh=False) as live:
        while growing:
            for number, stream in [*growing.items()]:
                piece = next(stream, None)
                if piece is None:
                    del growing[number]
                else:
                    texts[number] += piece
            live.update(shown(), refresh=True)


def _lines() -> Iterator[str]:
    """Yields what the person types, until end of file or an interrupt.

    A byte that is not UTF-8 comes as half a surrogate pair; else all that was read would be lost.
    """
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    while True:
        try:
            yield input("> " if sys.stdin.isatty() else "")
        except (EOFError, KeyboardInterrupt):
            print(flush=True)
            return


# ---------------------------------------------------------------------------- both
def _opened(place: str, args: argparse.Namespace) -> MeasuredModel:
    return models.open_model(place, dtype=models.chosen_dtype(args.dtype))


def _settings(
    args: argparse.Namespace, ends: tuple[int, ...], continues: bool = False, bos: bool = True
) -> Settings:
    return Settings(
        max_new_tokens=args.max_new_tokens, ends=ends, stops=tuple(args.stop),
        temperature=args.temperature, top_p=args.top_p, min_p=args.min_p,
        repetition_penalty=args.repetition_penalty, seed=args.seed, continues=continues, bos=bos,
    )  # fmt: skip


def _refuse_overrides(args: argparse.Namespace) -> None:
    _settings(args, ())  # a setting out of its range is refused before a model is read
    given = {"--prompt": getattr(args, "prompt", ""), "--system": getattr(args, "system", "")}
    for option, value in [*given.items(), *(("--stop", stop) for stop in args.stop)]:
        if why := half(value or ""):
            raise ValueError(f"{option} {value[:60]!r}: {why}; want text in UTF-8")
    if args.overrides:
        raise ValueError(f"{args.overrides[0]}: `lrl {args.verb}` reads no recipe to override")
