"""Records of a recipe's dataset: one maker a kind, wherever its rows lie.

    for shard in shards(dataset):
        for record in read(dataset, shard): ...       {"text": "..."}, or text.Bad

Plain Python: what a record is and what makes one unusable is decided here. A record is a dict of
strings, the fields its template reads.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import functools
import hashlib
import itertools
import json
from typing import Any

from lrl_jax import text
from lrl_jax.data.read import catalogues, files, formats, plain, turns
from lrl_jax.data.read.columns import ABSENT, UnusableError, field, lookup, string
from lrl_jax.data.read.files import Span
from lrl_jax.data.templates import taco
from lrl_jax.recipe import data as recipe_data

Record = dict[str, str]
Shard = tuple[Span, ...]
Make = Callable[[Mapping[str, Any]], list[Record]]

ROW = ("instruction", "input", "output")  # of Alpaca's files
ENGLISH = tuple(f"english_{name}" for name in ROW)
FIELDS: dict[str, tuple[str, ...]] = {
    "text": ("text",),
    "parallel": ("source", "target", "source_language", "target_language"),
    "instructions": ROW,
    "completion": ("prompt", "completion"),
    "chat": ("messages",),
    "taco": (*ROW, *ENGLISH, "language"),
    "task": ("inputs", "targets"),
}
READ = {"parallel": ("source", "target"), "taco": ROW}  # of a row; the other kinds: every field
SHARD_BYTES = files.SHARD_BYTES
UNCUT = 1 << 62  # bytes of a shard that takes everything


# ---------------------------------------------------------------------------- about a dataset
def shards(dataset: recipe_data.Dataset) -> list[Shard]:
    """Returns the shards of a dataset, one job each.

    Raises:
      ValueError: a file is missing, empty or cut short.
    """
    if place := _catalogue(dataset):
        return catalogues.shards(place)
    if both := _aligned(dataset):
        lined = isinstance(dataset, recipe_data.Parallel)
        return files.aligned(*both, SHARD_BYTES if lined else UNCUT)
    written = functools.partial(_written, dataset)
    return files.shards(dataset.path, written, getattr(dataset, "documents", "lines"), SHARD_BYTES)


def uris(dataset: recipe_data.Dataset) -> tuple[str, ...]:
    """Returns every file a dataset names; of aligned files, the source first."""
    return _aligned(dataset) or dataset.path


def fingerprints(dataset: recipe_data.Dataset, parts: Sequence[Shard]) -> list[list[str]]:
    """Returns what the text of these shards is, wherever it lies: a digest for each span."""
    names = {span.uri for shard in parts for span in shard}
    if place := _catalogue(dataset):
        marks = dict.fromkeys(names, catalogues.fingerprint(place))
    else:
        marks = {name: text.fingerprint(name) for name in sorted(names)}
    return [[f"{marks[span.uri]}:{span.start}:{span.end}" for span in shard] for shard in parts]


def contents(dataset: recipe_data.Dataset) -> dict[str, str]:
    """Returns everything a dataset reads, by name, with a digest that changes when it does."""
    if place := _catalogue(dataset):
        return {catalogues.name(place): catalogues.fingerprint(place)}
    return {uri: text.fingerprint(uri) for uri in uris(dataset)}


def fields(dataset: recipe_data.Dataset) -> tuple[str, ...]:
    """The fields every record of this dataset has."""
    return FIELDS[dataset.kind]


def _written(dataset: recipe_data.Dataset, uri: str) -> str:
    """The format of one of its files."""
    other = "text" if isinstance(dataset, recipe_data.Text) else "json"
    return files.format_of(uri, getattr(dataset, "format", "auto"), other)


def _catalogue(dataset: recipe_data.Dataset) -> recipe_data.Tfds | recipe_data.Hub | None:
    return getattr(dataset, "tfds", None) or getattr(dataset, "hub", None)


def _aligned(dataset: recipe_data.Dataset) -> tuple[str, str] | None:
    """The two files of a dataset whose records stand in both of them."""
    if isinstance(dataset, recipe_data.Parallel) and dataset.source:
        return dataset.source, dataset.target
    if isinstance(dataset, recipe_data.Taco) and dataset.english:
        return dataset.english, dataset.translated
    return None


# ---------------------------------------------------------------------------- reading
def read(dataset: recipe_data.Dataset, shard: Shard) -> Iterator[Record | text.Bad]:
    """Yields the records of one shard; in the place of one that cannot be used, why.

    Blank lines between texts are no records. Reasons: "unreadable", "empty", "untranslated",
    "no scaffold", "not a conversation".

    Raises:
      ValueError: what makes a whole file unusable, with its name.
    """
    if _aligned(dataset):
        for source, target in zip(shard[::2], shard[1::2], strict=True):
            if isinstance(dataset, recipe_data.Parallel):
                yield from _pairs(dataset, source, target)
            elif isinstance(dataset, recipe_data.Taco):
                yield from _chains(dataset, source, target)
    else:
        for span in shard:
            yield from _span(dataset, span)


def _span(dataset: recipe_data.Dataset, span: Span) -> Iterator[Record | text.Bad]:
    columns = _columns(dataset)
    if place := _catalogue(dataset):
        found = catalogues.rows(place, span)
    else:
        form = _form(dataset, span.uri, columns)
        if form.format == "text" and isinstance(dataset, recipe_data.Text):
            yield from plain.texts(span, dataset.documents)
            return
        found = formats.rows(span, form)
    for _, made in _made(found, MAKERS[dataset.kind](dataset, columns), span):
        if isinstance(made, text.Bad):
            yield made
        else:
            yield from made


def _made(
    found: formats.Rows, make: Make, span: Span
) -> Iterator[tuple[int | str, list[Record] | text.Bad]]:
    """The records of each row, or why there are none."""
    for at, row in found:
        if isinstance(row, text.Bad):
            yield at, row
            continue
        try:
            yield at, make(row)
        except UnusableError as e:
            yield at, text.Bad(files.where(span, at), str(e), e.reason)


def _columns(dataset: recipe_data.Dataset) -> dict[str, str]:
    """The column of each field that is read of a row.

    Raises:
      DataError: columns of fields that this kind does not have.
    """
    own = READ.get(dataset.kind, FIELDS[dataset.kind])
    given = getattr(dataset, "columns", {})
    if strange := set(given) - set(own):
        raise text.DataError(
            f"columns: {', '.join(sorted(strange))}: no field of kind {dataset.kind}, which reads "
            f"{', '.join(own)}; columns are written as field: column"
        )
    return {name: given.get(name, name) for name in own}


def _form(dataset: recipe_data.Dataset, uri: str, columns: dict[str, str]) -> formats.Form:
    """How the rows of a dataset are written in this file.

    Raises:
      DataError: .tmx of which the recipe names no languages.
    """
    kind = _written(dataset, uri)
    wanted = tuple(columns.values())
    if isinstance(dataset, recipe_data.Chat) and wanted == FIELDS["chat"]:
        wanted = turns.COLUMNS
    if kind == "tmx" and any(name == column for name, column in columns.items()):
        raise text.DataError(
            f"{uri}: .tmx is read by language; say which with columns, such as "
            "{source: en, target: ko}"
        )
    return formats.Form(kind, getattr(dataset, "header", True), wanted)


# ---------------------------------------------------------------------------- text and pairs
def _text(dataset: recipe_data.Text, columns: dict[str, str]) -> Make:
    get = field(columns["text"])
    return lambda row: [{"text": get(row)}]


def _pairs(
    dataset: recipe_data.Parallel, source: Span, target: Span
) -> Iterator[Record | text.Bad]:
    sources, targets = text.numbered(*source), text.numbered(*target)
    for count, (one, other) in enumerate(itertools.zip_longest(sources, targets)):
        if one is None or other is None:
            longer = 1 + count + sum(1 for _ in (sources if other is None else targets))
            counts = (longer, count) if other is None else (count, longer)
            raise files.unequal(source.uri, counts[0], target.uri, counts[1])
        (number, said), (_, meant) = one, other
        if isinstance(said, text.Bad):
            yield said
        elif isinstance(meant, text.Bad):
            yield meant
        elif not said.strip() or not meant.strip():
            span = target if said.strip() else source
            yield text.Bad(files.where(span, number), "one half of the pair is empty", "empty")
        else:
            yield from _directed(dataset, said, meant)


def _directed(dataset: recipe_data.Parallel, source: str, target: str) -> list[Record]:
    """A pair the way, or ways, it is learnt."""
    one, other = dataset.source_language, dataset.target_language
    way = dataset.direction
    if way == "either":
        pair = f"{source}\0{target}".encode()
        way = ("forward", "backward")[hashlib.blake2b(pair, digest_size=1).digest()[0] & 1]
    found = []
    if way != "backward":
        found.append(_pair_record(source, target, one, other))
    if way != "forward":
        found.append(_pair_record(target, source, other, one))
    return found


def _pair_record(source: str, target: str, source_language: str, target_language: str) -> Record:
    return {
        "source": source,
        "target": target,
        "source_language": source_language,
        "target_language": target_language,
    }


def _pair(dataset: recipe_data.Parallel, columns: dict[str, str]) -> Make:
    source, target = field(columns["source"]), field(columns["target"])
    return lambda row: _directed(dataset, source(row), target(row))


# ---------------------------------------------------------------------------- requests
def _instruction(dataset: recipe_data.Dataset, columns: dict[str, str]) -> Make:
    """Also of TaCo's own rows, whichever side they are of."""
    instruction, output = field(columns["instruction"]), field(columns["output"])
    input_ = field(columns["input"], optional=True, empty=True)
    return lambda row: [
        {"instruction": instruction(row), "input": input_(row), "output": output(row)}
    ]


def _completion(dataset: recipe_data.Completion, columns: dict[str, str]) -> Make:
    prompt, completion = field(columns["prompt"], empty=True), field(columns["completion"])
    return lambda row: [{"prompt": prompt(row), "completion": completion(row)}]


def _chat(dataset: recipe_data.Chat, columns: dict[str, str]) -> Make:
    given = [columns["messages"]] if columns["messages"] != "messages" else turns.COLUMNS

    def make(row: Mapping[str, Any]) -> list[Record]:
        values = (lookup(row, column) for column in given)
        value = next((one for one in values if one is not ABSENT), ABSENT)
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
def _scaffold(dataset: recipe_data.Taco, columns: dict[str, str]) -> Make:
    """Rows whose output is the chain already."""
    get = _instruction(dataset, columns)

    def make(row: Mapping[str, Any]) -> list[Record]:
        [own] = get(row)
        found = taco.parse(own["output"])
        if found is None:
            raise UnusableError(f"no chain; got {own['output'][:60]!r}", "no scaffold")
        said = dict(zip(ROW, (found.english_instruction, "", found.english_answer), strict=True))
        return [_chain(dataset, own | {"output": found.answer}, said)]

    return make


def _chains(
    dataset: recipe_data.Taco, english: Span, translated: Span
) -> Iterator[Record | text.Bad]:
    columns = _columns(dataset)
    make = _instruction(dataset, columns)
    both = (
        _made(formats.rows(span, _form(dataset, span.uri, columns)), make, span)
        for span in (english, translated)
    )
    for count, (one, other) in enumerate(itertools.zip_longest(*both)):
        if one is None or other is None:
            short, long = (english, translated) if one is None else (translated, english)
            raise text.DataError(
                f"{short.uri} has {count} rows and {long.uri} more; row n of one must be the "
                "translation of row n of the other"
            )
        (at, theirs), (here, own) = one, other
        if isinstance(theirs, text.Bad):
            yield theirs
        elif isinstance(own, text.Bad):
            yield own
        elif bool(own[0]["input"].strip()) != bool(theirs[0]["input"].strip()):
            raise text.DataError(
                f"{files.where(translated, here)} and {files.where(english, at)}: only one of them "
                "has an input, so they are not aligned; row n of one must be the translation of "
                "row n of the other"
            )
        else:
            try:
                yield _chain(dataset, own[0], theirs[0])
            except UnusableError as e:
                yield text.Bad(files.where(translated, here), str(e), e.reason)


def _chain(dataset: recipe_data.Taco, own: Record, english: Record) -> Record:
    """What is asked in a language and in English, as one record."""
    if own["output"].strip() == english["output"].strip():
        raise UnusableError("the output is still the English one", "untranslated")
    if not all(side[name].strip() for side in (own, english) for name in ("instruction", "output")):
        raise UnusableError("a section of the chain is empty", "empty")
    said = {f"english_{name}": value for name, value in english.items()}
    return {**own, **said, "language": dataset.language}


MAKERS: dict[str, Callable[[Any, dict[str, str]], Make]] = {
    "text": _text,
    "parallel": _pair,
    "instructions": _instruction,
    "completion": _completion,
    "chat": _chat,
    "taco": _scaffold,
}
