"""The compile benchmark puts two programs through one compiler, and MaxText on our meshes too."""

import importlib
from pathlib import Path

import pytest

from lrl_jax.fit import topology

FOLDER = Path(__file__).parents[1] / "scripts/benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module("compile")
    monkeypatch.setattr(topology, "libtpu", lambda: "0.0.51")
    return module


def python(folder: Path, version: str) -> str:
    """A Python whose libtpu has this version."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\necho {version}\n")
    path.chmod(0o755)
    return str(path)


def test_another_libtpu_is_refused_with_both_versions_and_the_command(script, tmp_path):
    with pytest.raises(SystemExit, match=r"has libtpu 0\.0\.52, this Python 0\.0\.51.*==0\.0\.51"):
        script.same_compiler(python(tmp_path, "0.0.52"))
    with pytest.raises(SystemExit, match="has libtpu none"):
        script.same_compiler(python(tmp_path, ""))
    script.same_compiler(python(tmp_path, "0.0.51"))


def test_a_program_of_another_libtpu_is_compiled_again(script, monkeypatch):
    pair = script.PAIRS["llama2-7b"]
    before = script.settings(pair, {}, pair.ours[0])
    monkeypatch.setattr(topology, "libtpu", lambda: "0.0.52")
    assert script.settings(pair, {}, pair.ours[0]) != before


def test_make_installs_the_libtpu_of_the_constraints_beside_maxtext():
    makefile = (FOLDER.parents[1] / "Makefile").read_text()
    assert "$(shell grep '^libtpu==' constraints-fit.txt)" in makefile
    installs = [line for line in makefile.splitlines() if "$(MAXTEXT)/bin/python -m pip" in line]
    assert len(installs) == 2
    assert all("$(PEER)" in line for line in installs)
    assert "\nlibtpu==" in (FOLDER.parents[1] / "constraints-fit.txt").read_text()


def test_maxtext_is_tried_on_the_meshes_of_ours(script):
    for pair in script.PAIRS.values():
        count = topology.read(pair.topology).count
        split = [policy for policy in pair.theirs if script.SPLIT in policy["more"]]
        assert split
        ours = {(setting["data"], setting["fsdp"]) for setting in pair.ours}
        assert {(policy["data"], policy["fsdp"]) for policy in split} <= ours
        assert all(data * fsdp == count for data, fsdp in ours)
