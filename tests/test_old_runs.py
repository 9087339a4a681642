"""A run folder that an older version left behind is resumed, evaluated and exported by this one."""

import json
import os

from make_old_run import ARCHIVES, LARGEST, losses, lrl, unpack
import pytest

from lrl_jax.pipeline.perform import perform
from lrl_jax.pipeline.run import Run
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


# ---------------------------------------------------------------------------- resumed to its end
SECRET = "canary7f3a9"  # in every place where credentials are kept
CREDENTIALS = (
    "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "GOOGLE_API_KEY",
    "GOOGLE_APPLICATION_CREDENTIALS", "AWS_SECRET_ACCESS_KEY",
)  # fmt: skip


@pytest.fixture(scope="module", params=ARCHIVES, ids=lambda path: path.name)
def resumed(request, tmp_path_factory):
    """(folder, metrics before, what was said) of an old run that this version ended."""
    folder = tmp_path_factory.mktemp("old")
    unpack(request.param, folder)
    before = (folder / "runs/korean/train/metrics.jsonl").read_bytes()
    env = os.environ | dict.fromkeys(CREDENTIALS, SECRET)
    said = lrl("run", "korean.yaml", cwd=folder, env=env, umask=0o027)
    return folder, before, said.stdout + said.stderr


@pytest.mark.slow
def test_a_run_of_an_older_version_goes_on_to_its_end(resumed):
    folder, before, said = resumed
    run, want = folder / "runs/korean", json.loads((folder / "want.json").read_text())
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


@pytest.mark.slow
def test_credentials_of_the_environment_are_written_nowhere(resumed):
    folder, _, said = resumed
    assert SECRET not in said
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 50
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


@pytest.mark.slow
def test_nothing_of_a_run_is_open_to_more_than_the_umask_allows(resumed):
    folder, _, _ = resumed
    made = [path for path in (folder / "runs/korean/export").rglob("*")]
    made += [folder / "runs/korean" / name for name in ("recipe.yaml", "report/index.html")]
    made += (folder / "runs/korean/train/checkpoints/300").rglob("*")
    assert len(made) > 20
    assert not [path for path in made if path.stat().st_mode & 0o027]
