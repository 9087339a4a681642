"""Cells of a study share the steps whose inputs are equal; what is finished is not done again."""

from collections import Counter
import json
from pathlib import Path

import pytest
from small_world import BASE, write_texts

from lrl_jax.devices.lease import InUseError
from lrl_jax.devices.signals import Stopped
from lrl_jax.pipeline.study import cells as study
from lrl_jax.pipeline.study.cells import Cell
from lrl_jax.recipe import file as recipe_file
from lrl_jax.train.loop import Preempted

MADE = {
    "vocab": "tokenizer.json", "init": "config.json", "data": "datasets.json",
    "train": "checkpoints/1/meta/metadata", "evaluate": "after.json",
}  # fmt: skip
RATE = "train.stages.0.learn.0.schedule.peak"


@pytest.fixture
def recipe(tmp_path):
    """Returns a function that reads the small base with overrides."""
    write_texts(tmp_path)
    path = tmp_path / "base.yaml"
    path.write_text(BASE.format(folder=tmp_path))
    return lambda *overrides: recipe_file.load(str(path), overrides)


class Steps:
    """Stands for the five steps: each writes a file, and counts for which cell it was done.

    Attributes:
      fails: (step, cell) -> the error with which it ends.
    """

    def __init__(self):
        self.done: list[tuple[str, str]] = []
        self.fails: dict[tuple[str, str], BaseException] = {}

    def works(self):
        return {step: lambda run, step=step: self._do(run, step) for step in study.MEASURED}

    def _do(self, run, step):
        if error := self.fails.get((step, run.recipe.name)):
            raise error
        self.done.append((step, run.recipe.name))
        # what a step makes depends on the recipe, as with the real ones
        made = {"seed": run.recipe.seed, "train": run.recipe.train.model_dump(mode="json")}
        path = run.at(step) / MADE[step]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(made if step == "train" else made["seed"]))

    def times(self):
        return dict(Counter(step for step, _ in self.done))


def grid(recipe, rates=("1.0e-2", "2.0e-2"), seeds=(0, 1)):
    return [
        Cell(f"{rate}-{seed}", recipe(f"{RATE}={rate}", f"seed={seed}"), {"seed": seed})
        for rate in rates
        for seed in seeds
    ]


def test_a_step_is_done_once_for_all_cells_whose_inputs_are_equal(recipe, tmp_path):
    steps = Steps()
    got = [*study.perform_cells(tmp_path / "study", grid(recipe), works=steps.works())]
    assert [outcome.cell.name for outcome in got] == [
        "1.0e-2-0",
        "1.0e-2-1",
        "2.0e-2-0",
        "2.0e-2-1",
    ]
    # one text, two seeds, and two rates for each of them
    want = {"vocab": 1, "init": 2, "data": 2, "train": 4, "evaluate": 4}
    assert steps.times() == want
    assert study.times_done(tmp_path / "study") == want
    first, _, third, _ = got
    assert first.run.at("init") == third.run.at("init")
    assert first.run.at("train") != third.run.at("train")
    assert json.loads((third.run.at("init") / "config.json").read_text()) == 0
    record = json.loads((tmp_path / "study/2.0e-2-0/cell.json").read_text())
    assert record["facts"] == {"seed": 0}
    assert (tmp_path / "study" / record["steps"]["train"]) == Path(third.run.at("train"))


def test_seeds_never_share_a_training_though_all_before_it_is_equal(recipe, tmp_path):
    def work(step):
        def write(run):
            path = run.at(step) / MADE[step]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("the same")  # as packed rows are, whatever the seed that orders them

        return write

    works = {step: work(step) for step in study.MEASURED}
    cells = [Cell(f"{seed}", recipe(f"seed={seed}")) for seed in (0, 1)]
    one, two = study.perform_cells(tmp_path / "s", cells, works=works)
    assert not one.error + two.error
    assert one.run.at("train") != two.run.at("train")


def test_cells_that_train_alike_share_the_training_too(recipe, tmp_path):
    steps = Steps()
    cells = [Cell("a", recipe()), Cell("b", recipe("evaluate.max_lines=7"))]
    assert not any(o.error for o in study.perform_cells(tmp_path / "s", cells, works=steps.works()))
    assert (steps.times()["train"], steps.times()["evaluate"]) == (1, 2)


def test_a_finished_study_does_nothing_and_yields_every_cell(recipe, tmp_path):
    steps = Steps()
    for _ in range(2):
        got = [*study.perform_cells(tmp_path / "study", grid(recipe), works=steps.works())]
        assert [outcome.error for outcome in got] == [""] * 4
    assert steps.times()["train"] == 4
    assert got[3].run.at("evaluate").exists()


def test_a_cell_that_fails_is_named_and_the_next_call_tries_it_again(recipe, tmp_path):
    steps = Steps()
    steps.fails["train", "1.0e-2-1"] = ValueError("no rows")
    got = [*study.perform_cells(tmp_path / "study", grid(recipe), works=steps.works())]
    assert [outcome.error for outcome in got] == ["", "no rows", "", ""]
    record = json.loads((tmp_path / "study/1.0e-2-1/cell.json").read_text())
    assert record["error"] == "no rows"
    assert "ValueError" in record["traceback"]
    assert study.times_done(tmp_path / "study")["train"] == 3
    steps.fails.clear()
    got = [*study.perform_cells(tmp_path / "study", grid(recipe), works=steps.works())]
    assert [outcome.error for outcome in got] == [""] * 4
    assert steps.times()["train"] == 4


def test_a_shared_step_that_fails_is_tried_once_a_call(recipe, tmp_path):
    steps = Steps()
    steps.fails["vocab", "1.0e-2-0"] = ValueError("no pieces")
    got = [*study.perform_cells(tmp_path / "study", grid(recipe), works=steps.works())]
    assert {outcome.error for outcome in got} == {"no pieces"}
    assert steps.done == []


@pytest.mark.parametrize("stop", [Stopped(), Preempted(3)], ids=["in a step", "in training"])
def test_a_stop_ends_the_study_and_the_next_call_goes_on_where_it_was(recipe, tmp_path, stop):
    steps = Steps()
    steps.fails["train", "2.0e-2-0"] = stop
    cells = study.perform_cells(tmp_path / "study", grid(recipe), works=steps.works())
    assert [next(cells).error, next(cells).error] == ["", ""]
    with pytest.raises(type(stop)):
        next(cells)
    assert not (tmp_path / "study/lock.json").exists()
    steps.fails.clear()
    assert len([*study.perform_cells(tmp_path / "study", grid(recipe), works=steps.works())]) == 4
    assert steps.times() == {"vocab": 1, "init": 2, "data": 2, "train": 4, "evaluate": 4}


def test_a_recipe_that_changed_trains_in_a_place_of_its_own(recipe, tmp_path):
    steps = Steps()
    places = set()
    for rate in ("1.0e-2", "5.0e-2"):
        cell = Cell("a", recipe(f"{RATE}={rate}"))
        (got,) = study.perform_cells(tmp_path / "study", [cell], works=steps.works())
        places.add(got.run.at("train"))
    assert len(places) == 2
    assert steps.times() == {"vocab": 1, "init": 1, "data": 1, "train": 2, "evaluate": 2}


def test_a_study_belongs_to_one_process(recipe, tmp_path):
    cells = study.perform_cells(tmp_path / "study", grid(recipe), works=Steps().works())
    next(cells)
    with pytest.raises(InUseError):
        next(study.perform_cells(tmp_path / "study", grid(recipe), works=Steps().works()))


@pytest.mark.parametrize(
    ("names", "message"),
    [(("a", "a"), "2 cells are called a"), (("shared",), "not shared"), (("a/b",), "'a/b'")],
)
def test_names_that_are_no_folders_of_their_own_are_refused(recipe, tmp_path, names, message):
    with pytest.raises(ValueError, match=message):
        study.perform_cells(tmp_path, [Cell(name, recipe()) for name in names])
