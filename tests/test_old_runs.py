"""A run folder that an older version left behind is resumed, evaluated and exported by this one."""

import json

from make_old_run import ARCHIVES, LARGEST, losses, lrl, unpack
import pytest

from lrl_jax.pipeline.run import Run, perform
from lrl_jax.recipe import file as recipe_file


def test_there_is_a_run_of_a_released_version_and_it_is_small():
    assert ARCHIVES
    assert all(archive.stat().st_size < LARGEST for archive in ARCHIVES)


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.name)
def test_a_finished_step_of_an_older_version_is_not_due(archive, tmp_path, monkeypatch):
    unpack(archive, tmp_path)
    monkeypatch.chdir(tmp_path)
    old = Run(recipe_file.load("korean.yaml"))
    for step in ("vocab", "init", "data"):
        assert not perform(old, step, lambda run: pytest.fail("it is made anew")), step


@pytest.mark.slow
@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.name)
def test_a_run_of_an_older_version_goes_on_to_its_end(archive, tmp_path):
    unpack(archive, tmp_path)
    run, want = tmp_path / "runs/korean", json.loads((tmp_path / "want.json").read_text())
    before = (run / "train/metrics.jsonl").read_bytes()
    said = lrl("run", "korean.yaml", cwd=tmp_path).stderr
    for step in ("vocab", "init", "data"):
        assert f"{step}: done already" in said  # it was made from what this version would make
    assert (run / "train/metrics.jsonl").read_bytes().startswith(before)
    got = losses(run)
    assert [*got] == [str(step) for step in range(1, 301)]
    assert got == pytest.approx(want["losses"], rel=1e-3)  # the order of sums is the machine's
    assert json.loads((run / "export/gate.json").read_text())["passed"]
    model = json.loads((run / "export/config.json").read_text())
    assert model["vocab_size"] == 350
    after = json.loads((run / "evaluate/after.json").read_text())["bits_per_byte"]
    assert {*after} == {"kor_Hang", "eng_Latn"}
