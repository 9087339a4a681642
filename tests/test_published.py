"""Estimates beside published runs: every run lies in the band of its chip, and in docs/fit.md."""

import dataclasses
import importlib
from pathlib import Path

import pytest

from lrl_jax.cli import fit
from lrl_jax.fit import published, topology

ROOT = Path(__file__).parents[1]
IDS = [f"{run.name}-{run.machine}" for run in published.RUNS]


def test_flops_of_a_second_become_seconds_with_all_and_half_of_attention():
    run = next(run for run in published.RUNS if (run.name, run.machine) == ("16B", "v5e-256"))
    weights = 32 * (4 * 4096 * 8192 + 3 * 4096 * 28672) + 4096 * 32000
    square = 12 * 32 * 2048 * 64 * 128  # two products of all scores, and twice that backwards
    low, high = (6 * 2048 * (6 * weights + part) / 120e12 for part in (square / 2, square))
    assert run.measured == (pytest.approx(low), pytest.approx(high))
    assert (low, high) == (pytest.approx(9.98, abs=0.01), pytest.approx(10.31, abs=0.01))


@pytest.mark.parametrize("run", published.RUNS, ids=IDS)
def test_the_band_of_a_chip_covers_every_run_published_for_it(run):
    band = published.band(run.kind)
    low, high = run.measured
    assert band.low * run.estimate <= low <= high <= band.high * run.estimate
    assert band.runs == sum(other.kind == run.kind for other in published.RUNS)


def test_there_are_runs_on_two_kinds_of_chips_and_a_chip_without_gets_the_widest_band():
    kinds = {run.kind for run in published.RUNS}
    assert len(published.RUNS) >= 3
    assert len(kinds) >= 2
    (other, *_) = {kind for kind in topology.SIZES if kind not in kinds}
    bands = [published.band(kind) for kind in kinds]
    assert published.band(other) == published.Band(
        min(band.low for band in bands), max(band.high for band in bands), 0
    )


def test_a_run_far_from_its_estimate_widens_the_band(monkeypatch):
    (slow, *_) = published.RUNS
    far = dataclasses.replace(slow, tflops=0, seconds=slow.estimate * 1.61)
    monkeypatch.setattr(published, "RUNS", (*published.RUNS, far))
    before = published.band(slow.kind)
    published.band.cache_clear()
    try:
        after = published.band(slow.kind)
    finally:
        published.band.cache_clear()
    assert after == published.Band(before.low, 1.65, before.runs + 1)


def test_the_docs_list_every_run_and_every_band(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts/benchmarks"))
    script = importlib.import_module("published")
    text = (ROOT / "docs/fit.md").read_text()
    assert script.HEAD in text
    for run in published.RUNS:
        assert script.line(run) in text
    for kind in ("v4", "v5e", "v5p", "v6e"):
        band = published.band(kind)
        assert f"| {kind} | {band.low:.2f} to {band.high:.2f} | {fit.compared(band)} |" in text


def test_the_estimates_are_of_the_libtpu_that_is_installed_with_the_extra():
    assert f"\nlibtpu=={published.LIBTPU}\n" in (ROOT / "constraints-fit.txt").read_text()
