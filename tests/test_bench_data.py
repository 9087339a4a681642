"""The data benchmark runs, and says of lrl_jax what is promised of it."""

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
