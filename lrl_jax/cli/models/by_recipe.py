"""Measures any models by what a recipe says under `evaluate`: merged ones, or those of others.

lrl evaluate recipe.yaml --model runs/seed0 --model runs/seed1 --model soup --out scores
"""

import argparse
from collections.abc import Mapping
import dataclasses
import itertools
from typing import Any

from etils import epath
from rich import box

from lrl_jax import storage, terminal
from lrl_jax.cli import names
from lrl_jax.devices import mesh as meshes
from lrl_jax.evaluate import kinds
from lrl_jax.evaluate.benchmark import items
from lrl_jax.evaluate.rows import Json
from lrl_jax.pipeline import inputs, models
from lrl_jax.pipeline.console import Tell, display, progress, say
from lrl_jax.pipeline.notes import MismatchError
from lrl_jax.recipe.languages import labelled
from lrl_jax.recipe.schema import Recipe

PLAIN = ("export", "model")  # names of folders that tell nothing
RESULTS = "results.json"


def measure(recipe: Recipe, args: argparse.Namespace) -> None:
    """Measures each model of --model in turn; prints a table with one column a model.

    The results of a single model lie in --out, those of several each in a folder of it. What is
    there already, of the same weights, settings and texts, is not measured again without --redo.

    Raises:
      ValueError: a place of no model; said before the first is measured.
      DataError: a file that the recipe names cannot be used.
      MismatchError: a folder holds results of other weights, settings or texts.
    """
    kinds.validate(recipe.evaluate)  # before a model is read
    places, out = names.apart(args.model, PLAIN, "model"), epath.Path(args.out)
    single = len(places) == 1
    folders = {name: out if single else out / name.replace("/", "-") for name in places}
    if len({*folders.values()}) < len(folders):
        raise ValueError(f"--model: two of {', '.join(places)} have one folder in {out}")
    for place in places.values():
        models.check_place(place)
    results: dict[str, Json] = {}
    said = {
        "evaluate": recipe.evaluate.model_dump(mode="json"),
        "texts": inputs.evaluated_on(recipe),
    }
    with progress("evaluate") as tell:
        for name, place in places.items():
            results[name] = _of_model(recipe, said, args, place, folders[name], tell)
    display(table(results))
    for folder in folders.values():
        say(f"evaluate: {folder}/{RESULTS}")


def table(results: Mapping[str, Json]) -> terminal.FittedTable:
    """Returns a table of scores: a line for each measure and entry, a column for each model."""
    columns = [*results]
    shown = terminal.FittedTable("", "", *columns, numbers=columns, box=box.SIMPLE_HEAD)
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for name, of_model in results.items():
        for _, score in kinds.comparable_scores(of_model):
            cells.setdefault((score.measure, score.name), {})[name] = score.text
    for label, of_measure in itertools.groupby(cells, lambda key: key[0]):
        for i, key in enumerate(of_measure):
            texts = [cells[key].get(name, "") for name in columns]
            shown.add_row("" if i else label, labelled(key[1]), *texts)
        shown.add_section()
    return shown


def _of_model(
    recipe: Recipe,
    said: Mapping[str, Any],
    args: argparse.Namespace,
    place: str,
    folder: epath.Path,
    tell: Tell,
) -> Json:
    """Returns the results of one model, which its folder holds afterwards, with what is `said`."""
    tell(f"{place}: reading", 0, 0)
    row = recipe.data.sequence_length
    model = items.with_digest(models.open_model(place, dtype=args.dtype, length=row))
    model = dataclasses.replace(
        model, loss_blocks=recipe.train.loss_blocks,
        items=str(folder / "items"), lines=str(folder / "items"),
    )  # fmt: skip
    about = {
        "model": place,
        "dtype": args.dtype,
        "weights": model.digest,
        "length": row,
        **said,
    }
    path = folder / RESULTS
    if path.exists() and not args.redo:
        return _kept(path, about)
    measured = kinds.measure(
        recipe.evaluate, model, lambda what, done, whole: tell(f"{place}: {what}", done, whole)
    )
    if meshes.lead():
        folder.mkdir(parents=True, exist_ok=True)
        storage.write_json(path, {**about, **measured})
    return measured


def _kept(path: epath.Path, about: Mapping[str, Any]) -> Json:
    """Returns the results that a file holds; they have to be of this model and these settings."""
    earlier = storage.read_json(path)
    results = earlier if isinstance(earlier, dict) else {}
    differ = [key for key in about if key != "model" and results.get(key) != about[key]]
    if differ:
        raise MismatchError(
            f"{path}: holds results with other {' and '.join(differ)} than {about['model']} is to "
            "be measured with; name another folder with --out, or measure anew with --redo"
        )
    return {key: value for key, value in results.items() if key not in about}
