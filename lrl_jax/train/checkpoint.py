"""Saves checkpoints with a digest of every array, and verifies the digests when it restores them.

    checkpoints = Checkpoints(folder / "checkpoints", keep=2)
    checkpoints.save(step, state, {"next_row": 320})   # returns while the files are written
    checkpoints.poll()                                 # raises if that failed; call every step
    restored = checkpoints.restore(abstract_state)     # newest step that verifies, or None

This is the only module that uses Orbax, which does not notice a flipped bit by itself.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import dataclasses
import errno
import hashlib
import json
import logging
import os
import sys
from typing import Any

from etils import epath
import jax
import orbax.checkpoint as ocp

from lrl_jax import storage
from lrl_jax.devices.mesh import lead
from lrl_jax.devices.peers import exchange, meet
from lrl_jax.train.digest import describe, leaf_table

VERSION = 1
# Bytes of a file of arrays: as much as Orbax keeps in memory before it writes (else 2 GB).
DATA_FILE = 16 << 20
UNVERIFIED = ".unverified"  # added to the folder name of a step that does not verify
log = logging.getLogger(__name__)

Tree = Any
Abstract = Tree | Callable[[dict], Tree]


class VerificationError(ValueError):
    """Reports that there are checkpoints, but none of them matches its digests."""

    exit_code = 5


class CheckpointMismatchError(ValueError):
    """Reports that a verified checkpoint does not fit the run that wants to use it."""

    exit_code = 4


class SaveError(OSError):
    """Reports that a checkpoint could not be written."""


@dataclasses.dataclass(frozen=True)
class Restored:
    """Holds a verified step: its arrays, and the metadata saved with them."""

    step: int
    state: Tree
    meta: dict


class Checkpoints(contextlib.AbstractContextManager["Checkpoints"]):
    """Keeps the checkpoints of a run in a folder (local or gs://); a context manager.

    Leaving the context waits for the save in progress. Every process must call every method, in the
    same order.
    """

    def __init__(self, folder: epath.PathLike, keep: int = 1):
        # Orbax needs an absolute path; those of object stores are absolute already.
        self.folder = epath.Path(folder if storage.is_remote(folder) else os.path.abspath(folder))
        self._keep = keep
        self._writing: int | None = None
        self._bytes = 0
        self._orbax = ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler())

    def __exit__(self, kind, error, trace) -> None:
        try:
            self.wait()
            self._orbax.close()  # ends the threads that write
        except SaveError:
            if error is None:
                raise
            log.exception("the last save failed too")

    def steps(self) -> list[int]:
        """Returns the committed steps, oldest first, read from storage."""
        return committed_steps(self.folder)

    def save(self, step: int, state: Tree, meta: Mapping[str, Any]) -> None:
        """Starts to save a step; the arrays may be donated as soon as this returns.

        It waits for an earlier save in progress first, and then removes steps beyond `keep`. Raises
        SaveError if the disk is too full, or the earlier save failed.
        """
        self.wait()
        leaves = describe(state)
        self._bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        body = {"version": VERSION, "step": step, "leaves": leaves, "meta": dict(meta)}
        args = ocp.args.Composite(
            state=ocp.args.PyTreeSave(state, ocdbt_target_data_file_size=DATA_FILE),
            meta=ocp.args.JsonSave(_sealed(body)),
        )
        self._writing = step
        with self._reporting():
            self._prepare()
            self._orbax.save(self.folder / str(step), args=args)

    def poll(self) -> None:
        """Raises SaveError if the save in progress has failed."""
        with self._reporting():
            self._orbax.check_for_errors()

    def wait(self) -> None:
        """Waits for the save in progress, then removes steps beyond `keep`."""
        with self._reporting():
            self._orbax.wait_until_finished()
        if self._writing is not None:
            self._writing = None
            if lead():
                for step in self.steps()[: -self._keep]:
                    (self.folder / str(step)).rmtree(missing_ok=True)

    def restore(
        self, abstract: Abstract, partial: bool = False, only: int | None = None
    ) -> Restored | None:
        """Returns the newest committed step that verifies, or None when no step was committed.

        Steps that do not verify are skipped with a warning and left in place; a run that continues
        from an older step calls `put_aside`.

        Args:
          abstract: ShapeDtypeStructs with shardings, in the form of the state; or a function that
            returns them, given the saved metadata. The mesh may differ from that of the save.
          partial: whether `abstract` names only some of the saved arrays.
          only: the one step that will do; None: the newest that verifies.

        Raises:
          VerificationError: there are steps, and none of them verifies, or not the one asked for.
          CheckpointMismatchError: a verified step has other arrays, shapes or dtypes than
            `abstract` asks for.
        """
        self.wait()
        problems = []
        for step in reversed(self.agreed_steps()) if only is None else (only,):
            try:
                return self._read(step, abstract, partial)
            except _DamagedError as e:
                problems.append(f"step {step}: {e}")
                log.warning("%s: step %d does not verify: %s", self.folder, step, e)
        if only is not None:
            raise VerificationError(
                f"{self.folder}: {problems[0]}; restore it from a copy, or name another step"
            )
        if problems:
            raise VerificationError(
                f"{self.folder}: none of its checkpoints is what was saved\n  "
                + "\n  ".join(problems)
                + "\nRestore the folder from a copy, or remove it to start over."
            )
        return None

    def sha256(self, step: int) -> str:
        """Returns the digest of a step's metadata, which has the digests of all its arrays."""
        try:
            sealed = self._load(self.folder / str(step), meta=ocp.args.JsonRestore()).meta
            _unsealed(sealed)
        except _DamagedError as e:
            raise VerificationError(f"{self.folder}: step {step}: {e}") from None
        return sealed["sha256"]

    def agreed_steps(self) -> list[int]:
        """Returns the committed steps as process 0 sees them; storage may show others less."""
        return json.loads(exchange(json.dumps(self.steps()))[0])

    def put_aside(self, after: int) -> None:
        """Renames all steps later than `after`, so that they can be saved again."""
        if lead() and self.folder.exists():
            for path in list(self.folder.iterdir()):
                if path.name.isdigit() and int(path.name) > after:
                    log.warning("%s: put aside as %s%s", path, path.name, UNVERIFIED)
                    _rename(path, self.folder / (path.name + UNVERIFIED))
        meet("put_aside")

    def _read(self, step: int, abstract: Abstract, partial: bool) -> Restored:
        path = self.folder / str(step)
        body = _unsealed(self._load(path, meta=ocp.args.JsonRestore()).meta)
        target = abstract(body["meta"]) if callable(abstract) else abstract
        _check_leaves(path, body["leaves"], leaf_table(target), partial)
        args = ocp.args.PyTreeRestore(
            target,
            restore_args=ocp.checkpoint_utils.construct_restore_args(target),
            partial_restore=partial,
        )
        state = self._load(path, state=args).state
        bad = [k for k, v in describe(state).items() if v != body["leaves"][k]]
        _agree_on(f"values changed since they were saved: {', '.join(bad)}" if bad else "")
        return Restored(step, state, body["meta"])

    def _load(self, path: epath.Path, **items) -> Any:
        """Reads items of a step; when one process fails, all processes fail."""
        out, problem = None, ""
        try:
            out = self._orbax.handler.restore(path, args=ocp.args.Composite(**items))
        except Exception as e:  # damaged files raise anything: KeyError, JaxRuntimeError, ...
            problem = f"cannot be read: {_first_line(e)}"
            _silence_other_reads()
        _agree_on(problem)
        return out

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        """Reports what Orbax raises, which is whatever its storage does, as SaveError."""
        try:
            yield
        except Exception as e:
            step, self._writing = self._writing, None
            if lead() and self.folder.is_dir():
                self._sweep()
            kept = ", ".join(map(str, self.steps())) or "none"
            raise SaveError(
                f"{self.folder}: checkpoint {step} was not written: {_first_line(e)}. It needs "
                f"{self._bytes:,} bytes, {_free(self.folder):,} are free. Steps kept: {kept}. Make "
                "room and run again: it resumes from the newest"
            ) from e

    def _prepare(self) -> None:
        """Makes room for a save, or raises in every process if there is none."""
        enough = True
        if lead():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._sweep()
            enough = _free(self.folder) >= self._bytes
        if exchange("" if enough else "full")[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _sweep(self) -> None:
        """Removes the temporary folders of interrupted saves."""
        for path in list(self.folder.iterdir()):
            if ocp.utils.is_tmp_checkpoint(path):
                path.rmtree(missing_ok=True)


def committed_steps(folder: epath.Path) -> list[int]:
    """Returns the steps that were committed in a folder of checkpoints, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if _committed(path))


def newest_meta(folder: epath.PathLike) -> dict[str, Any] | None:
    """Returns what was saved beside the newest arrays whose metadata is whole; None without any.

    It reads a small file, and waits for no other process.
    """
    folder = epath.Path(folder)
    for step in reversed(committed_steps(folder)):
        with contextlib.suppress(OSError, ValueError, _DamagedError):  # `restore` says what it is
            path = folder / str(step) / "meta" / "metadata"
            return _unsealed(json.loads(path.read_text()))["meta"]
    return None


def fingerprint(folder: epath.Path, step: int) -> str:
    """Returns the SHA-256 of the metadata of a step, which holds the digest of every array."""
    return storage.sha256(folder / str(step) / "meta" / "metadata")


class _Silence:
    """Passes on what Python says of errors that nobody can catch, but for abandoned reads."""

    def __init__(self, hook: Callable[[Any], Any]):
        self._hook = hook

    def __call__(self, unraisable: Any) -> None:
        said = str(unraisable.exc_value)
        if "tensorstore" not in said.lower() and said != "Event loop is closed":
            self._hook(unraisable)


def _silence_other_reads() -> None:
    """Drops what reads say that were under way when another read of a step failed.

    Orbax abandons them, and Python prints two kilobytes for each whenever it finds them: 130 of a
    tiny model, which fill the pipe of whoever started this process and does not read it, and the
    process stands still.
    """
    if not isinstance(sys.unraisablehook, _Silence):
        sys.unraisablehook = _Silence(sys.unraisablehook)


class _DamagedError(Exception):
    """Reports that a step cannot be read, or does not match its digests."""


def _check_leaves(path: epath.Path, saved: dict, wanted: dict, partial: bool) -> None:
    missing = sorted(set(wanted) - set(saved))
    extra = [] if partial else sorted(set(saved) - set(wanted))
    changed = [
        f"{k} is {saved[k]['dtype']}{saved[k]['shape']}, this run wants {v['dtype']}{v['shape']}"
        for k, v in wanted.items()
        if k in saved and any(saved[k][what] != v[what] for what in ("shape", "dtype"))
    ]
    notes = changed + [f"{k} is not in it" for k in missing] + [f"{k} is not wanted" for k in extra]
    if notes:
        more = f"\n  and {len(notes) - 8} more" if len(notes) > 8 else ""
        raise CheckpointMismatchError(
            f"{path} does not fit this run:\n  " + "\n  ".join(notes[:8]) + more + "\n"
            "The model, the vocabulary or the learn table changed since: undo the change; or give "
            "the recipe another name, where init.weights starts with these weights alone; or begin "
            "again with `lrl train RECIPE --discard-training`, which sets this training aside."
        )


def _sealed(body: dict) -> dict:
    text = json.dumps(body, sort_keys=True)
    return {"body": json.loads(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}


def _unsealed(sealed: Any) -> dict:
    try:
        text = json.dumps(sealed["body"], sort_keys=True)
        if hashlib.sha256(text.encode()).hexdigest() == sealed["sha256"]:
            return sealed["body"]
    except (KeyError, TypeError):
        pass
    raise _DamagedError("its metadata changed since it was saved")


def _committed(path: epath.Path) -> bool:
    if not path.name.isdigit() or not path.is_dir():
        return False
    whole = any(path.iterdir()) and ocp.utils.is_checkpoint_finalized(path)
    if not whole:
        log.warning("%s: empty or never committed; ignored", path)
    return whole


def _rename(path: epath.Path, target: epath.Path) -> None:
    number = 1
    while target.exists():
        number += 1
        target = target.parent / f"{path.name}{UNVERIFIED}{number}"
    storage.move(path, target)


def _free(folder: epath.Path) -> int:
    """Returns the bytes that are free for checkpoints; `sys.maxsize` on an object store."""
    free = storage.free_bytes(folder)
    return sys.maxsize if free is None else free


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:300]}" if text else type(error).__name__


def _agree_on(problem: str) -> None:
    """Raises _DamagedError in every process if one of them has a problem with a step."""
    for process, said in enumerate(exchange(problem)):
        if said:
            raise _DamagedError(problem or f"process {process}: {said}")
