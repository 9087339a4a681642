"""Where a run's time went: split by what was waited for, over kills and restarts; and traces."""

import time

import jax
import jax.numpy as jnp
import pytest
import worker_train as tiny

from lrl_jax.recipe import train as recipe_train
from lrl_jax.train import clock, goodput
from lrl_jax.train.clock import Clock, busy, divide
from lrl_jax.train.goodput import Goodput, left_behind, line, measure
from lrl_jax.train.log import read


class Time:
    """A clock that stands still until it is told."""

    def __init__(self):
        self.at = 100.0

    def __call__(self):
        return self.at


def records(folder, name="metrics"):
    return read(folder / "train" / f"{name}.jsonl")


# ---------------------------------------------------------------------------- a step
def test_steps_run_one_after_the_other_from_when_they_were_given():
    assert busy([(0.0, 2.0), (1.0, 3.0), (5.0,), (6.0,)], 7.0) == [
        (0.0, 2.0),
        (2.0, 3.0),
        (5.0, 7.0),
    ]
    assert busy([(4.0,)], 4.0) == []


def test_waiting_counts_only_while_the_devices_have_nothing_to_do():
    waits = [("data", 3.0, 6.0), ("checkpoint", 8.0, 9.5)]
    got = divide((0.0, 10.0), [(1.0, 4.0)], waits)
    assert got == {"compute": 3.0, "data": 2.0, "checkpoint": 1.5, "other": 3.5}


def test_a_wait_that_began_before_the_window_counts_from_its_beginning():
    assert divide((5.0, 8.0), [(0.0, 6.0)], [("data", 4.0, 7.0)]) == {
        "compute": 1.0, "data": 1.0, "other": 1.0,
    }  # fmt: skip


def test_laps_share_a_wait_that_lasts_over_both():
    now = Time()
    with Clock(now) as timer, timer.doing("checkpoint"):
        now.at += 3
        assert timer.lap() == {"checkpoint": 3.0}
        now.at += 1
        with timer.doing("data"):  # within: it is the checkpoint's time
            now.at += 1
        assert timer.lap() == {"checkpoint": 2.0}


def test_a_lap_is_as_long_as_its_parts():
    now = Time()
    with Clock(now) as timer:
        with timer.doing("compile"):
            now.at += 7
        now.at += 0.5
        timer.dispatched(jnp.zeros(()))
        for _ in range(1000):  # another thread sees that it is ready
            if timer._running and len(timer._running[0]) == 2:
                break
            time.sleep(0.005)
        with timer.doing("data"):
            now.at += 2
        got = timer.lap()
    assert got == {"compile": 7.0, "data": 2.0, "other": 0.5}


def test_the_thread_of_a_clock_ends_with_it():
    with Clock() as timer:
        pass
    timer._watcher.join(5)
    assert not timer._watcher.is_alive()


# ---------------------------------------------------------------------------- a run
def test_goodput_is_worked_out_by_hand():
    events = [
        {"event": "start", "at": 1000.0, "step": 0, "lost": 0, "lost_seconds": 0},
        {"event": "save", "at": 1011.0, "step": 1},
        {"event": "start", "at": 1030.0, "step": 1, "lost": 2, "lost_seconds": 9.0},
        {"event": "stop", "at": 1061.0, "step": 3, "spent": {"checkpoint": 50.0}},
    ]
    metrics = [
        {"step": 1, "at": 1010.0, "spent": {"start": 4.0, "compile": 3.0, "compute": 3.0}},
        {"step": 2, "at": 1050.0, "spent": {"start": 8.0, "compute": 12.0}},
        {"step": 3, "at": 1060.0, "spent": {"compute": 9.0, "data": 1.0}},
    ]
    got = measure(events, metrics)
    want = {"compute": 24.0, "start": 12.0, "compile": 3.0, "data": 1.0, "lost": 9.0, "down": 11.0}
    assert got == Goodput(60.0, want, 1, 2)
    assert got.share == 0.4
    assert line(got) == (
        "goodput 40.0 % of 0:01:00: start 20.0 %, down 18.3 %, lost 15.0 %, compile 5.0 %, "
        "data 1.7 %; 1 restart, 2 steps made again"
    )


def test_what_a_process_did_after_its_last_logged_step_was_for_nothing():
    events = [
        {"event": "start", "at": 0.0, "step": 0, "lost": 0, "lost_seconds": 0},
        {"event": "stop", "at": 9.0, "step": 2, "spent": {"compute": 2.0, "checkpoint": 1.0}},
        {"event": "start", "at": 10.0, "step": 1, "lost": 1, "lost_seconds": 0},
    ]
    metrics = [{"step": i, "at": 6.0 * i, "spent": {"compute": 6.0 - i}} for i in (1, 2)]
    got = measure(events, metrics)
    assert got.spent == {"compute": 9.0, "checkpoint": 1.0, "lost": 2.0}


def test_a_run_without_events_or_steps_has_none():
    assert measure([], [{"step": 1}]) is None
    assert measure([{"event": "start", "at": 0, "lost": 0, "lost_seconds": 0}], []) is None
    assert (
        measure([{"event": "save", "at": 0, "step": 2}], [{"step": 1, "at": 1, "spent": {}}])
        is None
    )


def test_steps_left_behind_are_those_logged_and_the_one_under_way():
    metrics = [{"step": i, "seconds": 0.5} for i in (1, 2, 3, 4)]
    assert left_behind([], metrics, 2) == {"lost": 2, "lost_seconds": 1.0}
    stop = {"event": "stop", "step": 5}
    assert left_behind([stop], metrics, 2) == {"lost": 3, "lost_seconds": 1.0}
    assert left_behind([stop, {"event": "start", "step": 5}], metrics, 4) == {
        "lost": 0, "lost_seconds": 0,
    }  # fmt: skip


def test_every_record_says_where_its_seconds_went(tmp_path):
    train = tiny.settings(steps=6, save={"steps": 3}, sample_every=3)
    rows = tiny.stream(train, slow=0.2)

    def sample(params, done):
        jax.block_until_ready(params)
        time.sleep(0.5)
        return []

    began = time.time()
    _, metrics = tiny.train(tmp_path, train, tiny.mesh(), rows, sample=sample)
    wall = time.time() - began
    for record in metrics:
        assert set(record["spent"]) <= set(clock.KINDS)
        assert sum(record["spent"].values()) == pytest.approx(record["seconds"])
    first, third = metrics[0]["spent"], metrics[2]["spent"]
    assert first["start"] > 0
    assert first["compile"] > 0
    assert first["compute"] < metrics[0]["seconds"] / 2
    assert "compile" not in third
    assert sum(record["spent"].get("data", 0) for record in metrics) > 0.1
    # Two samples of half a second; into which record they fall depends on the machine, and so does
    # how soon a step is seen to be ready, which takes a little from them.
    assert 0.5 < sum(record["spent"].get("evaluate", 0) for record in metrics) < wall
    assert sum(record["seconds"] for record in metrics) <= wall


def test_kills_and_steps_made_again_are_counted(tmp_path, capsys):
    train = tiny.settings(steps=8, save={"steps": 2}, sample_every=1)

    for step in (5, 7):  # steps 4 and 6 are saved
        with pytest.raises(KeyboardInterrupt):
            tiny.train(tmp_path, train, tiny.mesh(), sample=tiny.stop_at(step))
    tiny.train(tmp_path, train, tiny.mesh())
    events = records(tmp_path, "events")
    assert [e["event"] for e in events if e["event"] != "save"] == ["start", "stop"] * 3
    starts = [e for e in events if e["event"] == "start"]
    assert [(e["step"], e["lost"]) for e in starts] == [(0, 0), (4, 1), (6, 1)]
    assert [e["step"] for e in events if e["event"] == "save"] == [2, 4, 6, 8]
    got = measure(events, records(tmp_path))
    assert (got.restarts, got.lost) == (2, 2)
    assert sum(got.spent.values()) == pytest.approx(got.wall)
    assert f"goodput {100 * got.share:.1f} % of " in capsys.readouterr().err
    tiny.train(tmp_path, train, tiny.mesh())  # is finished: nothing starts
    assert records(tmp_path, "events") == events


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_its_lost_steps_and_the_time_it_was_down(tmp_path):
    options = dict(steps=30, save={"steps": 10}, slow=0.05)
    child = tiny.spawn(tmp_path, **options)
    while not any(m["step"] >= 13 for m in records(tmp_path)):
        assert child.poll() is None, child.said()
        time.sleep(0.005)
    child.kill()
    child.wait(60)
    reached = max(m["step"] for m in records(tmp_path))
    time.sleep(1)
    assert tiny.spawn(tmp_path, **options).wait(300) == 0
    got = measure(records(tmp_path, "events"), records(tmp_path))
    starts = [e["step"] for e in records(tmp_path, "events") if e["event"] == "start"]
    assert starts in ([0, 10], [0, 0])  # whether the save was still being written
    assert (got.restarts, got.lost) == (1, reached - starts[1])
    assert got.spent["down"] > 1
    assert got.spent["lost"] > 0
    assert sum(got.spent.values()) == pytest.approx(got.wall)


# ---------------------------------------------------------------------------- traces
def traces(folder):
    return sorted((folder / "train").glob("profile/process_0/plugins/profile/*/*.xplane.pb"))


def test_the_steps_that_were_asked_for_are_traced(tmp_path, capsys):
    tiny.train(tmp_path, tiny.settings(steps=6, profile="3:4"), tiny.mesh())
    (path,) = traces(tmp_path)
    names = path.read_bytes()
    assert [n in names for n in (b"train", b"PjitFunction")] == [True, True]
    err = capsys.readouterr().err
    assert "trace of steps 3 to 4: " in err
    assert "train/profile/process_0; pip install xprof, then: xprof --logdir " in err
    assert err.index("step 4/6") < err.index("trace of steps") < err.index("step 5/6")


def test_nothing_is_traced_unasked_or_once_the_steps_are_done(tmp_path):
    tiny.train(tmp_path, tiny.settings(steps=4), tiny.mesh())
    assert not traces(tmp_path)
    stages = [tiny.stage("one", 2), tiny.stage("two", 2, kor=0.9), tiny.stage("three", 2)]
    tiny.train(tmp_path, tiny.settings(stages, profile="2:3"), tiny.mesh())
    assert not traces(tmp_path)


@pytest.mark.parametrize("bad", ["10", "0:3", "5:4", "7:9", "a:b", "1:2:3", "-1:2", "\u0661:3"])
def test_a_range_that_is_none_or_beyond_the_run_is_refused(bad):
    with pytest.raises(ValueError, match=r"train.profile: .*want the first .*10:15, of 1 to 8"):
        tiny.settings(steps=8, profile=bad)


def test_a_range_waits_for_epochs_to_become_steps():
    stage = recipe_train.Stage(name="a", epochs=1, mixture={"kor": 1}, learn=(tiny.ALL,))
    train = recipe_train.Train(batch_size=8, stages=(stage,), profile="10:15")
    known = train.model_copy(update={"stages": (tiny.stage("a", 20),)})
    assert known.traced() == (10, 15)
    with pytest.raises(ValueError, match="of 1 to 12"):
        train.model_copy(update={"stages": (tiny.stage("a", 12),)}).traced()


def test_goodput_of_nothing_lost_names_no_restart():
    assert line(Goodput(10.0, {"compute": 10.0}, 0, 0)) == "goodput 100.0 % of 0:00:10"
    assert set(clock.KINDS) < set(goodput.SAYS)
