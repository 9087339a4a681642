"""Opens any dataset of a recipe: its shards, its records, and digests of what it reads.

    for shard in shards(dataset):
        for record in read(dataset, shard): ...       {"text": "..."}, or text.Bad

A record is a dict of strings: the fields that its template reads. Records come from rows of files
and catalogues, or from a user's own seqio Task, which `seqio.imports` looks up and
`seqio.user_tasks` runs. Callers of this module need not know which of these a dataset has.
"""

from collections.abc import Iterator
import functools
import itertools
import unicodedata

from lrl_jax import text
from lrl_jax.data.read import catalogues, files, formats, kinds, makers
from lrl_jax.data.read.files import Span
from lrl_jax.data.read.makers import Record
from lrl_jax.data.seqio import imports
from lrl_jax.recipe import data as recipe_data

Shard = tuple[Span, ...]

SHARD_BYTES = files.SHARD_BYTES
UNCUT = 1 << 62  # bytes of a shard, so many that no file is cut


def shards(dataset: recipe_data.Dataset) -> list[Shard]:
    """Returns the shards of a dataset, one job each; a dataset with `take` is a single shard.

    The shards depend on the data alone, so any number of workers makes the same rows.

    Raises:
      ValueError: a file is missing, empty or cut short.
    """
    if isinstance(dataset, recipe_data.Task):
        every = imports.shards(dataset)
    elif place := dataset.catalogue():
        every = catalogues.shards(place)
    elif both := dataset.aligned():
        every = files.aligned(*both, SHARD_BYTES if kinds.of(dataset).cut_aligned else UNCUT)
    else:
        format_of, documents = functools.partial(_format, dataset), dataset.written().documents
        every = files.shards(dataset.files(), format_of, documents, SHARD_BYTES)
    return [tuple(itertools.chain(*every))] if dataset.take else every


def fingerprints(dataset: recipe_data.Dataset) -> list[list[str]]:
    """Returns a digest of the text of each span of each shard; it does not depend on the path."""
    if isinstance(dataset, recipe_data.Task):
        return imports.fingerprints(dataset)
    every = shards(dataset)
    names = {span.uri for shard in every for span in shard}
    if place := dataset.catalogue():
        marks = dict.fromkeys(names, catalogues.fingerprint(place))
    else:
        marks = {name: text.fingerprint(name) for name in sorted(names)}
    return [[f"{marks[span.uri]}:{span.start}:{span.end}" for span in shard] for shard in every]


def contents(dataset: recipe_data.Dataset) -> dict[str, str]:
    """Returns a digest of everything that a dataset reads, by name."""
    if place := dataset.catalogue():
        return {catalogues.name(place): catalogues.fingerprint(place)}
    uris = imports.uris(dataset) if isinstance(dataset, recipe_data.Task) else dataset.files()
    return {uri: text.fingerprint(uri) for uri in uris}


def _format(dataset: recipe_data.Dataset, uri: str) -> str:
    return files.format_of(uri, dataset.written().format, kinds.of(dataset).unmarked)


# ---------------------------------------------------------------------------- reading
def read(dataset: recipe_data.Dataset, shard: Shard) -> Iterator[Record | text.Bad]:
    """Yields the records of one shard; in place of a record that cannot be used, a Bad.

    Letters and marks are composed where the dataset says so.

    Blank lines between texts are no records. The reasons of a Bad are "unreadable", "empty",
    "untranslated", "no scaffold" and "not a conversation".

    Raises:
      ValueError: a whole file is unusable; the message names it.
    """
    records = _read(dataset, shard)
    return map(_nfc, records) if dataset.normalize == "nfc" else records


def _nfc(record: Record | text.Bad) -> Record | text.Bad:
    if isinstance(record, text.Bad):
        return record
    return {name: unicodedata.normalize("NFC", value) for name, value in record.items()}


def _read(dataset: recipe_data.Dataset, shard: Shard) -> Iterator[Record | text.Bad]:
    if isinstance(dataset, recipe_data.Task):
        from lrl_jax.data.seqio import user_tasks  # imports TensorFlow

        yield from user_tasks.read(dataset, shard)
        return
    kind, columns = kinds.of(dataset), _columns(dataset)
    if dataset.aligned() and kind.join:
        for source, target in zip(shard[::2], shard[1::2], strict=True):
            yield from kind.join(
                dataset, source, target, lambda span: formats.rows(span, _form(dataset, span.uri))
            )
        return
    for span in shard:
        yield from _span(dataset, span, columns)


def _span(
    dataset: recipe_data.Dataset, span: Span, columns: dict[str, str]
) -> Iterator[Record | text.Bad]:
    kind = kinds.of(dataset)
    if place := dataset.catalogue():
        rows = catalogues.rows(place, span)
    else:
        form = _form(dataset, span.uri)
        if form.format == "text" and kind.unmarked == "text":
            yield from _texts(span, dataset.written().documents)
            return
        rows = formats.rows(span, form)
    if kind.make is None:
        raise text.DataError(f"{span.uri}: datasets of kind {dataset.kind} are not read from rows")
    for _, made in makers.made(rows, kind.make(dataset, columns), span):
        yield from made


def _texts(span: Span, documents: str) -> Iterator[Record | text.Bad]:
    """Yields the documents of plain text, each of the `lines`, `paragraphs` or `files`."""
    lines = text.numbered(*span)
    if documents == "lines":
        for _, line in lines:
            if isinstance(line, text.Bad):
                yield line
            elif line and not line.isspace():
                yield {"text": line}
    elif documents == "files":
        yield from _joined(lines, span)
    else:
        for blank, paragraph in itertools.groupby(lines, lambda line: _is_blank(line[1])):
            if not blank:
                yield from _joined(paragraph, span)


def _is_blank(line: str | text.Bad) -> bool:
    return isinstance(line, str) and not line.strip()


def _joined(lines: Iterator[tuple[int, str | text.Bad]], span: Span) -> Iterator[Record | text.Bad]:
    """Yields the document of these lines; the rest of a document with a bad line is not read."""
    document: list[str] = []
    size = 0
    for number, line in lines:
        if isinstance(line, text.Bad):
            yield line
            return
        size += len(line) + 1
        if size > text.LONGEST:
            yield text.Bad(
                text.place(span.uri, span.start, number),
                f"a document longer than {text.LONGEST >> 20} Mi characters; "
                "should each line be a document?",
            )
            return
        document.append(line)
    joined = "\n".join(document).strip("\n")
    if joined and not joined.isspace():
        yield {"text": joined}


def _columns(dataset: recipe_data.Dataset) -> dict[str, str]:
    """Returns the column of each field that is read from a row."""
    kind, given = kinds.of(dataset), dataset.written().columns
    fields = kind.columns or kind.fields
    if strange := set(given) - set(fields):
        raise text.DataError(
            f"columns: {', '.join(sorted(strange))}: no field of kind {dataset.kind}, which reads "
            f"{', '.join(fields)}; columns are written as field: column"
        )
    return {name: given.get(name, name) for name in fields}


def _form(dataset: recipe_data.Dataset, uri: str) -> formats.RowFormat:
    columns, written = _columns(dataset), _format(dataset, uri)
    if written == "tmx" and any(name == column for name, column in columns.items()):
        raise text.DataError(
            f"{uri}: .tmx is read by language; say which with columns, such as "
            "{source: en, target: ko}"
        )
    return formats.RowFormat(written, dataset.written().header, kinds.of(dataset).wanted(columns))
