"""The loop: stages and phases, saving when asked, stopping when asked, and when nothing learns."""

import os
from pathlib import Path
import resource
import signal
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest
import worker_train as tiny

from lrl_jax.recipe import train as recipe_train
from lrl_jax.train import loop, preemption
from lrl_jax.train.checkpoint import CheckpointMismatchError, Checkpoints, SaveError
from lrl_jax.train.log import read

COSINE = recipe_train.Rule(match=".*", schedule=recipe_train.Schedule(peak=0.01, warmup=2))
SLOWER = recipe_train.Rule(match=".*", schedule=recipe_train.Schedule(peak=0.001, kind="constant"))


def saved(folder):
    return Checkpoints(folder / "train" / "checkpoints").steps()


def test_stages_phases_and_rates_follow_the_recipe(tmp_path):
    stages = [tiny.stage("a", 2, (COSINE,)), tiny.stage("b", 2, (COSINE,), kor=0.0)]
    stages += [tiny.stage("c", 2, (SLOWER,))]
    state, metrics = tiny.train(tmp_path, tiny.settings(stages), tiny.mesh(fsdp=2))
    assert [m["step"] for m in metrics] == [1, 2, 3, 4, 5, 6]
    assert [m["stage"] for m in metrics] == ["a", "a", "b", "b", "c", "c"]
    want = [0.01 / 3, 0.02 / 3, 0.01, 0.0055, 0.001, 0.001]
    np.testing.assert_allclose([m["lr"][".*"] for m in metrics], want, rtol=1e-5)
    assert "kor" not in metrics[2]["losses"]
    assert (int(state["step"]), int(state["opt"].count)) == (6, 2)
    assert saved(tmp_path) == [6]


def test_saves_come_every_so_many_steps_and_at_the_end(tmp_path):
    train = tiny.settings(steps=5, save={"steps": 2, "keep": 9})
    tiny.train(tmp_path, train, tiny.mesh())
    assert saved(tmp_path) == [2, 4, 5]


def test_touching_save_saves_once_and_goes_on(tmp_path):
    (tmp_path / "SAVE").touch()
    tiny.train(tmp_path, tiny.settings(steps=6, save={"keep": 9}), tiny.mesh())
    assert not (tmp_path / "SAVE").exists()
    assert saved(tmp_path) == [2, 6]  # asked in step 1, read while step 2 runs


def test_the_clock_saves(tmp_path):
    train = tiny.settings(steps=4, save={"minutes": 1e-6, "keep": 9})
    tiny.train(tmp_path, train, tiny.mesh())
    assert saved(tmp_path) == [2, 4]


def kill_at(step, number):
    """A sampler that sends this process a signal after so many steps."""

    def sample(params, done):
        if done == step:
            os.kill(os.getpid(), number)
            time.sleep(0.05)
        return []

    return sample


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_saves_and_stops(tmp_path, number):
    train = tiny.settings(steps=9, sample_every=1)
    with pytest.raises(loop.Preempted, match="step 5 is saved: run again") as e:
        tiny.train(tmp_path, train, tiny.mesh(), sample=kill_at(3, number))
    assert (e.value.step, e.value.exit_code) == (5, 75)  # asked in step 4, read while 5 runs
    assert saved(tmp_path) == [5]
    assert [m["step"] for m in read(tmp_path / "train" / "metrics.jsonl")] == [1, 2, 3, 4, 5]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_signal_while_a_step_is_written_waits_for_it_and_saves_each_step_once(tmp_path):
    train = tiny.settings(steps=9, sample_every=1, save={"steps": 1, "keep": 9})

    def stop(params, done):  # the save of the step before has just begun
        if done == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return []

    with pytest.raises(loop.Preempted) as e:
        tiny.train(tmp_path, train, tiny.mesh(), sample=stop)
    assert saved(tmp_path) == [*range(1, e.value.step + 1)]
    folder = tmp_path / "train" / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == [str(n) for n in saved(tmp_path)]
    events = [(m["event"], m["step"]) for m in read(tmp_path / "train" / "events.jsonl")]
    assert [step for name, step in events if name == "save"] == saved(tmp_path)


def memory() -> int:
    """Bytes of this process that lie in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux says it")
def test_memory_does_not_grow_with_the_steps(tmp_path):
    seen = []

    def look(params, done):
        seen.append(memory())
        return []

    train = tiny.settings(steps=700, sample_every=100, save={"steps": 50}, log_every=100)
    tiny.train(tmp_path, train, tiny.mesh(fsdp=2), sample=look)
    growth = seen[-1] - seen[1]  # what is made once is there after 200 steps
    assert len(seen) == 7
    assert growth < 500 * 20_000, f"{growth / 500:,.0f} bytes a step"


def test_a_second_signal_ends_the_process_at_once():
    code = (
        "import os, signal, time\n"
        "from lrl_jax.train.preemption import STOP, Asks\n"
        "from pathlib import Path\n"
        "with Asks(Path('SAVE'), 0) as asks:\n"
        "    asks.defer()\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(0.2)\n"
        "    print(asks.now() == STOP, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(60)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (130, "True\n")
    assert "SIGTERM: saving, then stopping; once more stops at once" in done.stderr


def test_save_is_asked_once_until_it_is_done(tmp_path):
    (tmp_path / "SAVE").touch()
    with preemption.Asks(tmp_path / "SAVE", 0) as asked:
        assert [asked.now(), asked.now()] == [preemption.SAVE, preemption.NOTHING]
        asked.saved()
        assert asked.now() == preemption.NOTHING
        (tmp_path / "SAVE").touch()
        assert asked.now() == preemption.SAVE


def test_steps_that_are_not_finite_are_skipped_and_counted(tmp_path):
    train = tiny.settings(steps=6, max_skipped=3)
    rows = tiny.stream(train, bad=[17, 25])
    state, metrics = tiny.train(tmp_path, train, tiny.mesh(), rows)
    assert [m["skipped"] for m in metrics] == [0, 0, 1, 2, 0, 0]
    assert metrics[2]["loss"] is None
    assert all(np.isfinite(w).all() for w in jax.device_get(state["params"]).values())


def test_too_many_in_a_row_stop_the_run_and_say_where(tmp_path):
    train = tiny.settings(steps=20, max_skipped=3, save={"steps": 2})
    rows = tiny.stream(train, bad=range(33, 160, 8))
    want = (
        r"3 steps in a row .*: steps 5 to 7, global rows 32 to 55\. Last good step: 4; "
        r"steps saved: 2, 4.*not finite themselves: 49 \((kor|eng)\)\."
    )
    with pytest.raises(loop.DivergedError, match=want):
        tiny.train(tmp_path, train, tiny.mesh(), rows)


def test_rows_of_a_batch_that_is_filled_up_are_named_and_its_padding_is_not(tmp_path):
    train = tiny.settings(step_rows=3, max_skipped=1)  # of 12 rows in a stage 6 come first
    on = tiny.mesh()
    nothing = {name: array * np.nan for name, array in tiny.params(on).items()}
    with pytest.raises(loop.DivergedError, match=r"rows 0 to 5\..*: 0 .*, 5 \((kor|eng)\)\."):
        loop.train(train, tiny.CFG, lambda: nothing, on, tiny.stream(train), tmp_path)


def test_weights_that_are_not_finite_are_not_saved_though_the_loss_was(tmp_path):
    peak = recipe_train.Schedule(peak=1e39, kind="constant")
    every = (recipe_train.Rule(match=".*", schedule=peak),)
    stage = recipe_train.Stage(name="one", steps=4, mixture={"kor": 1, "eng": 1}, learn=every)
    train = tiny.settings((stage,), max_skipped=4, save={"steps": 1})
    with pytest.raises(loop.DivergedError, match=r"after step 1 weights are not finite.*none"):
        tiny.train(tmp_path, train, tiny.mesh())
    assert saved(tmp_path) == []


def test_a_save_that_fails_stops_the_run(tmp_path):
    def block(params, done):
        if done == 1:
            (tmp_path / "train" / "checkpoints").write_text("a file where the folder should be")
        return []

    train = tiny.settings(steps=50, sample_every=1, save={"steps": 2})
    with pytest.raises(SaveError, match=r"checkpoint 2 was not written: FileExistsError"):
        tiny.train(tmp_path, train, tiny.mesh(), sample=block)
    assert [m["step"] for m in read(tmp_path / "train" / "metrics.jsonl")] == [1, 2]


def test_a_run_is_not_called_saved_when_its_last_save_failed(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def stop_on_a_full_disk(params, done):
        if done == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, hard))
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)
        return []

    train = tiny.settings(steps=50, sample_every=1)
    try:
        with pytest.raises(SaveError, match="checkpoint 4 was not written"):
            tiny.train(tmp_path, train, tiny.mesh(), sample=stop_on_a_full_disk)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert saved(tmp_path) == []


def test_samples_are_written_with_their_step(tmp_path):
    def sample(params, done):
        return [{"prompt": "a", "text": str(float(params["norm_D"].shape[0]))}]

    train = tiny.settings(steps=6, sample_every=2)
    tiny.train(tmp_path, train, tiny.mesh(), sample=sample)
    got = read(tmp_path / "train" / "samples.jsonl")
    assert got == [{"step": n, "prompt": "a", "text": "16.0"} for n in (2, 4, 6)]


def test_a_sample_that_fails_does_not_stop_the_run(tmp_path, caplog):
    def sample(params, done):
        raise RuntimeError("no words")

    train = tiny.settings(steps=3, sample_every=1)
    _, metrics = tiny.train(tmp_path, train, tiny.mesh(), sample=sample)
    assert len(metrics) == 3
    assert "nothing for samples.jsonl; training goes on" in caplog.text


def test_its_threads_end_with_it(tmp_path):
    tiny.train(tmp_path, tiny.settings(steps=4), tiny.mesh())
    time.sleep(0.05)
    assert not {"prefetch", "signals"} & {thread.name for thread in threading.enumerate()}


def test_a_run_that_is_finished_is_left_alone(tmp_path):
    train = tiny.settings(steps=4)
    _, first = tiny.train(tmp_path, train, tiny.mesh())
    _, again = tiny.train(tmp_path, train, tiny.mesh())
    assert again == first


def test_a_recipe_shorter_than_its_run_is_refused(tmp_path):
    tiny.train(tmp_path, tiny.settings([tiny.stage("a", 4)]), tiny.mesh())
    with pytest.raises(
        CheckpointMismatchError, match="at step 4, row 32; the recipe ends at row 24"
    ):
        tiny.train(tmp_path, tiny.settings([tiny.stage("a", 3)]), tiny.mesh())
