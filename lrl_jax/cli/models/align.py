"""Compares sentences with their translations at every layer of a model: `lrl align`.

lrl align runs/quickstart --texts sample:test.eng sample:test.kor --base --out alignment
"""

import argparse
from collections.abc import Mapping
import dataclasses
import functools
from typing import Any

from etils import epath

from lrl_jax import storage
from lrl_jax.cli import begin
from lrl_jax.devices import mesh as meshes
from lrl_jax.evaluate import alignment, kinds
from lrl_jax.pipeline import models
from lrl_jax.pipeline.console import display, progress, say
from lrl_jax.recipe.evaluate import Evaluate
from lrl_jax.report import alignment as alignment_page


def align(args: argparse.Namespace) -> None:
    """Prints a table by layer; writes alignment.json and a page into --out.

    With --base the base of the run, or another model, stands beside it as "before".
    """
    if args.overrides:
        raise ValueError(f"{args.overrides[0]}: `lrl {args.verb}` reads no recipe to override")
    storage.refuse_odd(args.out, writes=True)
    source, target = args.texts
    lines = alignment.read(source, target, args.limit)  # before a model is read
    begin.start(args)
    places = {"after": args.model}
    if args.base is not None:
        places = {"before": args.base or models.base_of(args.model), **places}
    results = {}
    with progress("align") as tell:
        for when, place in places.items():
            tell(f"reading {place}", 0, 0)
            model = models.open_model(place, dtype=models.chosen_dtype(args.dtype))
            model = dataclasses.replace(model, tick=functools.partial(tell, place))
            results[when] = alignment.align(lines, model, Evaluate().batch_size)
            del model  # one at a time on the devices
    display(alignment_page.layer_table(results, args.pooling))
    for remark in alignment.remarks(results["after"]):
        say(f"align: {remark}")
    if meshes.lead():
        _write(epath.Path(args.out), args, places, results)
    say(f"align: {args.out}/alignment.json and {args.out}/index.html")


def _write(
    out: epath.Path,
    args: argparse.Namespace,
    places: Mapping[str, str],
    results: Mapping[str, Any],
) -> None:
    about = {"texts": args.texts, "dtype": models.chosen_dtype(args.dtype), "models": places}
    out.mkdir(parents=True, exist_ok=True)
    storage.write_json(out / "alignment.json", {**about, **results, "facts": kinds.facts()})
    title = " and ".join(args.texts)
    storage.write(out / "index.html", alignment_page.page(results, title, places))
