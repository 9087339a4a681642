"""A user's file from the command line to rows and training, and what goes wrong in it."""

import json
from pathlib import Path

import forked
import numpy as np
import pytest
from small_world import write_recipes

from lrl_jax.cli import main as cli
from lrl_jax.data.feed.stream import Files
from lrl_jax.data.pack import packing, rows
from lrl_jax.vocab.tokenizer import load as tokenizers

ROOT = Path(__file__).parents[1]
MODULE = """
import seqio
import tensorflow as tf

OTHER = seqio.ByteVocabulary()
FEATURES = {"inputs": seqio.Feature(OTHER), "targets": seqio.Feature(OTHER)}

@seqio.map_over_dataset
def turned(line):
    return {"inputs": tf.strings.join(["Read: ", line]), "targets": line}

seqio.TaskRegistry.add(
    "read_aloud",
    source=seqio.TextLineDataSource({"train": FOLDER + "/??.txt"}),
    preprocessors=[
        turned,
        seqio.preprocessors.tokenize,
        seqio.CacheDatasetPlaceholder(),
        seqio.preprocessors.append_eos_after_trim,
    ],
    output_features=FEATURES,
)
seqio.MixtureRegistry.add("reading", [("read_aloud", 2.0)])
"""


@pytest.fixture
def world(tmp_path):
    """A recipe whose second half of training is a user's mixture, and the user's file."""
    base, _ = write_recipes(tmp_path)
    path = Path(base)
    text = path.read_text().replace(
        "data:\n", "data:\n  mixtures: {aloud: {seqio: reading, language: kor_Hang}}\n"
    )
    path.write_text(text.replace("mixture: {english: 1}", "mixture: {english: 1, aloud: 1}"))
    (tmp_path / "mine.py").write_text(f"FOLDER = {str(tmp_path)!r}\n{MODULE}")
    return tmp_path


def lrl(folder: Path, verb: str, *args: str) -> list[str]:
    """Runs a verb in a process of its own; which libraries it has brought in."""
    words = [verb, str(folder / "base.yaml"), "--import", str(folder / "mine.py"), *args]
    got = forked.run("worker_verb", words, ROOT, timeout=300)
    assert got.returncode == 0, got.stdout + got.stderr
    return got.stdout.splitlines()[-1:]


def test_a_users_mixture_is_packed_and_trained_on_without_tensorflow_in_the_parent(world):
    for verb in ("vocab", "init", "data", "train"):
        assert lrl(world, verb) == ["[]"]
    out = world / "runs/base/data"
    folder = packing.folders(out)["read_aloud"]
    manifest = rows.read_manifest(folder)
    assert (manifest.docs, manifest.language, len(manifest.shards)) == (640, "kor_Hang", 2)
    tokenizer = tokenizers.load(world / "runs/base/vocab")
    row = Files(folder, manifest).read(np.arange(1))[0]
    first = row.tokens[: row.lengths[0]]
    asked, said = (
        tokenizer.decode(first[(row.weights > 0)[: len(first)] == t]) for t in (False, True)
    )
    assert asked == f"Read: {said}"
    steps = (world / "runs/base/train/metrics.jsonl").read_text().splitlines()
    assert set(json.loads(steps[-1])["epochs"]) == {"english", "read_aloud"}
    resolved = (world / "runs/base/recipe.yaml").read_text()
    assert "task: read_aloud" in resolved


def test_seqios_own_batches_train_from_the_command_line(world):
    online = ("data.backend=seqio", "train.stages.0.steps=4")
    for verb in ("vocab", "init"):
        lrl(world, verb, *online)
    assert lrl(world, "data", *online) == ["['tensorflow', 'seqio']"]
    assert lrl(world, "train", *online) == ["['tensorflow', 'seqio']"]
    steps = (world / "runs/base/train/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in steps] == [1, 2, 3, 4]
    assert all(np.isfinite(json.loads(line)["loss"]) for line in steps)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("turned,", "turnt,"), "NameError: name 'turnt' is not defined\n    turnt,"),
        (('"reading"', '"readings"'), "no seqio Mixture 'reading'"),
        (('"read_aloud", 2.0', '"red_aloud", 2.0'), "mine.py:"),
    ],
)
def test_what_is_wrong_in_a_users_file_is_said_with_its_line(world, capsys, change, why):
    file = world / "mine.py"
    file.write_text(file.read_text().replace(*change).replace("read_aloud", f"t{abs(hash(why))}"))
    assert cli.main(["data", str(world / "base.yaml"), "--import", str(file)]) == 2
    said = capsys.readouterr().err
    assert why in said
    assert "lrl data: " in said
    assert "nearest are readings" in said or f"{file}:" in said
    assert "Traceback" not in said


def test_a_task_without_its_file_asks_for_it(world, capsys):
    assert cli.main(["check", str(world / "base.yaml")]) == 2
    assert "reading" in capsys.readouterr().err
