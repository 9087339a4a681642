"""The table of docs/reliability.md has every case, and each test that it names is there."""

import ast
import functools
from pathlib import Path
import re

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
COUNTS = {"C": 13, "S": 8, "K": 12, "T": 12, "M": 8, "H": 11, "D": 5, "X": 8, "Z": 17}
ROWS = re.findall(r"(?m)^\| ([A-Z]\d+) \| (.*) \| (.*) \| (.*) \|$", TEXT)


@functools.cache
def functions(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_case_is_in_the_table_once_and_in_order():
    want = [f"{letter}{i}" for letter, count in COUNTS.items() for i in range(1, count + 1)]
    assert [row[0] for row in ROWS] == want
    assert len(want) == 94


@pytest.mark.parametrize(("case", "happens", "does", "shown"), ROWS, ids=[row[0] for row in ROWS])
def test_a_case_names_tests_that_are_there_or_says_why_there_is_none(case, happens, does, shown):
    tests = re.findall(r"(tests/\w+\.py)::(\w+)", shown)
    missing = [f"{path}::{name}" for path, name in tests if name not in functions(path)]
    assert not missing
    assert happens.strip()
    sentence = shown.startswith(("not held yet", "not here"))
    assert tests or sentence
    assert does.strip()
    assert shown.count("tests/") == len(tests), f"{case}: want tests/FILE.py::test_NAME"
