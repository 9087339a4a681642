"""A message that asks for an extra says a command that works."""

from pathlib import Path
import re
import tomllib

from lrl_jax.recipe.extras import how_to_install

ROOT = Path(__file__).parents[1]


def test_a_checkout_is_named_by_its_path(tmp_path):
    (tmp_path / "pyproject.toml").touch()
    assert how_to_install("beam", tmp_path) == f'pip install -e "{tmp_path}[beam]"'


def test_without_a_checkout_the_wheel_file_is_named(tmp_path):
    want = 'pip install "PATH_OF_WHEEL[beam]", with the wheel file of lrl_jax'
    assert how_to_install("beam", tmp_path) == want


def test_the_package_knows_its_own_checkout():
    assert how_to_install("fit") == f'pip install -e "{ROOT}[fit]"'


def test_every_extra_that_is_asked_for_is_one_of_the_package():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = set(settings["project"]["optional-dependencies"])
    asked = set()
    for folder, ending in (("lrl_jax", "py"), ("docs", "md"), ("configs", "yaml"), ("tpu", "*")):
        for path in (ROOT / folder).rglob(f"*.{ending}"):
            source = path.read_text(encoding="utf-8")
            assert not re.search(r"pip install\W+lrl[-_]jax\[", source), path
            asked |= set(re.findall(r'how_to_install\("(\w+)"\)', source))
            for names in re.findall(r'pip install [^\n]*"\.\[([\w,]+)\]"', source):
                asked |= set(names.split(","))
    assert {"beam", "fit", "hub", "tpu"} <= asked <= extras
