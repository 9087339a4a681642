"""Lists the files of a push with the digests that they must have, here and on the hub."""

from collections.abc import Iterator, Mapping
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
from pathlib import Path
import shutil
import tempfile
from typing import Literal

from etils import epath

from lrl_jax import storage
from lrl_jax.hf.hub.client import Kind

MANIFEST, GATE, CARD = "manifest.json", "gate.json", "README.md"
OURS = "lrl_jax "  # what the `format` of our manifests begins with
FORMAT = "lrl_jax export 1"  # as exports have, so that what is downloaded verifies as they do
HERE = "path/of/this/folder"  # what a card says for the place that it is loaded from
What = Literal["model", "adapter", "tokenizer", "data"]
HASHERS = 4  # files that are read at a time
MOST_FILES = 25_000  # large files of a commit (huggingface_hub, create_commit)
REST = 1 << 30  # bytes of the disk that copies of a run on an object store leave free


class ChangedError(ValueError):
    """Reports a folder that is not what was proved."""

    exit_code = 5


@dataclasses.dataclass(frozen=True)
class ParcelFile:
    """Describes a file to push: where it is read from, and its SHA-256."""

    source: Path | bytes
    size: int
    sha256: str

    def content(self) -> bytes:
        """Returns the bytes of the file; ChangedError if they are others than they were."""
        data = self.source if isinstance(self.source, bytes) else self.source.read_bytes()
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise self.changed()
        return data

    def changed(self) -> ChangedError:
        """Returns the error of a file that is not what it was."""
        return ChangedError(f"{self.source}: changed while it was pushed; push it again")

    def blob(self) -> str:
        """Returns git's id of the file, which the hub gives for small ones."""
        data = self.content()
        return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@dataclasses.dataclass(frozen=True)
class Parcel:
    """Holds what is pushed: the files by their names in the repository, and what it is called."""

    what: What
    title: str
    files: Mapping[str, ParcelFile]

    @property
    def kind(self) -> Kind:
        """Returns the kind of repository that such files are kept in."""
        return "dataset" if self.what == "data" else "model"


# ---------------------------------------------------------------------------- an export
def verified_export(folder: epath.Path) -> dict[str, str]:
    """Returns the SHA-256 of every file of an export, after comparing all of them.

    Raises:
      ValueError: there is no export.
      ChangedError: its gate was not passed, or a file is not what passed; names it.
    """
    folder = epath.Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no export to push; run `lrl export RECIPE` first")
    storage.refuse_links_out(folder)
    manifest = folder / MANIFEST
    if not manifest.exists():
        raise ChangedError(f"{folder}: has no {MANIFEST}, which `lrl export` writes; {_ANEW}")
    _, digests = contents(manifest.read_bytes())
    if not digests or GATE not in digests:
        raise ChangedError(f"{manifest}: is none of an export with a gate; {_ANEW}")
    present = {path.name for path in folder.iterdir()} - {MANIFEST}
    if strange := sorted(present - digests.keys()):
        raise ChangedError(
            f"{folder / strange[0]}: was put there after the gate, and is not in {MANIFEST}; move "
            f"it out, or {_ANEW}"
        )
    if absent := sorted(digests.keys() - present):
        raise ChangedError(f"{folder / absent[0]}: is missing, and passed the gate; {_ANEW}")
    for name, sha256 in hashed({name: folder / name for name in digests}).items():
        if sha256 != digests[name]:
            raise _not_what_passed(folder / name)
    gate = storage.read_json(folder / GATE)
    if not isinstance(gate, dict) or gate.get("passed") is not True or gate.get("problems"):
        raise ChangedError(f"{folder / GATE}: the gate was not passed; {_ANEW}")
    return digests


def verified_text(path: epath.Path, sha256: str) -> str:
    """Returns the text of a file of an export; ChangedError if it is not what passed the gate."""
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise _not_what_passed(path)
    return data.decode()


def _not_what_passed(path: epath.Path) -> ChangedError:
    return ChangedError(f"{path}: has changed since it passed the gate; {_ANEW}")


_ANEW = "make the export anew: lrl export RECIPE --redo"


def contents(manifest: bytes) -> tuple[str, dict[str, str]]:
    """Returns what a manifest of ours is of, and the SHA-256 of each file; "", {} for any other."""
    try:
        data = storage.parse_json(manifest, MANIFEST)
        if not str(data["format"]).startswith(OURS):
            return "", {}
        files = {str(name): str(entry["sha256"]) for name, entry in data["files"].items()}
        return str(data.get("what", "model")), files
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", {}


def hashed(paths: Mapping[str, epath.Path]) -> dict[str, str]:
    """Returns the SHA-256 of each file; several are read at a time."""
    with concurrent.futures.ThreadPoolExecutor(HASHERS, "sha256") as pool:
        return dict(zip(paths, pool.map(storage.sha256, paths.values()), strict=True))


# ---------------------------------------------------------------------------- what is sent
def parcel(what: What, title: str, repository: str, paths: Mapping[str, Path], card: str) -> Parcel:
    """Returns files with a card that names the repository, and a manifest of them all.

    Args:
      paths: where each file lies, by its name in the repository; a manifest among them is left out.
      card: README.md, which says HERE for the place that it is loaded from.
    """
    digests = hashed({name: epath.Path(path) for name, path in paths.items() if name != MANIFEST})
    files = {
        name: ParcelFile(paths[name], paths[name].stat().st_size, sha256)
        for name, sha256 in digests.items()
        if name != CARD
    }
    files[CARD] = _made(card.replace(HERE, repository))
    files = dict(sorted(files.items()))
    entries = {name: {"bytes": file.size, "sha256": file.sha256} for name, file in files.items()}
    manifest = {"format": FORMAT, "what": what, "files": entries}
    files[MANIFEST] = _made(json.dumps(manifest, indent=2) + "\n")
    if len(files) > MOST_FILES:
        raise ValueError(
            f"{len(files):,} files; the hub takes at most {MOST_FILES:,} in a commit: pack the "
            "data again from fewer, larger files"
        )
    return Parcel(what, title, files)


def _made(text: str) -> ParcelFile:
    data = text.encode()
    return ParcelFile(data, len(data), hashlib.sha256(data).hexdigest())


@contextlib.contextmanager
def local(paths: Mapping[str, epath.Path]) -> Iterator[dict[str, Path]]:
    """Yields local paths of files; those on an object store are copied for as long.

    Raises:
      ValueError: the disk of temporary files has no room for the copies.
    """
    if not any(storage.is_remote(path) for path in paths.values()):
        yield {name: Path(path) for name, path in paths.items()}
        return
    with tempfile.TemporaryDirectory(prefix="lrl-push-") as folder:
        size = sum(path.stat().length for path in paths.values())
        free = shutil.disk_usage(folder).free - REST
        if size > free:
            raise ValueError(
                f"copies to push take {size:,} bytes, and {folder} has {max(free, 0):,} free; set "
                "TMPDIR to a folder of a larger disk"
            )
        yield {name: _copied(path, Path(folder) / name) for name, path in paths.items()}


def _copied(path: epath.Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    path.copy(target, overwrite=True)
    return target
