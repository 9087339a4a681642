"""The benchmark of a training step, and the profile beside it, on the smallest model."""

import os
from pathlib import Path
import re
import subprocess
import sys

ROOT = Path(__file__).parents[1]


def run(script, *options):
    command = [sys.executable, ROOT / "scripts/benchmarks" / script, "--model", "1m", *options]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=300, env=env
    ).stdout


def test_a_step_is_measured_against_itself():
    out = run("train_step.py", "--dtype", "float32", "--rounds", "1", "--peers")
    (found,) = re.findall(r"lrl_jax +([\d,]+) +([\d,]+) +1.00x +1.00x", out)
    assert all(int(rate.replace(",", "")) > 0 for rate in found)


def test_a_profile_finds_every_kind_of_work():
    out = run("step_profile.py", "--dtype", "float32", "--peers")
    rows = dict(re.findall(r"(?m)^(.{28}) +(\d+)", out))
    took = {name.strip(): int(ms) for name, ms in rows.items()}
    whole = took.pop("sum")
    assert len(took) == 7
    assert min(ms for name, ms in took.items() if name != "without a name") > 0
    assert abs(sum(took.values()) - whole) <= 3  # each is rounded
