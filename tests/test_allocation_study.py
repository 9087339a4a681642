"""Tests the study that compares a budget in equal shares with one shared out by laws."""

from pathlib import Path

import pytest

from lrl_jax.laws.law import Law
from lrl_jax.pipeline.study import grid, results
from scripts.laws import compare

ROOT = Path(__file__).parent.parent


def law(language: str, a: float) -> Law:
    """Returns the law 100 - a / X."""
    return Law(
        language=language, a=a, b=-1, a_interval=(a, a), b_interval=(-1, -1), measured=(1, 9),
        held_back=(0, 0),
    )  # fmt: skip


def test_the_choice_allocated_shares_as_many_pairs_as_even_by_the_laws():
    tree = {"grid": {"data": {"even": {"data.datasets.k.take": 6, "data.datasets.c.take": 6}}}}
    laws = (law("kor_Hang", 1.0), law("qaa_Cyrl", 4.0))  # pairs go with the root of a
    whole = compare.with_allocation(tree, laws, {"kor_Hang": "k", "qaa_Cyrl": "c"})
    got = whole["grid"]["data"]["allocated"]
    assert got == {"data.datasets.k.take": 4, "data.datasets.c.take": 8}


def test_a_language_without_a_law_is_no_reason_to_take_all_of_its_pairs():
    tree = {"grid": {"data": {"even": {"data.datasets.k.take": 6, "data.datasets.c.take": 6}}}}
    with pytest.raises(ValueError, match=r"want one for each of .*k\.take"):
        compare.with_allocation(tree, (law("qaa_Cyrl", 4.0),), {"qaa_Cyrl": "c"})


def test_a_cell_gets_the_mean_of_its_scores_and_a_failed_one_gets_none():
    cells = (
        results.CellResult("even-0", {"data": "even", "seed": 0}, {"a": 40.0, "b": 60.0}),
        results.CellResult("even-1", {"data": "even", "seed": 1}, error="no data"),
    )
    with_mean = compare.with_mean(results.Results("s", "recipe", ("a", "b"), cells))
    assert [dict(cell.values) for cell in with_mean.cells] == [{"a": 40, "b": 60, "mean": 50}, {}]
    assert with_mean.compare == ("a", "b", "mean")


def test_a_cell_that_failed_is_tried_again_and_seen_by_the_exit_code(tmp_path, monkeypatch, capsys):
    cells = [
        results.CellResult(f"{data}-{seed}", {"data": data, "seed": seed}, {"a": score}, error)
        for data, seed, score, error in (
            ("even", 0, 40.0, ""), ("allocated", 0, 41.5, ""), ("even", 1, 0.0, "no rows"),
        )
    ]  # fmt: skip
    asked = []

    def performed(whole, retry):
        asked.append((whole.folder, retry))
        return results.Results("s", "recipe", ("a",), tuple(cells))

    laws = (law("kor_Hang", 1.0), law("qaa_Cyrl", 4.0))
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(compare, "WRITTEN", tmp_path / "written/allocation.yaml")
    monkeypatch.setattr(compare.law, "read", lambda path: laws)
    monkeypatch.setattr(compare.study, "perform_study", performed)
    monkeypatch.setattr(compare.results, "write", lambda folder, results: None)
    assert compare.main(Path("configs/mini/allocation.yaml"), "laws.json", []) == 1
    assert [retry for _, retry in asked] == [True]
    said = capsys.readouterr().out
    assert "allocated less even, 1 seeds: +1.5000 chrF" in said
    assert "even-1 failed: no rows" in said
    cells.pop()
    assert compare.main(Path("configs/mini/allocation.yaml"), "laws.json", []) == 0


def test_the_studies_of_translation_have_cells_for_every_choice_and_seed(monkeypatch):
    monkeypatch.chdir(ROOT)
    got = {n: len(grid.load(f"configs/mini/{n}.yaml").cells) for n in ("translation", "allocation")}
    assert got == {"translation": 9, "allocation": 10}
