"""Finds the documents of a task, and reads them: local copies first, else the hub.

    source = questions(task, data="../data")
    for document in read(task, source): ...        TaskDocument({"premise": ...}, "val.ta.jsonl:7")

A document that cannot be read is yielded as text.Bad, with its file and row.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import glob
import itertools
from typing import Any

from etils import epath

from lrl_jax import text
from lrl_jax.data.read import catalogues, formats, plain
from lrl_jax.data.read import files as data_files
from lrl_jax.data.read.columns import ABSENT, lookup
from lrl_jax.data.read.files import Span
from lrl_jax.evaluate import task_files
from lrl_jax.evaluate.task_files import BenchmarkTask
from lrl_jax.recipe.dataset import Hub
from lrl_jax.recipe.vocab import did_you_mean

LOCAL = {"json": "jsonl", "csv": "csv", "text": "text", "parquet": "parquet"}  # harness's builders
NAME_FOLDER = "name the folder with --data, or as evaluate.task_data in a recipe"


@dataclasses.dataclass(frozen=True)
class TaskDocument:
    """Holds one document of a task: its fields by name, and its file and row."""

    fields: Mapping[str, Any]
    where: str


@dataclasses.dataclass(frozen=True)
class DocumentSource:
    """Says where the documents of a split are: local files of rows, aligned texts, or the hub.

    Attributes:
      form: the format of `files`; "auto" goes by their suffixes.
      delimiter: what stands between the cells of tables; that of the format if empty.
      aligned: field -> the text file whose lines it is.
      looked: where local copies are missing, where the hub is read in their place.
    """

    split: str
    files: tuple[str, ...] = ()
    form: str = "auto"
    delimiter: str = ""
    aligned: Mapping[str, str] = dataclasses.field(default_factory=dict)
    hub: Hub | None = None
    looked: str = ""

    @property
    def places(self) -> tuple[str, ...]:
        """Returns the local files, or the name of the dataset on the hub."""
        if self.hub is not None:
            return (catalogues.name(self.hub),)
        return (*self.files, *self.aligned.values())


# ---------------------------------------------------------------------------- where they are
def questions(task: BenchmarkTask, data: str = "", file: str = "") -> DocumentSource:
    """Returns where the questions of a task are: its test split, or else its validation split.

    Args:
      data: the folder below which local copies are looked for.
      file: the file of questions, in place of all that the task file says.

    Raises:
      DataError: no local copy is there, and the task names no dataset of the hub.
    """
    settings = task.settings
    splits = [*filter(None, (settings.test_split, settings.validation_split))]
    if file:
        return DocumentSource(splits[0], tuple(text.files(file)), task.facts.format)
    return _first(task, splits, data)


def examples(task: BenchmarkTask, data: str = "") -> DocumentSource:
    """Returns where the examples of a task are, for prompts with shots; raises as `questions`."""
    settings = task.settings
    others = [settings.training_split, settings.validation_split, settings.test_split]
    if named := settings.fewshot_config.split or settings.fewshot_split:
        given = settings.dataset_kwargs.data_files
        splits = {*task.facts.files, *(given if isinstance(given, dict) else ()), *others} - {""}
        if named not in splits and (task.facts.files or given):
            raise text.DataError(
                f"{task.name}: fewshot_split: no split {named!r}{did_you_mean(named, splits)}; "
                f"there are {', '.join(sorted(splits))}"
            )
        return _first(task, [named], data)
    # as in the harness: without a split of examples, training, validation or test gives them
    return _first(task, [*dict.fromkeys(filter(None, others))], data)


def local_files(name: str, data: str, file: str = "") -> list[str]:
    """Returns the files with the questions of a task or a group, which training may not hold.

    Where the data folder is still to come, these are patterns of what will be in it.

    Raises:
      ValueError: there is no such task, or its questions are only on the hub.
    """
    if file:
        return [file]
    places: list[str] = []
    for task in task_files.resolve(name):
        if data and not epath.Path(data).exists():
            split = task.settings.test_split or task.settings.validation_split
            places += [f"{data}/**/{each}" for each in _names(task, split)]
            continue
        source = questions(task, data)
        if source.hub is not None:
            raise ValueError(
                f"{task.name}: its questions are on the hub ({source.places[0]}), and only files "
                "can be compared; put a copy into the folder that evaluate.task_data names"
            )
        places += source.places
    return [*dict.fromkeys(places)]


def _first(task: BenchmarkTask, splits: Sequence[str], data: str) -> DocumentSource:
    """Returns the first split with a local copy, or else the first one on the hub."""
    for split in splits:
        if source := _local(task, split, data):
            _check_files(task, source)
            return source
    settings = task.settings
    wrong = bool(data) and "://" not in data and not epath.Path(data).is_dir()
    if settings.dataset_path and settings.dataset_path not in LOCAL and not wrong:
        dataset, config = settings.dataset_path, settings.dataset_name
        place = Hub(dataset=dataset, config=config, split=splits[0])
        return DocumentSource(splits[0], hub=place, looked=_not_here(task, splits, data))
    why = f"; {data} is no folder" if wrong else ""
    raise text.DataError(f"{_not_here(task, splits, data)}{why}; {NAME_FOLDER}")


def _check_files(task: BenchmarkTask, source: DocumentSource) -> None:
    """Raises DataError with the task's name where a file cannot be read, such as a folder."""
    for place in source.places:
        try:
            text.check_file(epath.Path(place))
        except text.DataError as e:
            raise text.DataError(f"{task.name}: {e}") from None


def _not_here(task: BenchmarkTask, splits: Sequence[str], data: str) -> str:
    """Returns where local copies of splits have been looked for in vain."""
    looked = [*itertools.chain.from_iterable(_names(task, split) for split in splits)]
    below = f"below {data}" if data else "as no data folder is given"
    files = f"found none of {', '.join(looked) or 'no files'} {below}"
    return f"{task.name}: its documents are not here: {files}"


def _names(task: BenchmarkTask, split: str) -> list[str]:
    places = task.facts.files.get(split, ())
    lists = places.values() if isinstance(places, dict) else [places]
    return [name for names in lists for name in names]


def _local(task: BenchmarkTask, split: str, data: str) -> DocumentSource | None:
    """Returns the local copy of a split; None where it is not here."""
    settings, facts = task.settings, task.facts
    if settings.dataset_path in LOCAL:
        given = settings.dataset_kwargs.data_files
        names = given.get(split, ()) if isinstance(given, dict) else given
        beside = str(epath.Path(task.file).parent)
        paths = [path for name in names for path in _named(name, data, beside)]
        return DocumentSource(split, tuple(paths), *_form(task)) if paths else None
    places = facts.files.get(split, ())
    if not isinstance(places, dict):
        paths = _alternative(places, data)
        return DocumentSource(split, tuple(paths), facts.format) if paths else None
    lists = {field: _alternative(names, data) for field, names in places.items()}
    if not all(lists.values()):
        return None
    if many := [field for field, paths in lists.items() if len(paths) > 1]:
        raise text.DataError(
            f"{task.name}: {many[0]}: want one text file; got {', '.join(lists[many[0]])}"
        )
    return DocumentSource(split, aligned={field: path for field, [path] in lists.items()})


def _form(task: BenchmarkTask) -> tuple[str, str]:
    """Returns format and delimiter of files that the harness would give a builder of `datasets`."""
    settings = task.settings.dataset_kwargs
    if task.settings.dataset_path == "csv":
        return "tsv_raw" if settings.quoting else "csv", settings.delimiter
    return LOCAL[task.settings.dataset_path], ""


def _alternative(names: Sequence[str], data: str) -> list[str]:
    """Returns the files of the first name that is there."""
    return next((paths for name in names if (paths := _below(name, data))), [])


def _named(name: str, data: str, beside: str) -> list[str]:
    """Returns the files of a name: as it stands, below the data folder, or beside the task file."""
    return text.matching(name) or _below(name, data) or _below(name, beside)


def _below(name: str, folder: str) -> list[str]:
    """Returns the files of a name or glob below a folder, at any depth where it is local."""
    if not folder:
        return []
    path = f"{folder}/{name}"
    direct = text.matching(path) if glob.has_magic(name) else _existing(path)
    if direct or "://" in folder:
        return direct
    deeper = text.matching(f"{glob.escape(folder)}/**/{name}")
    if len({str(epath.Path(path).parent) for path in deeper}) > 1:
        raise text.DataError(
            f"{name}: several files have this name, {', '.join(deeper[:4])}; "
            "name the folder of one of them with --data"
        )
    return deeper


def _existing(path: str) -> list[str]:
    return [path] if epath.Path(path).exists() else []


# ---------------------------------------------------------------------------- reading
def read(task: BenchmarkTask, source: DocumentSource) -> Iterator[TaskDocument | text.Bad]:
    """Yields the documents of a source; DataError if a file as a whole cannot be read."""
    if source.hub is not None:
        rows = _of_hub(source.hub, source.looked)
    elif source.aligned:
        rows = _of_aligned(source.aligned)
    else:
        rows = _of_files(source, header=task.facts.header)
    columns = {} if source.hub is not None else task.facts.columns
    for where, row in rows:
        yield row if isinstance(row, text.Bad) else _document(task, row, columns, where)


Rows = Iterator[tuple[str, dict[str, Any] | text.Bad]]


def _of_files(source: DocumentSource, header: bool) -> Rows:
    for file in source.files:
        form = data_files.format_of(file, source.form)
        if form == "jsonl" and (look := plain.mistaken(file)) and look.form == "json":
            form = "json"  # a list of rows, as the builder of `datasets` finds by content
        span = Span(file)
        row_format = formats.RowFormat(form, header, delimiter=source.delimiter, decimals=float)
        if form == "text":
            for number, line in text.numbered(file):
                place = f"{file}:{number}"
                yield place, line if isinstance(line, text.Bad) else {"text": line}
            continue
        for at, row in formats.rows(span, row_format):
            yield data_files.where(span, at), row


def _of_aligned(aligned: Mapping[str, str]) -> Rows:
    names, paths = [*aligned], [*aligned.values()]
    for path in paths:
        plain.refuse(path)
    texts = [[*text.numbered(path)] for path in paths]
    if odd := [i for i, lines in enumerate(texts) if len(lines) != len(texts[0])]:
        raise data_files.unequal(paths[0], len(texts[0]), paths[odd[0]], len(texts[odd[0]]))
    for lines in zip(*texts, strict=True):
        number = lines[0][0]
        bad = next((line for _, line in lines if isinstance(line, text.Bad)), None)
        row = dict(zip(names, (line for _, line in lines), strict=True))
        yield f"{paths[0]}:{number}", bad or row


def _of_hub(place: Hub, looked: str) -> Rows:
    try:
        shards = catalogues.shards(place)
    except text.DataError as e:
        raise text.DataError(f"{looked}; nor on the hub: {e}; {NAME_FOLDER}") from e
    for (span,) in shards:
        for at, row in catalogues.rows(place, span):
            yield data_files.where(span, at), row


def _document(
    task: BenchmarkTask, row: Mapping[str, Any], columns: Mapping[str, str], where: str
) -> TaskDocument | text.Bad:
    """Returns the document of a row, by the columns and values that the task file gives."""
    fields = dict(row)
    for field, column in columns.items():
        value = lookup(row, column)
        if value is ABSENT:
            names = ", ".join(row) or "none"
            return text.Bad(where, f"has no column {column!r} for {field!r}; it has {names}")
        fields[field] = value
    for field, meanings in task.facts.values.items():
        if field not in fields:
            return text.Bad(where, f"has no field {field!r}; it has {', '.join(fields)}")
        value = fields[field]
        if str(value) in meanings:
            fields[field] = meanings[str(value)]
        elif value not in meanings.values():
            return text.Bad(where, f"{field} is {value!r}; want one of {', '.join(meanings)}")
    return TaskDocument(fields, where)
