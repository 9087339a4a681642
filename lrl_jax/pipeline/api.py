"""Offers the package to Python code: recipes, runs, models and what they generate.

    recipe = lrl_jax.load_recipe("quickstart", "train.batch_size=8")
    lrl_jax.run(recipe)
    model = lrl_jax.load_model("runs/quickstart/export")
    lrl_jax.generate(model, ["Translate to Korean: The cat sleeps."], max_new_tokens=20)
    lrl_jax.generate(model, [[{"role": "user", "content": "Who sleeps?"}]])

The same names are importable from `lrl_jax` itself; importing it alone loads no library.
"""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
from typing import Any, Literal

from etils import epath
import jax
from jax.sharding import Mesh

from lrl_jax.data.seqio import imports as recipe_imports
from lrl_jax.data.templates import documents
from lrl_jax.data.templates import table as templates
from lrl_jax.devices import mesh as meshes
from lrl_jax.devices import peers
from lrl_jax.evaluate import generate as generation
from lrl_jax.evaluate.kinds import MeasuredModel
from lrl_jax.hf import families, load
from lrl_jax.model import llama
from lrl_jax.pipeline.perform import Team
from lrl_jax.pipeline.run import Run
from lrl_jax.pipeline.steps import perform_all
from lrl_jax.recipe.schema import Pretrained, Recipe
from lrl_jax.recipe.train import Mesh as MeshShape
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.types import Tokenizer

Messages = Sequence[Mapping[str, str]]  # {role, content} of each turn of a conversation


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """Holds a model of a Hugging Face folder, ready to compute on the devices of `mesh`."""

    config: llama.LlamaConfig
    params: llama.Params = dataclasses.field(repr=False)
    tokenizer: Tokenizer
    mesh: Mesh
    context: int = 0  # tokens of a prompt and its answer together at most; 0: not known
    ends: tuple[int, ...] = ()  # ids that end an answer beside those of its template


def load_recipe(path: str, *overrides: str, imports: Sequence[str] = ()) -> Recipe:
    """Reads a recipe, or the one that ships under this name, with `a.b=c` overrides.

    Args:
      imports: Python files that register seqio Tasks and Mixtures; they are run.

    Raises:
      ValueError: what is wrong, with the file and the key, one problem a line.
    """
    return recipe_imports.load_recipe(path, overrides, imports)


def run(recipe: Recipe, *, redo: bool = False, discard_training: bool = False) -> epath.Path:
    """Does every step of a recipe that is due, and returns the run's folder.

    On several hosts call `lrl_jax.devices.mesh.start` first, on each of them; then this.

    Args:
      redo: whether finished steps whose inputs changed are made anew.
      discard_training: whether training that began with other weights is set aside, as
        train.aside-1, and begun again.

    Raises:
      ValueError: what the recipe asks for cannot be done, or the folder is in use or was made from
        other inputs; the message says what to do.
    """
    meshes.start()
    this = Run(recipe)
    team = Team(meshes.lead(), peers.meet)
    perform_all(this, redo=redo, discard=discard_training, team=team)
    return this.folder


def load_tokenizer(name: str, revision: str = "main") -> Tokenizer:
    """Loads the tokenizer of a folder, a file, `gs://` or a hub id.

    No such place, or no usable tokenizer in it, is a ValueError.
    """
    path = epath.Path(name)
    if not path.exists() and load.HUB_ID.fullmatch(name):
        path = load.resolve(Pretrained(model=name, revision=revision))
    return tokenizers.load(path)


def load_model(
    name: str,
    *,
    revision: str = "main",
    dtype: Literal["float32", "bfloat16"] = "float32",
    mesh: MeshShape | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> LoadedModel:
    """Loads a model and its tokenizer from a folder, `gs://` or a hub id.

    Args:
      dtype: what weights are stored and computed in.
      mesh: how devices share the weights; by default each holds a part of every weight (`fsdp`).

    Raises:
      ValueError: no such place, a model that is none of the families, or a mesh that does not fit.
    """
    folder = load.resolve(Pretrained(model=name, revision=revision))
    said = load.read_config(folder)
    config = families.config_from_hf(said, dtype, "nothing")
    grid = meshes.make(mesh or MeshShape(), devices)
    params = load.load(folder, config, meshes.param_shardings(config, grid), dtype)
    tokenizer = tokenizers.load(folder)
    return LoadedModel(
        config, params, tokenizer, grid, families.positions(said), load.ends(folder, tokenizer.size)
    )


def generate(
    model: LoadedModel,
    prompts: Iterable[str | Messages],
    max_new_tokens: int = 64,
    batch_size: int = 8,
    **drawing: Any,
) -> list[str]:
    """Continues each prompt, with its most probable tokens if nothing else is said, to its end.

    Args:
      prompts: texts, continued as they stand up to the end of the document, so that a prompt and
        what is returned are one text; or conversations, of which the user spoke last, answered in
        the tokenizer's own chat template: {role, content} of system, user, assistant.
      drawing: stops, temperature, top_p, min_p, repetition_penalty, seed, as in
        `lrl_jax.evaluate.generate.Settings`.

    Raises:
      ValueError: prompts that are neither, texts and conversations together, a tokenizer without a
        chat template, or a setting that is out of its range.
    """
    tokenizer, end = model.tokenizer, model.tokenizer.eos_id
    if isinstance(prompts, str | bytes | Mapping) or not isinstance(prompts, Iterable):
        raise ValueError(f"prompts={prompts!r:.60}; want a list of texts or of conversations")
    prompts = [*prompts]
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]
    if texts and len(texts) < len(prompts):
        raise ValueError("prompts: want texts or conversations; got both, so call it twice")
    records = [_record(i, prompt) for i, prompt in enumerate(prompts) if not texts]
    if records:
        opened = (templates.prompt_parts(templates.OWN, record, tokenizer) for record in records)
        ids = [documents.ids(parts, tokenizer) for parts in opened]
        end = templates.ending(templates.OWN, records[0], tokenizer)
    else:
        ids = tokenizer.encode_batch(texts)
    measured = MeasuredModel(
        model.config, model.params, tokenizer, model.mesh, length=0, loss_blocks=1,
        context=model.context,
    )  # fmt: skip
    ends = tuple(dict.fromkeys((end, *model.ends)))
    settings = generation.Settings(max_new_tokens, ends, continues=not records, **drawing)
    answers = [""] * len(ids)
    for index, answer in generation.generate(measured, ids, settings, batch_size):
        answers[index] = answer.text
    return answers


def _record(index: int, prompt: Any) -> templates.Record:
    try:
        return templates.asked(prompt)
    except ValueError as e:
        raise ValueError(f"prompts[{index}]: {e}") from None
