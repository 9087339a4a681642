"""Measures whether translation aligns the middle layers of the sample's model, over several seeds.

python -m scripts.alignment --base runs/quickstart_base/export --seeds 0,1,2 --steps 200

From each seed an English model learns Korean from texts of both languages that stand apart. Then it
is trained on, once with translation pairs and once, as a control, without them. Prints how every
layer changed in both, with 95 % intervals over seeds (Student's t), and writes the reports of the
runs, which have the figures. What is finished is not done again.
"""

import argparse
import json
from typing import Any

import numpy as np
from scipy import stats

from lrl_jax.pipeline.perform import perform
from lrl_jax.pipeline.run import Run, locked
from lrl_jax.pipeline.steps import STEPS, report
from lrl_jax.recipe import file as recipe_file

MEASURES = ("gap", "mexa", "accuracy_forward", "accuracy_backward", "cka")
LEARN = [{"match": ".*", "schedule": {"peak": 2.5e-3, "warmup": 20, "final": 0.03}}]
NEW_ROWS = [
    {"match": "embed", "rows": "new", "schedule": {"peak": 1e-2, "kind": "constant", "warmup": 5}},
    {"match": ".*", "schedule": "frozen"},
]
APART = {"korean": 0.25, "english": 0.15, "sentences_korean": 0.3, "sentences_english": 0.3}
PAIRS = {"translation": 0.7, "sentences_korean": 0.15, "sentences_english": 0.15}
SETTINGS = {
    "train.batch_size": 16,
    "train.samples": [],
    "evaluate.translation": {},
    "evaluate.baseline_text": {},
}


def make_run(name: str, base: str, seed: int, shared: Run | None, **settings: Any) -> Run:
    """Returns a run of the quickstart's recipe, which reads vocabulary and rows of `shared`."""
    given = {"name": name, "base.model": base, "seed": seed, **SETTINGS, **settings}
    overrides = [f"{key.replace('__', '.')}={json.dumps(value)}" for key, value in given.items()]
    recipe = recipe_file.load("configs/quickstart.yaml", overrides)
    return Run(recipe, {step: shared.at(step) for step in ("vocab", "data")} if shared else {})


def carry_out(run: Run, *steps: str) -> None:
    """Performs the steps of a run that are not done yet."""
    with locked(run):
        for step in steps:
            perform(run, step, STEPS[step])


def train(base: str, seed: int, steps: int, name: str) -> None:
    """Trains and measures one of two models of a seed, "pairs" or "apart", from the same start."""
    first = {"name": "align", "steps": 40, "mixture": {"korean": 0.8, "english": 0.2}}
    then = {"name": "continue", "steps": steps, "mixture": APART, "learn": LEARN}
    stages = [{**first, "learn": NEW_ROWS}, then]
    start = make_run(f"alignment_start_{seed}", base, seed, None, train__stages=stages)
    carry_out(start, "vocab", "init", "data", "train")
    mixture = PAIRS if name == "pairs" else APART
    stage = {"name": "tune", "steps": steps, "mixture": mixture, "learn": LEARN}
    run = make_run(
        f"alignment_{name}_{seed}", base, seed, start,
        train__stages=[stage], init__weights={"run": str(start.folder)},
    )  # fmt: skip
    carry_out(run, "init", "train", "evaluate")
    report(run)


# ---------------------------------------------------------------------------- tables
def measured(base: str, name: str, when: str, seed: int) -> dict[str, Any]:
    """Returns the scores of every pooling, before or after the training of a run."""
    folder = make_run(f"alignment_{name}_{seed}", base, seed, None).folder
    results = json.loads((folder / "evaluate" / f"{when}.json").read_text())
    return results["alignment"]["eng_kor"]["poolings"]


def change(before_SL: np.ndarray, after_SL: np.ndarray) -> list[str]:
    """Returns the mean change of each layer over seeds, and its 95 % interval."""
    changes_SL = after_SL - before_SL
    seeds = len(changes_SL)
    reach_L = stats.t.ppf(0.975, seeds - 1) * changes_SL.std(axis=0, ddof=1) / np.sqrt(seeds)
    return [
        f"{mean:+.3f} ({mean - reach:+.3f} to {mean + reach:+.3f})"
        for mean, reach in zip(changes_SL.mean(axis=0), reach_L, strict=True)
    ]


def print_tables(base: str, name: str, seeds: list[int]) -> None:
    """Prints a table for each pooling and measure; its last row is the mean of middle layers."""
    results = {
        when: [measured(base, name, when, seed) for seed in seeds] for when in ("before", "after")
    }
    for pooling in ("weighted", "mean", "last"):
        for key in MEASURES:
            before_SL, after_SL = (
                np.array([column(of_seed[pooling], key) for of_seed in of_seeds], float)
                for of_seeds in results.values()
            )
            print(f"\n{name}: {key}, {pooling}: layer | before | after | change")
            changes = change(before_SL, after_SL)
            labels = [*range(len(changes) - 1), "middle"]
            for row in zip(labels, before_SL.mean(0), after_SL.mean(0), changes, strict=True):
                print("{} | {:.3f} | {:.3f} | {}".format(*row))


def column(scores: dict[str, Any], key: str) -> list[float | None]:
    """Returns a measure of every layer, and its mean over the middle layers."""
    values = [layer[key] for layer in scores["layers"]]
    first, last = scores["middle"]["layers"]
    return [*values, float(np.mean(values[first : last + 1]))]


def main() -> None:
    """Trains what is not trained yet, and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--base", default="runs/quickstart_base/export", help="the English model")
    parser.add_argument("--seeds", default="0,1,2", help="two at least (default: 0,1,2)")
    parser.add_argument("--steps", type=int, default=200, help="of each training (default: 200)")
    args = parser.parse_args()
    seeds = [int(seed) for seed in args.seeds.split(",")]
    if len(seeds) < 2:
        parser.error("an interval over seeds wants two of them at least")
    for name in ("pairs", "apart"):
        for seed in seeds:
            train(args.base, seed, args.steps, name)
        print_tables(args.base, name, seeds)


if __name__ == "__main__":
    main()
