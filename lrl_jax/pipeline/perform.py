"""Decides whether a step is due, runs it, and notes what it was made from and what it made.

A step that has finished is skipped while its inputs stay. A step that has not may change freely,
but for training, which goes on from its checkpoints: those begin with certain weights. What has
been packed follows the recipe; training compares what it has read of it; an export follows what
only its card says, such as results and licences. Any other step that has finished is made anew only
where that is asked for, and training is set aside, never removed.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
import contextlib
import dataclasses
import time
from typing import Any

from etils import epath

from lrl_jax import storage
from lrl_jax.devices import signals
from lrl_jax.pipeline import notes
from lrl_jax.pipeline.console import say
from lrl_jax.pipeline.inputs import EARLIER, IN_CARD, Input, inputs, refuse_bad, refuse_unknown
from lrl_jax.pipeline.notes import MismatchError, StepNote, digest
from lrl_jax.pipeline.run import Run
from lrl_jax.recipe.train import WATCHING

LEAD_ONLY = ("vocab", "data")  # steps without devices, which the lead runs while others wait
CLEARED = ("vocab", "init")  # of what a later try cannot use
KEPT = ("items",)  # what it can: items of tasks, which count for the weights they were scored with
FOLLOWING = ("data", "train")  # these go on under a recipe that changed, as far as that can be


@dataclasses.dataclass(frozen=True)
class Team:
    """Describes this process among those that share a run, by `mesh.lead` and `peers.meet`."""

    lead: bool = True
    meet: Callable[[str], None] = lambda name: None


ALONE = Team()


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
      force: whether it is made anew although they did not. Training then goes on from the newest
        checkpoint that verifies.
      discard: whether training that began with other weights is set aside, and begun again; with
        `force`, all training.

    Raises:
      MismatchError: the folder holds the step made from other inputs, and nothing says to redo it.
      VerificationError: a file of an earlier step is not what that step wrote.
    """
    want, out, path = inputs(run, step), run.at(step), run.note(step)
    settings = settings_digest(run, step)
    note = StepNote({name: given.digest for name, given in want.items()}, settings, finished=False)
    have = notes.read(path)
    team.meet(f"{step}: all have read what is there")
    changed = _changed(have, want)
    aside = step == "train" and _to_set_aside(out, changed, force=force, discard=discard)
    finished = _finished(have)
    follows = step in FOLLOWING or (step == "export" and changed.keys() <= {*IN_CARD})
    if finished and changed and not (follows or redo or force):
        refuse_unknown(run, step)
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
    refuse_bad(run, step)
    started = time.time()
    if team.lead:
        notes.write(path, note)  # first: a step that is killed here has not finished
        _make_room(step, out, have, aside=aside, force=force)
    team.meet(f"{step}: begins")
    if team.lead or step not in LEAD_ONLY:
        kept = have if team.lead and not aside else None
        with signals.naming(step), _kept_if_refused(run, step, kept):
            work(run)
    team.meet(f"{step}: done")
    if team.lead:
        _earlier(out).rmtree(missing_ok=True)
        whole = dataclasses.replace(note, finished=True, outputs=notes.outputs(step, out))
        notes.write(path, whole, seconds=round(time.time() - started, 1))
    team.meet(f"{step}: noted")
    return True


@contextlib.contextmanager
def _kept_if_refused(run: Run, step: str, note: StepNote | None) -> Iterator[None]:
    """Puts results back when the work fails, and the note when it refuses what a user can cause.

    The note counts again where every file that it lists is what it was.
    """
    out = run.at(step)
    try:
        yield
    except Exception as e:
        if note is not None and step not in CLEARED:
            _put_back(out)
            same = (note.outputs or {}).items() <= notes.outputs(step, out).items()
            if isinstance(e, ValueError) and same:
                notes.write(run.note(step), note)
        raise


def settings_digest(run: Run, step: str) -> str:
    """Returns a digest of how training is done, beside its inputs; "" for any other step."""
    # `lrl_jax.train` decides which of them may change while a training is interrupted.
    if step != "train":
        return ""
    # What only watches the training is no part of it.
    train = run.recipe.train
    unsaid = WATCHING | ({"step_rows"} if not train.step_rows else set())
    return digest(train.model_dump_json(exclude={*unsaid}))


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


def _to_set_aside(
    out: epath.Path, changed: Mapping[str, str], *, force: bool, discard: bool
) -> bool:
    """Tells whether there is training to set aside; refuses to go on where only that would help."""
    other_weights = not changed.keys().isdisjoint(EARLIER["train"])
    if not _has_checkpoints(out):
        return False
    if other_weights and not discard:
        raise MismatchError(
            f"{out} holds training that began with other weights. Give the recipe another name, or "
            "undo the change; or begin again with --discard-training, which sets that training "
            f"aside as {out.name}.aside-1, or -2, ..."
        )
    if discard and not (other_weights or force):
        say(
            "train: nothing is set aside, as what is trained began with these weights; "
            "`lrl train RECIPE --discard-training` begins again all the same"
        )
    return discard and (other_weights or force)


def _make_room(
    step: str, out: epath.Path, have: StepNote | None, *, aside: bool, force: bool
) -> None:
    """Removes from a step's folder what its work may not find there."""
    if aside:
        say(f"train: what was trained is set aside as {notes.set_aside(out)}")
    if step in CLEARED and out.exists():
        _clear(out, ())
    if step == "evaluate" and out.exists():
        _lay_aside(out, () if force else KEPT)
    if step == "data" and have is not None:  # which uses again what is packed
        for path in notes.changed(out, have):
            say(f"data: {path} is not what `lrl data` wrote, and is made anew")
            path.unlink(missing_ok=True)
    if step != "export":  # whose folder gets its name when its gate has passed
        out.mkdir(parents=True, exist_ok=True)


def _earlier(folder: epath.Path) -> epath.Path:
    return folder.with_name(f"{folder.name}.earlier")


def _lay_aside(folder: epath.Path, kept: Collection[str]) -> None:
    """Moves everything in a folder but the names that are kept to where `_put_back` looks for it.

    What lies there already is of before a try that was killed, which left nothing whole.
    """
    earlier = _earlier(folder)
    if earlier.exists():
        _clear(folder, kept)
        return
    earlier.mkdir()
    for path in [*folder.iterdir()]:
        if path.name not in kept:
            storage.move(path, earlier / path.name)


def _put_back(folder: epath.Path) -> None:
    """Moves what was laid aside to its place again, and removes what a try has left in that."""
    earlier = _earlier(folder)
    if earlier.exists():
        laid = {path.name for path in earlier.iterdir()}
        _clear(folder, {*KEPT} - laid)
        for name in laid:
            storage.move(earlier / name, folder / name)
        earlier.rmtree()


def _clear(folder: epath.Path, kept: Collection[str]) -> None:
    """Removes everything in a folder but the names that are kept."""
    for path in [*folder.iterdir()]:
        if path.name not in kept:
            path.rmtree() if path.is_dir() else path.unlink()
