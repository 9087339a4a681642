"""The files for contributors agree with the project: versions, Pythons, tools, forms."""

from pathlib import Path
import re
import tomllib

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))


def read(path: Path) -> dict:
    return YAML(typ="safe", pure=True).load(path.read_text())


def test_the_citation_has_the_version_and_the_licence_of_the_package():
    citation = read(ROOT / "CITATION.cff")
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert citation["authors"] == PROJECT["authors"]
    assert PROJECT["name"].replace("-", "_") in citation["title"]


def test_every_supported_python_is_tested():
    jobs = read(ROOT / ".github/workflows/ci.yml")["jobs"]
    classified = [re.findall(r"^Programming.* (3\.\d+)$", line) for line in PROJECT["classifiers"]]
    want = [versions[0] for versions in classified if versions]
    assert jobs["test"]["strategy"]["matrix"]["python-version"] == want == ["3.11", "3.12", "3.13"]


def test_the_workflow_runs_make_targets_within_a_time():
    targets = set(re.findall(r"(?m)^(\w+):", (ROOT / "Makefile").read_text()))
    jobs = read(ROOT / ".github/workflows/ci.yml")["jobs"]
    for name, job in jobs.items():
        assert job["timeout-minutes"] <= 120
        (command,) = [step["run"] for step in job["steps"] if "run" in step]
        assert command == f"make {name} PYTHON=python"
        assert name in targets


@pytest.mark.parametrize(
    "path", [form for form in FORMS if form.name != "config.yml"], ids=lambda path: path.stem
)
def test_an_issue_form_asks_for_something(path):
    form = read(path)
    assert form["name"]
    assert form["description"]
    assert len({field["id"] for field in form["body"]}) == len(form["body"])
    assert any(field.get("validations", {}).get("required") for field in form["body"])
    assert all(field["attributes"]["label"] for field in form["body"])


def test_a_door_for_contributors_names_at_most_three_files_and_a_test():
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("## Doors")[2]
    doors = [line.split("|")[1:4] for line in table.splitlines() if line.startswith("| a")]
    assert len(doors) >= 8
    for to_add, change, run in doors:
        files, tests = (re.findall(r"`([\w/]+\.(?:py|yaml))`", cell) for cell in (change, run))
        assert 1 <= len(files) <= 3, to_add
        assert len(tests) == 1, to_add
        missing = [path for path in (*files, *tests) if not (ROOT / path).is_file()]
        assert not missing, to_add


@pytest.mark.parametrize("tool", ["pyrefly", "ruff", "pytest"])
def test_a_tool_that_judges_is_pinned(tool):
    assert re.search(rf"(?m)^{tool}==\d", (ROOT / "constraints.txt").read_text())


def test_types_are_checked_alike_with_and_without_the_optional_libraries():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pyrefly"]
    assert {"torch", "peft", "datasets"} <= set(settings["replace-imports-with-any"])
