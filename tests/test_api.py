"""The names that Python code imports from `lrl_jax` itself, and the ground they stand on."""

import contextlib
import multiprocessing.spawn
import os
import signal
import subprocess
import sys
import threading
import time

import jax
import pytest

import lrl_jax
from lrl_jax.devices import signals
from lrl_jax.pipeline.api import results as api_results
from lrl_jax.pipeline.api import session
from lrl_jax.pipeline.study import engine as study_engine
from lrl_jax.pipeline.study import results as study_results
from lrl_jax.pipeline.study.results import CellResult, Results
from lrl_jax.recipe.schema import Recipe

HEAVY = {"jax", "numpy", "pydantic", "rich"}
BITS = {"ko": {"bits_per_byte": 1.5, "tokens": 8, "lines": 2, "bytes": 9}}


def python(code: str) -> str:
    """What a Python of its own prints."""
    got = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return got.stdout


# ---------------------------------------------------------------------------- the front door
def test_importing_the_package_loads_no_library_and_takes_no_time():
    code = f"""
import sys, time
began = time.process_time()
import lrl_jax
print(sorted({HEAVY} & {{*sys.modules}}), time.process_time() - began < 0.1)
"""
    assert python(code) == "[] True\n"


def test_every_public_name_is_there_and_others_are_refused_with_the_list():
    assert all(callable(getattr(lrl_jax, name)) for name in lrl_jax.__all__)
    assert {*lrl_jax.__all__} <= {*dir(lrl_jax)}
    with pytest.raises(AttributeError, match=r"no attribute .laod.; it has .*'load'"):
        getattr(lrl_jax, "la" + "od")


@pytest.mark.parametrize(
    "imports",
    ["import lrl_jax", "import lrl_jax.evaluate", "from lrl_jax.evaluate import rows"],
)
def test_evaluate_is_a_room_and_a_function_whichever_is_used_first(imports):
    code = f"""
{imports}
import sys, lrl_jax
function = lrl_jax.evaluate
import lrl_jax.evaluate as room, lrl_jax.evaluate.rows as rows
print(room is function is sys.modules["lrl_jax.evaluate"], room.rows is rows, "jax" in sys.modules)
try:
    lrl_jax.evaluate("no/such.yaml")
except ValueError as e:
    print(e)
"""
    first, second = python(code).splitlines()[:2]
    assert first == "True True False"
    assert second.startswith("no/such.yaml: no such recipe")


# ---------------------------------------------------------------------------- recipes
def test_a_shipped_recipe_is_read_by_its_name_and_changed():
    recipe = lrl_jax.Recipe.from_yaml(
        "quickstart",
        "train.batch_size=4",
        name="trial",
        base={"expected": None},
        train={"batch_size": 8, "stages": {1: {"steps": 7}}},
    )
    assert recipe == lrl_jax.load_recipe(
        "quickstart",
        "train.batch_size=4",
        "name=trial",
        "base.expected=null",
        "train.stages.1.steps=7",
    )
    assert [stage.steps for stage in recipe.train.stages] == [40, 7, 300]
    assert type(recipe) is Recipe is lrl_jax.Recipe


def test_a_recipe_takes_what_python_code_has_in_hand(tmp_path):
    recipe = lrl_jax.Recipe.from_yaml("quickstart", vocab={"text": (tmp_path / "a.txt",)})
    assert recipe.vocab.text == (str(tmp_path / "a.txt"),)


@pytest.mark.parametrize(
    ("path", "sections", "want"),
    [
        ("quikstart", {}, r"quikstart: no such recipe.*did you mean 'quickstart'"),
        ("quickstart", {"trian": {}}, r"trian: unknown key; did you mean 'train'"),
        ("quickstart", {"train": {"stages": {9: {}}}}, r"want an index below 3, got '9'"),
        ("quickstart", {"train": {"batch_size": "x"}}, r"train.batch_size: .* got 'x'"),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_key(path, sections, want):
    with pytest.raises(ValueError, match=want):
        lrl_jax.Recipe.from_yaml(path, **sections)


# ---------------------------------------------------------------------------- what is refused
def test_a_step_that_is_none_is_refused_before_anything_is_read():
    with pytest.raises(ValueError, match=r"until='trian': want vocab, .* did you mean 'train'"):
        lrl_jax.run("no/such.yaml", until="trian")


@pytest.mark.parametrize(
    ("arguments", "settings", "want"),
    [
        (("m", "quickstart"), {"tasks": ["kobest"]}, "name tasks or a recipe"),
        (("quickstart",), {"limit": 4}, "limit: of tasks=; a recipe says its own"),
        (("m",), {"tasks": "kobset"}, "kobset.*did you mean 'kobest'"),
        (("m", "quickstart"), {"only": "kor"}, "^only: no entry 'kor' under evaluate"),
        ((".",), {}, r"\.: is no run; name the tasks of a model"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_a_model_is_read(arguments, settings, want):
    with pytest.raises(ValueError, match=want):
        lrl_jax.evaluate(*arguments, **settings)


def test_a_dtype_that_there_is_not_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="dtype 'float23'; there are auto, float32, bfloat16"):
        lrl_jax.load("runs/x", **{"dtype": "float23"})


def test_a_study_is_refused_with_what_is_wrong(monkeypatch, tmp_path):
    grid = {"name": "s", "recipe": "quickstart", "grid": {"seed": (0, 1)}}
    with pytest.raises(ValueError, match=r"study: 1 problem\n  compare: missing"):
        lrl_jax.study(grid)
    whole = {**grid, "compare": "after.bits_per_byte.kor_Hang"}
    for settings, want in (
        ({"on": "lokal"}, "on='lokal': want local, here, ray; did you mean 'local'"),
        ({"on": "here", "address": "a:1"}, "--address: is of a Ray cluster"),
    ):
        with pytest.raises(ValueError, match=want):
            lrl_jax.study(whole, out=tmp_path, **settings)
    assert jax.devices()  # begins to use them
    monkeypatch.setattr(study_engine, "has_accelerator", lambda: True)
    with pytest.raises(ValueError, match="this Python has begun to use the accelerator"):
        lrl_jax.study(whole, out=tmp_path)
    assert not [*tmp_path.iterdir()]


# ---------------------------------------------------------------------------- results
def test_results_are_numbers_by_path_and_a_table():
    got = lrl_jax.EvaluationResults({"bits_per_byte": BITS}, {"bits_per_byte": BITS})
    assert got["bits_per_byte.ko"] == got["before.bits_per_byte.ko.bits_per_byte"] == 1.5
    with pytest.raises(ValueError, match=r"not measured; did you mean 'after\.bits_per_byte\.ko"):
        got["bits_per_byte.k"]
    assert "before and after" in repr(got)
    alone = lrl_jax.EvaluationResults({"bits_per_byte": BITS, "facts": {}})
    assert "before" not in repr(alone)
    assert "1.500" in str(alone)
    assert "<td" in alone._repr_html_()


def test_names_of_a_result_are_no_markup_in_a_notebook():
    odd = {"<script>": dict(BITS["ko"])}
    page = lrl_jax.EvaluationResults({"bits_per_byte": odd})._repr_html_()
    assert "&lt;script&gt;" in page
    assert "<script>" not in page


def test_a_study_prints_its_groups_and_why_cells_failed(tmp_path):
    cells = (
        CellResult("seed-0", {"seed": 0}, {"after.x": 1.0}),
        CellResult("seed-1", {"seed": 1}, error="no text"),
    )
    got = api_results.StudyResults(tmp_path, Results("s", "recipe", ("after.x",), cells))
    assert got.groups[0]["values"]["after.x"]["mean"] == 1.0
    assert [cell.name for cell in got.failed] == ["seed-1"]
    assert "no text" in repr(got)
    assert got._repr_html_().count("<table") == 2
    with pytest.raises(ValueError, match="holds no study yet"):
        lrl_jax.StudyResults.read(tmp_path)
    study_results.write(tmp_path, got.results)
    assert lrl_jax.StudyResults.read(tmp_path) == got


# ---------------------------------------------------------------------------- Ctrl-C
def interrupted(*numbers, saving=False):
    """Gets these signals in a block that would take long."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(session.interruptible("run"))
        asked = stack.enter_context(signals.deferred() if saving else signals.listening())
        for number in numbers:
            os.kill(os.getpid(), number)
            while not asked.stop:
                time.sleep(0.01)
        time.sleep(30)


def test_ctrl_c_raises_keyboard_interrupt_and_python_goes_on(capsys):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        interrupted(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    assert "run: stopped as asked; what is finished is kept" in capsys.readouterr().err


def test_a_second_ctrl_c_ends_what_saves_first_and_not_python():
    with pytest.raises(KeyboardInterrupt):
        interrupted(signal.SIGINT, signal.SIGINT, saving=True)


def test_a_machine_that_is_taken_back_ends_the_program_as_it_ends_a_verb():
    with pytest.raises(SystemExit) as ended:
        interrupted(signal.SIGTERM)
    assert ended.value.code == 75


def test_an_error_that_is_no_interruption_comes_through():
    with pytest.raises(ValueError, match="as it is"), session.interruptible("run"):
        raise ValueError("as it is")


def test_a_thread_hears_no_signals_and_is_refused():
    errors = []

    def call():
        try:
            lrl_jax.run("quickstart")
        except ValueError as e:
            errors.append(str(e))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert "lrl_jax.run: was called in a thread" in errors[0]


def test_a_process_that_packs_does_not_run_the_script_again():
    main = sys.modules["__main__"]
    before = getattr(main, "__file__", None), main.__spec__
    with session.script_run_once():
        told = multiprocessing.spawn.get_preparation_data("worker")
    assert not [key for key in told if key.startswith("init_main")]
    assert (getattr(main, "__file__", None), main.__spec__) == before


def test_a_script_is_hidden_until_the_last_block_of_any_thread_ends(monkeypatch):
    main = vars(sys.modules["__main__"])
    monkeypatch.setitem(main, "__file__", "script.py")
    monkeypatch.setitem(main, "__spec__", "spec")
    first, second = session.script_run_once(), session.script_run_once()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert "__file__" not in main
    second.__exit__(None, None, None)
    assert (main["__file__"], main["__spec__"]) == ("script.py", "spec")
