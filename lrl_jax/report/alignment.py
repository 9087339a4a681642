"""Shows how alike sentences and their translations are at every layer, before and after training.

    rich.print(layer_table({"before": result, "after": result}, "weighted"))
    page(before, after, "eng_kor")               # one offline HTML page

Results are those of `lrl_jax.evaluate.alignment.align`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box

from lrl_jax.evaluate import alignment
from lrl_jax.evaluate.rows import fixed, number
from lrl_jax.report import pages, plots
from lrl_jax.storage import Json
from lrl_jax.terminal import FittedTable

TITLES = {
    "gap": "gap of cosines",
    "accuracy_forward": "found, forward",
    "accuracy_backward": "found, backward",
    "mexa": "MEXA",
    "cka": "linear CKA",
}
SHORT = {  # of columns
    "gap": "gap",
    "accuracy_forward": "forward",
    "accuracy_backward": "backward",
    "mexa": "MEXA",
    "cka": "CKA",
}
POOLINGS = {
    "weighted": "weighted mean of tokens (weights 1 to T)",
    "mean": "mean of tokens",
    "last": "last token",
}


def layer_table(results: Mapping[str, Json], pooling: str) -> FittedTable:
    """Returns a table of every measure by layer, of one model or of two beside each other.

    Args:
      results: "before" and "after", or one of them.
    """
    columns, rows = by_layer(results, pooling)
    table = FittedTable(*columns, numbers=columns[1:], box=box.SIMPLE_HEAD)
    table.title = POOLINGS[pooling]
    for row in rows:
        if row[0] == "max":
            table.add_section()
        table.add_row(*row)
    return table


def by_layer(results: Mapping[str, Json], pooling: str) -> tuple[list[str], list[list[str]]]:
    """Returns columns and rows: a row a layer, then the largest of each column and its mean."""
    of_models = {when: _of(result, pooling) for when, result in results.items()}
    two = len(results) > 1
    columns = ["layer"]
    columns += [f"{title} {when}" if two else title for title in SHORT.values() for when in results]
    depth = max((len(scores.get("layers") or []) for scores in of_models.values()), default=0)
    rows = []
    for label, layer in [*((str(l), l) for l in range(depth)), ("max", "max"), ("mean", "mean")]:
        cells = [_number(_at(scores, layer), key) for key in SHORT for scores in of_models.values()]
        rows.append([label, *cells])
    return columns, rows if depth else []


def _of(result: Json, pooling: str) -> Json:
    return (result.get("poolings") or {}).get(pooling) or {}


def _at(scores: Json, layer: int | str) -> Json:
    """Returns the measures of a layer, by its number, or those of all layers: "max" or "mean"."""
    if isinstance(layer, str):
        return scores.get(layer) or {}
    layers = scores.get("layers") or []
    return layers[layer] if layer < len(layers) else {}


def _number(scores: Json, key: str) -> str:
    value = number(scores.get(key))
    return "" if value is None else fixed(value, 3)


# ---------------------------------------------------------------------------- pages
def page(results: Mapping[str, Json], title: str, models: Mapping[str, str]) -> str:
    """Returns a page, which opens offline, of one comparison of parallel texts.

    Args:
      results: "before" and "after", or "after" alone.
      models: the place of each of these models.
    """
    of_model = {when: {title: result} for when, result in results.items()}
    return pages.render(
        "alignment.html.j2",
        title=title,
        models=models,
        sections=[*sections(of_model.get("before", {}), of_model.get("after", {}))],
    )


def sections(before: Json, after: Json) -> Iterator[dict[str, Any]]:
    """Yields what pages show of each entry: remarks, figures, and a table for each pooling.

    Args:
      before, after: name of an entry -> its result; either may lack it.
    """
    for name in {**before, **after}:
        entries = {"before": before.get(name) or {}, "after": after.get(name) or {}}
        results = {when: result for when, result in entries.items() if _of(result, alignment.MAIN)}
        if not results:
            continue
        newest = [*results.values()][-1]
        tables = []
        for pooling, title in POOLINGS.items():
            columns, rows = by_layer(results, pooling)
            tables.append({"title": title, "columns": columns, "rows": rows})
        yield {
            "name": name,
            "lines": newest.get("lines"),
            "remarks": alignment.remarks(newest),
            "pooling": POOLINGS[alignment.MAIN],
            "middle": (_of(newest, alignment.MAIN).get("middle") or {}).get("layers"),
            "svg": _figure(results),
            "maps": _maps(results),
            "tables": tables,
        }


def _figure(results: Mapping[str, Json]) -> str:
    """Returns the figure of every measure by layer, before and after in one panel."""
    curves: dict[str, dict[str, plots.Curve]] = {"before": {}, "after": {}}
    for when, result in results.items():
        layers = _of(result, alignment.MAIN).get("layers") or []
        for key, title in TITLES.items():
            values = {l: number(scores.get(key)) for l, scores in enumerate(layers)}
            points = {l: value for l, value in values.items() if value is not None}
            if points:
                curves[when][title] = ([*points], [*points.values()])
    return plots.changes(curves["before"], curves["after"], "layer")


def _maps(results: Mapping[str, Json]) -> str:
    """Returns a figure with the map of the pairs at each layer that was drawn, of each model."""
    panels = {}
    for when, result in results.items():
        for drawn in result.get("maps") or []:
            source, target = (_curve(drawn.get(side) or []) for side in ("source", "target"))
            if source[0] and len(source[0]) == len(target[0]):
                panels[f"{when}, layer {drawn.get('layer')}"] = (source, target)
    return plots.maps(panels) if panels else ""


def _curve(points: list[list[float]]) -> plots.Curve:
    return [point[0] for point in points], [point[1] for point in points]
