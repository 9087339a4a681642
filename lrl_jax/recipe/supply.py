"""Lists what only the user can bring (gated weights, a corpus) and is not here yet.

A recipe's `supply` maps a path, pattern or hub id to a sentence that says how to get it. Whatever
else the recipe reads has to be here, or the recipe is wrong.
"""

from collections.abc import Iterator
import fnmatch
import glob
import itertools
import os

from etils import epath

from lrl_jax import storage, text
from lrl_jax.recipe.dataset import Tfds
from lrl_jax.recipe.schema import Pretrained, Recipe
from lrl_jax.recipe.vocab import Extend, Vocab


def wanted(recipe: Recipe) -> dict[str, str]:
    """Returns what still has to be supplied: path, pattern or hub id -> how to get it."""
    advice: dict[str, str] = {}
    for uri in named(recipe):
        how = next((how for pattern, how in recipe.supply.items() if matches(pattern, uri)), "")
        if how and not is_here(uri):
            advice[uri] = how
    return advice


def idle(recipe: Recipe) -> list[str]:
    """Returns the entries of `supply` that nothing in the recipe asks for."""
    uris = [*named(recipe)]
    return [p for p in recipe.supply if not any(matches(p, uri) for uri in uris)]


def matches(pattern: str, uri: str) -> bool:
    """Tells whether an entry of `supply` names a path or hub id."""
    return uri == pattern or fnmatch.fnmatchcase(uri, pattern)


def is_here(uri: str) -> bool:
    """Returns whether a path or a pattern names something on this machine or in its bucket."""
    if uri.startswith(text.SAMPLE) or epath.Path(text.plain(uri)).exists():
        return True
    return glob.has_magic(uri) and bool(text.matching(uri))


def named(recipe: Recipe) -> Iterator[str]:
    """Yields the path or hub id of everything that a recipe reads."""
    if isinstance(recipe.base, Pretrained):
        yield from filter(None, (recipe.base.model, recipe.base.adapter))
    elif recipe.base.tokenizer:
        yield recipe.base.tokenizer
    yield from (uri for _, uri in texts(recipe))
    yield from filter(None, (recipe.evaluate.task_data,))
    if isinstance(recipe.vocab, Extend) and recipe.vocab.donor:
        yield recipe.vocab.donor
    init = recipe.init
    words = (init.words.source, init.words.target, init.words.dictionary) if init.words else ()
    other = init.weights.run if init.weights else ""
    yield from filter(None, (init.helper, *words, other))
    for dataset in recipe.data.datasets.values():
        yield from dataset.places()
    yield from recipe.data.decontaminate
    if recipe.export.vector:
        yield from (recipe.export.vector.instruct, recipe.export.vector.base)


def odd_addresses(recipe: Recipe) -> Iterator[str]:
    """Yields what is wrong with addresses and home folders (`~`) that a recipe names."""
    catalogues = [dataset.catalogue() for dataset in recipe.data.datasets.values()]
    # folders that TFDS and the reader of the hub's datasets look for, `~` included
    folders = {c.data_dir if isinstance(c, Tfds) else c.dataset for c in catalogues if c}
    places = [text.plain(name) for name in named(recipe)]
    for name in dict.fromkeys([recipe.folder, *places, *folders]):
        place = os.path.expanduser(name) if name in folders else name
        try:
            storage.refuse_odd(place, writes=name == recipe.folder)
        except ValueError as e:
            yield str(e)


def texts(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yields (field of the recipe, uri) for every file of lines: text, rows and task files."""
    yield from vocab_texts(recipe.vocab)
    yield from recipe.evaluate.files()
    for name, uris in recipe.evaluate.baseline_text.items():
        yield from ((f"evaluate.baseline_text.{name}", uri) for uri in uris)
    yield from (("init.text", uri) for uri in recipe.init.text)
    yield from (("export.gate_on", uri) for uri in recipe.export.gate_on)


def gate_texts(recipe: Recipe) -> tuple[str, ...]:
    """Returns the texts on which an export is compared with the model.

    They are those of `export.gate_on`; without any, held-out texts, or what the vocabulary is made
    of. It is empty where the recipe names no text but that of datasets.
    """
    of_vocabulary = tuple(uri for _, uri in vocab_texts(recipe.vocab))
    return (
        recipe.export.gate_on
        or tuple(recipe.evaluate.bits_per_byte.values())
        or tuple(dict.fromkeys(_of_pairs(recipe) or of_vocabulary))
    )


def plain_texts(recipe: Recipe) -> set[str]:
    """Returns those of `texts` that are lines of text, and no tables of rows or task files."""
    evaluate = recipe.evaluate
    baselines = itertools.chain.from_iterable(evaluate.baseline_text.values())
    measured = (*evaluate.bits_per_byte.values(), *baselines, *_of_pairs(recipe))
    of_vocabulary = (uri for _, uri in vocab_texts(recipe.vocab))
    return {*measured, *of_vocabulary, *recipe.init.text, *recipe.export.gate_on}


def _of_pairs(recipe: Recipe) -> tuple[str, ...]:
    pairs = (*recipe.evaluate.translation.values(), *recipe.evaluate.alignment.values())
    return tuple(uri for entry in pairs for uri in entry.files())


def vocab_texts(vocab: Vocab) -> Iterator[tuple[str, str]]:
    """Yields (field of the recipe, uri) for the texts that the vocabulary is made and proved on."""
    for code, uri in vocab.report.texts.items():
        yield f"vocab.report.texts.{code}", uri
    for code, uri in getattr(vocab, "parallel", {}).items():
        yield f"vocab.parallel.{code}", uri
    for field, paths in (("text", "files"), ("prove_on", "prove_on")):
        yield from ((f"vocab.{field}", uri) for uri in getattr(vocab, paths, ()))
