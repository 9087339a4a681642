"""A damaged line of a log is named and set aside; it never forbids resuming or reporting."""

import json
import logging

from etils import epath
import pytest
import worker_train as tiny

from lrl_jax.report import pieces
from lrl_jax.report import run as report
from lrl_jax.train import log
from lrl_jax.train.log import Log

SETTINGS = tiny.settings(steps=9, log_every=1, tensorboard=False)
SPENT = {"compute": 1.5, "start": 0.5}
METRICS = [
    {"step": n, "stage": "a", "loss": 2.5, "lr": {"all": 0.5}, "at": 100.0 + n, "seconds": 2.0,
     "spent": SPENT, "epochs": {"ko": 0.25 * n}, "bits_per_byte": {"ko": 1.5}}
    for n in (1, 2, 3)
]  # fmt: skip
SAMPLES = [{"step": n, "prompt": "p", "text": "t"} for n in (1, 2, 3)]
EVENTS = [
    {"event": "start", "at": 100.0, "step": 0, "lost": 0, "lost_seconds": 0.0},
    {"event": "save", "at": 102.0, "step": 2},
    {"event": "stop", "at": 102.5, "step": 2, "spent": SPENT},
]
FILES = {"metrics.jsonl": METRICS, "samples.jsonl": SAMPLES, "events.jsonl": EVENTS}


def write(folder, name="", lines=()):
    """Writes the three logs; `lines` replaces those of `name`."""
    folder.mkdir(parents=True, exist_ok=True)
    for other, records in FILES.items():
        content = [json.dumps(record).encode() for record in records]
        (folder / other).write_bytes(b"\n".join(lines if other == name else content) + b"\n")


def resume(folder, done=2):
    """Resumes the log, writes the next step, and measures the whole run."""
    with Log(folder, SETTINGS, done, 9, 200.0) as out:
        out.step(METRICS[2] | {"step": done + 1}, "line")
        return out.goodput()


BAD = [
    b"{",
    b'{"step": 2, "sp',
    b"\xff\xfe",
    b"[1]",
    b"7",
    b"null",
    b'"step"',
    b'{"stfp": 2, "event": "save", "at": 1.0}',
    b'{"step": "2", "event": "save", "at": 1.0}',
    b'{"step": null, "event": "save", "at": 1.0}',
    b'{"step": true, "event": "save", "at": 1.0}',
    b'{"step": -1, "event": "save", "at": 1.0}',
    b'{"step": 2, "event": "save", "at": "1"}',
    b'{"step": 2, "event": "save", "at": NaN}',
    b"[" * 100_000,
]
BAD_EVENTS = [
    b'{"step": 2, "evemt": "save", "at": 1.0}',
    b'{"step": 2, "event": "start", "at": 1.0, "lort": 0, "lost_seconds": 0.0}',
    b'{"step": 2, "event": "start", "at": 1.0, "lost": 0, "lost_seconds": "0"}',
    b'{"step": 2, "event": "stop", "at": 1.0}',
    b'{"step": 2, "event": "stop", "at": 1.0, "spent": 3}',
    b'{"step": 2, "event": "stop", "at": 1.0, "spent": {"compute": "x"}}',
]
BAD_METRICS = [
    b'{"step": 2, "at": 1.0, "spent": 3}',
    b'{"step": 2, "at": 1.0, "spent": {"compute": []}}',
    b'{"step": 2, "epochs": []}',
    b'{"step": 2, "seconds": "2"}',
    b'{"step": 2, "bits_per_byte": {"ko": "x"}}',
]


@pytest.mark.parametrize(
    ("name", "line"),
    [(name, line) for name in FILES for line in BAD]
    + [("events.jsonl", line) for line in BAD_EVENTS]
    + [("metrics.jsonl", line) for line in BAD_METRICS],
)
def test_a_bad_line_is_named_and_set_aside_and_the_run_goes_on(tmp_path, caplog, name, line):
    good = [json.dumps(record).encode() for record in FILES[name]]
    write(tmp_path, name, [good[0], line, good[1]])
    with caplog.at_level(logging.WARNING):
        assert resume(tmp_path) is not None
    named = [r for r in caplog.messages if f"{tmp_path / name}: line 2 is no record" in r]
    assert len(named) == 1
    assert (tmp_path / f"{name}.bad").read_bytes() == line + b"\n"
    kept = (tmp_path / name).read_bytes().split(b"\n")
    assert [json.loads(text)["step"] for text in kept[:2]] == [r["step"] for r in FILES[name][:2]]
    caplog.clear()
    resume(tmp_path)  # nothing is left to say
    assert not caplog.messages


@pytest.mark.parametrize("name", FILES)
def test_no_changed_letter_forbids_resuming(tmp_path, name):
    good = [json.dumps(record).encode() for record in FILES[name]]
    seen = []
    for at in range(0, len(good[2]), 3):
        damaged = good[2][:at] + b"x" + good[2][at + 1 :]
        folder = tmp_path / str(at) / "run"
        write(folder / "train", name, [good[0], good[1], damaged])
        found = pieces.read(folder)
        resume(folder / "train")
        if found not in seen:  # most lines are no records any more: those reports are alike
            seen.append(found)
            report.render(pieces.read(folder))


@pytest.mark.parametrize("line", BAD + BAD_METRICS)
def test_a_report_leaves_a_bad_line_out(tmp_path, caplog, line):
    good = [json.dumps(record).encode() for record in METRICS]
    write(tmp_path / "train", "metrics.jsonl", [good[0], line, good[2]])
    got = pieces.read(tmp_path)
    assert [record["step"] for record in got.metrics] == [1, 3]
    assert "line 2 is no record" in caplog.text
    assert not (tmp_path / "train/metrics.jsonl.bad").exists()  # a report changes nothing


def test_an_event_after_one_that_was_cut_short_is_not_joined_to_it(tmp_path):
    write(tmp_path)
    with open(tmp_path / "events.jsonl", "ab") as file:
        file.write(b'{"event": "sa')
    resume(tmp_path)
    events = [record["event"] for record in log.read(tmp_path / "events.jsonl")]
    assert events == ["start", "save", "stop", "start"]
    assert (tmp_path / "events.jsonl.bad").read_bytes() == b'{"event": "sa\n'


def test_bad_lines_of_several_resumes_are_all_kept(tmp_path):
    for line in (b"{1", b"{2"):
        write(tmp_path, "events.jsonl", [line])
        resume(tmp_path)
    assert epath.Path(tmp_path / "events.jsonl.bad").read_bytes() == b"{1\n{2\n"
