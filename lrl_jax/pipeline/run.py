"""Manages a run folder: decides which steps are due, runs them, and records their inputs.

    runs/<name>/recipe.yaml          the recipe as resolved
    runs/<name>/<step>/...           the results of the step
    runs/<name>/steps/<step>.json    what the step was made from and what it made (`pipeline.notes`)

A step that has finished is skipped while its inputs stay. A step that has not may change freely,
but for training, which goes on from its checkpoints: those begin with certain weights. What has
been packed follows the recipe; training compares what it has read of it. Any other step that has
finished is made anew only where that is asked for, and training is set aside, never removed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
import contextlib
import dataclasses
import itertools
import json
import time
from typing import Any, NamedTuple

from etils import epath

from lrl_jax import storage, text
from lrl_jax.data import dataset as datasets
from lrl_jax.data.feed import mixture
from lrl_jax.data.pack import packing, rows
from lrl_jax.pipeline import notes
from lrl_jax.pipeline.console import say
from lrl_jax.pipeline.lease import Lease
from lrl_jax.pipeline.notes import MismatchError, StepNote, digest
from lrl_jax.recipe import supply
from lrl_jax.recipe.file import dump
from lrl_jax.recipe.schema import Pretrained, Recipe
from lrl_jax.recipe.train import saved_rows_per_step
from lrl_jax.train.checkpoint import newest_meta
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.types import fingerprint


class Input(NamedTuple):
    """Describes something that a step depends on: a digest of its content, and where it lies."""

    digest: str
    place: str = ""


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
        from lrl_jax.hf import peft_read

        folder = self.base_adapter()
        if folder is None or not tokenizers.present(folder) or peft_read.vocab_size(folder) is None:
            return self.base_folder()
        return folder


@dataclasses.dataclass(frozen=True)
class Team:
    """Describes this process among those that share a run, by `devices.mesh.lead` and `meet`."""

    lead: bool = True
    meet: Callable[[str], None] = lambda name: None


ALONE = Team()
LEAD_ONLY = ("vocab", "data")  # steps without devices, which the lead runs while others wait
CLEARED = ("vocab", "init", "evaluate")  # their folders hold nothing that a later try can use
FOLLOWING = ("data", "train")  # these go on under a recipe that changed, as far as that can be
EARLIER = {"init": ("vocab",), "data": ("vocab",), "train": ("vocab", "init")}


def perform(
    run: Run,
    step: str,
    work: Callable[[Run], Any],
    *,
    redo: bool = False,
    force: bool = False,
    discard: bool = False,
    team: Team = ALONE,
) -> bool:
    """Runs a step if it is due; returns whether it ran. Every process calls it.

    Args:
      redo: whether a finished step whose inputs changed is made anew.
      force: whether it is made anew although they did not.
      discard: whether training that began with other weights is set aside, and begun again.

    Raises:
      MismatchError: the folder holds the step made from other inputs, and nothing says to redo it.
      VerificationError: a file of an earlier step is not what that step wrote.
    """
    want, out, path = inputs(run, step), run.at(step), _note(run, step)
    settings = _settings(run, step)
    note = StepNote({name: given.digest for name, given in want.items()}, settings, finished=False)
    have = notes.read(path)
    team.meet(f"{step}: all have read what is there")
    changed = _changed(have, want)
    aside = step == "train" and _began_otherwise(out, changed, force=force, discard=discard)
    finished = _finished(have)
    if finished and changed and step not in FOLLOWING and not (redo or force):
        raise MismatchError(
            f"{out} was made from other inputs; changed: {', '.join(changed.values())}. "
            f"Give the recipe another name, or make it anew with --redo"
        )
    if finished and not changed and not force and finished.settings == settings:
        if finished.outputs is not None:
            notes.verify(step, out, finished)
        elif team.lead:
            _complete(path, dataclasses.replace(note, outputs=notes.outputs(step, out)))
        return False
    started = time.time()
    if team.lead:
        notes.write(path, note)  # first: a step that is killed here has not finished
        if aside:
            say(f"train: what was trained is set aside as {notes.set_aside(out)}")
        if step in CLEARED and out.exists():
            out.rmtree()
        out.mkdir(parents=True, exist_ok=True)
    team.meet(f"{step}: begins")
    if team.lead or step not in LEAD_ONLY:
        work(run)
    team.meet(f"{step}: done")
    if team.lead:
        whole = dataclasses.replace(note, finished=True, outputs=notes.outputs(step, out))
        notes.write(path, whole, seconds=round(time.time() - started, 1))
    team.meet(f"{step}: noted")
    return True


def _settings(run: Run, step: str) -> str:
    # `lrl_jax.train` decides which of them may change while a training is interrupted.
    if step != "train":
        return ""
    train = run.recipe.train
    return digest(train.model_dump_json(exclude=None if train.step_rows else {"step_rows"}))


def _finished(note: StepNote | None) -> StepNote | None:
    return note if note is not None and note.finished else None


def _complete(path: epath.Path, note: StepNote) -> None:
    """Writes the note that an earlier version would have written for a finished step."""
    say(f"{path}: of an earlier version; what it was made from is not compared")
    notes.write(path, dataclasses.replace(note, finished=True))


def _changed(have: StepNote | None, want: Mapping[str, Input]) -> dict[str, str]:
    """Returns the inputs that differ from a note's: name -> how a message calls it."""
    if have is None or (have.outputs is None and have.finished):
        return {}
    if have.outputs is None and set(have.inputs) != set(want):
        return {}  # begun by a version that named its inputs otherwise
    names = dict.fromkeys([*have.inputs, *want])
    return {
        name: f"{name} ({want[name].place})" if name in want and want[name].place else name
        for name in names
        if name not in want or have.inputs.get(name) != want[name].digest
    }


def _has_checkpoints(folder: epath.Path) -> bool:
    checkpoints = folder / "checkpoints"
    return checkpoints.is_dir() and any(path.name.isdigit() for path in checkpoints.iterdir())


def _began_otherwise(
    out: epath.Path, changed: Mapping[str, str], *, force: bool, discard: bool
) -> bool:
    """Tells whether there is training to set aside; refuses that unless `discard`."""
    other_weights = force or not changed.keys().isdisjoint(EARLIER["train"])
    aside = other_weights and _has_checkpoints(out)
    if aside and not discard:
        raise MismatchError(_would_discard(out, changed))
    return aside


def _would_discard(out: epath.Path, changed: Mapping[str, str]) -> str:
    why = "holds training that began with other weights" if changed else "holds training"
    return (
        f"{out} {why}. Give the recipe another name, or undo the change; or begin again with "
        f"--discard-training, which sets that training aside as {out.name}.aside-1, or -2, ..."
    )


def _note(run: Run, step: str) -> epath.Path:
    return run.at(step).parent / "steps" / f"{step}.json"


def manifests(run: Run) -> dict[str, rows.Manifest]:
    """Returns the manifests of the packed datasets; the step `data` must have been done."""
    folders = packing.folders(run.at("data"))
    if missing := [name for name in run.recipe.data.datasets if name not in folders]:
        raise MismatchError(f"{run.at('data')} lacks {', '.join(missing)}; run `lrl data` again")
    return {name: rows.read_manifest(folders[name]) for name in run.recipe.data.datasets}


def counted(run: Run) -> Recipe:
    """Returns the recipe with `train.step_rows` as training began, where that says another size."""
    train, meta = run.recipe.train, newest_meta(run.at("train") / "checkpoints")
    rows = saved_rows_per_step(meta["train"]) if meta else train.batch_size
    if train.step_rows or rows == train.batch_size:
        return run.recipe
    update = {"train": train.model_copy(update={"step_rows": rows})}
    return run.recipe.model_copy(update=update)


def resolved(run: Run) -> Recipe:
    """Returns `counted` with epochs converted to steps; the data must be packed already."""
    recipe = counted(run)
    if not any(stage.epochs for stage in recipe.train.stages):
        return recipe
    return mixture.steps(recipe, manifests(run))


@contextlib.contextmanager
def locked(run: Run) -> Iterator[None]:
    """Reserves the run folder; raises InUseError while another process has reserved it."""
    with Lease(run.folder):
        storage.write(run.folder / "recipe.yaml", dump(counted(run)))
        yield


# ---------------------------------------------------------------------------- fingerprints
def inputs(run: Run, step: str) -> dict[str, Input]:
    """Returns everything that a step depends on, by name."""
    match step:
        case "vocab":
            return _vocab(run)
        case "init":
            return _init(run)
        case "data":
            return _data(run)
        case "train":
            return {name: _made(run, name) for name in ("vocab", "init", "data")}
        case "evaluate":
            return _trained(run) | _evaluate(run)
    assert step == "export", step
    return _trained(run) | {"export": Input(digest(run.recipe.export.model_dump_json()))}


def _made(run: Run, step: str) -> Input:
    """Returns one digest of what an earlier step has made, after comparing its files with its note.

    The step must have finished, and the steps it was made from must still be what they were.
    """
    have = notes.read(_note(run, step))
    if have is None or not have.finished:
        raise MismatchError(
            f"{run.at(step)} is not finished; run `lrl {step}` first, or `lrl run` for all steps"
        )
    for earlier in EARLIER.get(step, ()) if have.outputs is not None else ():
        if have.inputs[earlier] != _made(run, earlier).digest:
            raise MismatchError(
                f"{run.at(step)} was made from another {earlier} than {run.at(earlier)} holds now: "
                f"run `lrl {step}`, or undo the change of {earlier}"
            )
    have = notes.verify(step, run.at(step), have)
    return Input(have.made())


def _contents(part: str, section: Any, files: Mapping[str, str]) -> dict[str, Input]:
    """Returns a digest of a section's settings and one of each file it names, by its key.

    Args:
      files: path -> digest of its content. A path that stands in no setting is its own name.
    """
    named: dict[str, Input] = {}

    def without_paths(value: Any, key: str) -> Any:
        if isinstance(value, dict):
            return {name: without_paths(item, f"{key}.{name}") for name, item in value.items()}
        if isinstance(value, list):
            return [without_paths(item, f"{key}.{i}") for i, item in enumerate(value)]
        if value not in files:
            return value
        named[key] = Input(files[value][:16], value)
        return ""

    settings = without_paths(section.model_dump(mode="json"), part)
    shown = {given.place for given in named.values()}
    unnamed = {uri: Input(files[uri][:16], uri) for uri in files if uri not in shown}
    return {**unnamed, **named, part: Input(digest(json.dumps(settings, sort_keys=True)))}


def _vocab(run: Run) -> dict[str, Input]:
    base, vocab = run.recipe.base, run.recipe.vocab
    files = _texts(uri for _, uri in supply.vocab_texts(vocab))
    if donor := getattr(vocab, "donor", ""):
        files[donor] = fingerprint(*tokenizers.read(donor).values())
    source = run.base_tokenizer() if isinstance(base, Pretrained) else base.tokenizer
    tokenizer = fingerprint(*tokenizers.read(source).values()) if source else ""
    return {"base tokenizer": Input(tokenizer), **_contents("vocab", vocab, files)}


def _init(run: Run) -> dict[str, Input]:
    base, settings = run.recipe.base, run.recipe.init
    if isinstance(base, Pretrained):
        folders = filter(None, (run.base_folder(), run.base_adapter()))
        weights = " ".join(map(_weights, folders))
    else:
        weights = digest(base.model_dump_json())
    words = settings.words.model_dump().values() if settings.words else ()
    files = _texts([*settings.text, *filter(None, words)])
    if settings.helper:
        files[settings.helper] = _weights(epath.Path(settings.helper))
    return {
        "base": Input(weights),
        "seed": Input(str(run.recipe.seed)),
        "vocab": _made(run, "vocab"),
        **_contents("init", settings, files),
    }


def _weights(folder: epath.Path) -> str:
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; want a Hugging Face model")
    files = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".json"))
    return digest(" ".join(f"{p.name}:{storage.sha256(p)}" for p in files))


def _data(run: Run) -> dict[str, Input]:
    data = run.recipe.data
    texts: dict[str, str] = {}
    for dataset in data.datasets.values():
        texts |= datasets.contents(dataset)
    shape = data.model_dump_json(exclude={"workers", "cache_gib"})
    return {
        **{f"text {name}": Input(texts[name][:16]) for name in sorted(texts)},
        "vocab": _made(run, "vocab"),
        "seed": Input(str(run.recipe.seed)),
        "data": Input(digest(shape)),
    }


def _evaluate(run: Run) -> dict[str, Input]:
    settings = run.recipe.evaluate
    baselines = itertools.chain.from_iterable(settings.baseline_text.values())
    files = _texts([*(uri for _, uri in settings.files()), *baselines])
    averaged = {"use_ema": Input("true")} if run.recipe.export.use_ema else {}
    return averaged | _contents("evaluate", settings, files)


def _trained(run: Run) -> dict[str, Input]:
    made = {name: _made(run, name) for name in ("vocab", "init")}
    if not run.step:
        steps = Input(str(resolved(run).train.steps))
        return made | {"train": _made(run, "train"), "steps": steps}
    checkpoint = run.at("train") / "checkpoints" / str(run.step)  # it verifies itself
    if not checkpoint.exists():
        raise ValueError(f"--step {run.step}: there is no {checkpoint}")
    return made | {"steps": Input(str(run.step))}


def _texts(uris: Iterable[str]) -> dict[str, str]:
    return {uri: text.fingerprint(uri) for uri in sorted(set(uris))}
