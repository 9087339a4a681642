"""Keeps what each step was made from and what it made, in steps/<step>.json of a run folder.

    {"inputs": {"vocab": "6f1c...", "vocab.text.0": "09ab..."}, "settings": "",
     "outputs": {"tokenizer.json": SHA-256, ...}, "finished": true, "seconds": 3.1, "version": ...}

Inputs are named by their place in the recipe and told by their content, so a file may move. Outputs
are the files that later steps read. Rows of data and arrays of checkpoints are left out: their own
manifests, which are listed, have their digests, and whoever reads them compares these.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import hashlib
import json
import re
from typing import Any

from etils import epath

from lrl_jax import __version__, storage
from lrl_jax.train.checkpoint import VerificationError

# What is written for people, and read by no step.
FOR_PEOPLE = (
    "proof.json", "exposure.json", "plan.json", "fertility.csv", "fertility.svg", "fertility.html",
)  # fmt: skip
FERTILITY = "fertility.json"  # of vocab: read for the card alone, so nothing else was made from it
OUTPUTS = {
    "vocab": ("*",),
    "init": ("config.json", "checkpoint/*/meta/metadata"),
    "data": ("*.json", "*/*/manifest.json", "*/*/order.npy"),
    "train": ("checkpoints/*/meta/metadata",),
    "evaluate": ("before.json", "after.json", "items/*/*.jsonl", "items/*/*/*.jsonl"),
    "export": ("manifest.json",),
}


class MismatchError(ValueError):
    """Reports that what a folder holds was made from other inputs than are given now."""

    exit_code = 4


@dataclasses.dataclass(frozen=True)
class StepNote:
    """Describes how a step was made; `outputs` is None in notes of versions that kept none."""

    inputs: Mapping[str, str]
    settings: str
    finished: bool
    outputs: Mapping[str, str] | None = None

    def made(self) -> str:
        """Returns one digest of everything the step made that later steps are made from."""
        made = {name: sha256 for name, sha256 in (self.outputs or {}).items() if name != FERTILITY}
        return digest(json.dumps(made, sort_keys=True))


def read(path: epath.Path) -> StepNote | None:
    """Reads a note; None if the step has none. A file that is no note is a MismatchError."""
    if not path.exists():
        return None
    try:
        note = storage.read_json(path)
        outputs = None if note.get("outputs") is None else dict(note["outputs"])
        return StepNote(dict(note["inputs"]), note["settings"], bool(note["finished"]), outputs)
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise MismatchError(
            f"{path}: does not say what its step was made from ({type(e).__name__}: {e}); remove "
            "the file, and the step is taken up again from what lies in its folder"
        ) from None


def seconds(path: epath.Path) -> float:
    """Returns how long the last try of a step took, as its note says; 0 if it does not."""
    took = storage.read_json(path).get("seconds") if path.exists() else None
    return float(took) if isinstance(took, int | float) else 0.0


def write(path: epath.Path, note: StepNote, **more: Any) -> None:
    """Writes a note whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    storage.write_json(path, {**dataclasses.asdict(note), "version": __version__, **more})


def outputs(step: str, folder: epath.Path) -> dict[str, str]:
    """Returns the SHA-256 of every file that later steps read, by its path in the step's folder."""
    return {str(path.relative_to(folder)): storage.sha256(path) for path in _files(step, folder)}


def verify(step: str, folder: epath.Path, note: StepNote) -> StepNote:
    """Returns the note, with outputs if it has none, after comparing the files with it.

    Raises:
      VerificationError: a file is missing or differs from what the step wrote; names it.
    """
    if note.outputs is None:
        return dataclasses.replace(note, outputs=outputs(step, folder))
    for path in changed(folder, note):
        what = "has changed" if path.exists() else "is missing"
        other = f"make the step anew: lrl {step} RECIPE --redo"
        if step == "train":
            other = (
                "train again from the newest checkpoint that verifies: lrl train RECIPE --redo; "
                "or evaluate and export an older one with --step"
            )
        if re.fullmatch(f"{step}-[0-9a-f]{{16}}", folder.parent.name):  # `pipeline.study.cells`
            other = f"remove {folder.parent}, and run the study again with --retry"
        raise VerificationError(
            f"{path}: {what} since `lrl {step}` wrote it; put the file back from a copy, or {other}"
        )
    return note


def changed(folder: epath.Path, note: StepNote) -> Iterator[epath.Path]:
    """Yields the files of a step that are not what it wrote, and those that are missing."""
    for name, sha256 in (note.outputs or {}).items():
        path = folder / name
        if not path.exists() or storage.sha256(path) != sha256:
            yield path


def set_aside(folder: epath.Path) -> epath.Path:
    """Moves a folder to a name that is free, such as train.aside-1, and returns it."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.aside-{number}")).exists():
        number += 1
    storage.move(folder, aside)
    return aside


def digest(data: str) -> str:
    """Returns the first 16 hexadecimal digits of the SHA-256 of a text."""
    return hashlib.sha256(data.encode()).hexdigest()[:16]


def _files(step: str, folder: epath.Path) -> Iterator[epath.Path]:
    every = sorted(path for pattern in OUTPUTS[step] for path in folder.glob(pattern))
    if step == "train":  # the newest checkpoint is what later steps use
        committed = [path for path in every if path.parent.parent.name.isdigit()]
        every = sorted(committed, key=lambda path: int(path.parent.parent.name))[-1:]
    yield from (path for path in every if path.is_file() and path.name not in FOR_PEOPLE)
