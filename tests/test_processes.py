"""Two processes on loopback are one run: the same losses, and one signal stops both."""

import shutil
import socket
import time

import numpy as np
import pytest
import worker_train as tiny

from lrl_jax.train.checkpoint import Checkpoints
from lrl_jax.train.log import read

pytestmark = pytest.mark.slow


def spawn_two(folder, **options):
    with socket.socket() as s:
        s.bind(("localhost", 0))
        coordinator = f"localhost:{s.getsockname()[1]}"
    options = dict(coordinator=coordinator, processes=2, devices=2, **options)
    return [tiny.spawn(folder, process_id=i, **options) for i in range(2)]


def ended(children):
    """Exit codes; what was said, if they are not alike."""
    codes, said = tiny.ended(children)
    assert codes[0] == codes[1], "\n".join(said)
    return codes[0]


def records(folder):
    return read(folder / "train" / "metrics.jsonl")


def saved(folder):
    return Checkpoints(folder / "train" / "checkpoints").steps()


@pytest.mark.parametrize(
    ("mesh", "woven"),
    [
        ({"fsdp": 4}, False),
        ({"data": 2, "fsdp": 1, "tensor": 2}, False),
        ({"data": 2, "fsdp": 2}, True),  # process 0 holds rows 0, 1, 4 and 5
        ({"data": 2, "fsdp": 1, "tensor": 2}, True),  # both hold all rows, a half of each head
    ],
)
def test_two_processes_give_the_losses_of_one(tmp_path, mesh, woven):
    assert ended(spawn_two(tmp_path / "two", mesh=mesh, woven=woven, save={"steps": 4})) == 0
    rules = tiny.settings(steps=8, save={"steps": 4})
    _, one = tiny.train(tmp_path / "one", rules, tiny.mesh(**{"fsdp": 1, **mesh}))
    two = records(tmp_path / "two")
    assert [m["step"] for m in two] == [*range(1, 9)]
    np.testing.assert_allclose([m["loss"] for m in two], [m["loss"] for m in one], rtol=1e-6)
    assert saved(tmp_path / "two") == [4, 8]


def test_sigterm_to_one_of_two_saves_the_same_step_in_both_and_one_process_goes_on(tmp_path):
    children = spawn_two(tmp_path, mesh={"fsdp": 4}, steps=30, slow=0.05)
    while len(records(tmp_path)) < 3:
        assert all(child.poll() is None for child in children)
        time.sleep(0.01)
    children[1].terminate()
    assert ended(children) == 75
    (step,) = saved(tmp_path)
    assert records(tmp_path)[-1]["step"] == step < 30
    _, metrics = tiny.train(tmp_path, tiny.settings(steps=30), tiny.mesh(fsdp=2))
    assert [m["step"] for m in metrics] == [*range(1, 31)]


def test_where_one_process_stands_still_all_end_and_write_their_stacks(tmp_path):
    options = dict(mesh={"fsdp": 4}, never=24, save={"steps": 2}, stall_seconds=8)
    assert ended(spawn_two(tmp_path, **options)) == 76
    assert saved(tmp_path) == [2]
    stacks = [(tmp_path / "train" / f"stacks-{i}.txt").read_text() for i in range(2)]
    assert "in batch_at" in stacks[1]  # the process whose fourth batch never comes
    assert "in batch_at" not in stacks[0]
    assert all('loop.py", line' in text for text in stacks)


def test_a_checkpoint_of_one_process_goes_on_in_two_and_damage_is_seen_by_both(tmp_path):
    """They read three times as many rows at once, in two parts, of which some are padding."""
    rules = tiny.settings(steps=4, save={"steps": 2})
    tiny.train(tmp_path / "two", rules, tiny.mesh())
    tiny.damage(tmp_path / "two" / "train" / "checkpoints" / "4")
    shutil.copytree(tmp_path / "two", tmp_path / "one")
    larger = {"batch_size": 24, "step_rows": 8}
    parts = larger | {"accumulate": 2}
    assert ended(spawn_two(tmp_path / "two", mesh={"fsdp": 4}, steps=8, train=parts)) == 0
    got = records(tmp_path / "two")
    assert [(m["step"], m["rows"]) for m in got] == [(1, 8), (2, 16), (3, 32), (4, 48), (5, 64)]
    assert saved(tmp_path / "two") == [2, 5]
    _, want = tiny.train(tmp_path / "one", tiny.settings(steps=8, **larger), tiny.mesh())
    np.testing.assert_allclose([m["loss"] for m in got], [m["loss"] for m in want], rtol=1e-6)
    assert [m["tokens"] for m in got] == [m["tokens"] for m in want] == [80, 80, 160, 160, 160]
