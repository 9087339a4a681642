"""Says what the records of every kind of dataset are: KINDS has a row for each kind.

    KINDS["text"].fields                  ("text",)
    of(dataset).text_learnt(dataset, record)

A new kind is a subclass of `recipe.data.Dataset` with its `kind`, and a row here:

    KINDS["riddles"] = Kind(("question", "answer"), learnt="answer", make=riddle)

Readers, filters, templates and the search for duplicates ask the row.
"""

from collections.abc import Callable, Iterator, Mapping
import dataclasses
import functools
import json
from typing import Any

from lrl_jax.data.read import formats, makers
from lrl_jax.data.read.columns import ABSENT, UnusableError, beside, is_null, lookup, steps_read
from lrl_jax.data.read.files import Span
from lrl_jax.data.read.makers import ROW, Columns, Make, ReadRows, Record
from lrl_jax.recipe import data as recipe_data
from lrl_jax.recipe.languages import named
from lrl_jax.text import Bad, DataError

Join = Callable[[Any, Span, Span, ReadRows], Iterator[Record | Bad]]


@dataclasses.dataclass(frozen=True)
class Kind:
    """Describes the records of one kind of dataset.

    Attributes:
      fields: the fields of every record.
      learnt: the field that the model learns to write.
      make: takes a dataset and its columns, and returns the function that makes records of a row;
        None where records do not come from rows.
      columns: the fields that are read from a row; all fields if empty.
      required: the fields that must not be blank; `learnt` alone if empty.
      compared: the fields in which duplicates are equal; all fields if empty.
      halves: the two fields whose lengths `filters.length_ratio` compares; kinds without them
        refuse that filter.
      beside: the fields of a row that are read besides, under no other name.
      join: yields the records of two aligned files.
      cut_aligned: whether aligned files may be cut at lines.
      unmarked: the format of files whose suffix says nothing.
    """

    fields: tuple[str, ...]
    learnt: str
    make: Callable[[Any, Columns], Make] | None = None
    columns: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    compared: tuple[str, ...] = ()
    halves: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    join: Join | None = None
    cut_aligned: bool = False
    unmarked: str = "json"

    def wanted(self, columns: Columns) -> tuple[str, ...]:
        """Returns the columns that a reader of files must not leave out."""
        return tuple(columns.values())

    def unread(self, columns: Columns, row: Mapping[str, Any]) -> Iterator[str]:
        """Yields the fields of a row that are not empty and that nothing reads."""
        nested = tuple(column for column in columns.values() if column not in row)
        paths = steps_read(nested) if nested else {}
        read = {*columns.values()}
        for name, value in row.items():
            if name in read:
                continue
            if name not in paths:
                if _says_something(value):
                    yield name
            else:
                for path, item in beside(value, paths[name], name):
                    if _says_something(item):
                        yield path

    def text_learnt(self, dataset: Any, record: Record) -> str:
        """Returns the text of a record that the model learns to write."""
        return record[self.learnt]

    def texts_compared(self, record: Record) -> tuple[str, ...]:
        """Returns the texts in which duplicates are equal, such as a question and its answer."""
        return tuple(record.get(field, "") for field in self.compared or self.fields)

    def texts_read(self, record: Record) -> tuple[str, ...]:
        """Returns all texts of a record that a model reads or learns, each by itself."""
        return tuple([record[field] for field in self._text_fields if field in record])

    @functools.cached_property
    def _text_fields(self) -> tuple[str, ...]:
        return tuple(field for field in self.fields if not field.endswith("language"))

    def specimens(self, dataset: Any) -> list[Record]:
        """Returns an example record of every shape a dataset has; each field holds its own name."""
        whole = {field: field for field in self.fields}
        if "language" in whole:
            whole = named(whole | {"language": dataset.language}, dataset.language_names)
        empty = {field: "" for field in self.fields if field.endswith(makers.CAN_BE_EMPTY)}
        return [whole, whole | empty] if empty else [whole]


def _says_something(value: Any) -> bool:
    return not makers.is_blank(value) and value not in ([], {}, (), b"")


class Pairs(Kind):
    """Describes sentences and their translations; either of the two may be what is learnt."""

    def specimens(self, dataset: recipe_data.Parallel) -> list[Record]:
        languages = dataset.source_language, dataset.target_language
        pairs = [
            {"source": "source", "target": "target", "source_language": a, "target_language": b}
            for a, b in (languages, languages[::-1])
        ]
        return [named(record, dataset.language_names) for record in pairs]


class Conversations(Kind):
    """Describes conversations, in which a model learns the answers."""

    def wanted(self, columns: Columns) -> tuple[str, ...]:
        given = tuple(columns.values())
        return makers.CHAT_COLUMNS if given == self.fields else given

    def unread(self, columns: Columns, row: Mapping[str, Any]) -> Iterator[str]:
        """Yields the fields that nothing reads: of the row, of its turns and of their items."""
        names = makers.chat_columns(columns)
        try:
            turns = makers.listed(makers.conversation(row, names))
        except UnusableError:
            return
        values = ((name, lookup(row, name)) for name in names)
        used = next(n for n, v in values if v is not ABSENT and not is_null(v))
        read = {"messages": used}
        if not any(map(_is_system, turns[:1])):
            read[makers.SYSTEM] = makers.SYSTEM
            yield from _unread_of_parts(row.get(makers.SYSTEM))
        yield from super().unread(read, row)
        for turn in turns:
            yield from _unread_of_turn(turn)

    def text_learnt(self, dataset: recipe_data.Chat, record: Record) -> str:
        turns = [t for t in json.loads(record["messages"]) if t["role"] == "assistant"]
        learnt = turns if dataset.learn == "answers" else turns[-1:]
        return "\n".join(turn["content"] for turn in learnt if turn.get("weight", 1))

    def texts_compared(self, record: Record) -> tuple[str, ...]:
        return ("\n".join(_contents(record, ("user", "assistant"))),)

    def texts_read(self, record: Record) -> tuple[str, ...]:
        return tuple(_contents(record, ("system", "user", "assistant")))

    def specimens(self, dataset: recipe_data.Chat) -> list[Record]:
        messages = [{"role": role, "content": role} for role in ("user", "assistant") * 2]
        return [{"messages": json.dumps(messages)}]


def unread_of_squad(columns: Columns, row: Mapping[str, Any]) -> Iterator[str]:
    """Yields the fields of a row of SQuAD that these columns do not read under any name.

    Its id is no text, and neither are the places of its answers. Answers equal to the first are
    nothing more.
    """
    tops = {formats.top(column) for column in columns.values()}
    read = {formats.SQUAD.get(name, "answer" if name == "answers" else name) for name in tops}
    yield from (name for name in formats.SQUAD.values() if name not in read and row[name])
    if "answer" in read and len({*row["answers"]["text"]}) > 1:
        yield "answers.text[1:]"


def _is_system(turn: Any) -> bool:
    """Tells whether a turn is a system prompt that is not blank."""
    keys = makers.keys_of(turn)
    if not keys:
        return False
    role, content = (turn[key] for key in keys)
    return makers.ROLES.get(str(role).lower()) == "system" and not makers.is_blank(content)


def _unread_of_turn(turn: Any) -> Iterator[str]:
    keys = makers.keys_of(turn)
    if not keys:
        return
    role, content = (turn[key] for key in keys)
    answer = makers.ROLES.get(str(role).lower()) == "assistant"
    for name, value in turn.items():
        if makers.is_weight(name, value):
            # of a turn that is no answer 0 is what it has; more cannot be had
            if not answer and value not in (None, False, 0) and str(value) not in ("0.0", "0"):
                yield f"{name} of a turn that is no answer"
        elif name not in keys and _says_something(value):
            yield f"{name} of a turn"
    yield from _unread_of_parts(content)


def _unread_of_parts(content: Any) -> Iterator[str]:
    """Yields the fields that nothing reads of the items that a turn may be a list of."""
    for item in content if isinstance(content, list) else ():
        if isinstance(item, dict):
            read = {"type", *(key for key in ("text", "value") if isinstance(item.get(key), str))}
            for name in item.keys() - read:
                if _says_something(item[name]):
                    yield f"{name} of a part of a turn"


def _contents(record: Record, roles: tuple[str, ...]) -> list[str]:
    """Returns what these roles say in a conversation, in order."""
    return [turn["content"] for turn in json.loads(record["messages"]) if turn["role"] in roles]


ENGLISH = tuple(f"english_{name}" for name in ROW)
PAIR = ("source", "target")
KINDS: dict[str, Kind] = {
    "text": Kind(("text",), "text", makers.fields, unmarked="text"),
    "parallel": Pairs(
        (*PAIR, "source_language", "target_language"), "target", makers.pair,
        columns=PAIR, required=PAIR, compared=PAIR, halves=PAIR,
        join=makers.pairs, cut_aligned=True,
    ),
    "instructions": Kind(ROW, "output", makers.fields, required=("instruction", "output")),
    "completion": Kind(("prompt", "completion"), "completion", makers.fields),
    "chat": Conversations(("messages",), "messages", makers.chat, beside=(makers.SYSTEM,)),
    "taco": Kind(
        (*ROW, *ENGLISH, "language"), "output", makers.scaffold,
        columns=ROW, compared=ROW, join=makers.chains,
        required=("instruction", "output", "english_instruction", "english_output"),
    ),
    "task": Kind(("inputs", "targets"), "targets"),
}  # fmt: skip


def of(dataset: recipe_data.Dataset) -> Kind:
    """Returns the row of KINDS for a dataset's kind."""
    if dataset.kind not in KINDS:
        raise DataError(
            f"kind {dataset.kind!r} is known to recipes, but no row of data.read.kinds.KINDS says "
            "what its records are; add one"
        )
    return KINDS[dataset.kind]


def answers() -> tuple[str, ...]:
    """Returns the fields that hold answers, in kinds whose records ask something."""
    return tuple(dict.fromkeys(k.learnt for k in KINDS.values() if len(k.fields) > 1))
