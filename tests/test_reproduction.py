"""docs/reproduction.md says of each direction what its intervals say."""

import copy
from pathlib import Path

import jinja2
import pytest

from lrl_jax.cli.checks import check
from lrl_jax.data.templates import table
from lrl_jax.pipeline.run import Run
from lrl_jax.pipeline.study import grid
from lrl_jax.recipe import plain_yaml
from scripts.mini import page, verdicts

ROOT = Path(__file__).parents[1]
MINIATURES = sorted((ROOT / "configs/mini").glob("*.yaml"))
LOSS = "after.bits_per_byte.kor_Hang"
CHECK = {
    "says": "Korean, 768 pieces less none",
    "study": "pieces",
    "unit": "bits per byte",
    "terms": [
        {"of": {"vocab.pieces": 768}, "metric": LOSS},
        {"of": {"vocab.pieces": 0}, "metric": LOSS, "weight": -1},
    ],
    "below": 0,
}
DIRECTION = {
    "name": "vocabulary",
    "number": 1,
    "title": "More pieces are better",
    "paper": "2406.14670",
    "about": "Two vocabularies.",
    "checks": [CHECK],
    "shown": {"pieces": {LOSS: "Korean, bits per byte"}},
}


def results(without, extended):
    """Returns results.json of a study: the losses of each seed without new pieces and with them."""
    cells = [
        {
            "name": f"{pieces}-{seed}", "facts": {"vocab.pieces": pieces, "seed": seed},
            "values": {LOSS: loss}, "error": "",
            "tokens": 4096, "bytes": 12000, "steps": 10, "seconds": 30.0,
        }
        for pieces, losses in ((0, without), (768, extended))
        for seed, loss in enumerate(losses)
    ]  # fmt: skip
    return {"pieces": {"study": "pieces", "at": "bytes", "cells": cells}}


def test_a_direction_holds_where_the_whole_interval_is_on_its_side():
    # Differences -0.1, -0.2, -0.3: mean -0.2, and 4.3027 * 0.1 / sqrt(3) = 0.2484 on either side.
    got = verdicts.judge(CHECK, results([2.0, 2.0, 2.0], [1.9, 1.8, 1.7]))
    assert got.holds is False
    assert got.words == "does not hold: the interval holds zero"
    # Differences -0.2, -0.21, -0.22: mean -0.21, and 4.3027 * 0.01 / sqrt(3) = 0.0248.
    got = verdicts.judge(CHECK, results([2.0, 2.0, 2.0], [1.8, 1.79, 1.78]))
    assert got.holds is True
    assert got.words == "holds: the interval excludes zero"
    want = verdicts.Interval(-0.21, -0.2348, -0.1852, 3)
    assert got.interval.n == want.n
    for end in ("mean", "low", "high"):
        assert getattr(got.interval, end) == pytest.approx(getattr(want, end), abs=1e-4)


def test_seeds_are_paired_so_that_what_they_share_falls_away():
    got = verdicts.judge(CHECK, results([1.0, 2.0, 3.0], [0.9, 1.89, 2.9]))
    assert got.holds is True


def test_an_interval_wholly_on_the_other_side_is_said():
    got = verdicts.judge(CHECK, results([1.8, 1.79, 1.78], [2.0, 2.0, 2.0]))
    assert (got.holds, got.words) == (False, "does not hold: the interval lies beyond zero")


@pytest.mark.parametrize(
    ("bound", "want"),
    [
        ({"above": -0.3}, "holds: the interval excludes -0.3"),
        ({"above": -0.2}, "does not hold: the interval holds -0.2"),
        ({"above": -0.1}, "does not hold: the interval lies beyond -0.1"),
    ],
)
def test_a_bound_may_be_another_number_and_the_side_above_it(bound, want):
    check = {key: item for key, item in CHECK.items() if key != "below"} | bound
    got = verdicts.judge(check, results([2.0, 2.0, 2.0], [1.8, 1.79, 1.78]))
    assert got.words == want


def test_a_cell_that_failed_leaves_no_verdict_but_its_reason():
    measured = results([2.0, 2.0, 2.0], [1.8, 1.79, 1.78])
    measured["pieces"]["cells"][4] |= {"error": "no space left", "values": {}}
    got = verdicts.judge(CHECK, measured)
    assert (got.holds, got.words) == (None, "not measured: cell 768-1 failed: no space left")
    assert verdicts.overall([got]).words == "not measured: 1 of 1 checks"
    text = page.markdown(measured, [DIRECTION], "2030-01-02", Path("nowhere"))
    assert "- cell 768-1 failed: no space left" in text


@pytest.mark.parametrize(
    ("change", "want"),
    [
        (lambda cells: cells.pop(), "0 cells have vocab.pieces 768, seed 2; want one"),
        (lambda cells: cells.append(cells[0]), "2 cells have vocab.pieces 0, seed 0; want one"),
        (lambda cells: cells[3]["values"].clear(), f"cell 768-0 has no {LOSS}"),
    ],
)
def test_what_is_not_there_is_not_measured(change, want):
    measured = copy.deepcopy(results([2.0, 2.0, 2.0], [1.8, 1.79, 1.78]))
    change(measured["pieces"]["cells"])
    assert verdicts.judge(CHECK, measured).words == f"not measured: {want}"


def test_one_seed_is_no_interval_and_no_results_no_verdict():
    got = verdicts.judge(CHECK, results([2.0], [1.0]))
    assert (got.holds, got.words) == (None, "not measured: one seed has no interval")
    assert verdicts.judge(CHECK, {}).words == "not measured: no results of study pieces"


def test_a_direction_holds_where_all_its_checks_do():
    yes, no, unknown = (verdicts.Verdict(holds, "") for holds in (True, False, None))
    assert verdicts.overall([yes, yes]).words == "holds: all 2 intervals exclude their bound"
    assert verdicts.overall([yes, no, unknown]).words == "does not hold: 1 of 3 checks fail"
    assert verdicts.overall([yes, unknown]).words == "not measured: 1 of 2 checks"


def test_a_fitted_law_is_judged_by_the_interval_of_its_exponent():
    check = {"study": "laws", "exponent": "kor_Hang", "below": 0}
    law = {"language": "kor_Hang", "b": -0.2, "b_interval": (-0.3, -0.1), "points": 10}
    got = verdicts.judge(check, {"laws": {"laws": [law], "cells": []}})
    assert (got.holds, got.interval) == (True, verdicts.Interval(-0.2, -0.3, -0.1, 10))
    got = verdicts.judge(check, {"laws": {"laws": [], "cells": []}})
    assert got.words == "not measured: no law of kor_Hang"
    assert verdicts.judge(check, {}).words == "not measured: no law of kor_Hang"


def test_the_page_says_verdicts_intervals_seeds_and_command(tmp_path):
    measured = results([2.0, 2.0, 2.0], [1.8, 1.79, 1.78])
    page.write(measured, tmp_path / "reproduction.md", [DIRECTION], "2030-01-02")
    got = (tmp_path / "reproduction.md").read_text()
    assert "    scripts/reproduce.sh\n" in got
    assert "Measured on 2030-01-02" in got
    assert "without\nthat of bases and of the ladder of laws." in got
    assert "| check | unit | mean | 95 % interval | n | verdict |" in got  # seeds, or points
    assert "**holds: all 1 intervals exclude their bound**" in got
    assert (
        "| bits per byte | -0.210 | -0.235 to -0.185 | 3 | holds: the interval excludes zero |"
        in got
    )
    assert "| 768 pieces | 10 | 4,096 | 12,000 | 1.790 (1.765 to 1.815) |" in got
    assert "at equal bytes, seeds 0, 1, 2:" in got
    assert "(reproduction/vocabulary.svg)" in got
    drawn = (tmp_path / "reproduction/vocabulary.svg").read_bytes()
    assert b"768 pieces" in drawn
    page.write(measured, tmp_path / "again.md", [DIRECTION], "2030-01-02")
    assert (tmp_path / "again/vocabulary.svg").read_bytes() == drawn


@pytest.mark.parametrize(
    ("task", "template", "options"),
    [("direct", "guanaco", {}), ("chain", "taco", {"prompt": "guanaco"})],
)
def test_questions_of_a_miniature_are_asked_as_the_model_learnt_them(task, template, options):
    record = {"instruction": "Add.", "input": "1 and 2", "output": "3", "language": "kor_Hang"}
    record |= {"english_instruction": "Add.", "english_output": "3"}
    (want, *_) = table.TEMPLATES[template](record, **options)
    tree = plain_yaml.parse((ROOT / f"configs/mini/tasks/{task}.yaml").read_text(encoding="utf-8"))
    got = jinja2.Template(tree["doc_to_text"], keep_trailing_newline=True).render(record)
    assert got == want.text


@pytest.mark.parametrize("path", MINIATURES, ids=lambda path: path.stem)
def test_a_miniature_is_a_study_whose_cells_are_recipes_that_can_run(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    study = grid.load(path)
    assert study.file.name == path.stem
    for cell in study.cells:
        if cell.facts["seed"] == study.cells[0].facts["seed"]:
            check.check(Run(cell.recipe))


def test_six_directions_are_judged_on_studies_that_there_are():
    tree = plain_yaml.parse(page.DIRECTIONS.read_text(encoding="utf-8"), "list of directions")
    directions = tree["directions"]
    assert [direction["number"] for direction in directions] == [1, 2, 3, 4, 5, 6]
    script = (ROOT / "scripts/reproduce.sh").read_text()
    for direction in directions:
        assert direction["checks"]
        assert f"\n{direction['name']}() {{" in script
    for name in page.studies_of(directions):
        assert (ROOT / f"configs/mini/{name}.yaml").exists(), name
        assert f"study {name}\n" in script or f"configs/mini/{name}.yaml" in script
