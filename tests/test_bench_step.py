"""The benchmark of a training step, and the profile beside it, on the smallest model."""

import os
from pathlib import Path
import re
import subprocess
import sys

ROOT = Path(__file__).parents[1]


def run(script, *options):
    command = [sys.executable, ROOT / "scripts/benchmarks" / script, "--model", "1m", *options]
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=300, env=env
    ).stdout


def test_a_step_is_measured_against_itself():
    out = run("train_step.py", "--dtype", "float32", "--rounds", "1", "--peers")
    (found,) = re.findall(r"lrl_jax +([\d,]+) +([\d,]+) +1.00x +1.00x", out)
    assert all(int(rate.replace(",", "")) > 0 for rate in found)


def test_ratios_are_ranges_over_rounds_and_the_worst_is_named(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "scripts/benchmarks"))
    import train_step

    seconds = {"ours": iter([1.0, 1.0, 2.0]), "eager": iter([2.0, 4.0, 2.0])}

    class Turn:
        def __init__(self, name, shape, dtype):
            self.name = name

        def step(self):
            return (next(seconds[self.name]),) * 2

        def end(self):
            pass

    monkeypatch.setattr(train_step, "Worker", Turn)
    names = {"ours": "lrl_jax", "eager": "torch"}
    assert train_step.table("1m", "float32", names, 3) == {"1m float32 beside torch": 2.0}
    assert re.search(r"torch .* 2.00x +2.00x +1.00 to 4.00\n", capsys.readouterr().out)


def test_a_profile_finds_every_kind_of_work():
    out = run("step_profile.py", "--dtype", "float32", "--peers")
    rows = dict(re.findall(r"(?m)^(.{28}) +(\d+)", out))
    took = {name.strip(): int(ms) for name, ms in rows.items()}
    whole = took.pop("sum")
    assert len(took) == 7
    assert min(ms for name, ms in took.items() if name != "without a name") > 0
    assert abs(sum(took.values()) - whole) <= 3  # each is rounded


def test_the_gradient_of_the_heads_input_counts_as_the_heads(monkeypatch):
    """Its own shape does not tell: only an operand has the vocabulary's size."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts/benchmarks"))
    import step_profile
    import train_step

    name = 'metadata={op_name="jit(run)/transpose(jvp())/dot_general"}'
    program = f"""
ENTRY %main (d_logits: bf16[2048,32000], d_out: bf16[2048,512]) -> f32[2048,512] {{
  %d_logits = bf16[2048,32000]{{1,0}} parameter(0)
  %d_out = bf16[2048,512]{{1,0}} parameter(1)
  %head.1 = f32[2048,512]{{1,0}} fusion(%d_logits), kind=kCustom, calls=%fused, {name}
  ROOT %layer.1 = f32[2048,512]{{1,0}} fusion(%d_out), kind=kCustom, calls=%fused, {name}
}}
"""
    kinds = step_profile.kinds_of_ours(program, train_step.SHAPES["60m"])
    assert kinds["head.1"] == "head and loss: products"
    assert kinds["layer.1"] == "layers: products"
