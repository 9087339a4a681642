"""A ladder trains each language alone with each amount; what cannot be trained is refused first."""

import csv
import json
from types import SimpleNamespace

import pytest
from small_world import BASE, write_texts

from lrl_jax.cli import main
from lrl_jax.cli.studies import ladder as ladders
from lrl_jax.cli.studies.ladder import cells, ladder
from lrl_jax.laws import law
from lrl_jax.pipeline.perform import ALONE
from lrl_jax.pipeline.study import works as exact
from lrl_jax.recipe import file as recipe_file

DATA = """
data:
  sequence_length: 64
  datasets:
    english: {{kind: text, path: ["{folder}/en.txt"], language: eng_Latn}}
    korean: {{kind: parallel, source: "{folder}/en.txt", target: "{folder}/ko.txt",
             source_language: eng_Latn, target_language: kor_Hang}}
    tamil: {{kind: parallel, source: "{folder}/en.txt", target: "{folder}/ko.txt",
            source_language: eng_Latn, target_language: tam_Taml, direction: both}}
  mixtures:
    pairs: {{of: {{korean: 1, tamil: 2}}}}
    others: {{of: {{tamil: 1}}}}
    all: {{of: {{pairs: 1, others: 1, english: 1}}}}
"""
STAGES = """
    - {name: mixed, steps: 4, mixture: {all: 1, tamil: 1}, ramp_to: {korean: 1, others: 1}, LEARN}
    - {name: tamil, steps: 4, mixture: {tamil: 1}, LEARN}
"""
LEARN = 'learn: [{match: ".*", schedule: {peak: 1.0e-2}}]'
MEASURED = """
evaluate:
  bits_per_byte: {{eng_Latn: "{folder}/en.txt"}}
  translation:
    to_korean: {{source: "{folder}/en.txt", target: "{folder}/ko.txt", source_language: eng_Latn,
                target_language: kor_Hang, limit: 4}}
    from_korean: {{source: "{folder}/ko.txt", target: "{folder}/en.txt",
                  source_language: kor_Hang, target_language: eng_Latn, limit: 4}}
    tam_Taml.en: {{source: "{folder}/en.txt", target: "{folder}/ko.txt",
                  source_language: eng_Latn, target_language: tam_Taml, limit: 4}}
export"""


def write_recipe(folder) -> str:
    """The small base, from scratch, on pairs of two languages with 320 pairs each."""
    write_texts(folder)
    text = BASE[: BASE.index("data:")] + DATA + BASE[BASE.index("train:") :]
    text = text[: text.index("evaluate:")] + MEASURED + text.partition("export")[2]
    stages = text[text.index("    - name: pretrain") : text.index("  compute_dtype")]
    text = text.replace(
        stages, STAGES.replace("LEARN", LEARN).replace("{", "{{").replace("}", "}}")
    )
    path = folder / "recipe.yaml"
    path.write_text(text.format(folder=folder))
    return str(path)


@pytest.fixture
def recipe(tmp_path):
    return recipe_file.load(write_recipe(tmp_path))


def of(recipe, codes=("kor_Hang", "tam_Taml"), pairs=(20, 10, 40), seeds=(0,), score="", named=()):
    return ladder(recipe, codes, pairs, seeds, score or "translation.chrf", dict(named))


def test_cells_are_amounts_of_each_language_with_each_seed(recipe):
    got = cells(recipe, of(recipe, seeds=(3, 4)))
    assert [cell.name for cell in got[:4]] == [
        "kor_Hang-10-3", "kor_Hang-20-3", "kor_Hang-40-3", "tam_Taml-10-3",
    ]  # fmt: skip
    assert len(got) == 12
    assert got[11].facts == {"language": "tam_Taml", "pairs": 40, "seed": 4}
    assert (got[0].recipe.seed, got[11].recipe.seed) == (3, 4)


def test_a_cell_has_its_language_alone_and_the_rest_of_the_recipe(recipe):
    korean, *_, tamil = cells(recipe, of(recipe))
    assert {name: d.take for name, d in korean.recipe.data.datasets.items()} == {
        "english": 0, "korean": 10,
    }  # fmt: skip
    of_mixtures = {name: mixture.of for name, mixture in korean.recipe.data.mixtures.items()}
    assert of_mixtures == {"pairs": {"korean": 1}, "all": {"pairs": 1, "english": 1}}
    (stage,) = korean.recipe.train.stages  # the other one reads Tamil alone
    assert (stage.mixture, stage.ramp_to) == ({"all": 1}, {"korean": 1})
    assert [stage.name for stage in tamil.recipe.train.stages] == ["mixed", "tamil"]
    assert tamil.recipe.train.stages[0].ramp_to == {"others": 1}
    # a pair in both directions is two records
    assert tamil.recipe.data.datasets["tamil"].take == 80
    # what is measured is the score of the language
    assert {*korean.recipe.evaluate.translation} == {"to_korean", "from_korean"}
    assert {*tamil.recipe.evaluate.translation} == {"tam_Taml.en"}
    assert not korean.recipe.evaluate.bits_per_byte
    # and it is a recipe still
    recipe_file.parse(json.loads(korean.recipe.model_dump_json()))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"codes": ["tam_Tamil"]},
            r"has no parallel dataset of it; it has some of eng_Latn, kor_Hang, tam_Taml; did you "
            "mean 'tam_Taml'",
        ),
        ({"codes": ["eng_Latn"]}, "several parallel datasets, korean, tamil; name one: --dataset"),
        ({"codes": ["kor_Hang", "kor_Hang"]}, "name each language, and its data, once"),
        ({"named": {"kor_Hang": "tamil"}}, "--dataset kor_Hang=tamil: want one of korean"),
        ({"named": {"deu_Latn": "korean"}}, "--dataset deu_Latn: is none of --languages"),
        ({"pairs": (10, 20)}, "2 amounts; a law wants 3 or more"),
        ({"pairs": (10, 20, 20)}, "--pairs 10,20,20: want different numbers"),
        ({"pairs": (0, 20, 30)}, "--pairs 0,20,30: want different numbers of at least 1"),
        ({"pairs": (10, 20, 321)}, "--pairs 321: kor_Hang has 320 pairs in data.datasets.korean"),
        ({"seeds": (1, 1)}, "--seeds 1,1: want different numbers"),
        ({"seeds": ()}, "--seeds 0: want different numbers"),
        ({"score": "translation.chfr"}, "did you mean 'translation.chrf'"),
        ({"score": "bits_per_byte.kor"}, "want a score from 0 to 100 that rises with data"),
        ({"score": "tasks.score"}, r"evaluate.tasks has no entry of kor_Hang \(it has none\)"),
    ],
)
def test_what_the_recipe_cannot_train_is_refused_before_training(recipe, given, message):
    with pytest.raises(ValueError, match=message):
        of(recipe, **given)


def test_a_language_may_be_named_as_it_is_called(recipe):
    assert of(recipe, codes=["ko"]).datasets == {"kor_Hang": "korean"}


def test_all_pairs_there_are_can_be_asked_for(recipe):
    assert of(recipe, pairs=(320, 20, 10)).pairs == [10, 20, 320]


class Works:
    """Stands for the five steps; the score is 100 - 64 * 4^-k with 10^k pairs, and is written down.

    Attributes:
      fails: names of cells whose training fails.
    """

    def __init__(self):
        self.trained: list[str] = []
        self.fails: set[str] = set()

    def __call__(self):
        return {
            "vocab": lambda run: (run.at("vocab") / "tokenizer.json").write_text("{}"),
            "init": lambda run: (run.at("init") / "config.json").write_text("{}"),
            "data": lambda run: self._packed(run),
            "train": self._train,
            "evaluate": self._evaluate,
        }

    def _packed(self, run):
        takes = {name: dataset.take for name, dataset in run.recipe.data.datasets.items()}
        (run.at("data") / "datasets.json").write_text(json.dumps(takes))

    def _train(self, run):
        if run.recipe.name in self.fails:
            raise ValueError("the loss is not a number")
        self.trained.append(run.recipe.name)
        path = run.at("train") / "checkpoints/1/meta/metadata"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(run.recipe.name))

    def _evaluate(self, run):
        missing = {10: 64.0, 20: 16.0, 40: 4.0}[int(run.recipe.name.split("-")[1])]
        result = {"to": {"chrf": 100 - missing - 1}, "from": {"chrf": 100 - missing + 1}}
        text = json.dumps({"translation": result})
        (run.at("evaluate") / "after.json").write_text(text)


def rows(path) -> list[list[str]]:
    with path.open() as file:
        return [*csv.reader(file)]


def test_points_and_failures_are_written_and_a_second_call_trains_what_failed(recipe, tmp_path):
    works, folder = Works(), tmp_path / "laws"
    works.fails = {"kor_Hang-20-0"}
    rungs = of(recipe, codes=["kor_Hang"])
    points, failed = ladders.train_ladder(recipe, rungs, folder, ALONE, works())
    assert [(p.pairs, p.score) for p in points] == [(10, 36.0), (40, 96.0)]  # means of two entries
    assert rows(folder / "points.csv") == [
        ["language", "pairs", "score", "seed"],
        ["kor_Hang", "10", "36.0", "0"],
        ["kor_Hang", "40", "96.0", "0"],
    ]
    want = ["kor_Hang", "20", "0", "the loss is not a number"]
    assert rows(folder / "failed.csv") == [["language", "pairs", "seed", "error"], want]
    table = ladders.cells_table(points, failed, "translation.chrf")
    assert [*table.columns[3].cells] == ["36.00", "96.00", "failed: the loss is not a number"]
    works.fails.clear()
    points, failed = ladders.train_ladder(recipe, rungs, folder, ALONE, works())
    assert [p.score for p in points] == [36.0, 84.0, 96.0]
    assert not failed
    assert len(rows(folder / "failed.csv")) == 1
    assert works.trained == ["kor_Hang-10-0", "kor_Hang-40-0", "kor_Hang-20-0"]


def test_a_ladder_with_a_cell_that_failed_has_its_law_and_ends_with_1(
    tmp_path, monkeypatch, recipe
):
    points, failed = [law.Point("kor_Hang", x, 100 - 80 * x**-0.1) for x in (10, 20, 40)], []
    monkeypatch.setattr(ladders, "train_ladder", lambda *_: (points, failed))
    words = [
        "laws",
        "run",
        write_recipe(tmp_path),
        "--languages",
        "kor_Hang",
        "--pairs",
        "10,20,40",
    ]
    words += ["--out", str(tmp_path / "laws")]
    assert main.main(words) == 0
    failed.append(
        SimpleNamespace(cell=cells(recipe, of(recipe, codes=["kor_Hang"]))[0], error="no")
    )
    assert main.main(words) == 1
    assert (tmp_path / "laws/laws.json").exists()


def test_a_language_without_a_law_is_named_and_the_others_are_written(tmp_path, capsys):
    lines = ["language,pairs,score,seed"]
    lines += [f"kor_Hang,{x},{100 - 80 * x**-0.1},0" for x in (1000, 3000, 10000)]
    lines += [f"tam_Taml,{x},{s},0" for x, s in ((1000, 50), (3000, 48), (10000, 47))]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    out = tmp_path / "out"
    assert main.main(["laws", "fit", str(tmp_path / "a.csv"), "--out", str(out)]) == 0
    (law,) = json.loads((out / "laws.json").read_text())["laws"]
    assert law["language"] == "kor_Hang"
    err = capsys.readouterr().err
    assert "tam_Taml: the score falls from 50.00 with 1,000 pairs to 48.00 with 3,000" in err
    assert "left out: tam_Taml: the score does not rise with pairs" in err


def test_an_amount_for_which_copies_leave_too_few_pairs_fails_by_name(recipe):
    *_, cell = cells(recipe, of(recipe, codes=["kor_Hang"]))
    packed = {name: SimpleNamespace(docs=40, left_out={}) for name in cell.recipe.data.datasets}
    exact.refuse_too_few(cell.recipe.data, packed)
    packed["korean"] = SimpleNamespace(docs=39, left_out={"duplicate": 1})
    message = r"korean: 39 records are left of the 40 .*; left out: \{'duplicate': 1\}"
    with pytest.raises(ValueError, match=message):
        exact.refuse_too_few(cell.recipe.data, packed)
