"""Pushes a parcel of files to the hub: looks, sends what is missing, commits, and compares.

A push changes a branch once, by a commit of all files, so that nobody sees half of it. Large files
are sent before that and kept by the hub, each once: a push that was cut goes on where it stood,
since every try begins with what the hub has.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import time

from lrl_jax.hf.hub import client
from lrl_jax.hf.hub.client import HubError, HubPlace, RemoteFile, RemoteState, TransientError
from lrl_jax.hf.hub.parcel import MANIFEST, Parcel, ParcelFile, contents

TRIES = 6  # in a row without a file more; waits of 1, 2, 4, 8, 16 seconds between them
WAIT = 1.0  # seconds after the first failed try; each later wait is twice as long
BATCH_BYTES, BATCH_FILES = 4 << 30, 64  # that are sent before the next are begun
GIVEN = (".gitattributes",)  # files that the hub itself puts into a new repository
SHOWN = 5  # names in a message
Say = Callable[[str], None]


class UnequalError(HubError):
    """Reports that the hub holds another file than was sent."""

    exit_code = 5


class UnreachableError(OSError):
    """Reports that the hub failed again and again."""

    exit_code = 76


@dataclasses.dataclass(frozen=True)
class Pushed:
    """Describes what was pushed.

    Attributes:
      sent: files that were not there before.
      verified: files whose digests the hub was asked for, and that are right.
    """

    address: str
    commit: str
    sent: int
    verified: int
    private: bool


def push(
    parcel: Parcel,
    place: HubPlace,
    *,
    private: bool | None = None,
    anywhere: bool = False,
    say: Say = lambda line: None,
    wait: Callable[[float], None] = time.sleep,
) -> Pushed:
    """Puts the files of a parcel into a branch of a repository, and compares what is there then.

    Args:
      private: who may see a repository that is made: None and True mean its owners only. What an
        existing one says otherwise is an error.
      anywhere: whether files of others may be in the branch; they stay.
      say: is told what happens, a line each.
      wait: waits for so many seconds between tries.

    Raises:
      HubError: the hub refuses, or holds another file than was sent.
      UnreachableError: it failed too often; the same push goes on later.
    """
    job = _Job(parcel, place, client.token(), private is not False, anywhere, say)
    failures = 0
    with client.session() as fresh:
        while True:
            fresh()
            before = len(job.done)
            try:
                return job.attempt()
            except TransientError as e:
                failures = 1 if len(job.done) > before else failures + 1
                if failures >= TRIES:
                    raise UnreachableError(
                        f"{place.name}: the hub failed {failures} times in a row, the last time "
                        f"with: {e}. What it has is kept: run the same command again"
                    ) from None
                pause = WAIT * 2 ** (failures - 1)
                say(f"push: {e}; once more in {pause:.0f} s")
                wait(pause)


class _Job:
    """Holds what is done of a push between its tries."""

    def __init__(
        self, parcel: Parcel, place: HubPlace, secret: str, private: bool, anywhere: bool, say: Say
    ):
        self.parcel, self.place, self.secret, self.say = parcel, place, secret, say
        self.private, self.ours = private, anywhere
        self.done: set[str] = set()  # what is there now, and needs no second time
        self._additions: dict[str, client.Addition] = {}
        self._absent: set[str] = set()  # files that were not there before

    def attempt(self) -> Pushed:
        """Does what is left to do, and returns once everything is there and right."""
        state = self._look()
        missing = _differing(self.parcel, state.files)
        if missing:
            stale = self._stale(state)
            self._absent.update(missing)
            self._send(missing)
            additions = [self._to_commit(name) for name in missing]
            message = f"Add {self.parcel.title}"
            client.commit(self.place, self.secret, additions, stale, state.head, message)
            self.done.add("commit")
            self._additions.clear()  # the client takes each for one commit
            state = self._look()
        if wrong := _differing(self.parcel, state.files):
            raise UnequalError(
                f"{self.place.name}: after the push the hub holds another {wrong[0]} than was sent "
                f"({len(wrong)} of {len(self.parcel.files)} files differ); push again"
            )
        count = len(self.parcel.files)
        return Pushed(self.place.address, state.head, len(self._absent), count, state.private)

    def _look(self) -> RemoteState:
        """Returns what the hub has, after making the repository and the branch where need be."""
        state = client.look(self.place, self.secret)
        if state is None:
            client.create(self.place, self.secret, private=self.private)
            state = self._made("repository")
        self._refuse_seen(state)
        if not state.head and self.place.branch != client.MAIN:
            client.create_branch(self.place, self.secret)
            state = self._made("branch")
        return state

    def _made(self, what: str) -> RemoteState:
        self.done.add(what)
        if state := client.look(self.place, self.secret):
            return state
        raise TransientError(f"{self.place.name}: was made, and is not there yet")

    def _refuse_seen(self, state: RemoteState) -> None:
        """Raises HubError where others see the repository who should not, or the other way."""
        if self.private and not state.private:
            raise HubError(
                f"{self.place.name}: exists and is public; push to another name, make it private "
                "in its settings, or say --public to publish there"
            )
        if state.private and not self.private:
            raise HubError(
                f"{self.place.name}: exists and is private, which a push does not change; leave "
                "out --public, and publish it in its settings once you have looked at it"
            )

    def _stale(self, state: RemoteState) -> list[str]:
        """Returns files that an earlier push put there and this one lacks.

        Raises HubError where there are files of others, and nothing says that they may stay.
        """
        earlier = self._earlier(state)
        others = sorted(state.files.keys() - {*GIVEN, *earlier})
        if others and not earlier and not self.ours:
            more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
            raise HubError(
                f"{self.place.name}: exists and holds other files ({', '.join(others[:SHOWN])}"
                f"{more}); push to another name, or say where in it: --revision NEW_BRANCH, or "
                f"--revision {self.place.branch} to put these files among them"
            )
        self.ours = True
        return sorted(state.files.keys() & earlier - self.parcel.files.keys())

    def _earlier(self, state: RemoteState) -> set[str]:
        """Returns the names that an earlier push of the same kind put there; none without one."""
        if MANIFEST not in state.files:
            return set()
        if state.files[MANIFEST].blob == self.parcel.files[MANIFEST].blob():
            return {*self.parcel.files}
        manifest = client.fetch(self.place, self.secret, MANIFEST, state.head)
        what, names = contents(manifest)
        if names and what != self.parcel.what:
            raise HubError(
                f"{self.place.name}: holds a push of another kind ({what}), which this one of "
                f"{self.parcel.what} would replace; push to another name"
            )
        return {*names, MANIFEST} if names else set()

    def _send(self, missing: Sequence[str]) -> None:
        files = self.parcel.files
        whole = sum(files[name].size for name in missing)
        what = f"{len(missing)} of {len(files)} files, {whole / 1e9:.3f} GB"
        self.say(f"push: {what}, to {self.place.name}")
        for batch in _batches(files, missing):
            additions = [self._addition(name) for name in batch]
            client.send(self.place, self.secret, additions)
            for name, addition in zip(batch, additions, strict=True):
                # hf_xet hashes a file as it sends it, so that this is of the bytes that were sent
                if addition.upload_info.sha256.hex() != files[name].sha256:
                    raise files[name].changed()
            self.done.update(batch)

    def _addition(self, name: str) -> client.Addition:
        """Returns a file to add, the same at each call: it knows whether it has been sent."""
        if name not in self._additions:
            self._additions[name] = client.addition(name, self.parcel.files[name].source)
        return self._additions[name]

    def _to_commit(self, name: str) -> client.Addition:
        """Returns a file that was sent, or with the very bytes that were hashed if git holds it.

        Raises ChangedError where these are gone, before the branch has any of it.
        """
        addition = self._addition(name)
        if client.is_held_by_git(addition):  # the client would read its path once more
            addition.path_or_fileobj = self.parcel.files[name].content()
        return addition


def _differing(parcel: Parcel, remote: Mapping[str, RemoteFile]) -> list[str]:
    """Returns the names of files that the hub lacks or has otherwise."""
    return [name for name, file in parcel.files.items() if not _same(file, remote.get(name))]


def _same(file: ParcelFile, remote: RemoteFile | None) -> bool:
    if remote is None or remote.size != file.size:
        return False
    return remote.sha256 == file.sha256 if remote.sha256 else remote.blob == file.blob()


def _batches(files: Mapping[str, ParcelFile], names: Sequence[str]) -> Iterator[list[str]]:
    """Yields names in order, as many at a time as hold BATCH_BYTES or number BATCH_FILES."""
    batch: list[str] = []
    size = 0
    for name in names:
        batch.append(name)
        size += files[name].size
        if size >= BATCH_BYTES or len(batch) == BATCH_FILES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
