"""Reads rows of catalogues: TensorFlow Datasets builders and datasets of the Hugging Face hub.

    place = recipe_data.Tfds(builder="my_corpus/ko", data_dir="gs://bucket/tfds")
    for (span,) in shards(place):
        for at, row in rows(place, span): ...       ("row 50001", {"text": "..."})

A span is (name, i, n): the i-th of n equal parts. Nothing of TFDS is written or downloaded. Of the
hub only data files are read, at the commit that the revision named when the shards were counted.
"""

from collections.abc import Iterator
import contextlib
import functools
import hashlib
import os
from pathlib import Path
import re
from typing import Any

import numpy as np

from lrl_jax import text
from lrl_jax.data.read import files, formats
from lrl_jax.data.read.files import Span
from lrl_jax.recipe import corpora
from lrl_jax.recipe.corpora import NamedHub
from lrl_jax.recipe.data import Hub, Tfds
from lrl_jax.recipe.extras import how_to_install

EXAMPLES = 50_000  # in a shard, where the catalogue lets us choose
MODULES = {"jsonl": "json", "json": "json", "csv": "csv", "parquet": "parquet", "txt": "text"}
LIBRARY_ERRORS = (ValueError, OSError, RuntimeError, AssertionError, NotImplementedError)
HTTP_CLIENTS = ("aiohttp", "httpcore", "httpcore2", "httpx", "httpx2", "requests", "urllib3")

COMMIT = re.compile("[0-9a-f]{40}")

Place = Tfds | Hub


def name(place: Place) -> str:
    """Returns the name of a place in messages and fingerprints."""
    if isinstance(place, Tfds):
        return f"tfds:{place.builder}/{place.split}"
    what = (place.files,) if place.files else (place.config, place.split)
    return f"hub:{'/'.join(filter(None, (place.dataset, *what)))}"


def shards(place: Place) -> list[tuple[Span, ...]]:
    """Returns equal parts of a place as shards of one span each; a part of the hub is a file.

    Raises DataError if there is no such dataset or split, or the extra `hub` is not installed.
    """
    if isinstance(place, Tfds):
        _, split = _opened(place)
        uri, count = name(place), -(-split.num_examples // EXAMPLES)
    else:
        uri = _uri(place)
        count = _stream(place, uri).num_shards
    return [(Span(uri, i, count),) for i in range(count)]


def fingerprint(place: Place) -> str:
    """Returns a digest of what a place holds: of the split's files, or of the commit of the hub."""
    if isinstance(place, Tfds):
        builder, split = _opened(place)
        about, paths = place.split, [*split.filepaths, builder.data_path / "features.json"]
    elif local := _local(place):
        about, paths = f"{place.config}/{place.split}", _data_files(local, place.files)
    else:
        about, paths = _uri(place), []
    names = sorted(map(os.fspath, paths))
    facts = [about, *(f"{file.rpartition('/')[2]}:{text.digest(file)}" for file in names)]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def provenance(place: Place | None) -> dict[str, str]:
    """Returns where text comes from, for the record of what was made of it.

    Of the hub it is `dataset`, `revision` (the commit), `url`, and `files` or `config`; of a corpus
    also `corpus`, `license` (an id of the hub's list) and `asks`. It is empty of folders that are
    no copy of a corpus, and where there is no catalogue.
    """
    if not isinstance(place, Hub):
        return {}
    corpus = corpora.of(place.corpus) if isinstance(place, NamedHub) and place.corpus else None
    here = _local(place) is not None
    if here and corpus is None:
        return {}
    dataset = corpus.dataset if here and corpus else place.dataset
    facts = {
        "corpus": getattr(place, "corpus", ""),
        "dataset": dataset,
        "config": place.config,
        "files": place.files,
        "revision": "" if here else _commit(place.dataset, place.revision),
        "url": f"https://huggingface.co/datasets/{dataset}",
        "license": corpus.license if corpus else "",
        "asks": corpus.asks if corpus else "",
    }
    return {name: value for name, value in facts.items() if value}


def in_order(place: Place | None) -> bool:
    """Tells whether the first records are read file after file, so that no other is fetched."""
    return isinstance(place, Hub) and bool(place.files)


def is_far(place: Place | None) -> bool:
    """Tells whether rows come over the network, from the hub."""
    return isinstance(place, Hub) and _local(place) is None


def rows(place: Place, span: Span) -> formats.Rows:
    """Yields (at, row) of a span of `shards`, with text as str.

    Raises DataError with the message of the catalogue's own library if that cannot read it.
    """
    with _errors_naming(span.uri):
        raw_rows = _tfds_rows(place, span) if isinstance(place, Tfds) else _hub_rows(place, span)
        for at, row in raw_rows:
            yield at, _native(row)


def _native(value: Any) -> Any:
    """Turns NumPy and TensorFlow values into plain ones; bytes that are not UTF-8 stay bytes."""
    if isinstance(value, dict):
        return {key: _native(item) for key, item in value.items()}
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    if isinstance(value, np.ndarray | np.generic):
        return _native(value.tolist())
    if hasattr(value, "to_list"):  # ragged
        return _native(value.to_list())
    return [_native(item) for item in value] if isinstance(value, list) else value


@contextlib.contextmanager
def _errors_naming(where: str) -> Iterator[None]:
    """Turns what a library raises into a DataError: the place and the first line of the message.

    Libraries that ask the hub raise errors of their HTTP client, which need not be OSErrors, and
    which client that is differs from version to version.
    """
    try:
        yield
    except text.DataError:
        raise
    except Exception as e:
        client = type(e).__module__.partition(".")[0] in HTTP_CLIENTS
        if not (client or isinstance(e, LIBRARY_ERRORS)):
            raise
        reason = next(iter(str(e).strip().splitlines()), repr(e))
        offline = client or isinstance(e, ConnectionError)
        unreached = "the hub could not be reached: " if offline else ""
        raise text.DataError(f"{where}: {unreached}{reason}") from e


# ---------------------------------------------------------------------------- TFDS
def _opened(place: Tfds) -> tuple[Any, Any]:
    import tensorflow_datasets as tfds

    with _errors_naming(name(place)):
        builder = tfds.builder(place.builder, data_dir=place.data_dir or None)
        if not builder.info.splits:
            raise text.DataError(
                f"{name(place)}: nothing is written at {builder.data_path}; run its "
                "download_and_prepare, or name the folder that holds it with data_dir"
            )
        split = builder.info.splits[place.split]
    if not split.num_examples:
        raise text.DataError(f"{name(place)}: the split has no example")
    return builder, split


def _tfds_rows(place: Tfds, span: Span) -> Iterator[tuple[str, dict[str, Any]]]:
    import tensorflow_datasets as tfds

    builder, _ = _opened(place)
    splits = tfds.even_splits(place.split, span.end)
    first = sum(builder.info.splits[split].num_examples for split in splits[: span.start]) + 1
    split = splits[span.start]
    if builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
        examples = iter(builder.as_data_source(split))  # without TensorFlow
    else:
        from lrl_jax.data.seqio import libraries  # brings TensorFlow in quietly

        del libraries
        order = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
        examples = builder.as_dataset(split, read_config=order).as_numpy_iterator()
    for number, row in enumerate(examples, start=first):
        yield f"row {number}", row


# ---------------------------------------------------------------------------- the hub
def _local(place: Hub) -> Path | None:
    """Returns the local folder or file that a dataset names; None where it names one of the hub."""
    path = Path(place.dataset).expanduser()
    return path if path.exists() or place.dataset.startswith((".", "/", "~")) else None


def _data_files(local: Path, pattern: str) -> list[Path]:
    paths = [local] if local.is_file() else [*local.glob(pattern or "**/*")]
    depth = len(local.parts)  # hidden folders above the dataset do not matter
    return [
        path
        for path in paths
        if path.is_file() and not any(name.startswith(".") for name in path.parts[depth:])
    ]


@functools.lru_cache(maxsize=64)
def _commit(dataset: str, revision: str) -> str:
    import huggingface_hub

    if COMMIT.fullmatch(revision):  # so that what is packed needs no network
        return revision
    with _errors_naming(f"hub:{dataset}@{revision}"):
        return huggingface_hub.HfApi().dataset_info(dataset, revision=revision).sha or ""


def _uri(place: Hub) -> str:
    """Returns the name of a place, of the hub with the commit that its revision names now."""
    if _local(place):
        return name(place)
    return f"{name(place)}@{_commit(place.dataset, place.revision)}"


def _stream(place: Hub, uri: str) -> Any:
    """Opens a dataset as a stream of rows; refuses one that has a dataset script."""
    try:
        import datasets
    except ImportError:
        raise text.DataError(
            f"{name(place)}: reading it needs the extra `hub`: {how_to_install('hub')}"
        ) from None
    local = _local(place)
    script = local and (local if local.suffix == ".py" else local / f"{local.name}.py")
    if script and script.exists():
        raise text.DataError(
            f"{name(place)}: {script} is a dataset script, which is never run; give data files "
            "(Parquet, JSON lines, CSV), or a revision that has them"
        )
    options: dict[str, Any] = {"split": place.split, "streaming": True}
    with _errors_naming(name(place)):
        if place.files:
            return _stream_of_files(place, uri)
        if local and local.is_file():
            kind = MODULES.get(local.suffix.removeprefix("."), local.suffix)
            return datasets.load_dataset(kind, data_files=str(local), **options)
        options["revision"] = None if local else uri.rpartition("@")[2]
        return datasets.load_dataset(str(local or place.dataset), place.config or None, **options)


def _stream_of_files(place: Hub, uri: str) -> Any:
    """Opens the data files of a place as a stream of rows."""
    import datasets
    import huggingface_hub

    if local := _local(place):
        root, paths = str(local), [*local.glob(place.files)]
    else:
        root = f"hf://datasets/{place.dataset}@{uri.rpartition('@')[2]}"
        paths = huggingface_hub.HfFileSystem().glob(f"{root}/{place.files}")
    if not paths:
        if isinstance(place, NamedHub) and (code := _code(place)):
            why = corpora.missing(place.corpus, code, _codes(place, uri))
            raise text.DataError(f"{name(place)}: {why}")
        raise text.DataError(f"{name(place)}: no file of that name is there; look at hub.files")
    kind = MODULES.get(files.format_of(place.files), "text")
    pattern = {place.split: f"{root}/{place.files}"}
    return datasets.load_dataset(kind, data_files=pattern, split=place.split, streaming=True)


def _code(place: NamedHub) -> str:
    """Returns the code of the language whose files are read; '' where files were named."""
    codes = corpora.codes(place.corpus, [place.files]) if place.corpus else []
    own = [c for c in codes if corpora.of(place.corpus).files.format(code=c) == place.files]
    return own[0] if own else ""


def _codes(place: NamedHub, uri: str) -> list[str]:
    """Returns the codes of the languages that a corpus has where it is read."""
    import huggingface_hub

    above = corpora.folder(place.corpus)
    if local := _local(place):
        paths = (path.relative_to(local).as_posix() for path in (local / above).glob("*"))
        return corpora.codes(place.corpus, paths)
    tree = huggingface_hub.HfApi().list_repo_tree(
        place.dataset, above or None, revision=uri.rpartition("@")[2], repo_type="dataset"
    )
    return corpora.codes(place.corpus, (entry.path for entry in tree))


def _hub_rows(place: Hub, span: Span) -> Iterator[tuple[str, dict[str, Any]]]:
    stream = _stream(place, span.uri)
    for number, row in enumerate(stream.shard(num_shards=span.end, index=span.start), start=1):
        yield f"row {number} of part {span.start + 1}", row
