"""Records of a recipe's dataset, read from text, JSON lines, pairs or instructions.

Plain Python: what a record is and what makes one bad is decided here; sources.py hands them to
seqio. A record is a dict of strings, the fields its template reads.
"""

from collections.abc import Iterator
import itertools
import json
from typing import Any

from lrl_jax import recipe_data, text

Record = dict[str, str]
ROW = ("instruction", "input", "output")  # of Alpaca's files
ENGLISH = ("english_instruction", "english_input", "english_output")
SHARD_BYTES = 64 << 20  # files are gathered into shards of about this size, one job each


def shards(dataset: recipe_data.Dataset) -> list[tuple[str, ...]]:
    """The uris of each shard: whole files, small neighbours together; a pair is one shard.

    Depends on the files alone, so that any number of workers makes the same rows.

    Raises:
      ValueError: a file is missing or empty.
    """
    if isinstance(dataset, recipe_data.Parallel | recipe_data.Taco):
        return [uris(dataset)]
    groups: list[list[str]] = []
    room = 0
    for uri in dataset.path:
        for file, size in _files(uri):
            if size > room or not groups:
                groups.append([])
                room = SHARD_BYTES
            groups[-1].append(file)
            room -= size
    return [tuple(group) for group in groups]


def uris(dataset: recipe_data.Dataset) -> tuple[str, ...]:
    """Every uri a dataset names; of aligned files, the source first."""
    if isinstance(dataset, recipe_data.Parallel):
        return (dataset.source, dataset.target)
    if isinstance(dataset, recipe_data.Taco):
        return (dataset.english, dataset.translated)
    return dataset.path


def fingerprints(dataset: recipe_data.Dataset) -> list[list[str]]:
    """What the text of each shard is, wherever it lies: a digest per file."""
    return [[text.fingerprint(uri) for uri in shard] for shard in shards(dataset)]


def template(dataset: recipe_data.Dataset) -> str:
    """The name of the template that writes this dataset's records."""
    return getattr(dataset, "template", "plain")


def language(dataset: recipe_data.Dataset) -> str:
    """The FLORES code of a dataset; of pairs, both."""
    if isinstance(dataset, recipe_data.Parallel):
        return f"{dataset.source_language}-{dataset.target_language}"
    return dataset.language


def read(dataset: recipe_data.Dataset, shard: tuple[str, ...]) -> Iterator[Record]:
    """Yields the records of one shard.

    Blank lines between texts are no records. A pair or an instruction with an empty half is one,
    for the caller to leave out and count: see `complete`.

    Raises:
      ValueError: what is wrong, as file:line where there is a line.
    """
    if isinstance(dataset, recipe_data.Parallel):
        yield from _pairs(dataset)
        return
    if isinstance(dataset, recipe_data.Taco):
        yield from _chains(dataset)
        return
    for uri in shard:
        if isinstance(dataset, recipe_data.Text) and uri.endswith(".jsonl"):
            for where, row in _json_lines(uri):
                yield {"text": _field(row, dataset.columns.get("text", "text"), where)}
        elif isinstance(dataset, recipe_data.Text):
            yield from _texts(uri, dataset.documents)
        else:
            for where, row in _json_rows(uri):
                yield {n: _field({"input": "", **row}, n, where) for n in fields(dataset)}


def fields(dataset: recipe_data.Dataset) -> tuple[str, ...]:
    """The fields every record of this dataset has."""
    if isinstance(dataset, recipe_data.Parallel):
        return ("source", "target", "source_language", "target_language")
    if isinstance(dataset, recipe_data.Instructions):
        return ROW
    if isinstance(dataset, recipe_data.Taco):
        return (*ROW, *ENGLISH, "language")
    return ("text",)


def specimen(dataset: recipe_data.Dataset) -> Record:
    """A record such as this dataset has, each field holding its own name."""
    record = {name: name for name in fields(dataset)}
    if isinstance(dataset, recipe_data.Parallel):
        record["source_language"] = dataset.source_language
        record["target_language"] = dataset.target_language
    if isinstance(dataset, recipe_data.Taco):
        record["language"] = dataset.language
    return record


def complete(record: Record) -> bool:
    """Whether every field but the inputs has text, and a translation is not what it translates."""
    if "english_output" in record and record["output"].strip() == record["english_output"].strip():
        return False
    return all(value.strip() for name, value in record.items() if not name.endswith("input"))


def _files(uri: str) -> list[tuple[str, int]]:
    if uri.startswith(text.SAMPLE):
        return [(uri, SHARD_BYTES)]  # the sample world has no files; each name is a shard
    return [(str(path), path.stat().length) for path in text.paths(uri)]


def _texts(uri: str, documents: str) -> Iterator[Record]:
    if documents == "lines":
        yield from ({"text": line} for line in text.lines(uri) if line.strip())
        return
    for has_text, group in itertools.groupby(text.lines(uri), lambda line: bool(line.strip())):
        if has_text:
            yield {"text": "\n".join(group)}


def _pairs(dataset: recipe_data.Parallel) -> Iterator[Record]:
    languages = dataset.source_language, dataset.target_language
    sources, targets = text.lines(dataset.source), text.lines(dataset.target)
    for count, (source, target) in enumerate(itertools.zip_longest(sources, targets)):
        if source is None or target is None:
            longer = 1 + sum(1 for _ in (sources if target is None else targets))
            counts = [count, count + longer] if source is None else [count + longer, count]
            raise text.DataError(
                f"{dataset.source} has {counts[0]} lines and {dataset.target} {counts[1]}; "
                "parallel files say the same thing on the same line, so they must be equal"
            )
        if dataset.direction in ("forward", "both"):
            yield _pair(source, target, *languages)
        if dataset.direction in ("backward", "both"):
            yield _pair(target, source, *reversed(languages))


def _chains(dataset: recipe_data.Taco) -> Iterator[Record]:
    both = (_json_rows(uri) for uri in uris(dataset))
    for count, (english, translated) in enumerate(itertools.zip_longest(*both), start=1):
        if english is None or translated is None:
            short, long = uris(dataset) if english is None else reversed(uris(dataset))
            raise text.DataError(
                f"{short} has {count - 1} rows and {long} more; row n of one must be the "
                "translation of row n of the other"
            )
        (where, theirs), (here, own) = english, translated
        row = {n: _field({"input": "", **own}, n, here) for n in ROW}
        source = [_field({"input": "", **theirs}, n, where) for n in ROW]
        if bool(row["input"].strip()) != bool(source[1].strip()):
            raise text.DataError(
                f"{here} and {where}: only one of them has an input, so they are not aligned; "
                "row n of one must be the translation of row n of the other"
            )
        yield row | dict(zip(ENGLISH, source, strict=True)) | {"language": dataset.language}


def _pair(source: str, target: str, source_language: str, target_language: str) -> Record:
    return {
        "source": source,
        "target": target,
        "source_language": source_language,
        "target_language": target_language,
    }


def _json_lines(uri: str) -> Iterator[tuple[str, dict]]:
    for file, _ in _files(uri):
        for number, line in enumerate(text.lines(file), start=1):
            if line.strip():
                yield f"{file}:{number}", _parse(line, f"{file}:{number}")


def _json_rows(uri: str) -> Iterator[tuple[str, dict]]:
    """Rows of a JSON list, or of JSON lines."""
    for file, _ in _files(uri):
        first = next((line for line in text.lines(file) if line.strip()), "")
        if not first.lstrip().startswith("["):
            yield from _json_lines(file)
            continue
        whole = "\n".join(text.lines(file))
        for number, row in enumerate(_parse(whole, file, list), start=1):
            where = f"{file}: row {number}"
            if not isinstance(row, dict):
                raise text.DataError(f"{where}: want a JSON object; got {str(row)[:60]!r}")
            yield where, row


def _parse(data: str, where: str, kind: type = dict) -> Any:
    try:
        value = json.loads(data)
    except (json.JSONDecodeError, RecursionError) as e:
        raise text.DataError(f"{where}: not JSON ({e}); got {data[:60]!r}") from None
    if not isinstance(value, kind):
        raise text.DataError(f"{where}: want a JSON object; got {data[:60]!r}")
    return value


def _field(row: dict, name: str, where: str) -> str:
    if name not in row:
        raise text.DataError(f"{where}: has no field {name!r}; it has {', '.join(row) or 'none'}")
    value = row[name]
    if not isinstance(value, str):
        raise text.DataError(f"{where}: field {name!r} must be a string; got {str(value)[:60]!r}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise text.DataError(f"{where}: field {name!r} holds half a surrogate pair") from None
    return value
