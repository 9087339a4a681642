"""Speaks with the Hugging Face hub: the one door to huggingface_hub.

    name, token = client.checked("org/name"), client.token()
    state = client.look(place, token)            # None where there is no such repository
    client.send(place, token, additions)         # large files, each once
    client.commit(place, token, additions, ...)  # all of them together, or none

Every failure is a TransientError (the same call may go well later) or a HubError (it will not).
No message has the token or an address that was signed.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import functools
import os
from pathlib import Path
import re
import tempfile
from typing import Any, Literal

from etils import epath
import huggingface_hub
from huggingface_hub import errors
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
    logging,
)

from lrl_jax import storage

Kind = Literal["model", "dataset"]

MAIN = "main"
NAME = re.compile(r"[A-Za-z0-9](?:[\w.-]{0,94}[A-Za-z0-9_])?", re.ASCII)  # an owner, or a name
BRANCH = re.compile(r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9_])?", re.ASCII)
SILENCE = 300.0  # seconds without a byte after which a request has failed
# Answers after which the same request may go well: busy, a branch that moved, too many requests.
PASSING = (408, 409, 412, 425, 429)
# What a store answers where an upload was completed already, and its answer was lost.
DONE = (400, 404, 410)
QUERY = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]+")  # a signed address and its signature
PART = "uploadId="  # in the address of a part of a file, which is whole only once all parts are
LINE = 300  # characters of a message of the hub that are shown


class TransientError(OSError):
    """Reports a request that failed and may go well later."""


class HubError(ValueError):
    """Reports that the hub refuses, or does not hold what was sent."""


@dataclasses.dataclass(frozen=True)
class HubPlace:
    """Names where files go: a repository and a branch of it."""

    name: str
    kind: Kind = "model"
    branch: str = MAIN

    @property
    def address(self) -> str:
        """Returns the address of its page."""
        folder = "datasets/" if self.kind == "dataset" else ""
        branch = "" if self.branch == MAIN else f"/tree/{self.branch}"
        return f"{huggingface_hub.constants.ENDPOINT}/{folder}{self.name}{branch}"


@dataclasses.dataclass(frozen=True)
class RemoteFile:
    """Describes a file of a repository as the hub lists it."""

    size: int
    sha256: str  # of a large file; "" of one that git holds itself
    blob: str  # git's id of the file, or of the pointer to a large one


@dataclasses.dataclass(frozen=True)
class RemoteState:
    """Describes a repository: who may see it, and the files of one branch."""

    private: bool
    head: str  # the commit of the branch; "" where there is no such branch, or no commit
    files: Mapping[str, RemoteFile]
    branches: Mapping[str, str]  # name -> its commit


def checked(name: str) -> str:
    """Returns the name of a repository; ValueError if it has not the form of one."""
    owner, _, rest = name.partition("/")
    fits = all(NAME.fullmatch(word) for word in (owner, rest))
    odd = "--" in name or ".." in name or name.endswith(".git")
    if not fits or odd or len(name) > 96:
        raise ValueError(
            f"{name!r} is no name on the hub; want ORG/NAME of at most 96 letters, digits, "
            "- _ and . in all, such as my-org/llama-korean, without -- or .. in it"
        )
    return name


def checked_branch(name: str) -> str:
    """Returns the name of a branch; ValueError if it has not the form of one."""
    if not BRANCH.fullmatch(name) or ".." in name or re.fullmatch("[0-9a-f]{40}", name):
        raise ValueError(
            f"--revision {name!r}: want the name of a branch, of letters, digits, - _ and ., "
            "such as main or step-2000; a commit cannot be changed"
        )
    return name


def token() -> str:
    """Returns the token of the login; ValueError without one."""
    found_token = huggingface_hub.get_token()
    if not found_token:
        raise ValueError(
            "no token of the Hugging Face hub; log in with `hf auth login`, or set HF_TOKEN to a "
            "token with write access (huggingface.co/settings/tokens)"
        )
    return found_token


# ---------------------------------------------------------------------------- one request
@contextlib.contextmanager
def session() -> Iterator[Callable[[], None]]:
    """Lets no request wait for ever and no file be sent again unasked, while it is open.

    Yields a function to call before each try. The hub's client repeats a request that failed. An
    upload whose answer was lost may be whole, so that it is asked about before it is repeated. The
    client's own warnings are not shown: they hold addresses that are signed.
    """
    begun: set[str] = set()
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    if hide := not os.isatty(2) and not are_progress_bars_disabled():
        disable_progress_bars()
    client = huggingface_hub.get_session()
    hooks, kind = client.event_hooks, type(client)

    def once(request: Any) -> None:
        request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), SILENCE)
        address = str(request.url)
        if request.method != "PUT" or PART in address:
            return
        if address in begun:
            raise TransientError("an upload was cut short")
        begun.add(address)

    guarded = {**hooks, "request": [*hooks.get("request", ()), once]}
    factory = functools.partial(kind, follow_redirects=True, timeout=None)
    huggingface_hub.set_client_factory(functools.partial(factory, event_hooks=guarded))
    try:
        yield begun.clear
    finally:
        huggingface_hub.set_client_factory(functools.partial(factory, event_hooks=hooks))
        logging.set_verbosity(verbosity)
        if hide:
            enable_progress_bars()


@contextlib.contextmanager
def _told(place: HubPlace, secret: str, passing: Collection[int] = PASSING) -> Iterator[None]:
    """Turns the errors of the client into ours, without the token."""
    try:
        yield
    except (TransientError, HubError):
        raise
    except errors.OfflineModeIsEnabled:
        raise HubError("HF_HUB_OFFLINE is set; unset it to reach the hub") from None
    except Exception as e:  # the client's errors have many bases
        raise _ours(e, place, secret, passing) from None


def _ours(error: Exception, place: HubPlace, secret: str, passing: Collection[int]) -> Exception:
    """Returns what an error of the client means to the user."""
    cause = _cause(error)
    status = getattr(getattr(cause, "response", None), "status_code", None)
    line = clean(str(cause), secret)
    if isinstance(cause, TransientError):
        return cause
    if status in (401, 403):
        return HubError(
            f"{place.name}: the hub does not let this token write there ({status}: {line}); it "
            f"needs write access to {place.name.partition('/')[0]}: see `hf auth whoami`, and "
            "huggingface.co/settings/tokens"
        )
    if isinstance(status, int) and 400 <= status < 500 and status not in passing:
        return HubError(f"{place.name}: the hub refuses ({status}: {line})")
    if isinstance(cause, FileNotFoundError | IsADirectoryError | PermissionError):
        return cause  # of this machine's files
    if isinstance(cause, errors.HFValidationError):
        return HubError(f"{place.name}: {line}")
    return TransientError(f"{status or type(cause).__name__}: {line}")


def _cause(error: Exception) -> BaseException:
    """Returns the error of the request, which the client may have put into another."""
    cause: BaseException = error
    wraps = (RuntimeError, errors.LocalEntryNotFoundError)
    while isinstance(cause, wraps) and cause.__cause__ is not None:
        cause = cause.__cause__
    return cause


def clean(text: str, secret: str) -> str:
    """Returns a message on one line, without the token, signatures of addresses, and advice."""
    text = " ".join(text.split())
    text = QUERY.sub(r"\1", text.replace(secret, "***") if secret else text)
    return text if len(text) <= LINE else f"{text[:LINE]}..."


def _api(secret: str) -> huggingface_hub.HfApi:
    return huggingface_hub.HfApi(token=secret, endpoint=huggingface_hub.constants.ENDPOINT)


# ---------------------------------------------------------------------------- what is there
def look(place: HubPlace, secret: str) -> RemoteState | None:
    """Returns what the hub holds there; None if there is no such repository for this token."""
    api, kind = _api(secret), place.kind
    with _told(place, secret):
        try:
            info = api.repo_info(place.name, repo_type=kind)
        except errors.RepositoryNotFoundError:
            return None
        refs = api.list_repo_refs(place.name, repo_type=kind)
        branches = {ref.name: ref.target_commit for ref in refs.branches}
        head = branches.get(place.branch, "")
        files = {}
        if head:
            entries = api.list_repo_tree(
                place.name, recursive=True, revision=head, repo_type=kind, expand=False
            )
            files = {
                entry.path: RemoteFile(
                    entry.size, entry.lfs.sha256 if entry.lfs else "", entry.blob_id
                )
                for entry in entries
                if isinstance(entry, huggingface_hub.hf_api.RepoFile)
            }
    return RemoteState(bool(info.private), head, files, branches)


def fetch(place: HubPlace, secret: str, name: str, commit: str) -> bytes:
    """Returns the content of a file of a commit, of at most storage.JSON_BYTES."""
    with _told(place, secret), tempfile.TemporaryDirectory() as folder:
        path = _api(secret).hf_hub_download(
            place.name, name, repo_type=place.kind, revision=commit, local_dir=folder
        )
        return storage.read_bytes(path, storage.JSON_BYTES)


# ---------------------------------------------------------------------------- what is changed
def create(place: HubPlace, secret: str, *, private: bool) -> None:
    """Makes an empty repository."""
    with _told(place, secret):
        _api(secret).create_repo(place.name, repo_type=place.kind, private=private, exist_ok=True)


def create_branch(place: HubPlace, secret: str) -> None:
    """Makes the branch of a place, which begins as its repository's main branch is."""
    with _told(place, secret):
        _api(secret).create_branch(
            place.name, repo_type=place.kind, branch=place.branch, exist_ok=True
        )


Addition = huggingface_hub.CommitOperationAdd


def addition(name: str, source: Path | bytes) -> Addition:
    """Returns a file to add: where it is put in the repository, and its path here or its bytes."""
    return Addition(path_in_repo=name, path_or_fileobj=source)


def send(place: HubPlace, secret: str, additions: Sequence[Addition]) -> None:
    """Sends the large ones of these files that the hub does not have; `commit` shows them."""
    with _told(place, secret, (*PASSING, *DONE)):
        _api(secret).preupload_lfs_files(
            place.name, additions, repo_type=place.kind, revision=place.branch, free_memory=False
        )


def is_held_by_git(addition: Addition) -> bool:
    """Tells whether the commit has a file that was sent in itself, and not by its digest."""
    return addition._upload_mode == "regular"  # no public name says it


def commit(
    place: HubPlace,
    secret: str,
    additions: Sequence[Addition],
    removed: Collection[str],
    head: str,
    message: str,
) -> None:
    """Puts files into the branch and removes others, all together; it must stand at `head`."""
    removals = [huggingface_hub.CommitOperationDelete(name, is_folder=False) for name in removed]
    with _told(place, secret):
        _api(secret).create_commit(
            place.name, [*additions, *removals], commit_message=message, repo_type=place.kind,
            revision=place.branch, parent_commit=head or None,
        )  # fmt: skip


# ---------------------------------------------------------------------------- to read
def snapshot(name: str, revision: str, patterns: Collection[str]) -> epath.Path:
    """Returns the local copy of a model's files that match; raises what the client raises."""
    from huggingface_hub import snapshot_download

    return epath.Path(snapshot_download(name, revision=revision, allow_patterns=[*patterns]))
