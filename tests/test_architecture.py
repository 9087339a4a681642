"""The shape of the package, kept true: who may import whom, and how long a file may be."""

import ast
from collections.abc import Iterable, Mapping
import graphlib
from pathlib import Path
import re

import pytest

ROOT = Path(__file__).parents[1] / "lrl_jax"
FILES = sorted(p for p in ROOT.rglob("*.py") if p.name != "__init__.py")
MAX_LINES = 400
MAX_TOP = 17  # names on the top floor
MAX_FILES = 16  # of a folder without rooms

# A module may import what stands in its own line or in a line above it, never one below. A name is
# a module or a room; the longest that fits a module decides.
RANKS = (
    ("data.sample", "data.unpack", "storage", "terminal", "recipe.extras", "devices.chips"),
    ("text", "data.read.files", "data.read.plain"),
    ("recipe",),
    ("vocab", "laws"),
    ("embeddings", "model"),
    ("devices", "hf"),
    ("data",),
    ("train",),
    ("fit", "evaluate"),
    ("report",),
    ("pipeline",),
    ("cli",),
)
RANK = {name: i for i, names in enumerate(RANKS) for name in names}

# Heavy libraries have one door each: the places that may import them.
DOORS = {
    "torch": ("hf/gate.py",),
    "peft": ("hf/gate.py",),
    "transformers": ("vocab/", "hf/"),
    "tokenizers": ("vocab/", "hf/"),
    "sentencepiece": ("vocab/",),
    "tiktoken": ("vocab/tokenizer/ranks.py",),
    "gguf": ("hf/gguf/",),
    "seqio": ("data/seqio/libraries.py",),
    "tensorflow": ("data/seqio/libraries.py",),
    "tensorflow_datasets": ("data/read/catalogues.py",),
    "datasets": ("data/read/catalogues.py",),
    "fasttext": ("data/read/language.py",),
    "huggingface_hub": ("hf/hub/client.py", "data/read/catalogues.py"),
    "pyarrow": ("data/unpack.py", "data/read/files.py"),
    "orbax": ("train/checkpoint.py",),
    "optax": ("train/", "embeddings/distil.py"),
    "flax": ("model/", "train/"),
    "sacrebleu": ("evaluate/",),
    "lm_eval": ("evaluate/harness.py",),
    "matplotlib": ("report/",),
    "wandb": ("train/trackers/child.py",),
    "trackio": ("train/trackers/child.py",),
    "ray": ("devices/on_ray.py",),
    "openai": ("evaluate/judge/endpoint.py",),
    "httpx2": ("evaluate/judge/endpoint.py",),
}

# Who may read lines that need not be text: tables, word vectors and files of an evaluation's own.
# Others read text by data/read/plain.py, which refuses rows.
ANY_LINES = {
    "cli/checks/files.py", "data/read/formats.py", "data/read/plain.py", "embeddings/vectors.py",
    "laws/files.py", "vocab/fertility.py",
}  # fmt: skip


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)


MODULES = {module(path): path for path in FILES}


def imports(path: Path) -> set[str]:
    """Everything a file imports, inside of functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{a.name}" for a in node.names}
    return names


def graph(imported: Mapping[str, Iterable[str]]) -> dict[str, set[str]]:
    """Module -> the modules it imports, of module -> the names it imports."""
    return {
        name: {
            other
            for wanted in names
            for other in (wanted, wanted.rpartition(".")[0])
            if other in imported and other != name
        }
        for name, names in imported.items()
    }


IMPORTED = {name: imports(path) for name, path in MODULES.items()}
EDGES = graph(IMPORTED)


def rank(name: str) -> int:
    parts = name.split(".")[1:]
    longest = next(
        (joined for n in range(len(parts), 0, -1) if (joined := ".".join(parts[:n])) in RANK), ""
    )
    assert longest, f"{name} has no rank"
    return RANK[longest]


def circle(edges: Mapping[str, set[str]]) -> tuple[str, ...]:
    """Modules that import one another all the way round; none where there is no circle."""
    try:
        graphlib.TopologicalSorter(edges).prepare()
    except graphlib.CycleError as e:
        return tuple(e.args[1])
    return ()


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_to_what_stands_before(path):
    here = module(path)
    for other in EDGES[here]:
        assert rank(other) <= rank(here), f"{here} imports {other}"


def test_no_modules_import_one_another_in_a_circle():
    assert not circle(EDGES)


def test_a_circle_inside_a_room_is_seen_inside_of_functions_too(tmp_path):
    (tmp_path / "one.py").write_text("def f():\n    from lrl_jax.data.read import two\n")
    (tmp_path / "two.py").write_text("from lrl_jax.data.read.one import f\n")
    edges = graph({f"lrl_jax.data.read.{n}": imports(tmp_path / f"{n}.py") for n in ("one", "two")})
    assert set(circle(edges)) == {"lrl_jax.data.read.one", "lrl_jax.data.read.two"}


def test_the_top_floor_has_few_names_and_no_room_is_a_corridor():
    unseen = {"__init__.py", "__pycache__", "py.typed"}
    assert len({p.name for p in ROOT.iterdir()} - unseen) <= MAX_TOP
    for folder in {path.parent for path in FILES}:
        assert len([p for p in folder.glob("*.py") if p.name != "__init__.py"]) <= MAX_FILES, folder


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_heavy_library_comes_in_by_its_door(path):
    here = str(path.relative_to(ROOT))
    for name in IMPORTED[module(path)]:
        doors = DOORS.get(name.split(".")[0], (here,))
        assert any(here.startswith(door) for door in doors), f"{here} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_fits_in_the_head_and_says_what_it_is(path):
    source = path.read_text()
    assert len(source.splitlines()) <= MAX_LINES
    assert ast.get_docstring(ast.parse(source)), f"{path.name} has no first line"


def test_lines_of_text_come_in_by_the_door_that_refuses_rows():
    read = re.compile(r"\btext(_lines)?\.lines\b(?!\(\))")  # with something to read
    assert {str(p.relative_to(ROOT)) for p in FILES if read.search(p.read_text())} == ANY_LINES


def test_every_rank_has_a_module_and_every_module_a_rank():
    assert all(rank(name) >= 0 for name in MODULES)
    for name in RANK:
        place = ROOT / name.replace(".", "/")
        assert place.is_dir() or place.with_suffix(".py").exists(), name


def test_nothing_is_hidden_behind_a_door_that_reads_pickles():
    for path in FILES:
        assert not IMPORTED[module(path)] & {"pickle", "cloudpickle", "dill"}, path.name
