"""Runs `lrl corpora`: lists the corpora of the hub, or writes the first text of one as lines.

A vocabulary is learnt from text files, and so are bits per byte measured. This makes such a file of
the same corpus that a recipe reads.
"""

import argparse
from collections.abc import Iterator
import itertools

from etils import epath

from lrl_jax import storage, terminal
from lrl_jax.data import dataset as datasets
from lrl_jax.data.feed import show
from lrl_jax.data.read import catalogues
from lrl_jax.recipe import corpora as table
from lrl_jax.recipe import data as recipe_data
from lrl_jax.recipe import languages
from lrl_jax.text import Bad


def corpora(args: argparse.Namespace) -> None:
    """Prints the table of corpora, or a row of it; with `--to`, writes text and says where from."""
    if not args.to:
        names = [args.name] if args.name else [*table.CORPORA]
        terminal.console().print(_listed(names, args.language))
        return
    dataset = _dataset(args)
    path = epath.Path(args.to)
    if path.exists():
        raise ValueError(f"{path}: exists already; name another file")
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = itertools.islice(_texts(dataset), args.skip, args.skip + args.documents)
    count, partial = 0, storage.partial(path)
    try:
        with partial.open("w") as file:
            for document in texts:
                file.writelines(f"{line}\n" for line in document.splitlines() if line.strip())
                count += 1
        if not count:
            raise ValueError(f"{args.name}: has no document after the first {args.skip:,}")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    where = show.said_of(catalogues.provenance(dataset.catalogue()))
    print(terminal.visible(f"wrote {count:,} documents to {path}, {where}"))


def _listed(names: list[str], language: str) -> terminal.FittedTable:
    """Returns the rows of these corpora; a language adds the files of it that would be read."""
    rows = terminal.FittedTable("corpus", "what it is", "licence", "commit")
    for name in names:
        corpus = table.of(name)
        what = f"{corpus.title} ({corpus.dataset})"
        if language:
            what += f"\n{_files(name, language)}"
        rows.add_row(name, what, f"{corpus.license}\n{corpus.asks}", corpus.revision[:12])
    return rows


def _files(name: str, language: str) -> str:
    """Returns the files of a language, or why there are none."""
    pair = table.of(name).kind == "parallel"
    try:
        code = languages.resolve(language)
        spoken = (table.ENGLISH, code) if pair else (code,)
        return table.place(table.NamedHub(corpus=name), spoken).files
    except ValueError as e:
        return str(e)


def _dataset(args: argparse.Namespace) -> recipe_data.Dataset:
    """Returns the corpus as a dataset of a recipe."""
    if not args.name or not args.language:
        raise ValueError("--to: name a corpus and its --language too; `lrl corpora` lists them")
    corpus = table.of(args.name)
    if corpus.kind != "text":
        raise ValueError(f"{args.name}: has pairs, which are no text of one language")
    hub = {"corpus": args.name, "dataset": args.copy, "revision": args.revision}
    entry = {
        "kind": "text",
        "language": args.language,
        "hub": {name: value for name, value in hub.items() if value},
    }
    return recipe_data.Data(sequence_length=1, datasets={args.name: entry}).datasets[args.name]


def _texts(dataset: recipe_data.Dataset) -> Iterator[str]:
    for shard in datasets.shards(dataset):
        for record in datasets.read(dataset, shard):
            if not isinstance(record, Bad):
                yield record["text"]
