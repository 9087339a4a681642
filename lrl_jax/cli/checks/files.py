"""Yields, for `lrl check`, the files that a recipe names and its steps could not read.

problems += unreadable(recipe, wanted)      # (key of the recipe, problem)
"""

from collections.abc import Callable, Collection, Iterator
import itertools
from typing import NamedTuple

from lrl_jax import text
from lrl_jax.cli.checks.settings import trouble
from lrl_jax.data.read import plain
from lrl_jax.embeddings import vectors
from lrl_jax.hf import load
from lrl_jax.recipe import supply
from lrl_jax.recipe.schema import Recipe
from lrl_jax.vocab.tokenizer import load as tokenizers


class ReadPlace(NamedTuple):
    """Holds how a place of the recipe is looked at: what is called, and raises what is wrong."""

    key: str
    name: str
    read: Callable[..., object]
    rest: tuple[object, ...] = ()


def unreadable(recipe: Recipe, wanted: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yields (key of the recipe, problem) of texts, word vectors and models beside the base.

    Those in `wanted` are not here yet.
    """
    for look in itertools.chain(_texts(recipe), _words(recipe), _models(recipe)):
        if look.name not in wanted:
            yield from trouble(look.key, look.read, look.name, *look.rest)


def _texts(recipe: Recipe) -> Iterator[ReadPlace]:
    of_text = supply.plain_texts(recipe)
    for key, uri in supply.texts(recipe):
        yield ReadPlace(key, uri, plain.refuse_blank if uri in of_text else _first_line)


def _first_line(uri: str) -> None:
    next(text.lines(uri), None)


def _words(recipe: Recipe) -> Iterator[ReadPlace]:
    if words := recipe.init.words:
        yield ReadPlace("init.words.source", words.source, vectors.read, (1,))
        yield ReadPlace("init.words.target", words.target, vectors.read, (1,))
        if words.dictionary:
            yield ReadPlace("init.words.dictionary", words.dictionary, vectors.read_pairs)


def _models(recipe: Recipe) -> Iterator[ReadPlace]:
    if recipe.init.helper:
        yield ReadPlace("init.helper", recipe.init.helper, tokenizers.load)
    if difference := recipe.export.vector:
        yield ReadPlace("export.vector.instruct", difference.instruct, load.refuse_absent)
        yield ReadPlace("export.vector.base", difference.base, load.refuse_absent)
