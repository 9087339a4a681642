"""Metrics survive crashes, resumes and trackers that fail."""

import dataclasses
import io
import json

import jax
import numpy as np
import pytest
import worker_train as tiny

from lrl_jax.model import llama, lora
from lrl_jax.recipe import train as recipe_train
from lrl_jax.train import learn, log
from lrl_jax.train.clock import Clock
from lrl_jax.train.learn import flops_per_token
from lrl_jax.train.log import Dispatched, Log, StepRecorder

SETTINGS = tiny.settings(steps=9, log_every=1, tensorboard=False)


def write(folder, steps, *, done=0, total=9, every=1, board=False):
    settings = tiny.settings(steps=total, log_every=every, tensorboard=board)
    with Log(folder, settings, done, total, 0.0) as out:
        for step in steps:
            out.step({"step": step, "loss": 1.5 * step, "lr": {"a": 0.5}}, f"step {step}")


def steps(folder):
    return [record["step"] for record in log.read(folder / "metrics.jsonl")]


def test_there_is_one_record_a_step(tmp_path):
    write(tmp_path, [1, 2])
    got = log.read(tmp_path / "metrics.jsonl")
    want = [{"step": 1, "loss": 1.5, "lr": {"a": 0.5}}, {"step": 2, "loss": 3.0, "lr": {"a": 0.5}}]
    assert got == want


def test_a_resume_drops_the_steps_that_are_made_again(tmp_path):
    write(tmp_path, [1, 2, 3, 4])
    write(tmp_path, [3, 4, 5], done=2)
    assert steps(tmp_path) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("torn", [b'{"step": 3, "lo', '{"step": 3, "x": "\ud55c'.encode()[:-1]])
def test_a_line_cut_short_by_a_crash_is_dropped(tmp_path, torn):
    write(tmp_path, [1, 2])
    with open(tmp_path / "metrics.jsonl", "ab") as f:
        f.write(torn)
    write(tmp_path, [3], done=2)
    assert steps(tmp_path) == [1, 2, 3]


def test_samples_keep_their_script_and_their_line_separators(tmp_path):
    record = {"step": 1, "prompt": "\ub098\ub294", "text": "a\u2028b\nc"}
    with Log(tmp_path, SETTINGS, 0, 9, 0.0) as out:
        out.write("samples.jsonl", record)
    text = (tmp_path / "samples.jsonl").read_text()
    assert "\ub098\ub294" in text
    write(tmp_path, [2], done=1)
    assert log.read(tmp_path / "samples.jsonl") == [record]


def test_a_loss_that_is_not_a_number_is_still_json(tmp_path):
    with Log(tmp_path, SETTINGS, 0, 9, 0.0) as out:
        out.step({"step": 1, "loss": float("nan"), "deep": {"x": float("inf")}}, "")
    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text) == {"step": 1, "loss": None, "deep": {"x": None}}


def test_lines_are_plain_and_rare_where_nobody_watches(tmp_path, monkeypatch):
    err = io.StringIO()
    monkeypatch.setattr("sys.stderr", err)
    write(tmp_path, range(1, 10), every=4)
    assert err.getvalue() == "step 4\nstep 8\nstep 9\n"


def test_a_progress_bar_shows_where_somebody_watches(tmp_path, monkeypatch):
    err = io.StringIO()
    err.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", err)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    write(tmp_path, [1, 2], total=2)
    assert "2/2" in err.getvalue()
    assert "step 2" in err.getvalue()


def test_tensorboard_gets_the_numbers(tmp_path):
    write(tmp_path, [1, 2], board=True)
    (file,) = (tmp_path / "tensorboard").iterdir()
    assert b"loss" in file.read_bytes()
    assert b"lr/a" in file.read_bytes()


def test_a_tracker_that_fails_does_not_stop_the_run(tmp_path, caplog):
    (tmp_path / "tensorboard").write_text("a file where the folder should be")
    write(tmp_path, [1, 2], board=True)
    assert steps(tmp_path) == [1, 2]
    assert "no TensorBoard" in caplog.text


def test_losses_are_split_by_dataset_and_given_in_bits_per_byte():
    train = tiny.settings(steps=8)
    plan = tiny.stream(train).plan
    report = StepRecorder(train, tiny.CFG, plan, 12, 2, {"kor": 4.0}, Clock(), 8)
    metrics = dict(
        loss=np.float32(9), grad_norm=np.float32(2), lr={"a": np.float32(0.5)}, applied=True,
        skipped=0, tokens=80, nll_B=np.array([8.0, 3.0, 16.0]), weight_B=np.array([2.0, 1.0, 4.0]),
    )  # fmt: skip
    record, line = report(Dispatched(2, 8, np.array([0, 1, 0]), "one", 0.25), metrics)
    assert record["losses"] == {"kor": 4.0, "eng": 3.0}
    np.testing.assert_allclose(record["bits_per_byte"]["kor"], 1 / np.log(2))
    assert list(record["bits_per_byte"]) == ["kor"]
    assert (record["rows"], record["data_wait"], record["mfu"]) == (11, 0.25, None)
    assert record["epochs"] == plan.epochs(11)
    assert record["tokens_per_second"] == 2 * record["tokens_per_second_per_chip"]
    assert line.startswith("step 2/8  one  loss 9.0000  kor 1.443 bits/byte  lr 0.5")


def test_a_loss_far_above_the_usual_is_said_at_once_and_one_that_is_not_finite_is_not_usual():
    train = tiny.settings(steps=20, log_every=10)
    report = StepRecorder(train, tiny.CFG, tiny.stream(train).plan, 12, 2, {}, Clock(), 20)
    flags = {}
    for step, loss in enumerate([np.inf, 40, *[2.0] * 8, 5.9, 6.1, 2.0, np.inf], 1):
        metrics = dict(
            loss=np.float32(loss), grad_norm=np.float32(2), lr={"a": np.float32(0.5)}, applied=True,
            skipped=0, tokens=80, nll_B=np.array([8.0]), weight_B=np.array([2.0]),
        )  # fmt: skip
        record, line = report(Dispatched(step, 8, np.array([0]), "one", 0.0), metrics)
        flags[step] = record.get("spike"), "SPIKE: 3.0 times the usual loss" in line
    assert flags.pop(12) == (3.0, True)  # the median of those before is 2
    assert {*flags.values()} == {(None, False)}


def test_a_step_with_nothing_to_learn_has_no_loss_and_does_not_change_what_is_usual(tmp_path):
    train = tiny.settings(steps=30, log_every=1, tensorboard=True)
    report = StepRecorder(
        train, tiny.CFG, tiny.stream(train).plan, 12, 2, {"kor": 4.0}, Clock(), 30
    )
    ids = np.array([0, 1])
    records, lines = [], []
    with Log(tmp_path, train, 0, 30, 0.0) as out:
        for step, weights in enumerate([(0, 0)] * 11 + [(0, 2)] * 10 + [(0, 0), (2, 0)], 1):
            nll = np.array(weights) * (7.0 if step == 23 else 2.0)
            metrics = dict(
                loss=np.float32(nll.sum() / max(1, sum(weights))), grad_norm=np.float32(0),
                lr={"a": np.float32(0.5)}, applied=True, skipped=0, tokens=80, nll_B=nll,
                weight_B=np.array(weights),
            )  # fmt: skip
            record, line = report(Dispatched(step, 2, ids, "one", 0.0), metrics)
            out.step(record, line)
            records.append(record)
            lines.append(line)
    assert log.read(tmp_path / "metrics.jsonl") == records
    assert [record["loss"] for record in records] == [None] * 11 + [2.0] * 10 + [None, 7.0]
    assert [record["losses"] for record in records[20:]] == [{"eng": 2.0}, {}, {"kor": 7.0}]
    assert records[21]["bits_per_byte"] == {}
    assert [record.get("spike") for record in records] == [None] * 22 + [3.5]
    assert lines[21].startswith("step 22/30  one  nothing to learn  lr 0.5")


def test_flops_of_a_token_are_six_a_weight_and_the_causal_half_of_attention():
    # D=16 F=32 N=K=4 H=4, two layers: q, k, v, o 16x16 each, three of 16x32; head 16x128
    want = 6 * (2 * (4 * 256 + 3 * 512) + 16 * 128) + 6 * 2 * 100 * 16
    assert flops_per_token(tiny.CFG, 100) == want


def test_a_device_of_unknown_speed_has_no_peak():
    assert log.peak_flops(jax.devices()[0]) is None


def test_a_frozen_weight_costs_four_a_weight():
    # embed is looked up; q k v o 4 x 256, gate up down 3 x 512 a layer, two layers; head 16 x 128
    attention = 6 * 2 * 100 * 16
    head = flops_per_token(tiny.CFG, 100, {"unembed_DV"})
    assert head == 4 * 2 * (4 * 256 + 3 * 512) + 6 * 16 * 128 + attention
    layers = flops_per_token(tiny.CFG, 100, {"layers/gate_DF", "layers/q_DNH", "embed_VD"})
    assert layers == 2 * (6 * (256 + 512) + 4 * (3 * 256 + 2 * 512)) + 4 * 16 * 128 + attention


def test_adapters_are_counted_whole_and_what_they_adapt_as_frozen():
    rank = lora.LoraConfig(names=("layers/q_DNH",), rank=3, alpha=1.0, rank_stabilised=False)
    cfg = dataclasses.replace(tiny.CFG, lora=rank)
    rules = (
        recipe_train.Rule(match="lora", schedule=tiny.FLAT),
        recipe_train.Rule(match=".*", schedule="frozen"),
    )
    learns = learn.trainable(learn.groups(rules, [*llama.abstract(cfg)]))
    assert sorted(learns) == ["layers/q_lora_DR", "layers/q_lora_RNH"]
    frozen = 4 * (2 * (4 * 256 + 3 * 512) + 16 * 128) + 6 * 2 * 100 * 16
    assert flops_per_token(cfg, 100, learns) == frozen + 6 * 2 * (16 * 3 + 3 * 16)
