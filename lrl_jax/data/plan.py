"""The plan of a run: which row of which dataset is global row g. Pure, O(1), nothing to save.

    plan = Plan(sizes={"ko": 5_000, "en": 2_000}, stages=(Stage("mix", 800, {"ko": 3, "en": 1}),))
    dataset_ids, row_ids = plan(np.arange(0, 8))

The state of the data is one integer, the next global row: any batch size, any number of hosts.
Rows are equally long, so a weight is a share of tokens. Within a stage the datasets alternate
evenly; each dataset is read in a fresh permutation every epoch, and goes on across stages.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import hashlib
import json

import numpy as np

from lrl_jax import recipe
from lrl_jax.data.rows import Manifest

PERIOD = 10_000  # rows after which a stage's interleaving repeats; shares are multiples of 1/PERIOD
ROUNDS = 6  # of the Feistel network; 4 suffice with random functions (Luby and Rackoff 1988)
VERSION = 1  # of the order of rows; frozen by test vectors


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stretch of global rows on one mixture; weights need not sum to one."""

    name: str
    rows: int
    weights: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Global row -> (dataset, row of it).

    Attributes:
      sizes: dataset name -> how many rows it has.
      seed: of the permutations.
      fingerprints: dataset name -> fingerprint of its manifest, to notice changed data.

    Raises:
      ValueError: an unknown dataset, a bad weight, or one too small for any row.
    """

    sizes: Mapping[str, int]
    stages: tuple[Stage, ...]
    seed: int = 0
    fingerprints: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, size in self.sizes.items():
            if size < 1:
                raise ValueError(f"dataset {name!r} has {size} rows; want at least 1")
        if not self.stages:
            raise ValueError("a plan needs at least one stage")
        for stage in self.stages:
            _check(stage, self.sizes)

    @property
    def names(self) -> tuple[str, ...]:
        """Dataset names; a dataset id is a place in here."""
        return tuple(self.sizes)

    @functools.cached_property
    def total(self) -> int:
        """How many global rows there are."""
        return sum(stage.rows for stage in self.stages)

    def __call__(self, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The dataset id and the row in that dataset of each global row in `g`."""
        datasets, taken = self.order(g)
        sizes = np.array([*self.sizes.values()])[datasets]
        epochs, rows = np.divmod(taken, sizes)
        pairs, which = np.unique(np.stack([datasets, epochs]), axis=1, return_inverse=True)
        seeds = [epoch_seed(self.seed, self.names[d], e) for d, e in pairs.T.tolist()]
        return datasets, permute(rows, sizes, np.array(seeds, np.uint64)[which])

    def order(self, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The dataset id of each global row, and how many rows of it come before."""
        g = np.atleast_1d(np.asarray(g, np.int64))
        if g.size and (g.min() < 0 or g.max() >= self.total):
            raise ValueError(
                f"rows {g.min()} to {g.max()} are asked for; the plan has rows 0 to "
                f"{self.total - 1}: train fewer steps, or add steps to the last stage"
            )
        datasets, taken = np.empty_like(g), np.empty_like(g)
        for s in np.unique(self.stage_at(g)):
            mine = self.stage_at(g) == s
            part = self._compiled[s]
            periods, at = np.divmod(g[mine] - part.start, PERIOD)
            chosen = part.pattern[at]
            datasets[mine] = chosen
            taken[mine] = part.before[chosen] + periods * part.counts[chosen] + part.ranks[at]
        return datasets, taken

    def stage_at(self, g: np.ndarray | int) -> np.ndarray:
        """The stage each global row belongs to."""
        return np.searchsorted([part.start for part in self._compiled], g, side="right") - 1

    def consumed(self, g: int) -> dict[str, int]:
        """How many rows of each dataset come before global row `g`."""
        if not 0 <= g <= self.total:
            raise ValueError(f"row {g} is not in the plan, which ends at row {self.total}")
        part = self._compiled[int(self.stage_at(g))]
        counts = part.before + part.within(g - part.start)
        return dict(zip(self.names, counts.tolist(), strict=True))

    def epochs(self, g: int) -> dict[str, float]:
        """How often each dataset has been read before global row `g`."""
        return {name: count / self.sizes[name] for name, count in self.consumed(g).items()}

    @functools.cached_property
    def _compiled(self) -> list["_Part"]:
        start, before, parts = 0, np.zeros(len(self.sizes), np.int64), []
        for stage in self.stages:
            parts.append(_Part.of(stage, self.names, start, before))
            before = before + parts[-1].within(stage.rows)
            start += stage.rows
        return parts

    # ------------------------------------------------------------------------ as JSON
    def to_json(self) -> str:
        """The plan as text; `from_json` gives an equal plan."""
        return json.dumps({"version": VERSION, **dataclasses.asdict(self)}, indent=1) + "\n"

    @staticmethod
    def from_json(text: str) -> "Plan":
        """Reads a plan.

        Raises:
          ValueError: not a plan, or one of another version.
        """
        try:
            fields = json.loads(text)
            version = fields.pop("version")
            stages = tuple(Stage(**stage) for stage in fields.pop("stages"))
        except (ValueError, TypeError, KeyError, AttributeError) as e:
            raise ValueError(f"not a plan ({e}); run `lrl data` to write it again") from None
        if version != VERSION:
            raise ValueError(f"a plan of version {version}; this program reads {VERSION}")
        return Plan(stages=stages, **fields)

    @property
    def fingerprint(self) -> str:
        """Changes when any global row might."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def from_recipe(
    stages: Sequence[recipe.Stage], batch_size: int, manifests: Mapping[str, Manifest], seed: int
) -> Plan:
    """The plan of a recipe's stages over its packed datasets."""
    return Plan(
        sizes={name: manifest.rows for name, manifest in manifests.items()},
        stages=tuple(
            Stage(stage.name, stage.steps * batch_size, dict(stage.mixture)) for stage in stages
        ),
        seed=seed,
        fingerprints={name: manifest.fingerprint for name, manifest in manifests.items()},
    )


def compatible(old: Plan, new: Plan, next_row: int) -> tuple[bool, str]:
    """Whether a run that read `old` up to `next_row` can go on with `new`; if not, why.

    Yes, if every dataset goes on where it stopped: the future may be edited, the past may not.
    """
    if next_row == 0:
        return True, ""
    if next_row > new.total:
        return False, f"row {next_row} is past the end of the new plan ({new.total} rows)"
    if old.seed != new.seed:
        return False, f"the seed was {old.seed} and is {new.seed}; that reorders every dataset"
    was, now = old.consumed(next_row), new.consumed(next_row)
    for name in {**was, **now}:
        before, after = was.get(name, 0), now.get(name, 0)
        if before != after:
            return False, (
                f"{before} rows of {name!r} have been read, where the new plan has {after}; "
                "only stages and weights after the present row may change"
            )
        if before and (old.sizes[name], old.fingerprints.get(name)) != (
            new.sizes[name],
            new.fingerprints.get(name),
        ):
            return False, f"{name!r} has other rows than those already read from; restore its data"
    return True, ""


# ---------------------------------------------------------------------------- permutations
def permute(i: np.ndarray, n: np.ndarray | int, seed: np.ndarray | int) -> np.ndarray:
    """A permutation of 0..n-1, chosen by `seed`, at the places `i`; nothing is stored.

    A balanced Feistel network on the bits of n, its round function splitmix64 (Steele et al.
    2014), walked until the value is below n. `n` and `seed` may differ from place to place.

    >>> permute(np.arange(10), n=10, seed=7).tolist()
    [8, 1, 2, 4, 7, 0, 5, 9, 6, 3]
    """
    out, n, seed = (np.array(x, np.uint64) for x in np.broadcast_arrays(i, n, seed))
    bits = np.array([max(2, int(size - 1).bit_length()) for size in n.tolist()], np.uint64)
    half = (bits + np.uint64(1)) // np.uint64(2)
    todo = np.arange(out.size)
    while todo.size:
        out[todo] = _feistel(out[todo], half[todo], seed[todo])
        todo = todo[out[todo] >= n[todo]]
    return out.astype(np.int64)


@functools.lru_cache(maxsize=4096)
def epoch_seed(seed: int, name: str, epoch: int) -> int:
    """The permutation seed of one epoch of one dataset; other datasets do not move it."""
    digest = hashlib.sha256(f"{seed}/{name}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "little")


def _feistel(x: np.ndarray, half: np.ndarray, seed: np.ndarray) -> np.ndarray:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = x >> half, x & mask
    base = seed * np.uint64(0x9E3779B97F4A7C15)
    for k in range(ROUNDS):
        key = base + np.uint64(k * 0xD1B54A32D192ED03 % (1 << 64))
        left, right = right, left ^ (_mix(right + key) & mask)
    return left << half | right


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


# ---------------------------------------------------------------------------- stages
def _check(stage: Stage, sizes: Mapping[str, int]) -> None:
    where = f"stage {stage.name!r}"
    if stage.rows < 1:
        raise ValueError(f"{where} has {stage.rows} rows; want at least 1")
    total = sum(stage.weights.values())
    for name, weight in stage.weights.items():
        if name not in sizes:
            raise ValueError(f"{where} mixes {name!r}; there are {', '.join(sizes)}")
        if not 0 <= weight < float("inf"):
            raise ValueError(f"{where}: the weight of {name!r} is {weight}; want 0 or more")
        if 0 < weight < total / PERIOD:
            raise ValueError(
                f"{where}: the weight of {name!r} is {weight / total:.2g} of the stage, less than "
                f"one row in {PERIOD}; raise it or set it to 0"
            )
    if not total > 0:
        raise ValueError(f"the weights of {where} sum to {total}; want more than 0")


@dataclasses.dataclass(frozen=True)
class _Part:
    """A stage worked out: what each row of a period is.

    Attributes:
      before: rows of each dataset consumed before the stage.
      counts: rows of each dataset in a period.
      pattern: dataset of each row of a period; `ranks`: how many of it come before in the period.
    """

    start: int
    before: np.ndarray
    counts: np.ndarray
    pattern: np.ndarray
    ranks: np.ndarray

    @staticmethod
    def of(stage: Stage, names: Sequence[str], start: int, before: np.ndarray) -> "_Part":
        weights = np.array([stage.weights.get(name, 0.0) for name in names], np.float64)
        exact = weights / weights.sum() * PERIOD
        counts = np.floor(exact).astype(np.int64)
        largest = np.argsort(counts - exact, kind="stable")  # largest remainders first
        counts[largest[: PERIOD - counts.sum()]] += 1
        datasets = np.repeat(np.arange(len(names)), counts)
        ranks = np.concatenate([np.arange(count) for count in counts])
        when = (ranks + 0.5) / counts[datasets]  # spread each dataset evenly over the period
        order = np.argsort(when, kind="stable")
        return _Part(start, before, counts, datasets[order], ranks[order])

    def within(self, rows: int) -> np.ndarray:
        """How many rows of each dataset the first `rows` rows of the stage take."""
        periods, at = divmod(rows, PERIOD)
        return periods * self.counts + np.bincount(self.pattern[:at], minlength=len(self.counts))
