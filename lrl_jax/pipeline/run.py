"""Holds a run: a recipe and the folder in which its steps leave their results.

runs/<name>/recipe.yaml          the recipe as resolved
runs/<name>/<step>/...           the results of the step
runs/<name>/steps/<step>.json    what the step was made from and what it made (`pipeline.notes`)
"""

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
from typing import Any

from etils import epath

from lrl_jax import storage
from lrl_jax.data.feed import mixture
from lrl_jax.data.feed.plan import Plan
from lrl_jax.data.pack import packing, rows
from lrl_jax.devices import signals
from lrl_jax.devices.lease import Lease
from lrl_jax.pipeline.notes import MismatchError
from lrl_jax.recipe.file import dump
from lrl_jax.recipe.schema import Pretrained, Recipe
from lrl_jax.recipe.train import saved_rows_per_step
from lrl_jax.train import checkpoint
from lrl_jax.vocab.tokenizer import load as tokenizers

STEPS = ("vocab", "init", "data", "train", "evaluate", "export")
CELL = "cell.json"  # what `pipeline.study` leaves in a cell: where its steps lie


@dataclasses.dataclass(frozen=True)
class Run:
    """Holds a recipe and its run folder.

    Attributes:
      elsewhere: step -> its folder in another run, whose result is used.
      step: the checkpoint of training to evaluate and export; 0 means the newest.
    """

    recipe: Recipe
    elsewhere: Mapping[str, epath.Path] = dataclasses.field(default_factory=dict)
    step: int = 0

    @property
    def folder(self) -> epath.Path:
        return epath.Path(self.recipe.folder) / self.recipe.name

    def at(self, step: str) -> epath.Path:
        """Returns the folder of a step."""
        return self.elsewhere.get(step, self.folder / step)

    def note(self, step: str) -> epath.Path:
        """Returns the file that says what a step was made from and what it made."""
        return self.at(step).parent / "steps" / f"{step}.json"

    def base_folder(self) -> epath.Path:
        """Returns the Hugging Face folder of the base; a model on the hub is downloaded."""
        from lrl_jax.hf import load

        assert isinstance(self.recipe.base, Pretrained)
        return load.resolve(self.recipe.base)

    def base_adapter(self) -> epath.Path | None:
        """Returns the folder of the adapter that is merged into the base, if any."""
        from lrl_jax.hf import load

        assert isinstance(self.recipe.base, Pretrained)
        return load.resolve_adapter(self.recipe.base)

    def base_config(self) -> dict[str, Any]:
        """Returns the `config.json` of the base with its adapter."""
        from lrl_jax.hf import load

        return load.read_config(self.base_folder(), self.base_adapter())

    def base_tokenizer(self) -> epath.Path:
        """Returns the folder of the tokenizer that fits the base's embeddings."""
        return tokenizer_folder(self.base_folder(), self.base_adapter())

    def another(self) -> "Run":
        """Returns the run that `init.weights` names, and its step that is taken."""
        from lrl_jax.data.seqio import imports

        source = self.recipe.init.weights
        assert source is not None
        folder = epath.Path(source.run)
        steps_at = places(folder)
        if not (folder / "recipe.yaml").exists() or not steps_at["train"].is_dir():
            raise ValueError(
                f"init.weights.run: {folder}: no run that was trained; want the folder of one, "
                "which holds recipe.yaml and train/checkpoints"
            )
        steps = checkpoint.committed_steps(steps_at["train"] / "checkpoints")
        step = source.step or max(steps, default=0)
        if step not in steps:
            kept = ", ".join(map(str, steps)) or "none"
            raise ValueError(f"init.weights.step: {folder} has no step {step}; steps kept: {kept}")
        return Run(imports.load_recipe(str(folder / "recipe.yaml"), (), ()), steps_at, step)


def tokenizer_folder(base: epath.Path, adapter: epath.Path | None) -> epath.Path:
    """Returns which of two folders has the tokenizer that fits the embeddings: base or adapter."""
    from lrl_jax.hf import peft_read

    if adapter is None or not tokenizers.present(adapter) or peft_read.vocab_size(adapter) is None:
        return base
    return adapter


def places(folder: epath.Path) -> dict[str, epath.Path]:
    """Returns the folders of the steps of a run; those of a study's cell lie elsewhere.

    ValueError where the record of a cell cannot be read.
    """
    record = folder / CELL
    if not record.exists():
        return {name: folder / name for name in STEPS}
    try:
        steps = dict(storage.read_json(record)["steps"])
        return {
            name: folder.parent / str(steps.get(name, f"{folder.name}/{name}")) for name in STEPS
        }
    except (KeyError, TypeError, ValueError) as e:
        raise ValueError(f"{record}: is no record of a study's cell ({e!r})") from None


def manifests(run: Run) -> dict[str, rows.Manifest]:
    """Returns the manifests of the packed datasets; the step `data` must have been done."""
    folders = packing.folders(run.at("data"))
    if missing := [name for name in run.recipe.data.datasets if name not in folders]:
        raise MismatchError(f"{run.at('data')} lacks {', '.join(missing)}; run `lrl data` again")
    return {name: rows.read_manifest(folders[name]) for name in run.recipe.data.datasets}


def counted(run: Run) -> Recipe:
    """Returns the recipe with `train.step_rows` as training began, where that says another size."""
    train, meta = run.recipe.train, checkpoint.newest_meta(run.at("train") / "checkpoints")
    rows = saved_rows_per_step(meta["train"]) if meta else train.batch_size
    if train.step_rows or rows == train.batch_size:
        return run.recipe
    update = {"train": train.model_copy(update={"step_rows": rows})}
    return run.recipe.model_copy(update=update)


def trained_length(run: Run) -> int:
    """Returns how many tokens rows had in training; 0 where none was, or where nothing says it."""
    meta = checkpoint.newest_meta(run.at("train") / "checkpoints")
    data = meta.get("data", {}) if meta else {}
    if not data or "sequence_length" in data:
        return int(data.get("sequence_length", 0))
    # An earlier version did not say it: the rows that it read do, where they still lie there.
    read = Plan.from_json(data["plan"]).fingerprints
    with contextlib.suppress(ValueError):  # they do not lie there, as with seqio
        for name, folder in packing.folders(run.at("data")).items():
            manifest = rows.read_manifest(folder)
            if manifest.fingerprint == read.get(name):
                return manifest.sequence_length
    return 0


def refuse_other_length(run: Run) -> None:
    """Raises MismatchError if training had rows of another length than the recipe has."""
    trained, asked = trained_length(run), run.recipe.data.sequence_length
    if trained not in (0, asked):
        raise MismatchError(
            f"{run.at('train')} was trained on rows of {trained} tokens, and the recipe has "
            f"{asked} (data.sequence_length): undo the change, or give the recipe another name"
        )


def resolved(run: Run) -> Recipe:
    """Returns `counted` with epochs converted to steps; the data must be packed already."""
    recipe = counted(run)
    if not any(stage.epochs for stage in recipe.train.stages):
        return recipe
    return mixture.steps(recipe, manifests(run))


@contextlib.contextmanager
def locked(run: Run) -> Iterator[None]:
    """Reserves the run folder; raises InUseError while another process has reserved it."""
    with Lease(run.folder) as lease, signals.at_end(lambda code: lease.release()):
        storage.write(run.folder / "recipe.yaml", dump(counted(run)))
        yield
