"""What only the user can bring (gated weights, a corpus): what of it is not here, how to get it.

A recipe's `supply` says how: path, pattern or hub id -> words. What it does not name has to be
here, or the recipe is wrong.
"""

from collections.abc import Iterable, Iterator
import fnmatch

from etils import epath

from lrl_jax import text
from lrl_jax.recipe.data import Dataset
from lrl_jax.recipe.schema import Pretrained, Recipe
from lrl_jax.recipe.vocab import Extend, TrainVocab


def wanted(recipe: Recipe) -> dict[str, str]:
    """What has to be supplied still: path, pattern or id -> how to get it."""
    return {uri: how for uri in named(recipe) if (how := words(recipe, uri)) and not is_here(uri)}


def words(recipe: Recipe, uri: str) -> str:
    """How the recipe says to get it; '' where it says nothing."""
    for pattern, how in recipe.supply.items():
        if uri == pattern or fnmatch.fnmatchcase(uri, pattern):
            return how
    return ""


def idle(recipe: Recipe) -> list[str]:
    """Entries of `supply` that nothing in the recipe asks for."""
    uris = [*named(recipe)]
    return [p for p in recipe.supply if not any(u == p or fnmatch.fnmatchcase(u, p) for u in uris)]


def is_here(uri: str) -> bool:
    """Whether a path or a pattern names something on this machine or in its bucket."""
    if uri.startswith(text.SAMPLE) or epath.Path(uri).exists():
        return True
    return any(c in uri for c in "*?[") and bool(text.matching(uri))


def named(recipe: Recipe) -> Iterator[str]:
    """Everything a recipe reads."""
    if isinstance(recipe.base, Pretrained):
        yield from filter(None, (recipe.base.model, recipe.base.adapter))
    elif recipe.base.tokenizer:
        yield recipe.base.tokenizer
    yield from (uri for _, uri in texts(recipe))
    if isinstance(recipe.vocab, Extend) and recipe.vocab.donor:
        yield recipe.vocab.donor
    part = recipe.init
    words = (part.words.source, part.words.target, part.words.dictionary) if part.words else ()
    yield from filter(None, (*part.text, part.helper, *words))
    for dataset in recipe.data.datasets.values():
        yield from places(dataset)
    if recipe.export.vector:
        yield from (recipe.export.vector.instruct, recipe.export.vector.base)


def texts(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """What is read as lines of text, with the field that names it."""
    part = recipe.vocab
    for code, uri in part.report.texts.items():
        yield f"vocab.report.texts.{code}", uri
    if isinstance(part, TrainVocab | Extend):
        yield from (("vocab.text", uri) for uri in part.text)
    if isinstance(part, Extend):
        yield from (("vocab.prove_on", uri) for uri in part.prove_on)
    for name, uri in recipe.evaluate.bits_per_byte.items():
        yield f"evaluate.bits_per_byte.{name}", uri
    for name, pair in recipe.evaluate.translation.items():
        yield from ((f"evaluate.translation.{name}", uri) for uri in (pair.source, pair.target))
    for name, one in recipe.evaluate.chains.items():
        yield from ((f"evaluate.chains.{name}", uri) for uri in (one.english, one.translated))
    yield from (("export.gate_on", uri) for uri in recipe.export.gate_on)


def places(dataset: Dataset) -> Iterable[str]:
    """Returns the files, builder or hub id of a dataset."""
    return dataset.places()
