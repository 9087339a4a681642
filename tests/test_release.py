"""A distribution has every file, and its SBOM names everything that it needs."""

import fnmatch
import json
from pathlib import Path
import re
import subprocess
import sys
import tomllib

from packaging.requirements import Requirement
import pytest

from scripts import sbom

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
TOOL = SETTINGS["tool"]["setuptools"]


def test_every_folder_of_code_is_a_package_of_the_distribution():
    folders = {path.parent for path in (ROOT / "lrl_jax").rglob("*.py")}
    names = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert names | {"lrl_jax.configs"} == set(TOOL["packages"])


def test_every_file_that_code_reads_is_in_the_distribution():
    shipped = [
        f"{TOOL['package-dir'].get(package, package.replace('.', '/'))}/{pattern}"
        for package, patterns in TOOL["package-data"].items()
        for pattern in patterns
    ]
    for path in (ROOT / "lrl_jax").rglob("*"):
        name = str(path.relative_to(ROOT))
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            assert any(fnmatch.fnmatch(name, pattern) for pattern in shipped), name


def test_an_sbom_names_every_need_once_and_what_needs_what():
    bom = sbom.sbom("lrl-jax")
    names = [component["name"] for component in bom["components"]]
    direct = {sbom.normal(Requirement(line).name) for line in SETTINGS["project"]["dependencies"]}
    assert direct <= {sbom.normal(name) for name in names}
    references = {component["bom-ref"] for component in bom["components"]}
    assert len(references) == len(names)
    top = bom["metadata"]["component"]["bom-ref"]
    assert top == f"pkg:pypi/lrl-jax@{SETTINGS['project']['version']}"
    assert {entry["ref"] for entry in bom["dependencies"]} == references | {top}
    for entry in bom["dependencies"]:
        assert set(entry["dependsOn"]) <= references
    of_top = next(entry for entry in bom["dependencies"] if entry["ref"] == top)
    assert direct == {re.sub("^pkg:pypi/|@.*$", "", ref) for ref in of_top["dependsOn"]}
    licensed = [component for component in bom["components"] if component.get("licenses")]
    assert len(licensed) > 0.9 * len(names)


def test_an_sbom_is_the_same_every_time_and_an_extra_adds_to_it():
    plain = sbom.sbom("lrl-jax")
    assert plain == sbom.sbom("lrl-jax")
    dev = sbom.sbom("lrl-jax", frozenset({"dev"}))
    added = {c["name"] for c in dev["components"]} - {c["name"] for c in plain["components"]}
    assert {"pytest", "hypothesis"} <= added
    assert dev["serialNumber"] != plain["serialNumber"]


def test_what_is_not_installed_has_no_sbom(tmp_path):
    command = [sys.executable, str(ROOT / "scripts/sbom.py"), "not-installed-here"]
    got = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert got.returncode == 1
    assert got.stderr == (
        "sbom: not-installed-here is not installed here; pip install the wheel first\n"
    )
    command[2] = "packaging"
    got = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert json.loads(got.stdout)["metadata"]["component"]["name"] == "packaging"


@pytest.mark.parametrize("text", ["pip install dist/*.whl", "scripts/release.sh", "SBOM"])
def test_the_checklist_of_a_release_names_its_script(text):
    checklist = (ROOT / "CONTRIBUTING.md").read_text().split("## A release\n")[1]
    assert text in checklist.split("\n## ")[0]


def test_the_script_of_a_release_is_sound_bash():
    subprocess.run(["bash", "-n", str(ROOT / "scripts/release.sh")], check=True)
