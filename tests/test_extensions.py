"""A new kind of datasets and a new template are one file each, and no other module changes."""

import importlib.util
import itertools
from pathlib import Path

from hand_tokenizer import make
import pytest

from lrl_jax.data.pack import jobs, rows
from lrl_jax.data.read import kinds
from lrl_jax.data.templates import table as templates
from lrl_jax.recipe import data as recipe_data
from lrl_jax.recipe import dataset
from lrl_jax.recipe import file as recipe_file

COUNTER = itertools.count()

KIND = '''
from typing import Literal
from lrl_jax.data.read.columns import field
from lrl_jax.data.read.kinds import KINDS, Kind
from lrl_jax.recipe.data import Rows
from lrl_jax.recipe.vocab import Language

class Riddles(Rows):
    """Rows {riddle} of a question and its answer in one, with a bar between them."""

    kind: Literal["riddles"]
    language: Language
    template: str = "completion"

def riddle(dataset, columns):
    get = field(columns["riddle"])
    return lambda row: [dict(zip(("prompt", "completion"), get(row).split("|"), strict=True))]

KINDS["riddles"] = Kind(("prompt", "completion"), "completion", riddle, columns=("riddle",))
'''
TEMPLATE = """
from lrl_jax.data.templates.parts import TextPart
from lrl_jax.data.templates.table import TEMPLATES

TEMPLATES["twice"] = lambda record: [
    TextPart(record["prompt"], 0), TextPart(record["completion"] + " " + record["completion"], 1)
]
"""


@pytest.fixture(autouse=True)
def forget():
    """Takes away what a test registers."""
    tables: tuple[dict, ...] = (dataset.KINDS, kinds.KINDS, templates.TEMPLATES)
    before = [dict(table) for table in tables]
    yield
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)


def bring_in(folder: Path, source: str) -> None:
    path = folder / f"extension_{next(COUNTER)}.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def packed(folder: Path, **entry) -> rows.Manifest:
    """Packs rows of 8 of one dataset, by a recipe's way through `recipe.file`."""
    tree = {"data": {"sequence_length": 8, "workers": 1, "datasets": {"d": entry}}}
    data = recipe_data.Data(**recipe_file.per_language(tree)["data"])
    return jobs.prepare_all(data, make(), folder / "packed")["d"]


def test_a_kind_of_one_class_and_one_row_is_read_filtered_and_packed(tmp_path):
    bring_in(tmp_path, KIND)
    lines = ['{"riddle": "a b|c"}', '{"riddle": "a|b c"}', '{"riddle": "a b|"}']
    (tmp_path / "r.jsonl").write_text("\n".join(lines))
    path = [str(tmp_path / "r.jsonl")]
    manifest = packed(tmp_path, kind="riddles", path=path, language="kor_Hang")
    # a b, then c and its end; a, then b, c and their end: 8 tokens, of which 5 are learnt
    assert (manifest.docs, manifest.tokens, manifest.loss_tokens, manifest.rows) == (2, 8, 5, 1)
    assert manifest.left_out == {"empty": 1}
    assert manifest.template == "completion"


def test_a_kind_from_elsewhere_has_its_place_in_the_schema_and_in_errors(tmp_path):
    bring_in(tmp_path, KIND)
    assert '"riddles": "#/$defs/Riddles"' in recipe_file.schema()
    with pytest.raises(ValueError, match=r"no kind of datasets 'ridles'.*did you mean 'riddles'\?"):
        packed(tmp_path, kind="ridles", path=["x"], language="kor_Hang")
    with pytest.raises(ValueError, match=r"datasets.d.take"):
        packed(tmp_path, kind="riddles", path=["x"], language="kor_Hang", take=-1)


def test_a_kind_without_a_row_says_what_it_lacks(tmp_path):
    bring_in(tmp_path, KIND.partition("def riddle")[0])
    (tmp_path / "r.jsonl").write_text('{"riddle": "a|b"}\n')
    with pytest.raises(ValueError, match=r"kind 'riddles' is known to recipes, but no row"):
        packed(tmp_path, kind="riddles", path=[str(tmp_path / "r.jsonl")], language="kor_Hang")


def test_a_template_of_one_row_writes_what_is_packed(tmp_path):
    bring_in(tmp_path, TEMPLATE)
    (tmp_path / "r.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    path = [str(tmp_path / "r.jsonl")]
    manifest = packed(tmp_path, kind="completion", path=path, language="kor_Hang", template="twice")
    assert (manifest.tokens, manifest.loss_tokens) == (4, 3)  # a, then b, b and their end
    assert manifest.template == "twice"
