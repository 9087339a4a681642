"""The command line: quick to start, and every failure has its exit code and its reason."""

from pathlib import Path
import subprocess
import sys
import time

import pytest

from lrl_jax.cli import main
from lrl_jax.recipe import file as recipe_file

ROOT = Path(__file__).parents[1]


def lrl(*args, **kwargs):
    return subprocess.run(
        [sys.executable, "-m", "lrl_jax.cli", *args],
        capture_output=True, text=True, cwd=ROOT, timeout=300, check=False, **kwargs,
    )  # fmt: skip


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from lrl_jax.cli import main\n"
        "try: main.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('jax', 'numpy', 'pydantic', 'tensorflow') if m in sys.modules])"
    )
    got = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert got.stdout.splitlines()[-1] == "[]"


def test_help_is_there_in_under_a_third_of_a_second():
    times = []
    for _ in range(3):
        start = time.perf_counter()
        assert "vocab, init, data, train, evaluate, export" in lrl("--help").stdout
        times.append(time.perf_counter() - start)
    assert min(times) < 0.3


def test_a_new_recipe_loads_as_it_stands_and_is_never_overwritten(tmp_path, capsys):
    path = tmp_path / "tamil.yaml"
    args = ["new", str(path), "--language", "tam_Taml", "--base", "some/model"]
    assert main.main(args) == 0
    got = recipe_file.load(str(path))
    assert (got.name, got.vocab.scripts, got.base.model) == ("tamil", ("Taml",), "some/model")
    assert main.main(args) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_language_that_is_no_flores_code_is_explained(tmp_path, capsys):
    args = ["new", str(tmp_path / "a.yaml"), "--language", "tamil", "--base", "b"]
    assert main.main(args) == 2
    assert "such as kor_Hang" in capsys.readouterr().err


def test_a_typo_in_a_recipe_is_exit_code_2_with_the_nearest_name(capsys):
    code = main.main(["check", str(ROOT / "configs/quickstart.yaml"), "train.batchsize=8"])
    assert code == 2
    assert "did you mean 'batch_size'?" in capsys.readouterr().err


@pytest.mark.parametrize("bad", [["check", "x.yaml", "--nonsense"], ["fly"], []])
def test_an_unknown_argument_is_exit_code_2(bad):
    with pytest.raises(SystemExit) as end:
        main.main(bad)
    assert end.value.code == 2


def test_overrides_may_stand_on_either_side_of_options(capsys):
    for args in (["--redo", "name=é=x"], ["name=é=x", "--redo"]):
        assert main.main(["vocab", str(ROOT / "configs/quickstart.yaml"), *args]) == 2
        assert "name: String should match pattern" in capsys.readouterr().err
