"""The run folder: which step is due, what it was made from, and what it left behind.

    runs/<name>/recipe.yaml          the recipe as resolved
    runs/<name>/<word>/...           what the step left
    runs/<name>/steps/<word>.json    what it was made from, and whether it finished

A step is skipped when its inputs are those of the finished one, taken up again when it was cut
short, and refused when its inputs changed under it.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import socket
import time
from typing import Any

from etils import epath

from lrl_jax import __version__, text
from lrl_jax.data import dataset as datasets
from lrl_jax.data.feed import mixture
from lrl_jax.data.pack import packing, rows
from lrl_jax.recipe.file import dump
from lrl_jax.recipe.schema import Pretrained, Recipe
from lrl_jax.recipe.vocab import Extend, TrainVocab
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.types import fingerprint

WORDS = ("vocab", "init", "data", "train", "evaluate", "export")


class MismatchError(ValueError):
    """What lies in the run folder was made from something else than the recipe says now."""

    exit_code = 4


@dataclasses.dataclass(frozen=True)
class Run:
    """A recipe and the folder it fills.

    Attributes:
      elsewhere: word -> its folder in another run, whose step is shared.
    """

    recipe: Recipe
    elsewhere: Mapping[str, epath.Path] = dataclasses.field(default_factory=dict)

    @property
    def folder(self) -> epath.Path:
        return self.recipe.run_folder

    def at(self, word: str) -> epath.Path:
        """The folder of one word of the pipeline."""
        return self.elsewhere.get(word, self.folder / word)

    def base_folder(self) -> epath.Path:
        """The Hugging Face folder the recipe adapts; downloads a hub id."""
        from lrl_jax.hf import load

        assert isinstance(self.recipe.base, Pretrained)
        return load.resolve(self.recipe.base)

    def base_adapter(self) -> epath.Path | None:
        """The folder of the adapter that is put on it, if any."""
        from lrl_jax.hf import load

        assert isinstance(self.recipe.base, Pretrained)
        return load.resolve_adapter(self.recipe.base)

    def base_config(self) -> dict[str, Any]:
        """The `config.json` of the two together."""
        from lrl_jax.hf import load

        return load.read_config(self.base_folder(), self.base_adapter())

    def base_tokenizer(self) -> epath.Path:
        """The folder of the tokenizer that its embeddings are for."""
        from lrl_jax.hf import peft_read

        folder = self.base_adapter()
        if folder is None or not tokenizers.present(folder) or peft_read.vocab_size(folder) is None:
            return self.base_folder()
        return folder


@dataclasses.dataclass(frozen=True)
class Team:
    """The processes that share a run; one of them writes what only one may write."""

    lead: bool = True
    meet: Callable[[str], None] = lambda name: None


ALONE = Team()
KEPT = ("data",)  # words that replace what they have left only when the new is whole
LEAD_ONLY = ("vocab", "data")  # words that need no devices: the others wait for them


def perform(
    run: Run, word: str, work: Callable[[Run], Any], *, redo: bool = False, team: Team = ALONE
) -> bool:
    """Does the step if it is due; returns whether it was done now. Every process calls it.

    Raises:
      MismatchError: the folder holds this step made from other inputs (and not `redo`).
    """
    want, settings = inputs(run, word), _settings(run.recipe, word)
    note = _note(run, word)
    have = json.loads(note.read_text()) if note.exists() else None
    team.meet(f"{word}: all have read what is there")
    if have is not None and have["inputs"] != want and not redo:
        raise MismatchError(_what_changed(run, word, have["inputs"], want))
    if have is not None and have["finished"] and have["settings"] == settings and not redo:
        return False
    started = time.time()
    record = {"inputs": want, "settings": settings, "finished": False, "version": __version__}
    if team.lead:
        if have is not None and redo and word not in KEPT and run.at(word).exists():
            run.at(word).rmtree()
        run.at(word).mkdir(parents=True, exist_ok=True)
        note.parent.mkdir(parents=True, exist_ok=True)
        write_json(note, record)
    team.meet(f"{word}: begins")
    if team.lead or word not in LEAD_ONLY:
        work(run)
    team.meet(f"{word}: done")
    if team.lead:
        seconds = round(time.time() - started, 1)
        write_json(note, record | {"finished": True, "seconds": seconds})
    team.meet(f"{word}: noted")
    return True


def _note(run: Run, word: str) -> epath.Path:
    return run.at(word).parent / "steps" / f"{word}.json"


def inputs(run: Run, word: str) -> dict[str, str]:
    """Everything the step depends on, each as a short fingerprint."""
    recipe = run.recipe
    parts = {
        "vocab": lambda: _vocab_inputs(run),
        "init": lambda: {
            "init": _hash(recipe.init.model_dump_json()),
            "base": _base_fingerprint(run),
            "seed": str(recipe.seed),
            "vocab": _fingerprint_of(run, "vocab"),
            **_init_inputs(recipe),
        },
        "data": lambda: {
            "vocab": _fingerprint_of(run, "vocab"),
            "seed": str(recipe.seed),
            **_data_inputs(recipe),
        },
        "train": lambda: {w: _fingerprint_of(run, w) for w in ("init", "data")},
        "evaluate": lambda: {
            "train": _fingerprint_of(run, "train"),
            "steps": str(resolved(run).train.steps),
            "evaluate": _hash(recipe.evaluate.model_dump_json()),
            **({"use_ema": "true"} if recipe.export.use_ema else {}),  # then averages are measured
            **_texts(_evaluate_uris(recipe)),
        },
        "export": lambda: {
            "train": _fingerprint_of(run, "train"),
            "steps": str(resolved(run).train.steps),
            "export": _hash(recipe.export.model_dump_json()),
        },
    }
    return parts[word]()


def manifests(run: Run) -> dict[str, rows.Manifest]:
    """Of the packed datasets, in the recipe's order; `data` must have been done."""
    folders = packing.folders(run.at("data"))
    if missing := [name for name in run.recipe.data.datasets if name not in folders]:
        raise MismatchError(f"{run.at('data')} lacks {', '.join(missing)}; run `lrl data` again")
    return {name: rows.read_manifest(folders[name]) for name in run.recipe.data.datasets}


def resolved(run: Run) -> Recipe:
    """The recipe with steps in place of epochs, which are known when the data is packed."""
    if not any(stage.epochs for stage in run.recipe.train.stages):
        return run.recipe
    return mixture.steps(run.recipe, manifests(run))


def _settings(recipe: Recipe, word: str) -> str:
    """What of the recipe may change while a step goes on; lrl_jax.train says how far."""
    return _hash(recipe.train.model_dump_json()) if word == "train" else ""


@contextlib.contextmanager
def locked(run: Run) -> Iterator[None]:
    """Holds the run folder for this process; a second run on it is refused.

    Raises:
      MismatchError: another living process of this host, or another host, holds it.
    """
    lock = run.folder / "lock.json"
    run.folder.mkdir(parents=True, exist_ok=True)
    me = {"host": socket.gethostname(), "pid": os.getpid()}
    if lock.exists():
        holder = json.loads(lock.read_text() or "{}")
        same_host = holder.get("host") == me["host"]
        if not same_host or _alive(holder.get("pid", 0)):
            raise MismatchError(
                f"{run.folder} is in use by process {holder.get('pid')} on {holder.get('host')}; "
                f"wait for it, or remove {lock} if that process is gone"
            )
    write_json(lock, me)
    (run.folder / "recipe.yaml").write_text(dump(run.recipe))
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def write_json(path: epath.Path, value: Any) -> None:
    """Writes whole or not at all: a temporary file, then a rename."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
    temporary.replace(path)


def free_bytes(folder: epath.Path) -> int | None:
    """Free space where `folder` is or will be; None when the storage does not say (gs://)."""
    path = os.fspath(folder)
    if "://" in path:
        return None
    while not os.path.exists(path):
        path = os.path.dirname(path) or "."
    return shutil.disk_usage(path).free


# ---------------------------------------------------------------------------- fingerprints
def _fingerprint_of(run: Run, word: str) -> str:
    """What an earlier step was made from, as one hash; the step must have finished."""
    note = _note(run, word)
    have = json.loads(note.read_text()) if note.exists() else {"finished": False}
    if not have["finished"]:
        raise MismatchError(
            f"{run.at(word)} is not finished; run `lrl {word}` first, or `lrl run` for all steps"
        )
    return _hash(json.dumps(have["inputs"], sort_keys=True))


def _vocab_inputs(run: Run) -> dict[str, str]:
    recipe = run.recipe
    vocab = recipe.vocab
    uris = list(vocab.report.texts.values())
    if isinstance(vocab, TrainVocab | Extend):
        uris += vocab.text
    if isinstance(vocab, Extend):
        uris += vocab.prove_on
    source = run.base_tokenizer() if isinstance(recipe.base, Pretrained) else recipe.base.tokenizer
    base = fingerprint(*tokenizers.read(source).values()) if source else ""
    return {"vocab": _hash(vocab.model_dump_json()), "base tokenizer": base, **_texts(uris)}


def _base_fingerprint(run: Run) -> str:
    if not isinstance(run.recipe.base, Pretrained):
        return _hash(run.recipe.base.model_dump_json())
    folders = (run.base_folder(), run.base_adapter())
    return " ".join(_weights_fingerprint(one) for one in folders if one is not None)


def _weights_fingerprint(folder: epath.Path) -> str:
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; want a Hugging Face model")
    files = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".json"))
    return _hash(" ".join(f"{p.name}:{file_sha256(p)}" for p in files))


def _init_inputs(recipe: Recipe) -> dict[str, str]:
    part = recipe.init
    words = part.words.model_dump().values() if part.words else ()
    inputs = _texts([*part.text, *filter(None, words)])
    if part.helper:
        inputs["helper"] = _weights_fingerprint(epath.Path(part.helper))
    return inputs


def _data_inputs(recipe: Recipe) -> dict[str, str]:
    found: dict[str, str] = {}
    for dataset in recipe.data.datasets.values():
        found |= datasets.contents(dataset)
    shape = recipe.data.model_dump_json(exclude={"workers"})
    return {"data": _hash(shape), **{name: found[name][:16] for name in sorted(found)}}


def _evaluate_uris(recipe: Recipe) -> list[str]:
    part = recipe.evaluate
    uris = [*part.bits_per_byte.values()]
    uris += [uri for t in part.translation.values() for uri in (t.source, t.target)]
    uris += [uri for c in part.chains.values() for uri in (c.english, c.translated)]
    return uris + [uri for many in part.baseline_text.values() for uri in many]


def _texts(uris: list[str]) -> dict[str, str]:
    return {uri: text.fingerprint(uri)[:16] for uri in sorted(set(uris))}


def file_sha256(path: epath.Path) -> str:
    """SHA-256 of a file, read in blocks; a missing file is an error that names it."""
    if not path.exists():
        raise ValueError(f"{path}: no such file")
    digest = hashlib.sha256()
    with path.open("rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _hash(data: str) -> str:
    return hashlib.sha256(data.encode()).hexdigest()[:16]


def _what_changed(run: Run, word: str, have: dict, want: dict) -> str:
    names = [k for k in {**have, **want} if have.get(k) != want.get(k)]
    return (
        f"{run.at(word)} was made from other inputs; changed: {', '.join(names)}. "
        f"Give the recipe another name, or make it anew with --redo"
    )


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()
