"""Writes a loaded model as a Hugging Face folder, by the writer and gate of the step `export`."""

from collections.abc import Sequence
import contextlib
import dataclasses
from typing import Literal

from etils import epath

from lrl_jax import storage
from lrl_jax.data.read import plain
from lrl_jax.devices import mesh as meshes
from lrl_jax.devices import peers
from lrl_jax.evaluate.kinds import MeasuredModel
from lrl_jax.hf import gate, load
from lrl_jax.hf import save as hf_save
from lrl_jax.model.config import Dtype
from lrl_jax.pipeline import export, vocab
from lrl_jax.pipeline.console import progress, say
from lrl_jax.pipeline.models import FolderSource
from lrl_jax.pipeline.run import Run
from lrl_jax.recipe.schema import Export
from lrl_jax.train.checkpoint import VerificationError
from lrl_jax.vocab.tokenizer.types import ADDED

TEXTS = ("sample:test.eng", "sample:test.kor")  # two scripts, and no file to bring
CARD = "README.md"


def save(
    model: MeasuredModel,
    source: FolderSource | Run,
    place: str,
    dtype: Dtype | Literal["auto"],
    texts: Sequence[str],
) -> epath.Path:
    """Writes and proves a folder, and returns it; as `Model.save`, every process calls it."""
    storage.refuse_odd(place, writes=True)
    out = epath.Path(place)
    if out.exists():
        raise ValueError(f"{out}: is there already; name another folder")
    if isinstance(source, Run) and tuple(texts) != TEXTS:
        raise ValueError(
            "texts: a checkpoint is compared on the texts of its recipe, which export.gate_on "
            "names; leave them out"
        )
    storage.check_writable(out)
    if isinstance(source, Run):
        _checkpoint(source, out, dtype)
    else:
        _folder(model, source, out, dtype, texts)
    return out


def _checkpoint(run: Run, out: epath.Path, dtype: Dtype | Literal["auto"]) -> None:
    """Exports the checkpoint of a run into a folder of its own, as `lrl export` does."""
    settings = run.recipe.export.model_copy(
        update={"form": "merged"} | ({} if dtype == "auto" else {"dtype": dtype})
    )
    recipe = run.recipe.model_copy(update={"export": settings})
    elsewhere = {**run.elsewhere, "export": out}
    with _removed_if_cut_short(out.with_name(f"{out.name}.unproved")):
        export.run(dataclasses.replace(run, recipe=recipe, elsewhere=elsewhere))


def _folder(
    model: MeasuredModel,
    source: FolderSource,
    out: epath.Path,
    dtype: Dtype | Literal["auto"],
    texts: Sequence[str],
) -> None:
    lines = [line for line in plain.lines(*texts) if line.strip()][: Export().gate_lines]
    if not lines:
        raise ValueError(f"texts: no line in {', '.join(texts) or 'nothing'} to compare")
    said = load.read_config(source.folder, source.adapter)
    stored = _dtype(model, said, dtype)
    staged = out.with_name(f"{out.name}.unproved")
    with _removed_if_cut_short(staged), progress("save") as tell:
        tell(f"writing {out}", 0, 0)
        if meshes.lead():
            staged.rmtree(missing_ok=True)
        peers.meet("the folder is clear")
        generation = load.read_generation(source.folder) or None
        hf_save.save(
            staged, model.params, model.cfg, said, stored, Export().max_shard_bytes, generation
        )
        if meshes.lead():
            _copy_beside(source, staged)
        peers.meet("the folder is written")
        tell("comparing it with the model", 0, 0)
        result = gate.check(staged, model.cfg, model.params, model.tokenizer, lines, stored)
        if result.problems:
            raise VerificationError(
                f"{staged}: the folder is not the model: {'; '.join(result.problems)}; it stays "
                "under this name to be looked at"
            )
        peers.meet("the folder is checked")  # it is renamed, and others may still read it
        if meshes.lead():
            passed = {"passed": True, **dataclasses.asdict(result)}
            storage.write_json(staged / "gate.json", passed)
            hf_save.finish(staged, out)
    say(f"save: {out}: same tokens on {result.texts} texts, logits reloaded within "
        f"{result.reload_error:.1e}")  # fmt: skip


def _dtype(model: MeasuredModel, said: dict, dtype: Dtype | Literal["auto"]) -> str:
    if dtype != "auto":
        return dtype
    came_in = said.get("dtype") or said.get("torch_dtype")
    return "bfloat16" if "bfloat16" in (came_in, model.cfg.dtype) else "float32"


def _copy_beside(source: FolderSource, staged: epath.Path) -> None:
    """Copies the tokenizer, the licence, and the card unless an adapter makes it another model."""
    vocab.copy_tokenizer(source.tokenizer, staged)
    for path in source.folder.iterdir():
        is_card = path.name == CARD and source.adapter is None
        if is_card or path.name == ADDED or path.name.startswith("LICENSE"):
            (staged / path.name).write_bytes(path.read_bytes())


@contextlib.contextmanager
def _removed_if_cut_short(staged: epath.Path):
    """Removes what was written when the block ends by an error or Ctrl-C; the gate's stays."""
    try:
        yield
    except VerificationError:
        raise
    except BaseException:
        if meshes.lead():
            staged.rmtree(missing_ok=True)
        raise
