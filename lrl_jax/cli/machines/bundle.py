"""Packs what hosts need: this checkout, the recipe, and the local files that the recipe names.

    left = write("tamil.tar.gz", checkout, "tamil.yaml", ("train.steps=10",))

Nobody has to commit anything: files of the checkout go as they are on the disk, untracked ones too,
unless git ignores them; what the recipe names goes even then. What cannot go along is returned,
each with what to do.
"""

from collections.abc import Iterable, Iterator, Sequence
import glob
import os
from pathlib import Path
import subprocess
import tarfile

from lrl_jax.cli.machines.gcloud import PersonError

CHECKOUT = Path(__file__).parents[3]
MOST = 2 << 30  # bytes of local files; more than that belongs in a bucket near the TPU
SKIPPED = {
    ".git", ".venv", ".venv-launch", ".uv", "runs", "jobs", "logs", "build", "dist", "__pycache__",
}  # fmt: skip
UNUSED = ("tests/", "docs/", ".github/")  # by hosts
GIB = 2**30


def write(
    archive: str | Path, recipe: str = "", overrides: Sequence[str] = (), checkout: Path = CHECKOUT
) -> list[str]:
    """Writes the archive; returns a sentence for each thing that the hosts will not find.

    Paths of a recipe are relative to the folder in which one works; the hosts work in the unpacked
    archive, so files below this folder are packed under the same names.

    Raises:
      PersonError: a library for reading recipes is absent.
      ValueError: the recipe is wrong.
    """
    files = {name: checkout / name for name in tracked(checkout)}
    left: list[str] = []
    if recipe:
        more, left = named(recipe, overrides)
        files |= {name: Path(name) for name in more}
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for name, path in sorted(files.items()):
            tar.add(path, name, recursive=False)
    return left


def tracked(checkout: Path) -> list[str]:
    """Returns the files of a checkout that hosts use; those that git ignores are left out."""
    words = ("git", "-C", str(checkout), "ls-files", "-z", "--cached", "--others")
    try:
        done = subprocess.run(
            [*words, "--exclude-standard"], capture_output=True, text=True, check=True
        )
        names = set(filter(None, done.stdout.split("\0")))
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive, or no git
        names = set(_below(checkout))
    return sorted(n for n in names if (checkout / n).is_file() and not n.startswith(UNUSED))


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
