"""Makes records from rows: from a single row, or from two aligned files.

    make = text({"text": "body"})
    make({"body": "Hello."})              [{"text": "Hello."}]

A maker raises `UnusableError` for a row that gives no record. `kinds` says which kind of dataset
has which maker.
"""

from collections.abc import Callable, Iterator, Mapping
import hashlib
import itertools
import json
from typing import Any

from lrl_jax import text as texts
from lrl_jax.data.read import files, formats, turns
from lrl_jax.data.read.columns import ABSENT, UnusableError, field, lookup, string
from lrl_jax.data.read.files import Span
from lrl_jax.data.templates import taco
from lrl_jax.recipe import data as recipe_data

Record = dict[str, str]
Make = Callable[[Mapping[str, Any]], list[Record]]
ReadRows = Callable[[Span], formats.Rows]
Columns = Mapping[str, str]  # field -> column

ROW = ("instruction", "input", "output")  # the fields of Alpaca's files


def made(
    rows: formats.Rows, make: Make, span: Span
) -> Iterator[tuple[int | str, list[Record] | texts.Bad]]:
    """Yields the place of each row with its records, or with a Bad that says why it has none."""
    for at, row in rows:
        if isinstance(row, texts.Bad):
            yield at, row
            continue
        try:
            yield at, make(row)
        except UnusableError as e:
            yield at, texts.Bad(files.where(span, at), str(e), e.reason)


def text(dataset: recipe_data.Dataset, columns: Columns) -> Make:
    """Makes {text} of a row."""
    get = field(columns["text"])
    return lambda row: [{"text": get(row)}]


def _directed(dataset: recipe_data.Parallel, source: str, target: str) -> list[Record]:
    """Returns the records of a pair: one for each direction in which it is learnt."""
    first, second = dataset.source_language, dataset.target_language
    way = dataset.direction
    if way == "either":
        both = f"{source}\0{target}".encode()
        way = ("forward", "backward")[hashlib.blake2b(both, digest_size=1).digest()[0] & 1]
    records = []
    if way != "backward":
        records.append(_pair_record(source, target, first, second))
    if way != "forward":
        records.append(_pair_record(target, source, second, first))
    return records


def _pair_record(source: str, target: str, source_language: str, target_language: str) -> Record:
    return {
        "source": source,
        "target": target,
        "source_language": source_language,
        "target_language": target_language,
    }


def pair(dataset: recipe_data.Parallel, columns: Columns) -> Make:
    """Makes {source, target} and their languages, in each direction that is learnt."""
    source, target = field(columns["source"]), field(columns["target"])
    return lambda row: _directed(dataset, source(row), target(row))


def instruction(dataset: recipe_data.Dataset, columns: Columns) -> Make:
    """Makes {instruction, input, output}; used for TaCo's rows in either language too."""
    request, output = field(columns["instruction"]), field(columns["output"])
    input_ = field(columns["input"], optional=True, empty=True)
    return lambda row: [{"instruction": request(row), "input": input_(row), "output": output(row)}]


def completion(dataset: recipe_data.Completion, columns: Columns) -> Make:
    """Makes {prompt, completion}; the prompt may be empty."""
    prompt, answer = field(columns["prompt"], empty=True), field(columns["completion"])
    return lambda row: [{"prompt": prompt(row), "completion": answer(row)}]


def chat(dataset: recipe_data.Chat, columns: Columns) -> Make:
    """Makes {messages}: the turns of a conversation as JSON."""
    given = [columns["messages"]] if columns["messages"] != "messages" else turns.COLUMNS

    def make(row: Mapping[str, Any]) -> list[Record]:
        values = (lookup(row, column) for column in given)
        value = next((value for value in values if value is not ABSENT), ABSENT)
        if value is ABSENT:
            raise UnusableError(f"has no field {' or '.join(given)}; it has {', '.join(row)}")
        try:
            said = turns.turns(value)
        except turns.NotAConversationError as e:
            raise UnusableError(str(e), "not a conversation") from None
        for number, turn in enumerate(said, start=1):
            if not string(turn["content"], f"turn {number}").strip():
                raise UnusableError(f"turn {number} is empty", "empty")
        return [{"messages": json.dumps(said, ensure_ascii=False)}]

    return make


# ---------------------------------------------------------------------------- TaCo
def scaffold(dataset: recipe_data.Taco, columns: Columns) -> Make:
    """Makes a chain of a row whose output is written as a chain already."""
    get = instruction(dataset, columns)

    def make(row: Mapping[str, Any]) -> list[Record]:
        [own] = get(row)
        chain = taco.parse(own["output"])
        if chain is None:
            raise UnusableError(f"no chain; got {own['output'][:60]!r}", "no scaffold")
        said = dict(zip(ROW, (chain.english_instruction, "", chain.english_answer), strict=True))
        return [_chain(dataset, own | {"output": chain.answer}, said)]

    return make


def _chain(dataset: recipe_data.Taco, own: Record, english: Record) -> Record:
    """Returns the record of a row in a language and the same row in English.

    Raises:
      UnusableError: the output was not translated, or an instruction or output is blank.
    """
    if own["output"].strip() == english["output"].strip():
        raise UnusableError("the output is still the English one", "untranslated")
    if not all(side[name].strip() for side in (own, english) for name in ("instruction", "output")):
        raise UnusableError("a section of the chain is empty", "empty")
    said = {f"english_{name}": value for name, value in english.items()}
    return {**own, **said, "language": dataset.language}


# ---------------------------------------------------------------------------- two files
def pairs(
    dataset: recipe_data.Parallel, source: Span, target: Span, rows: ReadRows
) -> Iterator[Record | texts.Bad]:
    """Yields the pairs of two files of lines, in each direction that is learnt.

    Raises:
      DataError: the files differ in their numbers of lines.
    """
    del rows  # the files have lines, whatever their suffixes are
    sources, targets = texts.numbered(*source), texts.numbered(*target)
    for count, (first, second) in enumerate(itertools.zip_longest(sources, targets)):
        if first is None or second is None:
            longer = 1 + count + sum(1 for _ in (sources if second is None else targets))
            counts = (longer, count) if second is None else (count, longer)
            raise files.unequal(source.uri, counts[0], target.uri, counts[1])
        (number, sentence), (_, translation) = first, second
        if isinstance(sentence, texts.Bad):
            yield sentence
        elif isinstance(translation, texts.Bad):
            yield translation
        elif not sentence.strip() or not translation.strip():
            span = target if sentence.strip() else source
            yield texts.Bad(files.where(span, number), "one half of the pair is empty", "empty")
        else:
            yield from _directed(dataset, sentence, translation)


def chains(
    dataset: recipe_data.Taco, english: Span, translated: Span, rows: ReadRows
) -> Iterator[Record | texts.Bad]:
    """Yields the chains of two files of rows, the second a translation of the first.

    Raises:
      DataError: the files are not aligned row by row.
    """
    make = instruction(dataset, dict(zip(ROW, ROW, strict=True)))
    both = (made(rows(span), make, span) for span in (english, translated))
    for count, (first, second) in enumerate(itertools.zip_longest(*both)):
        if first is None or second is None:
            short, long = (english, translated) if first is None else (translated, english)
            raise texts.DataError(
                f"{short.uri} has {count} rows and {long.uri} more; row n of one must be the "
                "translation of row n of the other"
            )
        (at, original), (here, own) = first, second
        if isinstance(original, texts.Bad):
            yield original
        elif isinstance(own, texts.Bad):
            yield own
        elif bool(own[0]["input"].strip()) != bool(original[0]["input"].strip()):
            raise texts.DataError(
                f"{files.where(translated, here)} and {files.where(english, at)}: only one of them "
                "has an input, so they are not aligned; row n of one must be the translation of "
                "row n of the other"
            )
        else:
            try:
                yield _chain(dataset, own[0], original[0])
            except UnusableError as e:
                yield texts.Bad(files.where(translated, here), str(e), e.reason)
