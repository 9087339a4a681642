"""A run small enough to do its steps in no time, with works that only write files."""

from pathlib import Path

from lrl_jax.pipeline.perform import perform
from lrl_jax.pipeline.run import Run
from lrl_jax.recipe import file as recipe_file

RECIPE = """
name: small
folder: {folder}
base: {{shape: {{hidden_size: 8, num_hidden_layers: 1, intermediate_size: 8,
        num_attention_heads: 1, num_key_value_heads: 1}}}}
vocab: {{method: train, text: ["{text}"], size: 300}}
data:
  sequence_length: 8
  datasets: {{t: {{kind: text, path: ["{text}"], language: eng_Latn}}}}
train:
  batch_size: 1
  stages:
    - {{name: a, steps: 1, mixture: {{t: 1}}, learn: [{{match: ".*", schedule: {{peak: 1}}}}]}}
"""


def small_run(folder: Path):
    """Writes text and recipe; returns a function that makes the run with overrides."""
    (folder / "t.txt").write_text("one\n")
    path = folder / "small.yaml"
    path.write_text(RECIPE.format(folder=folder / "runs", text=folder / "t.txt"))

    def make(*overrides):
        return Run(recipe_file.load(str(path), overrides))

    make.text = folder / "t.txt"
    return make


def writes(files):
    def work(this):
        for name, text in files.items():
            step, _, rest = name.partition("/")
            path = this.at(step) / rest
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return work


def finish(make, *overrides, init="1"):
    made = {
        "vocab": {"vocab/tokenizer.json": "t", "vocab/splice.json": "{}"},
        "init": {"init/config.json": init},
        "data": {
            "data/datasets.json": "{}", "data/t/0/manifest.json": "{}", "data/t/0/order.npy": "o",
        },
        "train": {"train/checkpoints/3/meta/metadata": "m"},
        "evaluate": {"evaluate/after.json": "{}", "evaluate/items/after/bits/k.jsonl": "{}"},
    }  # fmt: skip
    for step, files in made.items():
        perform(make(*overrides), step, writes(files), redo=True)
