"""Reads runs that are to be compared; a damaged piece of one is named, and the others go on.

runs = read({"quickstart": "runs/quickstart", "other": "gs://bucket/runs/other"})
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
import dataclasses
import functools
import itertools
import statistics
from typing import Any

from etils import epath

from lrl_jax import storage
from lrl_jax.evaluate import kinds
from lrl_jax.evaluate.rows import number
from lrl_jax.report import pieces, places
from lrl_jax.report.compare.comparable import Ways
from lrl_jax.report.pieces import Pieces
from lrl_jax.storage import Json
from lrl_jax.train import goodput

RECORDS = 2000  # of a training that are kept
TOKENIZERS = ("tokenizer.model", "tokenizer.json")  # the first that is there says what tokens are
SECTIONS = ("efficiency", "facts", "baselines")  # of after.json that are no kind of evaluation
NOT_EVALUATED = "not evaluated yet"
CUT_SHORT = "its evaluation was cut short"
DAMAGED = "its evaluate/after.json is damaged"
CHANGED = "its evaluate/after.json is not what `lrl evaluate` wrote"


@dataclasses.dataclass(frozen=True)
class ComparedRun:
    """Holds a run that is compared with others.

    Attributes:
      name: what tells it from the others.
      cell: what its cell.json says, if it is a cell of a study.
      notes: step -> its note (pipeline.notes): what it was made from, what it made, which version.
      problems: what of it cannot be used, and why.
      unread: why there are no scores; "" if there are.
      wall: seconds of training, over all its processes; None where they are not known.
      said: whether the recipe says with which settings the scores were measured; it may have
        changed since.
      changed: files of evaluation that are not what `lrl evaluate` wrote, and are not used.
    """

    name: str
    path: epath.Path
    pieces: Pieces
    notes: Mapping[str, Json]
    problems: tuple[str, ...] = ()
    unread: str = ""
    wall: float | None = None
    said: bool = True
    cell: Json = dataclasses.field(default_factory=dict)
    changed: Collection[epath.Path] = ()

    def at(self, step: str) -> epath.Path:
        """Returns the folder of a step."""
        return places.place(self.path, self.cell, step)

    @functools.cached_property
    def scores(self) -> Json:
        """Returns what was measured of the trained model; {} where nothing can be used."""
        return {} if self.unread else self.pieces.after

    @functools.cached_property
    def vocabulary(self) -> Ways:
        """Returns what its tokens are known by: the tokenizer's file, and what `vocab` made."""
        files = (self.at("vocab") / name for name in TOKENIZERS)
        own = next((storage.sha256(file) for file in files if file.exists()), "")
        packed = {str(m.get("tokenizer", "")) for m in self.pieces.manifests.values()}
        if not own and len(packed) == 1:
            own = packed.pop()
        return own, self.made_from("train").get("vocab", "")

    def made_from(self, step: str) -> dict[str, str]:
        """Returns the digests of what a step was made from, by name."""
        inputs = self.notes.get(step, {}).get("inputs")
        if not isinstance(inputs, Mapping):
            return {}
        return {str(name): str(digest) for name, digest in inputs.items()}

    def made(self, step: str) -> dict[str, str]:
        """Returns the SHA-256 of what a step has made, by file."""
        outputs = self.notes.get(step, {}).get("outputs")
        if not isinstance(outputs, Mapping):
            return {}
        return {str(name): str(sha256) for name, sha256 in outputs.items()}


def read(named: Mapping[str, epath.PathLike], said: Mapping[str, str]) -> list[ComparedRun]:
    """Reads runs, by the names that tell them apart.

    Args:
      said: name -> the digest of what its recipe says of evaluation (`pipeline.inputs`); a run
        whose recipe cannot be read has none.
    """
    return [_read(name, epath.Path(place), said.get(name, "")) for name, place in named.items()]


def is_run(folder: epath.Path) -> bool:
    """Tells whether a folder is that of a run: it has a recipe, or notes of steps."""
    return (folder / "recipe.yaml").exists() or (folder / "steps").is_dir()


def _read(name: str, path: epath.Path, said: str) -> ComparedRun:
    problems: list[str] = []
    whole, cell = pieces.read(path, problems.append), _object(path / places.CELL)
    at = {step: places.place(path, cell, step) for step in places.STEPS}
    notes = {step: _object(lies.parent / "steps" / f"{step}.json") for step, lies in at.items()}
    unread = _unread(at["evaluate"] / "after.json", whole, notes["evaluate"], problems)
    if unread and unread not in problems:
        problems.append(unread)
    items = _changed_items(at["evaluate"], notes["evaluate"])
    problems += (f"{path}: is not what `lrl evaluate` wrote, and is not used" for path in items)
    measured = inside(notes, "evaluate", "inputs").get("evaluate")
    measured_time = goodput.measure(whole.events, whole.metrics)
    whole = dataclasses.replace(whole, metrics=thinned(whole.metrics))
    return ComparedRun(
        name, path, whole, notes, tuple(dict.fromkeys(problems)), unread,
        wall=measured_time.wall if measured_time else whole.seconds.get("train"),
        said=not (said and measured) or said == measured, cell=cell, changed=items,
    )  # fmt: skip


def thinned(records: Sequence[Json], most: int = RECORDS) -> list[Json]:
    """Returns the records of training as means over some steps of one stage, `most` or a few more.

    Each keeps what its last record says, but for losses and bits per byte, which are means. A long
    training so takes as little memory as a short one, and thirty of them fit.
    """
    width = -(-len(records) // most) if records else 1
    out: list[Json] = []
    for _, of_stage in itertools.groupby(records, key=lambda record: record.get("stage")):
        steps = [*of_stage]
        out += [_mean(steps[i : i + width]) for i in range(0, len(steps), width)]
    return out


def _mean(records: Sequence[Json]) -> Json:
    """Returns the last of some records with the means of their losses."""
    if len(records) == 1:
        return records[0]
    names = dict.fromkeys(name for record in records for name in record.get("bits_per_byte") or {})
    bits = {name: _average((r.get("bits_per_byte") or {}).get(name) for r in records)
            for name in names}  # fmt: skip
    means = {key: _average(r.get(key) for r in records) for key in ("loss", "tokens_per_second")}
    return {**records[-1], **means, "bits_per_byte": bits}


def _average(values: Iterable[Any]) -> float | None:
    numbers = [x for value in values if (x := number(value)) is not None]
    return statistics.fmean(numbers) if numbers else None


def _object(path: epath.Path) -> Json:
    """Returns a JSON object; {} where there is none, or where `pieces.read` says what is wrong."""
    try:
        return inside(storage.read_json(path)) if path.exists() else {}
    except (ValueError, OSError):
        return {}


def _unread(file: epath.Path, whole: Pieces, note: Json, problems: list[str]) -> str:
    """Returns why a run has no scores that can be used; "" if it has; adds what is wrong."""
    if not file.exists():
        return CUT_SHORT if note and not note.get("finished") else NOT_EVALUATED
    if any(str(file) in problem for problem in problems):
        return DAMAGED
    if problem := malformed(whole.after):
        problems.append(f"{file}: {problem}")
        return DAMAGED
    written = inside(note, "outputs").get(file.name)
    if written and written != storage.sha256(file):
        return CHANGED
    return ""


def _changed_items(folder: epath.Path, note: Json) -> list[epath.Path]:
    """Returns the files of items that are there and are not what the note of their step says."""
    written = {folder / name: sha256 for name, sha256 in inside(note, "outputs").items()
               if str(name).startswith("items/")}  # fmt: skip
    return [
        path for path, sha256 in written.items()
        if path.exists() and storage.sha256(path) != sha256
    ]  # fmt: skip


def malformed(results: Any) -> str:
    """Returns what is wrong with the form of before.json or after.json; "" if nothing is.

    >>> malformed({"translation": {"en_ko": [1]}})
    'translation.en_ko: want an object, got list'
    """
    for name, entries in results.items():
        if kinds.find(name) is None:
            if name in SECTIONS and not isinstance(entries, Mapping):
                return f"{name}: want an object, got {type(entries).__name__}"
            continue
        if not isinstance(entries, Mapping):
            return f"{name}: want an object, got {type(entries).__name__}"
        for entry, result in entries.items():
            if not isinstance(result, Mapping):
                return f"{name}.{entry}: want an object, got {type(result).__name__}"
    try:
        for _ in kinds.comparable_scores(results):
            pass
    except (AttributeError, KeyError, TypeError, ValueError) as e:
        return f"holds no scores ({type(e).__name__}: {e})"
    return ""


def inside(value: Any, *keys: str) -> Mapping[str, Any]:
    """Returns the object at a path of some JSON; {} where there is none.

    >>> inside({"facts": {"seconds": 3}}, "facts"), inside({"facts": 7}, "facts", "seconds")
    ({'seconds': 3}, {})
    """
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}
