"""Makes records from rows: from a single row, or from two aligned files.

    make = fields(dataset, {"text": "body"})
    make({"body": "Hello."})              [{"text": "Hello."}]

A maker raises `UnusableError` for a row that gives no record. `kinds` says which kind of dataset
has which maker.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import functools
import hashlib
import itertools
import json
import math
from typing import Any

from lrl_jax import text
from lrl_jax.data.read import files, formats
from lrl_jax.data.read.columns import ABSENT, UnusableError, field, is_null, lookup, shown, string
from lrl_jax.data.read.files import Span
from lrl_jax.data.templates import taco
from lrl_jax.recipe import data as recipe_data
from lrl_jax.recipe.languages import named
from lrl_jax.text import Bad, DataError

Record = dict[str, str]
Make = Callable[[Mapping[str, Any]], list[Record]]
ReadRows = Callable[[Span], formats.Rows]
Columns = Mapping[str, str]  # field -> column

ROW = ("instruction", "input", "output")  # the fields of Alpaca's files
CAN_BE_EMPTY = ("input", "inputs", "prompt")  # names of fields that may be blank


def made(
    rows: formats.Rows, make: Make, span: Span
) -> Iterator[tuple[int | str, Sequence[Record | Bad]]]:
    """Yields the place of each row with its records, or with a Bad that says why it has none."""
    for at, row in rows:
        if isinstance(row, Bad):
            yield at, [row]
            continue
        try:
            yield at, make(row)
        except UnusableError as e:
            yield at, [Bad(files.where(span, at), str(e), e.reason)]


def fields(dataset: recipe_data.Dataset, columns: Columns) -> Make:
    """Makes a record of the texts in these columns; the column of `input` may be absent."""
    getters = {
        name: field(column, optional=name == "input", empty=name in CAN_BE_EMPTY)
        for name, column in columns.items()
    }
    return lambda row: [{name: get(row) for name, get in getters.items()}]


def _directed(dataset: recipe_data.Parallel, source: str, target: str) -> list[Record]:
    """Returns the records of a pair: one for each direction in which it is learnt."""
    first, second = dataset.source_language, dataset.target_language
    names = ("source", "target", "source_language", "target_language")
    forward = dict(zip(names, (source, target, first, second), strict=True))
    backward = dict(zip(names, (target, source, second, first), strict=True))
    if dataset.language_names:
        forward, backward = (named(way, dataset.language_names) for way in (forward, backward))
    if dataset.direction == "either":
        both = f"{source}\0{target}".encode()
        return [(forward, backward)[hashlib.blake2b(both, digest_size=1).digest()[0] & 1]]
    ways = {"forward": [forward], "backward": [backward], "both": [forward, backward]}
    return ways[dataset.direction]


def pair(dataset: recipe_data.Parallel, columns: Columns) -> Make:
    """Makes {source, target} and their languages, in each direction that is learnt."""
    source, target = field(columns["source"]), field(columns["target"])
    return lambda row: _directed(dataset, source(row), target(row))


# ---------------------------------------------------------------------------- conversations
CHAT_COLUMNS = ("messages", "conversations")  # where a recipe names no column
SYSTEM = "system"  # the field beside the turns that LLaMA-Factory's ShareGPT has
ROLES = {
    "system": "system",
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "model": "assistant",
    "chatgpt": "assistant",
}  # fmt: skip
KEYS = (("role", "content"), ("from", "value"))
# How a turn says that it is not learnt, or by what weight: OpenAI, LLaMA-Factory, axolotl, swift.
WEIGHTS = ("weight", "loss_weight", "train", "training", "loss")
CALLS = ("tool_calls", "function_call")  # what an answer asks for in place of its end
TEXTS = ("text", "input_text", "output_text")  # types of items that are text
NOTHING = "nothing to learn"  # why a conversation without a learnt answer is left out

_unusable = functools.partial(UnusableError, reason="not a conversation")


def chat(dataset: recipe_data.Chat, columns: Columns) -> Make:
    """Makes {messages}: the turns of a conversation as JSON.

    An answer whose row gives it a weight keeps it; of an answer that is not learnt it is 0.
    """
    columns_given = chat_columns(columns)

    def make(row: Mapping[str, Any]) -> list[Record]:
        said = turns(conversation(row, columns_given))
        if said[0]["role"] != "system" and not is_blank(system := row.get(SYSTEM)):
            content = _content(system, f"field {SYSTEM!r} beside the turns")
            if not is_blank(content):
                said.insert(0, {"role": "system", "content": content})
        for number, turn in enumerate(said, start=1):
            if not string(turn["content"], f"turn {number}").strip():
                raise UnusableError(f"turn {number} is empty", "empty")
        answers = [turn.get("weight", 1) for turn in said if turn["role"] == "assistant"]
        if not any(answers if dataset.learn == "answers" else answers[-1:]):
            raise UnusableError("no answer is learnt, by the weights of its turns", NOTHING)
        return [{"messages": json.dumps(said, ensure_ascii=False)}]

    return make


def chat_columns(columns: Columns) -> Sequence[str]:
    """Returns the columns in which the turns of a conversation may stand."""
    given = columns["messages"]
    return [given] if given != "messages" else CHAT_COLUMNS


def conversation(row: Mapping[str, Any], columns: Sequence[str]) -> Any:
    """Returns the value of the first column that a row has; UnusableError if it has none."""
    values = [v for column in columns if (v := lookup(row, column)) is not ABSENT]
    if not values:
        raise UnusableError(f"has no field {' or '.join(columns)}; it has {shown(row)}")
    values = [value for value in values if not is_null(value)]
    if not values:
        raise UnusableError(f"field {' or '.join(map(repr, columns))} is null", "empty")
    return values[0]


def turns(value: Any) -> list[dict[str, Any]]:
    """Returns the turns of a conversation: `messages`, ShareGPT's `conversations`, LIMA's strings.

    A system turn may come first; then user and assistant alternate, and the assistant is last. A
    system turn without text is left out. A turn has `weight` where it is an answer and its row
    gives it another weight than 1.

    Raises UnusableError for any other shape or order.
    """
    said = [_turn(turn, number) for number, turn in enumerate(listed(value))]
    if said and said[0]["role"] == "system" and is_blank(said[0]["content"]):
        said = said[1:]
    roles = [turn["role"] for turn in said]
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    if not spoken or spoken != ["user", "assistant"] * (len(spoken) // 2):
        raise _unusable(
            f"turns are by {', '.join(roles) or 'no one'}; want user and assistant by turns, "
            "after at most one system turn, and the assistant last"
        )
    return said


def is_blank(text: Any) -> bool:
    """Tells whether a text is null or white space."""
    return is_null(text) or (isinstance(text, str) and not text.strip())


def listed(value: Any) -> list:
    """Returns the turns as a list, from a list, JSON text or columns of turns."""
    if isinstance(value, str):
        try:
            value = json.loads(value, parse_float=str)
        except (ValueError, RecursionError) as e:
            raise _unusable(f"not JSON ({e}); got {value[:60]!r}") from None
    if isinstance(value, dict):  # {"role": [...], "content": [...]}, as TFDS and Arrow have it
        columns = [column for column in value.values() if isinstance(column, list)]
        if len({len(column) for column in columns}) == 1 and len(columns) == len(value):
            value = [dict(zip(value, turn, strict=True)) for turn in zip(*columns, strict=True)]
    if not isinstance(value, list):
        raise _unusable(f"want a list of turns; got {str(value)[:60]!r}")
    return value


def keys_of(turn: Any) -> tuple[str, str] | None:
    """Returns the names under which a turn has its role and its text; None if it has none."""
    named = [keys for keys in KEYS if isinstance(turn, dict) and turn.keys() >= {*keys}]
    return next((keys for keys in named if not is_null(turn[keys[0]])), next(iter(named), None))


def _turn(turn: Any, number: int) -> dict[str, Any]:
    if isinstance(turn, str):
        return {"role": ("user", "assistant")[number % 2], "content": turn}
    keys = keys_of(turn)
    if not keys:
        raise _unusable(
            f"turn {number + 1}: want role and content, or from and value; got {str(turn)[:60]!r}"
        )
    role, content = (turn[key] for key in keys)
    name = ROLES.get(str(role).lower(), "")
    if not name:
        roles = ", ".join(ROLES)
        raise _unusable(f"turn {number + 1} is by {role!r}; want one of {roles}")
    if any(turn.get(key) for key in CALLS):
        raise _unusable(f"turn {number + 1} calls a tool, and no template here writes calls")
    blank = name == "system" and is_blank(content)
    said = {"role": name, "content": "" if blank else _content(content, f"turn {number + 1}")}
    weight = _weight(turn, number) if name == "assistant" else 1.0
    return said if weight == 1 else said | {"weight": weight}


def _weight(turn: Mapping[str, Any], number: int) -> float:
    """Returns the weight that a turn says it has in the loss, 1 if it says nothing.

    A turn that says it twice may say whether it is learnt, by true, beside by how much.
    """
    given = {key: turn[key] for key in WEIGHTS if is_weight(key, turn.get(key))}
    weights = {key: _number(key, value, number) for key, value in given.items()}
    exact = {weight for key, weight in weights.items() if given[key] is not True}
    if len(exact) > 1 or (0 in exact and len({*weights.values()}) > 1):
        said = " and ".join(f"{key} is {value!r}" for key, value in given.items())
        raise UnusableError(f"turn {number + 1}: {said}, which contradict each other; keep one")
    return next(iter(exact), 1.0)


def is_weight(key: str, value: Any) -> bool:
    """Tells whether a field of a turn is a weight; a `loss` such as 1.73 is one that was measured.

    >>> is_weight("loss", False), is_weight("loss", "1.73"), is_weight("weight", "1.73")
    (True, False, True)
    """
    if key not in WEIGHTS or is_null(value):
        return False
    try:
        return key != "loss" or float(value) in (0, 1)
    except (TypeError, ValueError):
        return True  # and is refused as such


def _number(key: str, value: Any, number: int) -> float:
    try:
        weight = float(value)  # a JSON number with a point comes as text
    except (TypeError, ValueError):
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise UnusableError(
            f"turn {number + 1}: {key} is {value!r}; want true, false, or a number from 0"
        )
    return weight


def _content(value: Any, name: str) -> str:
    """Returns the text of a turn, which is a string or a list of items that are all text.

    `name` is what errors call the turn.
    """
    if isinstance(value, list) and all(
        isinstance(item, dict) and item.get("type") in TEXTS for item in value
    ):
        texts = [_item(item, name) for item in value]
        value = "".join(texts)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise _unusable(f"{name} is no text; got {str(value)[:60]!r}")
    return value


def _item(item: Mapping[str, Any], name: str) -> str:
    """Returns the text of an item of a turn; LLaMA-Factory has it under `value`."""
    for key in ("text", "value"):
        if isinstance(item.get(key), str):
            return item[key]
    raise _unusable(f"{name}: an item of type text has no text; got {str(item)[:60]!r}")


# ---------------------------------------------------------------------------- TaCo
def scaffold(dataset: recipe_data.Taco, columns: Columns) -> Make:
    """Makes a chain of a row whose output is written as a chain already."""
    get = fields(dataset, columns)

    def make(row: Mapping[str, Any]) -> list[Record]:
        [own] = get(row)
        chain = taco.parse(own["output"])
        if chain is None:
            raise UnusableError(f"no chain; got {own['output'][:60]!r}", "no scaffold")
        said = dict(zip(ROW, (chain.english_instruction, "", chain.english_answer), strict=True))
        return [_chain(dataset, own | {"output": chain.answer}, said)]

    return make


def _chain(dataset: recipe_data.Taco, own: Record, english: Record) -> Record:
    """Returns the record of a row in a language and the same row in English."""
    if own["output"].strip() == english["output"].strip():
        raise UnusableError("the output is still the English one", "untranslated")
    if not all(side[name].strip() for side in (own, english) for name in ("instruction", "output")):
        raise UnusableError("a section of the chain is empty", "empty")
    said = {f"english_{name}": value for name, value in english.items()}
    return named({**own, **said, "language": dataset.language}, dataset.language_names)


# ---------------------------------------------------------------------------- two files
def pairs(
    dataset: recipe_data.Parallel, source: Span, target: Span, rows: ReadRows
) -> Iterator[Record | Bad]:
    """Yields the pairs of two files of as many lines, in each direction that is learnt."""
    del rows  # the files have lines, whatever their suffixes are
    sources, targets = text.numbered(*source), text.numbered(*target)
    for count, (first, second) in enumerate(itertools.zip_longest(sources, targets)):
        if first is None or second is None:
            longer = 1 + count + sum(1 for _ in (sources if second is None else targets))
            counts = (longer, count) if second is None else (count, longer)
            raise files.unequal(source.uri, counts[0], target.uri, counts[1])
        (number, sentence), (_, translation) = first, second
        if isinstance(sentence, Bad):
            yield sentence
        elif isinstance(translation, Bad):
            yield translation
        elif not sentence.strip() or not translation.strip():
            span = target if sentence.strip() else source
            yield Bad(files.where(span, number), "one half of the pair is empty", "empty")
        else:
            yield from _directed(dataset, sentence, translation)


def chains(
    dataset: recipe_data.Taco, english: Span, translated: Span, rows: ReadRows
) -> Iterator[Record | Bad]:
    """Yields the chains of two files of rows, the second a translation of the first, row by row."""
    make = fields(dataset, dict(zip(ROW, ROW, strict=True)))
    both = (made(rows(span), make, span) for span in (english, translated))
    for count, (first, second) in enumerate(itertools.zip_longest(*both)):
        if first is None or second is None:
            short, long = (english, translated) if first is None else (translated, english)
            raise DataError(
                f"{short.uri} has {count} rows and {long.uri} more; row n of one must be the "
                "translation of row n of the other"
            )
        (at, [original]), (here, [own]) = first, second
        if isinstance(original, Bad):
            yield original
        elif isinstance(own, Bad):
            yield own
        elif bool(own["input"].strip()) != bool(original["input"].strip()):
            raise DataError(
                f"{files.where(translated, here)} and {files.where(english, at)}: only one of them "
                "has an input, so they are not aligned; row n of one must be the translation of "
                "row n of the other"
            )
        else:
            try:
                yield _chain(dataset, own, original)
            except UnusableError as e:
                yield Bad(files.where(translated, here), str(e), e.reason)
