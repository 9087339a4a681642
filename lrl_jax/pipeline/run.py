"""Manages a run folder: decides which steps are due, runs them, and records their inputs.

    runs/<name>/recipe.yaml          the recipe as resolved
    runs/<name>/<step>/...           the results of the step
    runs/<name>/steps/<step>.json    the inputs of the step, and whether it finished

A step is skipped if it has finished with the same inputs, continued if it was interrupted, and
refused if its inputs have changed since.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import dataclasses
import hashlib
import itertools
import json
import time
from typing import Any

from etils import epath

from lrl_jax import __version__, storage, text
from lrl_jax.data import dataset as datasets
from lrl_jax.data.feed import mixture
from lrl_jax.data.pack import packing, rows
from lrl_jax.pipeline.lease import Lease
from lrl_jax.recipe import supply
from lrl_jax.recipe.file import dump
from lrl_jax.recipe.schema import Pretrained, Recipe
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.types import fingerprint


class MismatchError(ValueError):
    """Reports that a step in the run folder was made from other inputs than the recipe has now."""

    exit_code = 4


@dataclasses.dataclass(frozen=True)
class Run:
    """Holds a recipe and its run folder; `elsewhere` has steps whose folder is in another run."""

    recipe: Recipe
    elsewhere: Mapping[str, epath.Path] = dataclasses.field(default_factory=dict)

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
KEPT = ("data",)  # steps that replace their old results only once the new ones are complete
LEAD_ONLY = ("vocab", "data")  # steps without devices, which the lead runs while others wait


def perform(
    run: Run, step: str, work: Callable[[Run], Any], *, redo: bool = False, team: Team = ALONE
) -> bool:
    """Runs a step if it is due; returns whether it ran. Every process calls it.

    A folder that holds the step made from other inputs is a MismatchError, unless `redo`.
    """
    want, out, note = inputs(run, step), run.at(step), _note(run, step)
    # `lrl_jax.train` decides which of them may change while a training is interrupted.
    settings = _hash(run.recipe.train.model_dump_json()) if step == "train" else ""
    have = _read_note(note)
    team.meet(f"{step}: all have read what is there")
    if have is not None and not redo:
        was = have["inputs"]
        if changed := [name for name in was | want if was.get(name) != want.get(name)]:
            raise MismatchError(
                f"{out} was made from other inputs; changed: {', '.join(changed)}. "
                f"Give the recipe another name, or make it anew with --redo"
            )
        if have["finished"] and have["settings"] == settings:
            return False
    started = time.time()
    record = {"inputs": want, "settings": settings, "finished": False, "version": __version__}
    if team.lead:
        if have is not None and redo and step not in KEPT and out.exists():
            out.rmtree()
        out.mkdir(parents=True, exist_ok=True)
        note.parent.mkdir(parents=True, exist_ok=True)
        storage.write_json(note, record)
    team.meet(f"{step}: begins")
    if team.lead or step not in LEAD_ONLY:
        work(run)
    team.meet(f"{step}: done")
    if team.lead:
        seconds = round(time.time() - started, 1)
        storage.write_json(note, record | {"finished": True, "seconds": seconds})
    team.meet(f"{step}: noted")
    return True


def _note(run: Run, step: str) -> epath.Path:
    return run.at(step).parent / "steps" / f"{step}.json"


def _read_note(path: epath.Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        note = storage.read_json(path)
        complete = {"settings": note["settings"], "inputs": dict(note["inputs"])}
        return note | complete | {"finished": bool(note["finished"])}
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise MismatchError(
            f"{path}: does not say what its step was made from ({type(e).__name__}: {e}); remove "
            "the file, and the step is taken up again from what lies in its folder"
        ) from None


def manifests(run: Run) -> dict[str, rows.Manifest]:
    """Returns the manifests of the packed datasets; the step `data` must have been done."""
    folders = packing.folders(run.at("data"))
    if missing := [name for name in run.recipe.data.datasets if name not in folders]:
        raise MismatchError(f"{run.at('data')} lacks {', '.join(missing)}; run `lrl data` again")
    return {name: rows.read_manifest(folders[name]) for name in run.recipe.data.datasets}


def resolved(run: Run) -> Recipe:
    """Returns the recipe with epochs converted to steps; the data must be packed already."""
    if not any(stage.epochs for stage in run.recipe.train.stages):
        return run.recipe
    return mixture.steps(run.recipe, manifests(run))


@contextlib.contextmanager
def locked(run: Run) -> Iterator[None]:
    """Reserves the run folder; raises InUseError while another process has reserved it."""
    with Lease(run.folder):
        storage.write(run.folder / "recipe.yaml", dump(run.recipe))
        yield


# ---------------------------------------------------------------------------- fingerprints
def inputs(run: Run, step: str) -> dict[str, str]:
    """Returns everything that a step depends on, by name, each as a short fingerprint."""
    match step:
        case "vocab":
            return _vocab(run)
        case "init":
            return _init(run)
        case "data":
            return _data(run)
        case "train":
            return {name: _made(run, name) for name in ("init", "data")}
        case "evaluate":
            return _evaluate(run)
    assert step == "export", step
    return _trained(run) | {"export": _hash(run.recipe.export.model_dump_json())}


def _made(run: Run, step: str) -> str:
    """Returns one hash of all inputs of an earlier step, which must have finished."""
    have = _read_note(_note(run, step))
    if have is None or not have["finished"]:
        raise MismatchError(
            f"{run.at(step)} is not finished; run `lrl {step}` first, or `lrl run` for all steps"
        )
    return _hash(json.dumps(have["inputs"], sort_keys=True))


def _vocab(run: Run) -> dict[str, str]:
    base, vocab = run.recipe.base, run.recipe.vocab
    uris = [uri for _, uri in supply.vocab_texts(vocab)]
    source = run.base_tokenizer() if isinstance(base, Pretrained) else base.tokenizer
    tokenizer = fingerprint(*tokenizers.read(source).values()) if source else ""
    return {"vocab": _hash(vocab.model_dump_json()), "base tokenizer": tokenizer, **_texts(uris)}


def _init(run: Run) -> dict[str, str]:
    base, settings = run.recipe.base, run.recipe.init
    if isinstance(base, Pretrained):
        folders = filter(None, (run.base_folder(), run.base_adapter()))
        weights = " ".join(map(_weights, folders))
    else:
        weights = _hash(base.model_dump_json())
    words = settings.words.model_dump().values() if settings.words else ()
    return {
        "init": _hash(settings.model_dump_json()),
        "base": weights,
        "seed": str(run.recipe.seed),
        "vocab": _made(run, "vocab"),
        **_texts([*settings.text, *filter(None, words)]),
        **({"helper": _weights(epath.Path(settings.helper))} if settings.helper else {}),
    }


def _weights(folder: epath.Path) -> str:
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; want a Hugging Face model")
    files = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".json"))
    return _hash(" ".join(f"{p.name}:{storage.sha256(p)}" for p in files))


def _data(run: Run) -> dict[str, str]:
    data, digests = run.recipe.data, {}
    made = {"vocab": _made(run, "vocab"), "seed": str(run.recipe.seed)}
    for dataset in data.datasets.values():
        digests |= datasets.contents(dataset)
    shape = data.model_dump_json(exclude={"workers", "cache_gib"})
    return made | {"data": _hash(shape)} | {name: digests[name][:16] for name in sorted(digests)}


def _evaluate(run: Run) -> dict[str, str]:
    settings = run.recipe.evaluate
    baselines = itertools.chain.from_iterable(settings.baseline_text.values())
    return {
        **_trained(run),
        "evaluate": _hash(settings.model_dump_json()),
        **({"use_ema": "true"} if run.recipe.export.use_ema else {}),  # averages are measured then
        **_texts([*(uri for _, uri in settings.files()), *baselines]),
    }


def _trained(run: Run) -> dict[str, str]:
    return {"train": _made(run, "train"), "steps": str(resolved(run).train.steps)}


def _texts(uris: list[str]) -> dict[str, str]:
    return {uri: text.fingerprint(uri)[:16] for uri in sorted(set(uris))}


def _hash(data: str) -> str:
    return hashlib.sha256(data.encode()).hexdigest()[:16]
