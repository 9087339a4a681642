"""The notebook runs from its first cell to its last, and so do examples of every public name."""

import inspect
import json
from pathlib import Path
import re
import textwrap

import forked
import pytest

import lrl_jax

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs/notebooks/first_steps.ipynb"
METHODS = ("generate", "logprob", "token_logprobs", "bits_per_byte", "embed", "save")

# Run in the names that the notebook leaves: what it made is what the verbs make.
CHECKS = {
    "a checkpoint is loaded and saved as it is": """
import numpy as np
saved = lrl.load("first_base")
for name, x in english.params.items():
    np.testing.assert_array_equal(np.asarray(saved.params[name]), np.asarray(x))
""",
    "numbers are those of the step": """
from itertools import islice
after = json.loads(Path("runs/first_steps/evaluate/after.json").read_text())["bits_per_byte"]
assert results.after["bits_per_byte"] == after
texts = [*islice(lines("sample:test.kor"), 50)]
want = results["bits_per_byte.kor_Hang"]
np.testing.assert_allclose(model.bits_per_byte(texts), want, rtol=1e-5)
again = lrl.evaluate(model, recipe, only=["kor_Hang"])
np.testing.assert_allclose(again["bits_per_byte.kor_Hang"], want, rtol=1e-5)
assert lrl.evaluate(recipe)["bits_per_byte.kor_Hang"] == want
""",
    "a run that is interrupted is free and goes on": """
import os, signal, threading
short = lrl.Recipe.from_yaml("base.yaml", name="cut_short")
threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    lrl.run(short, until="vocab")
    raise AssertionError("was not interrupted")
except KeyboardInterrupt:
    assert not Path("runs/cut_short/lock.json").exists()
lrl.run(short, until="vocab")
assert Path("runs/cut_short/vocab/tokenizer.model").exists()
""",
}


def example(documented) -> str:
    """Returns the example of a docstring: its lines that are indented further than the text."""
    text = inspect.getdoc(documented) or ""
    before_arguments = re.split(r"\n(?:Args|Attributes|Raises):\n", text)[0]
    indented = re.findall(r"(?m)(?:^ {4}.*\n?)+", before_arguments)
    return textwrap.dedent("".join(indented))


def public() -> dict[str, object]:
    """Returns every public name and every method of a model, with what has its docstring."""
    names = {name: getattr(lrl_jax, name) for name in lrl_jax.__all__}
    names["Recipe"] = lrl_jax.Recipe.from_yaml
    names["StudyResults"] = names.pop("StudyResults")  # last: of the study that `study` trains
    return {f"Model.{name}": getattr(lrl_jax.Model, name) for name in METHODS} | names


def test_every_public_name_has_an_example():
    assert [name for name, documented in public().items() if not example(documented)] == []


def test_the_notebook_keeps_no_output_and_its_cells_are_plain_python():
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        assert not cell.get("outputs")
        if cell["cell_type"] == "code":
            compile("".join(cell["source"]), "cell", "exec")


@pytest.mark.slow
@pytest.mark.timeout(1800)  # a minute on an idle machine
def test_the_notebook_runs_offline_without_a_display_and_then_every_example(tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    path = f"{ROOT / 'tests'}:{ROOT}"
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'tests/offline'}:{path}")
    examples = {name: example(documented) for name, documented in public().items()}
    (tmp_path / "lines.json").write_text(json.dumps({**CHECKS, **examples}))
    words = [str(NOTEBOOK), str(tmp_path / "lines.json")]
    got = forked.run("worker_notebook", words, tmp_path, timeout=1700)
    assert got.returncode == 0, got.stdout[-2000:] + got.stderr[-4000:]
    assert "StudyResults: " in got.stdout
    assert (tmp_path / "my_korean_model/gate.json").exists()
