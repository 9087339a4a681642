"""Computes the plan of a run: which row of which dataset is read as global row g.

    mix = PlanStage("mix", 800, {"ko": 3, "en": 1})
    plan = Plan(sizes={"ko": 5_000, "en": 2_000}, stages=(mix,))
    dataset_ids, row_ids = plan(np.arange(0, 8))

A plan is a pure function that takes the same time for every row, so the state of the data is one
integer, the next global row, whatever the batch size and the number of hosts. Within a stage the
datasets alternate evenly: a row of a dataset with the share s is due every 1 / s rows, and rows are
read in the order they are due. Each epoch of a dataset has a permutation of its own, and a stage
begins where the one before it stopped in each dataset.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import functools
import json
import math

import numpy as np

from lrl_jax.data.feed.permutation import epoch_seed, permute

BLOCK = 4096  # rows computed at a time; their order does not depend on it
GOLDEN = (math.sqrt(5) - 1) / 2  # its multiples, modulo 1, spread evenly: used for first due rows
VERSION = 2  # of the order of rows; frozen by test vectors
FEW = 4  # most datasets named in a sentence


@dataclasses.dataclass(frozen=True)
class PlanStage:
    """Holds a stretch of global rows on one mixture.

    Weights are shares of rows and need not sum to one. Where they are whole numbers that sum to
    `rows`, exactly so many rows of each dataset are read.
    """

    name: str
    rows: int
    weights: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Maps each global row to a dataset and a row of it.

    Attributes:
      sizes: dataset name -> how many rows it has.
      stages: read one after another.
      seed: chooses the permutations.
      fingerprints: dataset name -> fingerprint of its manifest, to notice changed data.
      contents: dataset name -> digest of its rows, which stay what they are where only something is
        said otherwise of them; empty in plans of earlier versions.
      ordered: datasets that are not permuted; their rows are places in an order of their own.
    """

    sizes: Mapping[str, int]
    stages: tuple[PlanStage, ...]
    seed: int = 0
    fingerprints: Mapping[str, str] = dataclasses.field(default_factory=dict)
    ordered: tuple[str, ...] = ()
    contents: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, size in self.sizes.items():
            if size < 1:
                raise ValueError(f"dataset {name!r} has {size} rows; want at least 1")
        if not self.stages:
            raise ValueError("a plan needs at least one stage")
        for stage in self.stages:
            where = f"stage {stage.name!r}"
            if stage.rows < 1:
                raise ValueError(f"{where} has {stage.rows} rows; want at least 1")
            for name, weight in stage.weights.items():
                if name not in self.sizes:
                    raise ValueError(f"{where} mixes {name!r}; there are {', '.join(self.sizes)}")
                if not 0 <= weight < float("inf"):
                    raise ValueError(f"{where}: the weight of {name!r} is {weight}; want 0 or more")
            total = math.fsum(stage.weights.values())
            if not total > 0:
                raise ValueError(f"the weights of {where} sum to {total}; want more than 0")

    @property
    def names(self) -> tuple[str, ...]:
        """Returns the names of the datasets; a dataset's id is its place among them."""
        return tuple(self.sizes)

    @functools.cached_property
    def total(self) -> int:
        """Returns how many global rows there are."""
        return sum(stage.rows for stage in self.stages)

    @property
    def spans(self) -> Iterator[tuple[PlanStage, int, int]]:
        """Yields each stage with its first global row and the one after its last."""
        end = 0
        for stage in self.stages:
            end += stage.rows
            yield stage, end - stage.rows, end

    def __call__(self, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the dataset id of each global row in `g`, and which row of that dataset it is."""
        datasets, taken = self.order(g)
        sizes = np.array([*self.sizes.values()])[datasets]
        epochs, places = np.divmod(taken, sizes)
        pairs, which = np.unique(datasets + epochs * len(self.sizes), return_inverse=True)
        seeds = [
            epoch_seed(self.seed, self.names[pair % len(self.sizes)], pair // len(self.sizes))
            for pair in pairs.tolist()
        ]
        rows = permute(places, sizes, np.array(seeds, np.uint64)[which])
        is_ordered = np.array([name in self.ordered for name in self.sizes])[datasets]
        return datasets, np.where(is_ordered, places, rows)

    def order(self, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the dataset id of each global row, and how many rows of that come before it."""
        g = np.atleast_1d(np.asarray(g, np.int64))
        if g.size and (g.min() < 0 or g.max() >= self.total):
            raise ValueError(
                f"rows {g.min()} to {g.max()} are asked for; the plan has rows 0 to "
                f"{self.total - 1}: train fewer steps, or add steps to the last stage"
            )
        datasets, taken = np.empty_like(g), np.empty_like(g)
        stages = self.stage_at(g)
        for s in np.unique(stages):
            schedule = self._schedules[s]
            numbers, offsets = np.divmod(g - schedule.start, BLOCK)
            for number in np.unique(numbers[stages == s]):
                here = (stages == s) & (numbers == number)
                member, k, _ = _block(schedule, int(number))
                datasets[here] = schedule.members[member[offsets[here]]]
                taken[here] = schedule.before[datasets[here]] + k[offsets[here]]
        return datasets, taken

    def stage_at(self, g: np.ndarray | int) -> np.ndarray:
        """Returns the number of the stage that each global row belongs to."""
        starts = [start for _, start, _ in self.spans]
        return np.searchsorted(starts, g, side="right") - 1

    def consumed(self, g: int) -> dict[str, int]:
        """Returns how many rows of each dataset come before global row `g`."""
        if not 0 <= g <= self.total:
            raise ValueError(f"row {g} is not in the plan, which ends at row {self.total}")
        schedule = self._schedules[int(self.stage_at(g))]
        counts = schedule.before + schedule.within(g - schedule.start)
        return dict(zip(self.names, counts.tolist(), strict=True))

    def epochs(self, g: int) -> dict[str, float]:
        """Returns how often each dataset has been read before global row `g`."""
        return {name: count / self.sizes[name] for name, count in self.consumed(g).items()}

    @functools.cached_property
    def _schedules(self) -> list["_StageSchedule"]:
        before, schedules = np.zeros(len(self.sizes), np.int64), []
        for stage, start, _ in self.spans:
            schedules.append(_StageSchedule(stage.weights, self.names, start, before))
            before = before + schedules[-1].within(stage.rows)
        return schedules

    def to_json(self) -> str:
        """Returns the plan as JSON; `from_json` reads an equal plan from it."""
        return json.dumps({"version": VERSION, **dataclasses.asdict(self)}, indent=1) + "\n"

    @staticmethod
    def from_json(text: str) -> "Plan":
        """Reads a plan that `to_json` wrote; raises ValueError for one of another version."""
        try:
            fields = json.loads(text)
            version = fields.pop("version")
            if version != VERSION:
                raise ValueError(
                    f"of version {version}, which orders rows in another way than version "
                    f"{VERSION}; continue with the version of lrl_jax that wrote it"
                )
            stages = tuple(PlanStage(**stage) for stage in fields.pop("stages"))
            ordered = tuple(fields.pop("ordered"))
            return Plan(stages=stages, ordered=ordered, **fields)
        except (ValueError, TypeError, KeyError, AttributeError) as e:
            raise ValueError(f"not a plan: {e}; run `lrl data` to write it again") from None


def taken(stage: PlanStage) -> dict[str, int]:
    """Returns how many rows of each dataset a stage reads."""
    names = tuple(stage.weights)
    schedule = _StageSchedule(stage.weights, names, 0, np.zeros(len(names), np.int64))
    return dict(zip(names, schedule.within(stage.rows).tolist(), strict=True))


# ---------------------------------------------------------------------------- edited plans
def compatible(old: Plan, new: Plan, next_row: int) -> tuple[bool, str]:
    """Tells whether a run that read `old` up to `next_row` can continue with `new`; if not, why.

    It can if every dataset continues where it stopped: stages may be edited from `next_row` on,
    but not before.
    """
    if next_row == 0:
        return True, ""
    if next_row > new.total:
        return False, (
            f"row {next_row} is past the end of the new plan ({new.total} rows); "
            "add steps to its last stage"
        )
    if old.seed != new.seed:
        return False, f"the seed was {old.seed} and is {new.seed}; that reorders every dataset"
    was, now = old.consumed(next_row), new.consumed(next_row)
    for name in {**was, **now}:
        before, after = was.get(name, 0), now.get(name, 0)
        if before != after:
            return False, (
                f"{before} rows of {name!r} have been read, where the new plan has {after}: "
                f"{_edited(old, new, next_row)}. What was read before row {next_row} may not "
                "change, what is read later may: let the stage end at that row as it was, and add "
                "another stage after it"
            )
        if before and not _same_rows(old, new, name):
            return False, f"{name!r} has other rows than those already read from; restore its data"
    return True, ""


def changes(old: Plan, new: Plan, next_row: int) -> list[str]:
    """Lists what differs from `next_row` on between two plans that are compatible there."""
    was, now = _future(old, next_row), _future(new, next_row)
    lines = [f"stage {name!r} is gone" for name in was if name not in now]
    for name, (stage, end) in now.items():
        if name not in was:
            shares = _few([f"{n} {s:.1%}" for n, s in _shares(stage).items()])
            lines.append(f"stage {name!r} is new, up to row {end}: {shares}")
            continue
        before, end_before = was[name]
        if end != end_before:
            lines.append(f"stage {name!r} ended at row {end_before}, ends at row {end}")
        if moved := _moved(before, stage):
            lines.append(f"stage {name!r}: {moved}")
    for name in new.names:
        if name not in old.sizes:
            lines.append(f"dataset {name!r} is new")
        elif not _same_rows(old, new, name):
            lines.append(f"dataset {name!r} has other rows; none of it has been read")
    return lines


def _same_rows(old: Plan, new: Plan, name: str) -> bool:
    """Tells whether a dataset has the rows it had: packed from the same, or equal themselves."""
    if old.sizes[name] != new.sizes[name] or (name in old.ordered) != (name in new.ordered):
        return False
    content = old.contents.get(name)
    equal = bool(content) and content == new.contents.get(name)
    return equal or old.fingerprints.get(name) == new.fingerprints.get(name)


def _future(plan: Plan, next_row: int) -> dict[str, tuple[PlanStage, int]]:
    return {stage.name: (stage, end) for stage, _, end in plan.spans if end > next_row}


def _edited(old: Plan, new: Plan, next_row: int) -> str:
    """Describes the first stage read before `next_row` that differs between two plans."""
    for (was, start, end), (now, _, end_now) in zip(old.spans, new.spans, strict=False):
        where = f"stage {was.name!r}, from row {start} on"
        if moved := _moved(was, now):
            return f"{where}: {moved}"
        if end != end_now and min(end, end_now) < next_row:
            return f"{where}, had {was.rows} rows and has {now.rows}"
    return "it has other stages"


def _moved(was: PlanStage, now: PlanStage) -> str:
    """Describes which shares differ between two stages; '' where none does."""
    before, after = _shares(was), _shares(now)
    moved = [
        f"the share of {name!r} was {before.get(name, 0):.6g}, is {after.get(name, 0):.6g}"
        for name in {**before, **after}
        if not math.isclose(before.get(name, 0), after.get(name, 0), rel_tol=1e-9)
    ]
    return _few(moved)


def _shares(stage: PlanStage) -> dict[str, float]:
    whole = math.fsum(stage.weights.values())
    return {name: weight / whole for name, weight in stage.weights.items() if weight}


def _few(words: Sequence[str]) -> str:
    more = [f"and {len(words) - FEW} more"] if len(words) > FEW else []
    return ", ".join([*words[:FEW], *more])


# ---------------------------------------------------------------------------- stages
class _StageSchedule:
    """Computes when a stage reads which rows: a dataset's row k is due at (k + phase) * every.

    Due times are rows of the stage. The schedule has no end, so a stage that is made longer keeps
    the rows it has.

    Attributes:
      start: the stage's first global row.
      before: rows of each dataset consumed before the stage.
      members: ids of the datasets that are read, which are their places in `names`.
      every: of each member, how many rows of the stage lie between two of its rows.
      phase: of each member, when its first row is due, as a share of `every`.
    """

    def __init__(
        self, weights: Mapping[str, float], names: Sequence[str], start: int, before: np.ndarray
    ):
        self.start, self.before = start, before
        # sorted by weight, so that datasets of similar weights get phases far apart
        read = sorted((name for name in weights if weights[name]), key=lambda n: (-weights[n], n))
        ids = {name: i for i, name in enumerate(names)}
        self.members = np.array([ids[name] for name in read])
        self.phase = (np.arange(len(read)) + 0.5) * GOLDEN % 1
        whole = math.fsum(weights[name] for name in read)
        with np.errstate(over="ignore"):  # infinite for a tiny weight: never due
            self.every = whole / np.array([weights[name] for name in read])

    def within(self, rows: int) -> np.ndarray:
        """Returns how many rows of each dataset are among the first `rows` rows of the stage."""
        out = np.zeros(len(self.before), np.int64)
        if rows:
            number, last = divmod(rows - 1, BLOCK)
            member, _, before = _block(self, number)
            more = np.bincount(member[: last + 1], minlength=len(self.members))
            out[self.members] = before + more
        return out

    def due(self, when: int) -> np.ndarray:
        """Returns how many rows of each member are due before row `when`; by rounding, 1 off."""
        return np.maximum(np.ceil(when / self.every - self.phase), 0).astype(np.int64)


@functools.lru_cache(maxsize=64)
def _block(schedule: _StageSchedule, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Computes one block of a stage's rows.

    Returns:
      The member that each row of the block is from, how many rows of that member come before it in
      the stage, and how many rows of each member come before the block.
    """
    first, members = number * BLOCK, len(schedule.members)
    slack = 2 * members + 1  # the most by which the counts of `due` can be wrong in all
    low, high = schedule.due(first - slack), schedule.due(first + BLOCK + slack)
    counts = high - low
    member = np.repeat(np.arange(len(counts)), counts)
    k = np.arange(len(member)) - np.repeat(np.cumsum(counts) - counts - low, counts)
    due = (k + schedule.phase[member]) * schedule.every[member]
    order = np.argsort(due, kind="stable")
    earlier, order = np.split(order, [first - low.sum()])
    before = low + np.bincount(member[earlier], minlength=members)
    return member[order[:BLOCK]], k[order[:BLOCK]], before
