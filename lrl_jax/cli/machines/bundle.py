"""Packs what hosts need: this checkout, the recipe, and the local files that the recipe names.

    left = write("tamil.tar.gz", checkout, "tamil.yaml", ("train.steps=10",))

Nobody has to commit anything: files of the checkout go as they are on the disk, untracked ones too,
unless git ignores them; what the recipe names goes even then. Untracked files that look like keys
or tokens stay here, and so do large ones. What does not go along is returned, with what to do.
"""

from collections.abc import Iterable, Iterator, Sequence
import glob
import os
from pathlib import Path
import re
import subprocess
import tarfile

from lrl_jax.cli.machines.gcloud import PersonError

CHECKOUT = Path(__file__).parents[3]
HOST_SETUP = "tpu/host/setup.sh"  # an installed package has none
MOST = 2 << 30  # bytes of local files; more than that belongs in a bucket near the TPU
SKIPPED = {
    ".git", ".venv", ".venv-launch", ".uv", "runs", "jobs", "logs", "build", "dist", "__pycache__",
}  # fmt: skip
UNUSED = ("tests/", "docs/", ".github/")  # by hosts
GIB, MIB = 2**30, 2**20
LARGE = 100 * MIB  # an untracked file of the checkout beyond that is no code
# Where tools keep what logs somebody in: names of files, and what stands in them.
SECRET_NAME = re.compile(
    r"(^|/)(\.env(rc|\.(?!example$|sample$|template$)[^/]*)?|\.netrc|\.pgpass|\.npmrc|\.pypirc|"
    r"\.git-credentials|\.(aws|ssh|gnupg|kube)/.*|id_(rsa|dsa|ecdsa|ed25519)|"
    r"[^/]*\.(pem|key|p12|pfx|ppk|kdbx|keystore)|[^/]*(secret|credential)s?(\.[^/]*)?|"
    r"(.*[._-])?token(\.txt)?)$",
    re.IGNORECASE,
)
SECRET_TEXT = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----|\"private_key\"\s*:\s*\"|\"refresh_token\"\s*:\s*\"|"
    rb"\bhf_[A-Za-z0-9]{30,}\b|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36,}\b|"
    rb"\bsk-[A-Za-z0-9_-]{32,}"
)
HEAD = 64 << 10  # bytes of a file that are searched for them; files of keys are smaller


def write(
    archive: str | Path, recipe: str = "", overrides: Sequence[str] = (), checkout: Path = CHECKOUT
) -> list[str]:
    """Writes the archive; returns a sentence for each thing that the hosts will not find.

    Paths of a recipe are relative to the folder in which one works; the hosts work in the unpacked
    archive, so files below this folder are packed under the same names.

    Links go as the files that they lead to, as hosts do not have what lies elsewhere here. An
    archive that another process writes at the same time is not mixed with this one.

    Raises:
      PersonError: a library for reading recipes is absent, or this is no checkout.
      ValueError: the recipe is wrong.
    """
    if not (checkout / HOST_SETUP).is_file():
        raise PersonError(
            f"{checkout}: is no checkout of lrl_jax, which is what hosts get and install; clone "
            "its repository, and call tpu/launch.sh there"
        )
    files = {name: checkout / name for name in tracked(checkout)}
    kept = _kept_here(checkout, files)
    for name in kept:
        del files[name]
    left: list[str] = []
    if recipe:
        more, left = named(recipe, overrides)
        files |= {name: Path(name) for name in more}
    unfinished = f"{archive}.{os.getpid()}"
    try:
        with tarfile.open(unfinished, "w:gz", compresslevel=1, dereference=True) as tar:
            for name, path in sorted(files.items()):
                tar.add(path, name, recursive=False)
        os.replace(unfinished, archive)
    finally:
        Path(unfinished).unlink(missing_ok=True)
    return [*(why for name, why in kept.items() if name not in files), *left]


def _kept_here(checkout: Path, names: Iterable[str]) -> dict[str, str]:
    """Returns the files of a checkout that no host should get though they are there, and why."""
    committed = set(_of_git(checkout, "--cached") or ())
    kept = {}
    for name in sorted(set(names) - committed):
        path = checkout / name
        if _is_secret(name) or SECRET_TEXT.search(_head(path)):
            kept[name] = _is_left(name)
        elif (size := path.stat().st_size) > LARGE:
            kept[name] = (
                f"{name}: {size / GIB:.1f} GiB that nobody committed and the recipe does not name, "
                "so it was not sent; put its name into .gitignore, or name it in the recipe"
            )
    return kept


def _is_secret(name: str) -> bool:
    return bool(SECRET_NAME.search(name))


def _is_left(name: str) -> str:
    return (
        f"{name}: looks like a key or a token, so it was not sent; hosts have the rights of the "
        "TPU's service account. If it is none, give it another name, or commit it"
    )


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD)


def tracked(checkout: Path) -> list[str]:
    """Returns the files of a checkout that hosts use; those that git ignores are left out."""
    names = _of_git(checkout, "--cached", "--others", "--exclude-standard")
    if names is None:
        names = [*_below(checkout)]
    return sorted(n for n in {*names} if (checkout / n).is_file() and not n.startswith(UNUSED))


def _of_git(checkout: Path, *options: str) -> list[str] | None:
    """Returns files that git lists; None for an unpacked archive, or without git."""
    words = ("git", "-C", str(checkout), "ls-files", "-z", *options)
    try:
        done = subprocess.run(words, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]


def _below(folder: Path) -> Iterator[str]:
    for here, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in SKIPPED]
        yield from (os.path.relpath(os.path.join(here, name), folder) for name in names)


def named(recipe: str, overrides: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """Returns the local files of a recipe, and sentences on those that cannot go along."""
    read, located, names, plain = _reader()
    read_recipe = read(recipe, overrides)
    files, left, size = [], [], 0
    path = located(recipe)
    wanted = [*names(read_recipe), *read_recipe.data.imports]
    for name in dict.fromkeys([path] * (path == recipe) + [plain(name) for name in wanted]):
        if "://" in name or name.startswith("sample:"):
            continue
        paths = sorted(_files(name))
        secret = [path for path in paths if path != os.path.normpath(name) and _is_secret(path)]
        left += [_is_left(path) for path in secret]
        paths = [path for path in paths if path not in secret]
        if not paths:
            left += _absent(name)
        elif reason := _unreachable(name):
            left.append(reason)
        elif size + (more := sum(os.path.getsize(path) for path in paths)) > MOST:
            left.append(
                f"{name}: {more / GIB:.1f} GiB, too much to send to every host; put it in a bucket "
                f"near the TPU (gcloud storage cp -r {name} gs://...) and name that in the recipe"
            )
        else:
            size += more
            files += paths
    return files, left


def place(recipe: str, overrides: Sequence[str] = ()) -> str:
    """Returns the run folder of a recipe."""
    read_recipe = _reader()[0](recipe, overrides)
    return f"{read_recipe.folder.rstrip('/')}/{read_recipe.name}"


def refuse_outside(recipe: str) -> None:
    """Raises ValueError for a recipe of your own that hosts would not find where it lies here."""
    if _reader()[1](recipe) == recipe and _unreachable(recipe):
        raise ValueError(
            f"{recipe}: lies outside of the folder you work in, and hosts get what is below it; "
            "copy the recipe into it"
        )


def _reader():
    """Returns what reads recipes; it needs a few small libraries, and no JAX."""
    try:
        from lrl_jax import text
        from lrl_jax.recipe import file, supply
    except ImportError as e:
        raise PersonError(
            f"reading a recipe needs {e.name}: pip install pydantic ruamel.yaml 'etils[epath]' "
            "langcodes language_data (no JAX is needed here)"
        ) from None
    return file.load, file.located, supply.named, text.plain


def _files(name: str) -> Iterator[str]:
    for path in glob.glob(name, recursive=True) or [name]:
        if os.path.isdir(path):
            yield from (os.path.normpath(os.path.join(path, below)) for below in _below(Path(path)))
        elif os.path.isfile(path):
            yield os.path.normpath(path)


def _unreachable(name: str) -> str:
    """Returns why hosts would not find a path; "" if they do."""
    if os.path.isabs(name) or os.path.normpath(name).startswith(".."):
        return (
            f"{name}: lies outside of the folder you work in, so the hosts would not find it there;"
            " put it below, or in a bucket, and name that in the recipe"
        )
    return ""


def _absent(name: str) -> Iterable[str]:
    """Yields what to say of a name that is no file here; a hub id is fetched by the hosts."""
    ending = os.path.splitext(name)[1]  # of Llama-3.1-8B it is .1-8B
    if glob.has_magic(name) or ending[1:].isalpha() or name.startswith((".", "/")):
        yield f"{name}: is not here, so it was not sent; `lrl check` says how to get it"
