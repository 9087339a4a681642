"""The data benchmark runs, and says of lrl_jax what is promised of it."""

import importlib
import json
from pathlib import Path
import subprocess
import sys

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts/benchmarks/data.py"


def run(*args: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, SCRIPT, *args], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.slow
def test_the_benchmark_loses_no_token_and_keeps_the_shares(tmp_path):
    out = tmp_path / "out.json"
    got = run("--mb", "0.2", "--seconds", "0.1", "--only", "ours", "--json", str(out))
    assert got.returncode == 0, got.stderr
    assert "lrl_jax" in got.stdout
    report = json.loads(out.read_text())
    made, fed = (report["found"]["ours"][phase] for phase in ("prepare", "feed"))
    for language, count in report["text"]["counts"].items():
        assert made[language]["tokens"] == count["tokens"]
    assert fed["fill"] > 0.9
    assert 0.45 < fed["korean"] < 0.55
    assert min(fed["wall"], fed["cpu"], made["ko"]["wall"]) > 0
    assert fed["first"] > fed["imported"] > 0
    assert report["found"]["ours"]["hosts"]["hosts"].endswith("the rows of one")


def test_a_contestant_that_does_not_exist_is_refused():
    got = run("--only", "ours,theirs")
    assert got.returncode == 2
    assert "no contestant theirs; there are ours, seqio" in got.stderr


@pytest.mark.slow
def test_a_peer_that_is_not_installed_is_named(tmp_path):
    args = ("--mb", "0.01", "--only", "maxtext-grain", "--maxtext", str(tmp_path / "python"))
    got = run(*args)
    assert got.returncode == 0, got.stderr
    assert f"not installed: no file {tmp_path}/python" in got.stdout


# ---------------------------------------------------------------------------- text and turns
@pytest.fixture
def modules(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    text = importlib.import_module("data_text")
    monkeypatch.setattr(text, "DATA", Path("nowhere"))  # sentences are made
    return importlib.import_module("data"), text


def test_every_sentence_of_the_text_comes_once(modules, tmp_path):
    _, text = modules
    for name in ("whole", "tiny"):
        (tmp_path / name).mkdir()
    written = text.write(tmp_path / "whole", tmp_path / "tiny", 0.05)
    for language in text.LANGUAGES:
        paths = [Path(path) for texts in written for path in texts[language]]
        assert len(paths) == 2 * text.FILES
        lines = [line for path in paths for line in path.read_text().splitlines()]
        sentences = [sentence.strip(". ") for line in lines for sentence in line.split(". ")]
        assert len(sentences) > 300
        assert len(set(sentences)) == len(sentences)
        assert sum(path.stat().st_size for path in paths[: text.FILES]) >= 50_000


def test_a_text_asked_for_longer_than_there_is_ends_with_its_sentences(modules):
    _, text = modules
    pool = [f"{n}." for n in range(100)]
    documents = [*text._documents(pool, text.np.random.default_rng(0), 10**9)]
    assert " ".join(documents).split() == pool
    assert len(documents) >= text.FILES


def test_ratios_are_taken_turn_by_turn(modules, capsys):
    data, _ = modules

    def took(cpu):
        return {"tokens": 1_000_000, "wall": 9.0, "cpu": cpu}

    ours, theirs = ({"ko": took(2.0), "en": took(a)} for a in (1.0, 3.0))
    slow = {"ko": took(8.0), "en": took(3.0)}
    turns = [{"ours": ours, "datasets": theirs}, {"ours": ours, "datasets": slow}]
    assert data.ratios(turns, "datasets", "ko") == [1.0, 4.0]
    phases = {"prepare": ours, "feed": {}}
    data.targets({"ours": phases, "datasets": phases}, turns)
    assert "prepared beside datasets, run_clm's blocks, ko: 1.00 to 4.00 times, 2 turns" in (
        capsys.readouterr().out
    )
