"""Trackers get the numbers of a run, and nothing that they do can stop or slow it."""

import errno
import json
import logging
import os
import threading
import time

import pytest
from tensorboardX import event_file_writer
import worker_train as tiny

from lrl_jax.recipe import train as recipe_train
from lrl_jax.train import log
from lrl_jax.train.log import Log
from lrl_jax.train.trackers import board, child, outside

# A library of either kind: does what FAKE says, and writes down how it is called.
FAKE = """
import json, os, sys, time

how = os.environ["FAKE"]

def note(*what):
    with open(os.environ["CALLS"], "a") as file:
        file.write(json.dumps(what) + "\\n")

def hang():
    while True:
        time.sleep(0.1)

if how == "no import":
    raise ImportError("no gradio here")
print("key: wandb_v1_secret")

class Run:
    url = "https://tracker/run"

    def log(self, numbers, step):
        if how == "500 later" and step == 3:
            raise RuntimeError("HTTP 500: " + "x" * 900)
        if how == "hangs later" and step == 3:
            hang()
        note("log", step, numbers)

    def finish(self):
        if how == "hangs last":
            hang()
        note("finish")

run = Run()
log, finish = run.log, run.finish

def init(**said):
    note("init", said, said.pop("config"))
    if how == "500":
        raise RuntimeError("HTTP 500")
    if how == "hangs":
        hang()
    if how == "exits":
        sys.exit("please log in")
    if how == "dies":
        os._exit(9)
    return run
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Puts libraries that are told how to fail on the path of child processes."""
    folder = tmp_path / "libraries"
    folder.mkdir()
    for kind in child.STARTS:
        (folder / f"{kind}.py").write_text(FAKE)
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ['PYTHONPATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    monkeypatch.setattr(outside, "FAREWELL", 20.0)

    def tell(how):
        monkeypatch.setenv("FAKE", how)

    return tell


def write(folder, count, kind="wandb", done=0, pause=0.0):
    """Logs steps; returns how long that took without the end, and with it."""
    asked = recipe_train.Prompt(text="a patient's words")
    settings = tiny.settings(
        steps=count, log_every=1, tensorboard=False, tracker=kind, samples=(asked,)
    )
    begun = time.monotonic()
    with Log(folder, settings, done, count, 0.0) as out:
        for step in range(done + 1, count + 1):
            out.step({"step": step, "loss": step / 2, "lr": {"a": 0.5}, "at": 1.0}, f"{step}")
            time.sleep(pause)
        middle = time.monotonic()
    return middle - begun, time.monotonic() - begun


def calls(tmp_path):
    return [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]


def steps(folder):
    return [record["step"] for record in log.read(folder / "metrics.jsonl")]


@pytest.mark.parametrize("kind", child.STARTS)
def test_a_tracker_gets_every_number_and_a_resume_goes_on_in_the_same_run(tmp_path, fake, kind):
    fake("works")
    folder = tmp_path / "korean/train"
    write(folder, 3, kind)
    write(folder, 4, kind, done=3)
    first, *logged, last, again, fourth, _ = calls(tmp_path)
    name = first[1]["name"]
    assert name == "korean" if kind == "wandb" else name.startswith("korean-")
    assert first[1]["resume"] == "allow"
    assert first[1]["project"] == "lrl_jax"
    assert first[2]["batch_size"] == 8
    assert "a patient's words" not in json.dumps(first)
    assert logged == [
        ["log", step, {"step": step, "loss": step / 2, "lr/a": 0.5}] for step in (1, 2, 3)
    ]
    assert last == ["finish"]
    assert again[:2] == first[:2]
    assert fourth[1] == 4
    write(folder, 2, kind)
    assert calls(tmp_path)[-4][:2] != first[:2]  # what begins again is another run


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("no import", "ImportError: no gradio here"),
        ("500", "RuntimeError: HTTP 500"),
        ("500 later", "RuntimeError: HTTP 500: xxx"),
        ("exits", "SystemExit: please log in"),
        ("dies", "its process ended with code 9"),
        ("hangs", "it has not ended 0 s after the run"),
        ("hangs later", "it has not ended 0 s after the run"),
        ("hangs last", "it has not ended 0 s after the run"),
    ],
)
def test_what_fails_in_a_tracker_is_said_once_and_the_run_goes_on(
    tmp_path, fake, how, why, caplog, monkeypatch, capfd
):
    fake(how)
    monkeypatch.setattr(outside, "FAREWELL", 0.4 if "hangs" in how else 20.0)
    training, _ = write(tmp_path / "korean/train", 5)
    assert steps(tmp_path / "korean/train") == [1, 2, 3, 4, 5]
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == 1, said
    assert said[0].startswith("wandb is off from here: ")
    assert why in said[0]
    assert len(said[0]) < 500
    assert "secret" not in "".join([*said, *capfd.readouterr()])
    assert training < 5  # seconds; it waits for no process


def test_a_library_that_is_absent_is_told_how_to_install(tmp_path, caplog):
    write(tmp_path / "korean/train", 2, "trackio")
    assert "No module named 'trackio'; pip install" in caplog.text
    assert '[trackio]"' in caplog.text


def test_a_tracker_that_takes_nothing_costs_no_time_and_no_memory(
    tmp_path, fake, caplog, monkeypatch
):
    fake("hangs")
    monkeypatch.setattr(outside, "WAITING", 20)
    monkeypatch.setattr(outside, "FAREWELL", 0.2)
    monkeypatch.setattr(outside.subprocess, "Popen", lambda *_, **__: threading.Event().wait())
    write(tmp_path / "korean/train", 60)
    assert "wandb is off from here: it is 20 steps behind" in caplog.text
    assert caplog.text.count("is off from here") == 1


def test_a_run_that_is_stopped_does_not_wait_for_its_tracker(tmp_path, fake):
    fake("hangs")
    settings = tiny.settings(steps=9, log_every=1, tensorboard=False, tracker="wandb")
    begun = time.monotonic()

    def stopped():
        with Log(tmp_path / "korean/train", settings, 0, 9, 0.0) as out:
            out.step({"step": 1, "loss": 1.0}, "1")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize("waiting", [1000, 5])
def test_a_tensorboard_whose_disk_is_full_does_not_stop_a_run(
    tmp_path, caplog, monkeypatch, waiting
):
    written, write_event = [], event_file_writer.EventsWriter.write_event

    def until_full(writer, event):
        written.append(event)
        if len(written) > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_event(writer, event)

    monkeypatch.setattr(event_file_writer.EventsWriter, "write_event", until_full)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    monkeypatch.setattr(board, "FAREWELL", 0.3)
    monkeypatch.setattr(board, "WAITING", waiting)
    begun = time.monotonic()
    with Log(tmp_path / "train", tiny.settings(steps=60, tensorboard=True), 0, 60, 0.0) as out:
        for step in range(1, 61):
            out.step({"step": step, "loss": 1.0}, "")
    assert time.monotonic() - begun < 5
    assert caplog.text.count("TensorBoard is off from here") == 1
    assert len(steps(tmp_path / "train")) == 60
