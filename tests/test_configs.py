"""Every recipe that ships is sound: what only the user has is listed, all else is right."""

import json
import os
from pathlib import Path
import re
import subprocess
import sys

import pytest

from lrl_jax.cli import main
from lrl_jax.cli.checks import check as checks
from lrl_jax.recipe import file as recipe_file
from lrl_jax.recipe import supply

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
PAPERS = {  # pieces, parameters in billions, pod
    "bllossom": (39_478, 13.1, "v5e-64"),
    "taco": (32_000, 32.5, "v4-32"),
    "design_choices": (42_000, 6.8, "v5e-16"),
    "xllama": (32_000, 6.7, "v5e-16"),
    "mllama": (32_000, 6.7, "v5e-64"),
    "eeve": (40_960, 10.8, "v5e-64"),
}


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder without any data, in which scripts and bases of the repository are not found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    return tmp_path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_recipe_that_ships_is_sound_and_says_what_to_supply(path, elsewhere, capsys):
    assert main.main(["check", str(path)]) == 0
    out, recipe = capsys.readouterr().out, recipe_file.load(str(path))
    assert not supply.idle(recipe)
    wanted = supply.wanted(recipe)
    when = "it is" if len(wanted) == 1 else f"all {len(wanted)} are"
    assert (f"sound; when {when} supplied: lrl run" if wanted else "ready: lrl run") in out
    assert out.rstrip().endswith(f"lrl run {path}")
    for name in wanted:
        assert name in out.replace("\n", "")


@pytest.mark.parametrize("name", PAPERS)
def test_a_recipe_of_a_paper_has_its_size_and_a_machine(name, elsewhere, capsys):
    pieces, billions, pod = PAPERS[name]
    assert main.main(["check", str(ROOT / "configs" / f"{name}.yaml")]) == 0
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if " parameters " in line)
    assert f"at most {pieces:,} pieces" in line
    count = int(line.split(", at")[0].split()[-1].replace(",", ""))
    assert round(count / 1e9, 1) == billions
    assert f"{pod}: " in out
    assert f"\nmemory and time on {pod}: lrl fit {ROOT}/configs/{name}.yaml\n" in out


def test_a_recipe_of_a_paper_says_its_source_its_command_and_its_cost():
    for name in PAPERS:
        head = (ROOT / "configs" / f"{name}.yaml").read_text().split("\nname:")[0]
        for word in ("arXiv", f"lrl run configs/{name}.yaml", "chip-hours: ", "ours"):
            assert word in head, (name, word)


@pytest.mark.slow
@pytest.mark.timeout(3660)
@pytest.mark.parametrize("name", PAPERS)
def test_a_recipe_of_a_paper_compiles_for_its_machine_and_fits(name, tmp_path):
    pytest.importorskip("libtpu")
    command = [sys.executable, "-m", "lrl_jax.cli", "fit", str(ROOT / f"configs/{name}.yaml")]
    got = subprocess.run(
        [*command, "--json"], capture_output=True, text=True, cwd=tmp_path, timeout=3600,
        check=False, env={**os.environ, "XLA_FLAGS": ""},
    )  # fmt: skip
    assert got.returncode == 0, got.stderr
    phases = json.loads(got.stdout)
    stages = recipe_file.load(str(ROOT / f"configs/{name}.yaml")).train.stages
    assert [phase["phase"] for phase in phases] == [stage.name for stage in stages]
    for phase in phases:
        assert 0 < phase["memory"]["total"] <= phase["memory"]["limit"]


# ---------------------------------------------------------------------------- to supply, or wrong
def check(capsys, *overrides, config="eeve"):
    """Exit code, and all that was said."""
    code = main.main(["check", str(ROOT / "configs" / f"{config}.yaml"), *overrides])
    got = capsys.readouterr()
    return code, got.out + got.err


def test_what_is_missing_and_not_to_be_supplied_is_wrong(elsewhere, capsys):
    code, out = check(capsys, "data.datasets.english.path=[nowhere.txt]")
    assert code == 3
    assert "data.datasets.english: nowhere.txt: no such file" in out


def test_a_problem_that_several_looks_see_is_said_once(elsewhere, capsys):
    code, out = check(capsys, "base={model: nowhere}")
    assert code == 3
    assert out.count("base.model: nowhere: no such folder") == 1


def test_a_replay_that_leaves_nothing_is_refused_with_its_stage(elsewhere, capsys):
    code, out = check(capsys, "train.replay={english: 1}")
    assert code == 3
    assert "takes 100% of every stage; leave something for the stages" in out


def test_what_was_supplied_is_read(elsewhere, capsys):
    folder = elsewhere / "flores200_dataset/devtest"
    folder.mkdir(parents=True)
    (folder / "kor_Hang.devtest").write_text("\ud55c \uc904\n")
    assert "when all 5 are supplied" in check(capsys)[1]
    (folder / "kor_Hang.devtest").write_bytes(b"\xff\n")
    code, out = check(capsys)
    assert code == 3
    assert "evaluate.bits_per_byte.kor_Hang" in out
    assert "not UTF-8" in out


def test_a_base_that_is_not_as_expected_is_wrong():
    expected = recipe_file.load(str(ROOT / "configs/eeve.yaml")).base.expected
    config = expected.model_dump()
    del config["rope_theta"]  # as Llama 2's own file, which leaves it at its default
    checks.as_expected(expected, config)
    with pytest.raises(ValueError, match="depth: expected 48, is 32"):
        checks.as_expected(expected, config | {"num_hidden_layers": 32})


def test_without_the_shape_of_a_base_there_is_nothing_to_check(elsewhere, capsys):
    code, out = check(capsys, "base.expected=null")
    assert code == 3
    assert "base.model is to be supplied: set base.expected" in out


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["train.pod=v5e-65"], "no machine 'v5e-65': v5e comes as v5e-1, v5e-4"),
        (["train.pod=v5e-4"], r"120\.8 GiB, 4 chips of a slice hold 63\.0 GiB; take 8 chips"),
        (["train.mesh={data: 2, slices: 2}"], "slices=2, but v5e-64 has 1"),
        (["train.mesh={tensor: 16}"], r"num_kv_heads .*\(8\); use tensor=2 or 4 or 8"),
        (["train.batch_size=60"], "60 rows at once .* use a multiple of 64 rows"),
        (
            ["train.mesh={}", "train.batch_size=60"],
            "batch_size=60 cannot be split over .* use a multiple of 64 ",
        ),
        (
            [
                "train.mesh={fsdp: 8, data: 1, tensor: 8, sequence: true}",
                "data.sequence_length=4100",
            ],
            r"splits data\.sequence_length=4100 over tensor=8, .* use 4104",
        ),
        (["data.sequence_length=1000"], "reads 128 tokens at a time; use 896 or 1024"),
    ],
)
def test_a_machine_that_cannot_run_it_is_refused_with_numbers(overrides, words, elsewhere, capsys):
    code, out = check(capsys, *overrides)
    assert code == 3
    assert re.search(words, " ".join(out.split()))
