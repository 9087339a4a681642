"""The shape of the package, kept true: who may import whom, and how long a file may be."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "lrl_jax"
FILES = sorted(p for p in ROOT.rglob("*.py") if p.name != "__init__.py")
MAX_LINES = 400

# A module may import its own rank and any rank above it, never one below.
RANKS = (
    ("sample", "chips", "extras"),
    (
        "recipe_vocab",
        "recipe_data",
        "recipe_train",
        "recipe",
        "recipe_file",
        "text",
        "languages",
        "markup",
        "laws",
        "allocation",
    ),
    ("vocab",),
    ("embeddings",),
    ("model",),
    ("mesh", "presets", "hf"),
    ("data",),
    ("train",),
    ("evaluate",),
    ("fit",),
    ("run", "console"),
    ("prepare", "weights"),
    ("steps",),
    ("probe",),
    ("check", "forecast", "supply"),
    ("new", "verbs"),
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
    "tiktoken": ("vocab/ranks.py",),
    "seqio": ("data/sources.py", "data/tasks.py"),
    "tensorflow": ("data/sources.py", "data/tasks.py"),
    "tensorflow_datasets": ("data/sources.py", "data/tasks.py", "data/catalogues.py"),
    "datasets": ("data/catalogues.py",),
    "pyarrow": ("text.py", "data/files.py"),
    "orbax": ("train/checkpoint.py",),
    "optax": ("train/",),
    "flax": ("model/", "train/"),
    "sacrebleu": ("evaluate/",),
    "matplotlib": ("vocab/fertility.py", "evaluate/plots.py"),
}


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{a.name}" for a in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_to_what_stands_before(path):
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "lrl_jax" and len(parts) > 1 and parts[1] in RANK:
            assert RANK[parts[1]] <= RANK[room(path)], f"{path.name} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_heavy_library_comes_in_by_its_door(path):
    here = str(path.relative_to(ROOT))
    for name in imports(path):
        doors = DOORS.get(name.split(".")[0], (here,))
        assert any(here.startswith(door) for door in doors), f"{here} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_fits_in_the_head_and_says_what_it_is(path):
    source = path.read_text()
    assert len(source.splitlines()) <= MAX_LINES
    assert ast.get_docstring(ast.parse(source)), f"{path.name} has no first line"


def test_every_module_has_a_rank():
    assert {room(p) for p in FILES} <= set(RANK)


def test_nothing_is_hidden_behind_a_door_that_reads_pickles():
    for path in FILES:
        assert not imports(path) & {"pickle", "cloudpickle", "dill"}, path.name
