"""The verbs of mixture laws: small runs are resumed and never lost, and become a mixture."""

import csv
import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import small_world

from lrl_jax.cli import main
from lrl_jax.cli.studies import mixture as verbs
from lrl_jax.cli.studies import mixture_law, mixture_stage
from lrl_jax.data.pack.rows import Manifest
from lrl_jax.laws.mixtures import law as mixture
from lrl_jax.pipeline.study import times_done
from lrl_jax.recipe import file as recipe_file
from lrl_jax.recipe import plain_yaml
from lrl_jax.recipe.schema import Recipe

DATASETS = ("korean", "pairs", "tasks")
DESIGN = mixture.MixtureDesign(
    recipe="korean", stage="continue", mixture={"korean": 0.5, "pairs": 0.25, "tasks": 0.25},
    sizes={"korean": 1000, "pairs": 4000, "tasks": 2000}, tokens=3584, steps=7, equal="tokens",
    seed=0, seeds=1, caps=dict.fromkeys(DATASETS, 1.0),
)  # fmt: skip


def korean(folder: Path, **train) -> Recipe:
    recipe = recipe_file.load(small_world.write_recipes(folder)[1])
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=train)})


def table(folder: Path, count: int = 16) -> Path:
    """Runs whose losses are 1 + exp(-2 korean) and 1 + exp(-pairs - 2 tasks)."""
    rows = ["run,mixture.korean,mixture.pairs,mixture.tasks,loss.kor_Hang,loss.eng_Latn,steps"]
    for i, w in enumerate(np.random.default_rng(0).dirichlet(np.ones(3), count)):
        losses = 1 + math.exp(-2 * w[0]), 1 + math.exp(-w[1] - 2 * w[2])
        rows.append(",".join([f"m{i}", *map(str, [*w, *losses, 7])]))
    path = folder / "mixtures.csv"
    path.write_text("\n".join(rows))
    (folder / "design.json").write_text(DESIGN.model_dump_json())
    return path


def test_from_runs_to_the_mixture_of_a_recipe(tmp_path, capsys):
    recipe = str(small_world.write_recipes(tmp_path)[1])
    out = tmp_path / "law"
    assert main.main(["laws", "mixture", "fit", str(table(tmp_path)), "--out", str(out)]) == 0
    assert "1.000" in capsys.readouterr().out
    page = (out / "index.html").read_text()
    assert page.count("<svg") == 1
    assert "What a dataset does" in page
    command = ["laws", "mixture", "best", str(out / "mixture_law.json"), recipe]
    goal = ["--target", "kor_Hang=1", "--hold", "eng_Latn=5", "--draws", "20", "--beyond"]
    assert main.main([*command, *goal, "--write", str(tmp_path / "best.yaml")]) == 0
    printed = capsys.readouterr()
    # 5 % above 1 + exp(-0.75): the rest is tasks, of which least is needed
    limit = 1.05 * (1 + math.exp(-0.75)) - 1
    tasks = -math.log(limit) / 2
    written = plain_yaml.parse((tmp_path / "best.yaml").read_text())
    (stage,) = written["train"]["stages"]
    assert stage["name"] == "continue"
    assert stage["mixture"]["tasks"] == pytest.approx(tasks, abs=0.02)
    assert stage["mixture"]["korean"] == pytest.approx(1 - tasks, abs=0.02)
    override = f"train.stages.1.mixture={{korean: {stage['mixture']['korean']:g}, "
    assert override in printed.out
    again = recipe_file.load(recipe, [printed.out.strip().splitlines()[-1].strip("'")])
    assert again.train.stages[1].mixture == stage["mixture"]
    # 7 steps of 8 rows of 64 tokens, of which korean has 1,000: some 2.6 epochs
    epochs = 7 * 8 * 64 * stage["mixture"]["korean"] / 1000
    assert f"{epochs:.2f}" in printed.out
    assert "+5.00 %" in printed.out


@pytest.mark.parametrize("also", [("a/best.yaml", "b/best.yaml"), ("m001.yaml",)])
def test_two_mixtures_of_one_name_are_refused_before_anything_runs(tmp_path, capsys, also):
    recipe = str(small_world.write_recipes(tmp_path)[1])
    words = ["evaluate.bits_per_byte={kor_Hang: nowhere.txt}"]
    words += [word for path in also for word in ("--also", path)]
    assert main.main(["laws", "mixture", "run", recipe, *words]) == 2
    assert f"--also {also[-1]}: another mixture is called" in capsys.readouterr().err


def test_epochs_bound_the_mixture(tmp_path, capsys):
    assert main.main(["laws", "mixture", "fit", str(table(tmp_path)), "--out", str(tmp_path)]) == 0
    path = str(tmp_path / "mixture_law.json")
    command = ["laws", "mixture", "best", path, "--target", "kor_Hang=1", "--draws", "20"]
    assert main.main([*command, "--max-epochs", "1"]) == 0
    assert f"{1000 / 3584:.4f}"[:6] in capsys.readouterr().out
    assert main.main([*command, "--max-epochs", "1", "--bound", "korean=0.5:"]) == 2
    assert "korean is to have at least 0.5, and its epochs allow 0.279" in capsys.readouterr().err
    assert main.main([*command, "--max-epochs", "0.1"]) == 2
    assert "largest to 0.1953, and weights sum to 1" in capsys.readouterr().err
    assert main.main([*command, "--bound", "french=0.5:"]) == 2
    assert "no dataset 'french' in the mixture" in capsys.readouterr().err


def test_weights_stay_within_those_that_were_tried_unless_told(tmp_path, capsys):
    main.main(["laws", "mixture", "fit", str(table(tmp_path)), "--out", str(tmp_path)])
    law = str(tmp_path / "mixture_law.json")
    command = ["laws", "mixture", "best", law, "--target", "kor_Hang=1", "--draws", "20"]
    tried = mixture.read(law).measured().weights_ND[:, 0].max()
    assert tried < 0.95
    capsys.readouterr()
    assert main.main(command) == 0
    assert f"{math.floor(tried * 1e4) / 1e4:.4f}" in capsys.readouterr().out
    assert main.main([*command, "--beyond"]) == 0
    shown = capsys.readouterr()
    assert "1.0000" in shown.out
    assert "no blend of those that were run" in shown.err


def test_a_law_of_other_datasets_is_refused(tmp_path, capsys):
    recipe = small_world.write_recipes(tmp_path)[1]
    main.main(["laws", "mixture", "fit", str(table(tmp_path)), "--out", str(tmp_path)])
    command = ["laws", "mixture", "best", str(tmp_path / "mixture_law.json"), recipe]
    more = ["--target", "kor_Hang=1", "train.stages.1.mixture={korean: 1, pairs: 1}"]
    assert main.main([*command, *more]) == 2
    assert "the law is of korean, pairs, tasks, and stage 'continue'" in capsys.readouterr().err


# ---------------------------------------------------------------------------- stages
def manifest(name: str, rows: int, tokens: int, size: int) -> Manifest:
    """A packed dataset of so many rows, tokens, and bytes of text."""
    return Manifest(
        name=name, fingerprint=name, language="kor_Hang", template="plain", order="shuffled",
        sequence_length=64, bos_id=1, eos_id=2, pad_id=0, tokenizer="t", records=rows, left_out={},
        docs=rows, distinct=rows, scripts={"Hang": 1}, bytes=size, tokens=tokens,
        loss_tokens=tokens, cut=0, rows=rows, shards=(),
    )  # fmt: skip


PACKED = {
    "korean": manifest("korean", 20, 1000, 6000),
    "pairs": manifest("pairs", 80, 4000, 8000),
    "tasks": manifest("tasks", 40, 2000, 4000),
}


def test_epochs_count_other_stages_and_replay(tmp_path):
    recipe = korean(tmp_path, replay={"pairs": 0.25})
    stage = mixture_stage.of(recipe, PACKED, "continue", max_epochs=10)
    # 7 steps of 8 rows of 50 tokens, of which a quarter is replay
    assert stage.tokens == pytest.approx(2800 * 0.75)
    # the stage before reads 40 rows of 50 tokens, of which a quarter is pairs
    assert stage.elsewhere_D.tolist() == pytest.approx([1500, 500 + 700, 0])
    want = [(2100 * 0.5 + 1500) / 1000, (525 + 1200) / 4000, 525 / 2000]
    assert stage.epochs(stage.own_D).tolist() == pytest.approx(want)
    small = mixture_stage.of(recipe, PACKED, "continue", max_epochs=1.8)
    assert small.caps == pytest.approx({"korean": 300 / 2100, "pairs": 1, "tasks": 1})


def test_a_mixture_of_datasets_is_as_large_as_they_are_and_bound_by_the_scarcest(tmp_path):
    recipe = recipe_file.load(
        small_world.write_recipes(tmp_path)[1],
        [
            "data.mixtures={both: {of: {korean: 3, pairs: 1}}}",
            "train.stages.1.mixture={both: 1, tasks: 1}",
            "data.datasets.pairs.max_epochs=0.05",
        ],
    )
    stage = mixture_stage.of(recipe, PACKED, "continue", max_epochs=3)
    assert stage.sizes_D.tolist() == [5000, 2000]
    # 3 epochs of korean less the 2,000 tokens of the stage before: 1,000 of three quarters
    assert stage.most_D[0] == pytest.approx(min(1000 / 0.75, 0.05 * 4000 / 0.25))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.stages.1.mixture={korean: 1}", "reads korean alone; a mixture has 2 datasets"),
        ("train.stages.1.ramp_to={korean: 1}", "moves to another mixture"),
        ("train.stages.1.weights=examples", "has weights of examples"),
        ("train.stages.1.name=tune", "--stage continue: there are align, tune"),
    ],
)
def test_a_stage_of_which_there_is_no_law_is_refused(tmp_path, override, message):
    recipe = recipe_file.load(small_world.write_recipes(tmp_path)[1], [override])
    with pytest.raises(ValueError, match=message):
        mixture_stage.chosen(recipe, "" if "name" not in override else "continue")


# ---------------------------------------------------------------------------- runs
def study_of(recipe: Recipe, folder: Path, **settings) -> verbs.MixtureStudy:
    usual = {"stage": 1, "steps": 14, "equal": "tokens", "seed": 0, "seeds": 1}
    return verbs.MixtureStudy(recipe, verbs.epath.Path(folder), **usual | settings)


def test_runs_begin_where_earlier_stages_end_and_read_as_many_bytes(tmp_path):
    recipe = korean(tmp_path)
    tried = {"m000": [0.5, 0.25, 0.25], "m001": [1.0, 0, 0], "best": [0, 0.5, 0.5]}
    study = study_of(recipe, tmp_path, equal="bytes", seeds=2)
    made = [*verbs.cells(study, tried, PACKED)]
    assert [cell.name for cell in made[::2]] == ["m000-s0", "m001-s0", "best-s0"]
    assert made[1].name == "m000-s1"
    assert [cell.recipe.seed for cell in made[:2]] == [0, 1]
    # 6 bytes a token of korean and 2 of the others: 4 of the first mixture
    assert [cell.recipe.train.steps for cell in made[::2]] == [14, 9, 28]
    (stage,) = made[2].recipe.train.stages
    assert stage.mixture == {"korean": 1.0, "pairs": 0, "tasks": 0}
    assert made[2].recipe.init.weights.run == str(tmp_path / "start")
    assert stage.learn[0].schedule.warmup == 2  # longer than the recipe's stage, not shortened
    short = next(verbs.cells(study_of(recipe, tmp_path, steps=3), tried, PACKED))
    assert short.recipe.train.stages[0].learn[0].schedule.warmup == 1
    least = next(verbs.cells(study_of(recipe, tmp_path, steps=1), tried, PACKED))
    assert least.recipe.train.stages[0].learn[0].schedule.warmup == 0


def test_a_mixture_that_was_written_is_tried_as_well(tmp_path):
    stage = mixture_stage.of_design(DESIGN, 16)
    path = tmp_path / "best.yaml"
    path.write_text(mixture_law.as_yaml("continue", {"tasks": 0.1, "korean": 0.9, "pairs": 0.0}))
    assert verbs.given(str(path), stage) == [0.9, 0, 0.1]
    path.write_text(mixture_law.as_yaml("continue", {"tasks": 0.1, "korean": 0.9}))
    with pytest.raises(
        ValueError, match="weights of tasks, korean sum to 1; want shares of korean"
    ):
        verbs.given(str(path), stage)
    path.write_text(mixture_law.as_yaml("align", {"korean": 1}))
    with pytest.raises(ValueError, match="has no mixture of stage 'continue'"):
        verbs.given(str(path), stage)


def test_a_line_is_added_once_and_half_a_line_is_made_again(tmp_path):
    path = verbs.epath.Path(tmp_path / "mixtures.csv")
    row = {"run": "m0", "mixture.a": 1.0, "loss.x": 0.25}
    assert verbs._Table(path).add(row)
    path.write_text(path.read_text() + "m1,1,0.")
    resumed = verbs._Table(path)
    assert resumed.add(row)
    assert resumed.add(row | {"run": "m1"})
    assert path.read_text() == "run,mixture.a,loss.x\nm0,1,0.25\nm1,1,0.25\n"
    assert not resumed.add(row | {"loss.x": 0.5})  # it was made again
    resumed.write()
    assert path.read_text() == "run,mixture.a,loss.x\nm0,1,0.5\nm1,1,0.25\n"
    with pytest.raises(ValueError, match=r"has other columns: run,mixture.a,loss.x; want run,"):
        verbs._Table(path).add({"run": "m2", "mixture.b": 1.0, "loss.x": 1})


def test_another_design_in_the_same_folder_is_refused(tmp_path):
    study = study_of(korean(tmp_path), tmp_path)
    stage = mixture_stage.of_design(DESIGN, 16)
    verbs.note_design(study, stage)
    verbs.note_design(study, stage)
    with pytest.raises(ValueError, match=r"another design; changed: steps, equal\. Give --out"):
        verbs.note_design(dataclasses.replace(study, steps=9, equal="bytes"), stage)
    (tmp_path / "design.json").write_text("{}")
    with pytest.raises(ValueError, match=r"design.json: is no design.json: Field required"):
        verbs.note_design(study, stage)


TWO_STAGES = (
    "train.stages=[{name: first, steps: 1, mixture: {english: 1}, learn: [%s]}, "
    "{name: both, steps: 2, mixture: {english: 3, korean: 1}, learn: [%s]}]"
)


def test_small_runs_are_trained_once_and_a_killed_study_goes_on(tmp_path):
    recipe = small_world.write_recipes(tmp_path)[0]
    rule = '{match: ".*", schedule: {peak: 1.0e-2, warmup: 1}}'
    command = ["laws", "mixture", "run", recipe, "--runs", "2", "--out", str(tmp_path / "study")]
    korean_too = f"data.datasets.korean={{kind: text, path: [{tmp_path}/ko.txt], language: ko}}"
    more = [korean_too, TWO_STAGES % (rule.replace("1}", "0}"), rule), "evaluate.max_lines=8"]
    assert main.main([*command, *more]) == 0
    path = tmp_path / "study" / "mixtures.csv"
    whole = path.read_text()
    rows = [*csv.DictReader(whole.splitlines())]
    assert [row["run"] for row in rows] == ["m000-s0", "m001-s0"]
    assert [row["mixture.english"] for row in rows] == ["0.75", "0.5"]
    first, second = (float(row["loss.eng_Latn"]) for row in rows)
    assert first != second
    # the stage before once, each run once, and one packing of the data for all
    done = {"vocab": 1, "init": 2, "data": 1, "train": 3, "evaluate": 2}
    assert times_done(tmp_path / "study") == done
    assert json.loads((tmp_path / "study" / "design.json").read_text())["stage"] == "both"
    path.write_text(whole[:-9])  # killed in the middle of a line
    assert main.main([*command, *more]) == 0
    assert path.read_text() == whole
    assert times_done(tmp_path / "study") == done


def test_a_part_of_a_recipe_is_read_back_as_it_was():
    shares = {"korean": 0.5, "1": 0.25, "null": 0.125, "no": 0.125}
    read = plain_yaml.parse(mixture_law.as_yaml("tune", shares))
    assert read == {"train": {"stages": [{"name": "tune", "mixture": shares}]}}
