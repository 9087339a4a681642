"""A curriculum of three packed datasets, killed under way and taken up by other processes, is the
same run: the same rows, the same losses."""

import dataclasses
import json
import os
from pathlib import Path
import signal
import socket
import sys
import time

import forked
from hand_tokenizer import make
import jax
import numpy as np
import pytest
import worker_train as tiny

from lrl_jax.data.feed import mixture
from lrl_jax.data.feed.stream import Stream
from lrl_jax.data.pack import jobs, packing, rows
from lrl_jax.devices import mesh as meshes
from lrl_jax.recipe import schema as recipes
from lrl_jax.recipe import train as recipe_train
from lrl_jax.train import loop
from lrl_jax.train.log import read

CFG = dataclasses.replace(tiny.CFG, vocab_size=266)  # of the tokenizer done by hand


def curriculum(folder: Path) -> recipes.Recipe:
    """Learn one, go over to two gradually while the third is replayed, then the third whole."""
    learn = [{"match": ".*", "schedule": {"peak": 0.01, "warmup": 2, "kind": "constant"}}]
    stages = [
        {"name": "warm", "steps": 4, "mixture": {"ko": 1}},
        {"name": "mix", "steps": 6, "mixture": {"ko": 1}, "ramp_to": {"ko": 1, "en": 2}},
        {"name": "tune", "epochs": 1, "mixture": {"tasks": 1}},
    ]
    text = {"kind": "text", "language": "kor_Hang"}
    return recipes.Recipe(
        name="curriculum",
        folder=str(folder),
        seed=3,
        base={"model": "m"},
        vocab={"method": "keep"},
        data={
            "sequence_length": tiny.LENGTH,
            "workers": 1,
            "datasets": {
                "ko": text | {"path": [str(folder / "ko.txt")], "max_epochs": 3},
                "en": text | {"path": [str(folder / "en.txt")], "order": "length"},
                "tasks": {
                    "kind": "completion",
                    "path": [str(folder / "tasks.jsonl")],
                    "language": "kor_Hang",
                },
            },
        },
        train={
            "batch_size": 8,
            "stages": [stage | {"learn": learn} for stage in stages],
            "replay": {"tasks": 0.2},
            "log_every": 1,
            "tensorboard": False,
            "save": {"minutes": 0, "steps": 2},
        },
    )


def write_texts(folder: Path) -> None:
    rng = np.random.default_rng(0)

    def words(least: int) -> str:
        return " ".join(rng.choice(list("abc"), rng.integers(least, 9)))

    (folder / "ko.txt").write_text("".join(f"{words(1)}\n" for _ in range(60)))
    (folder / "en.txt").write_text("".join(f"{words(3)}\n" for _ in range(40)))
    tasks = [{"prompt": words(1), "completion": words(1)} for _ in range(30)]
    (folder / "tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks))


def run(recipe: recipes.Recipe, out: Path, mesh: jax.sharding.Mesh, slow: float = 0.0) -> None:
    """Trains in `out`, and notes there what every row of a batch was and holds."""
    folders = packing.folders(Path(recipe.folder) / "data")
    packed = {name: rows.read_manifest(folders[name]) for name in recipe.data.datasets}
    plan, size = mixture.plan(recipe, packed), recipe.train.batch_size
    mine = meshes.rows_here(mesh, size)
    stream = Stream(folders, plan, size, mine)
    batch_at = stream.batch_at
    out.mkdir(parents=True, exist_ok=True)

    def noted(g: int, count: int) -> dict[str, np.ndarray]:
        time.sleep(slow)
        batch = batch_at(g, count)
        with (out / f"rows-{os.getpid()}.jsonl").open("a") as f:
            for i, tokens in zip(mine, batch["decoder_target_tokens"], strict=True):
                at = g + int(i)
                stage = plan.stages[int(plan.stage_at(at))].name
                (dataset,), (place,) = plan(np.array([at]))
                where = stage, plan.names[dataset], int(place)
                f.write(json.dumps([at, *where, tokens.tolist()]) + "\n")
        return batch

    vars(stream)["batch_at"] = noted
    settings = mixture.steps(recipe, packed).train
    loop.train(settings, CFG, lambda: tiny.params(mesh, CFG), mesh, stream, out / "train")


def spawn(folder: Path, out: Path, **options) -> forked.Forked:
    said = folder / f"said-{options.get('process_id')}"
    return forked.Forked("test_curriculum", [str(folder), str(out), json.dumps(options)], said)


def seen(out: Path) -> dict[int, list]:
    """Global row -> stage, dataset, row, tokens; whoever read it, and however often."""
    found: dict[int, list] = {}
    for path in out.glob("rows-*.jsonl"):
        for g, *what in map(json.loads, path.read_text().splitlines()):
            assert found.setdefault(g, what) == what
    return found


@pytest.mark.slow
def test_a_curriculum_killed_under_way_goes_on_in_two_processes_as_if_nothing_was(tmp_path):
    write_texts(tmp_path)
    recipe = curriculum(tmp_path)
    jobs.prepare_all(recipe.data, make(), tmp_path / "data")
    run(recipe, tmp_path / "whole", tiny.mesh(fsdp=2))

    killed = tmp_path / "killed"
    child = spawn(tmp_path, killed, devices=2, slow=0.1)
    while not any(m["stage"] == "mix" for m in read(killed / "train" / "metrics.jsonl")):
        assert child.poll() is None, child.said()
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait(60) == -signal.SIGKILL
    with socket.socket() as s:
        s.bind(("localhost", 0))
        where = dict(coordinator=f"localhost:{s.getsockname()[1]}", processes=2)
    children = [spawn(tmp_path, killed, devices=1, process_id=i, **where) for i in range(2)]
    for child in children:
        assert child.wait(120) == 0, child.said()

    got, want = (read(tmp_path / name / "train" / "metrics.jsonl") for name in ("killed", "whole"))
    assert list(dict.fromkeys(m["stage"] for m in want)) == ["warm", "mix", "tune"]
    for key in ("step", "stage", "rows", "tokens", "epochs"):
        assert [m[key] for m in got] == [m[key] for m in want], key
    np.testing.assert_allclose([m["loss"] for m in got], [m["loss"] for m in want], rtol=1e-5)
    assert len(list(killed.glob("rows-*.jsonl"))) == 3  # of the one that was killed, and of two
    rows_got, rows_want = seen(killed), seen(tmp_path / "whole")
    assert sorted(rows_want) == [*range(want[-1]["rows"])]
    assert rows_got == rows_want
    assert {dataset for _, dataset, _, _ in rows_want.values()} == {"ko", "en", "tasks"}


def main(folder: str, out: str, options: dict) -> None:
    """Runs in a process of its own."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", options["devices"])
    meshes.start(
        options.get("coordinator", ""), options.get("processes", 0), options.get("process_id", 0)
    )
    on = meshes.make(recipe_train.Mesh(fsdp=2))
    run(curriculum(Path(folder)), Path(out), on, options.get("slow", 0.0))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
