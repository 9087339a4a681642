"""A recipe in the registry of seqio: what training reads, by name, and how much of each."""

from pathlib import Path

from hand_tokenizer import make
import numpy as np
import pytest

from lrl_jax.data.feed import mixture
from lrl_jax.data.pack import jobs
from lrl_jax.data.seqio import registry
from lrl_jax.data.seqio.libraries import seqio
from lrl_jax.recipe import file as recipe_file
from lrl_jax.recipe.schema import Recipe

DOCS = Path(__file__).parents[1] / "docs/data.md"
RECIPE = """
name: quickstart
base:
  shape: {{hidden_size: 8, num_hidden_layers: 1, intermediate_size: 8, num_attention_heads: 1,
          num_key_value_heads: 1}}
vocab: {{method: train, text: [a], size: 300}}
data:
  sequence_length: 8
  workers: 1
  datasets:
    short: {{kind: text, path: ["{folder}/short.txt"], language: kor_Hang}}
    long: {{kind: text, path: ["{folder}/long.txt"], language: eng_Latn}}
  mixtures: {{both: {{of: {{short: 1, long: 3}}}}, sized: {{of: {{short: 1, long: 1}}, by: size}}}}
train:
  batch_size: 2
  replay: {{long: 0.5}}
  stages:
    - name: continue
      steps: 4
      mixture: {{short: 1}}
      learn: [{{match: ".*", schedule: {{peak: 1.0e-3, kind: constant}}}}]
"""


def recipe_of(tmp_path: Path) -> Recipe:
    """Documents of 2 tokens (one and its end) and of 4."""
    (tmp_path / "short.txt").write_text("a\nb\nc\n" * 4)
    (tmp_path / "long.txt").write_text("a b c\nc b a\n" * 4)
    tree = recipe_file.YAML(typ="safe", pure=True).load(RECIPE.format(folder=tmp_path))
    return recipe_file.parse(tree)


@pytest.fixture(autouse=True)
def forget():
    yield
    for names in (seqio.TaskRegistry, seqio.MixtureRegistry):
        for name in [name for name in names.names() if name.startswith("lrl.quickstart")]:
            names.remove(name)


def rates(name: str) -> dict[str, float]:
    """Shares of examples of each dataset."""
    provider = seqio.get_mixture_or_task(name)
    every = {task.name.rpartition(".")[2]: provider.get_rate(task) for task in provider.tasks}
    return {name: rate / sum(every.values()) for name, rate in every.items()}


def test_a_stage_has_the_rates_that_give_tokens_their_shares_replay_included(tmp_path):
    recipe, tokenizer = recipe_of(tmp_path), make()
    manifests = jobs.prepare_all(recipe.data, tokenizer, tmp_path / "data")
    registry.register(recipe, tokenizer, packed=tmp_path / "data")
    # half of the tokens each: a document of `long` has twice as many, so it is drawn half as often
    assert rates("lrl.quickstart.continue") == pytest.approx({"short": 2 / 3, "long": 1 / 3})
    # a quarter and three quarters of the tokens: 1/2 to 3/4 of documents
    assert rates("lrl.quickstart.both") == pytest.approx({"short": 2 / 5, "long": 3 / 5})
    # 24 and 32 tokens, which are 12 and 8 documents
    assert rates("lrl.quickstart.sized") == pytest.approx({"short": 12 / 20, "long": 8 / 20})
    [stage] = mixture.plan(recipe, manifests).stages
    tokens = {
        name: weight * manifests[name].tokens / manifests[name].rows
        for name, weight in stage.weights.items()
    }
    assert tokens["short"] == pytest.approx(tokens["long"])


def test_a_stage_gives_the_documents_that_are_packed(tmp_path):
    recipe, tokenizer = recipe_of(tmp_path), make()
    manifests = jobs.prepare_all(recipe.data, tokenizer, tmp_path / "data")
    registry.register(recipe, tokenizer, packed=tmp_path / "data")
    stage = seqio.get_mixture_or_task("lrl.quickstart.continue")
    texts = [
        example["targets"].tolist()
        for task in stage.tasks  # of the mixture, the first that is used up would end the others
        for example in task.get_dataset(None, shuffle=False).as_numpy_iterator()
    ]
    want = [[263, 2], [264, 2], [265, 2]] * 4 + [[263, 264, 265, 2], [265, 264, 263, 2]] * 4
    assert sorted(texts) == sorted(want)
    assert sum(map(len, texts)) == sum(manifest.tokens for manifest in manifests.values())


def test_without_packed_data_shares_are_rates_and_sizes_are_asked_for(tmp_path):
    recipe = recipe_of(tmp_path)
    with pytest.raises(ValueError, match=r"mixture 'sized' depends on the size .* packed="):
        registry.register(recipe, make())
    mixtures = {"both": recipe.data.mixtures["both"]}
    data = recipe.data.model_copy(update={"mixtures": mixtures})
    registry.register(recipe.model_copy(update={"data": data}), make())
    assert rates("lrl.quickstart.continue") == pytest.approx({"short": 0.5, "long": 0.5})
    assert rates("lrl.quickstart.both") == pytest.approx({"short": 0.25, "long": 0.75})


def test_a_stage_called_as_a_mixture_has_a_name_of_its_own(tmp_path):
    recipe, tokenizer = recipe_of(tmp_path), make()
    stage = recipe.train.stages[0].model_copy(update={"name": "both"})
    train = recipe.train.model_copy(update={"stages": (stage,)})
    jobs.prepare_all(recipe.data, tokenizer, tmp_path / "data")
    names = registry.register(
        recipe.model_copy(update={"train": train}), tokenizer, packed=tmp_path / "data"
    )
    assert set(names) == {
        f"lrl.quickstart.{name}" for name in ("short", "long", "both", "sized", "stage.both")
    }


def test_the_loop_in_the_docs_reads_a_stage(tmp_path):
    recipe, tokenizer = recipe_of(tmp_path), make()
    jobs.prepare_all(recipe.data, tokenizer, tmp_path / "data")
    registry.register(recipe, tokenizer, packed=tmp_path / "data")
    section = DOCS.read_text().partition("## Our stages in a seqio loop")[2]
    loop = section.split("```python\n")[2].partition("```")[0]
    names = {"seqio": seqio, "tokenizer": tokenizer, "length": 8, "steps": 3}
    exec(loop, names)
    batch = names["batch"]
    assert batch["decoder_target_tokens"].shape == (2, 8)
    assert set(np.unique(batch["decoder_loss_weights"])) <= {0.0, 1.0}
