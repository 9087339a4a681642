"""Opens any dataset of a recipe: its shards, its records, and digests of what it reads.

    for shard in shards(dataset):
        for record in read(dataset, shard): ...       {"text": "..."}, or text.Bad

A record is a dict of strings: the fields that its template reads. Records come from rows of files
and catalogues, or from a user's own seqio Task, which `seqio.imports` looks up and
`seqio.user_tasks` runs. Callers of this module need not know which of these a dataset has.
"""

from collections.abc import Iterator, Sequence
import functools
import itertools
import unicodedata

from lrl_jax import text
from lrl_jax.data.read import catalogues, files, formats, kinds, makers, plain, tables
from lrl_jax.data.read.files import Span
from lrl_jax.data.read.makers import Record
from lrl_jax.data.read.tally import Tally, Unread
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
        # what older versions read in another way is other text
        formats_read = {name: _format(dataset, name) for name in names if _read_anew(dataset, name)}
        marks = {
            name: ":".join(filter(None, (text.fingerprint(name), formats_read.get(name))))
            for name in sorted(names)
        }
    return [[f"{marks[span.uri]}:{span.start}:{span.end}" for span in shard] for shard in every]


def contents(dataset: recipe_data.Dataset) -> dict[str, str]:
    """Returns a digest of everything that a dataset reads, by name."""
    asked = dataset.filters.language
    models = [asked.model] if asked and asked.model else []
    if place := dataset.catalogue():
        of_place = {catalogues.name(place): catalogues.fingerprint(place)}
        return of_place | {uri: text.fingerprint(uri) for uri in models}
    uris = imports.uris(dataset) if isinstance(dataset, recipe_data.Task) else dataset.files()
    return {uri: text.fingerprint(uri) for uri in (*uris, *models)}


def _format(dataset: recipe_data.Dataset, uri: str) -> str:
    written = files.format_of(uri, dataset.written().format, kinds.of(dataset).unmarked)
    if written == "tsv":
        return "tsv_quoted" if tables.is_quoted(uri) else "tsv_raw"
    return written


def _read_anew(dataset: recipe_data.Dataset, uri: str) -> bool:
    """Tells whether older versions read a file in another way."""
    if dataset.aligned() and kinds.of(dataset).cut_aligned:
        return False  # as lines, whatever its name
    given, written = dataset.written().format, _format(dataset, uri)
    unquoted = given != "tsv_quoted" and written == "tsv_quoted"
    return unquoted or (given == "auto" and files.renamed(uri, kinds.of(dataset).unmarked))


def quoted_files(dataset: recipe_data.Dataset) -> list[str]:
    """Returns the .tsv files of a dataset that are read as quoted because they look so."""
    if dataset.written().format not in ("auto", "tsv") or dataset.aligned():
        return []
    return [name for name, *_ in _named(dataset) if _format(dataset, name) == "tsv_quoted"]


def repeated_files(dataset: recipe_data.Dataset) -> list[str]:
    """Returns the files that several entries of `path` name, which are read once."""
    return [] if dataset.aligned() else [name for name, *more in _named(dataset) if more]


def _named(dataset: recipe_data.Dataset) -> list[list[str]]:
    return files.grouped(name for uri in dataset.files() for name in text.files(uri))


# ---------------------------------------------------------------------------- reading
def read(
    dataset: recipe_data.Dataset, shard: Shard, tally: Tally | None = None
) -> Iterator[Record | text.Bad]:
    """Yields the records of one shard; in place of a record that cannot be used, a Bad.

    Letters and marks are composed where the dataset says so (`normalize: nfc`). Blank lines between
    texts are no records. The reasons of a Bad are "unreadable", "empty", "untranslated",
    "no scaffold", "not a conversation" and "nothing to learn". The rows, and the fields of them
    that are not read, are added to `tally`.

    Raises:
      ValueError: a whole file is unusable; the message names it.
    """
    records = _read(dataset, shard, tally or Tally())
    return map(_nfc, records) if dataset.normalize == "nfc" else records


def _nfc(record: Record | text.Bad) -> Record | text.Bad:
    if isinstance(record, text.Bad):
        return record
    return {name: unicodedata.normalize("NFC", value) for name, value in record.items()}


def _read(dataset: recipe_data.Dataset, shard: Shard, tally: Tally) -> Iterator[Record | text.Bad]:
    if isinstance(dataset, recipe_data.Task):
        from lrl_jax.data.seqio import user_tasks  # imports TensorFlow

        yield from user_tasks.read(dataset, shard)
        return
    kind, columns = kinds.of(dataset), _columns(dataset)
    if dataset.aligned() and kind.join:

        def rows(span: Span) -> formats.Rows:
            form = _form(dataset, span.uri)
            skipped = formats.skipped(span, form)
            return tally.counting(dataset, columns, formats.rows(span, form), skipped)

        for source, target in zip(shard[::2], shard[1::2], strict=True):
            if kind.cut_aligned:
                _refuse_rows(dataset, source, target)
            yield from kind.join(dataset, source, target, rows)
        return
    for span in shard:
        yield from _span(dataset, span, columns, tally)


def _span(
    dataset: recipe_data.Dataset, span: Span, columns: dict[str, str], tally: Tally
) -> Iterator[Record | text.Bad]:
    kind = kinds.of(dataset)
    skipped: Sequence[str] = ()
    unread: Unread | None = None
    if place := dataset.catalogue():
        rows = catalogues.rows(place, span)
    else:
        form = _form(dataset, span.uri)
        if form.format == "text" and kind.unmarked == "text":
            _check_is_text(dataset, span)
            yield from _texts(span, dataset.written().documents)
            return
        rows, skipped = formats.rows(span, form), formats.skipped(span, form)
        unread = kinds.unread_of_squad if form.format == "squad" else None
    if kind.make is None:
        raise text.DataError(f"{span.uri}: datasets of kind {dataset.kind} are not read from rows")
    rows = tally.counting(dataset, columns, rows, skipped, unread)
    for _, made in makers.made(rows, kind.make(dataset, columns), span):
        yield from made


def _check_is_text(dataset: recipe_data.Dataset, span: Span) -> None:
    """Refuses plain text of which the recipe says columns, and what does not look like text."""
    written = dataset.written()
    if written.format == "text" and not written.columns:
        return
    look = None if span.start else plain.mistaken(span.uri)
    if look:
        right = f"say `format: {look.form}`" if look.form else look.mend
        raise text.DataError(
            f"{span.uri}:1: looks like {look.what} and is read as plain text, as it stands; "
            f"{right}, or say `format: text` and no columns if the lines are meant as they stand"
        )
    if written.columns and not (files.named(span.uri) and _has_rows(dataset)):
        raise text.DataError(
            f"{span.uri}: is read as plain text, which has no columns, and the recipe gives "
            f"columns: {', '.join(written.columns)}; say its format, one of "
            f"{', '.join(formats.READERS)}, or leave columns out"
        )


def _refuse_rows(dataset: recipe_data.Dataset, *spans: Span) -> None:
    """Refuses aligned files that are read line by line, unless their lines are text."""
    given = dataset.written().format
    otherwise = ", or say `format: text` if the lines are meant as they stand"
    for span in spans:
        if given != "text" and not span.start:
            plain.refuse(span.uri, given, otherwise)


def _has_rows(dataset: recipe_data.Dataset) -> bool:
    """Tells whether any file of a dataset has rows and not only text."""
    names = (name for uri in dataset.files() for name in text.files(uri))
    return any(_format(dataset, name) != "text" for name in names)


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
    kind, said = kinds.of(dataset), dataset.written()
    if said.delimiter and written != "csv":
        raise text.DataError(
            f"{uri}: the recipe says a delimiter, which is of .csv files, and this file is read as "
            f"{written}; say `format: csv`, or leave delimiter out"
        )
    return formats.RowFormat(
        written, said.header, kind.wanted(columns), kind.beside, said.delimiter
    )
