"""A study is a grid of recipes; each shared step is done once, however often it is killed."""

from collections import Counter
import errno
import json
from pathlib import Path
import re
import shutil
import subprocess
import sys

import pytest
from small_world import BASE, write_texts

from lrl_jax.cli import main
from lrl_jax.cli.studies import engines
from lrl_jax.devices.jobs import Ended
from lrl_jax.devices.lease import InUseError, Lease
from lrl_jax.pipeline.perform import perform
from lrl_jax.pipeline.study import cells, grid, lengths, metrics, results, schedule, step, study
from lrl_jax.pipeline.study.results import CellResult
from lrl_jax.recipe import file as recipe_file

PEAK = "train.stages.0.learn.0.schedule.peak"
BITS = "after.bits_per_byte.eng_Latn"
GRID = f"""
name: grid
folder: {{folder}}/runs
recipe: base.yaml
grid:
  vocab.size: [340, 360]
  rows:
    mean: {{{{init.input_rows: mean}}}}
    hewitt: {{{{init.input_rows: hewitt}}}}
    noise: {{{{init.input_rows: random_normal}}}}
  {PEAK}: [0.01, 0.02]
compare: {BITS}
at: bytes
"""
CONFIG = {
    "model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 48,
    "rms_norm_eps": 1e-5, "vocab_size": 340,
}  # fmt: skip
PACKED = {
    "name": "english", "fingerprint": "0", "language": "eng_Latn", "template": "plain",
    "order": "shuffled", "sequence_length": 64, "bos_id": 1, "eos_id": 2, "pad_id": 2,
    "tokenizer": "0", "records": 20, "left_out": {}, "docs": 20, "distinct": 20, "scripts": {},
    "tokens": 1000, "loss_tokens": 1000, "cut": 0, "rows": 20, "shards": [],
}  # fmt: skip


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Returns a function that writes a study beside the small base, and returns its path."""
    monkeypatch.chdir(tmp_path)
    write_texts(tmp_path)
    (tmp_path / "base.yaml").write_text(BASE.format(folder=tmp_path))

    def put(text=GRID):
        path = tmp_path / "study.yaml"
        path.write_text(text.format(folder=tmp_path))
        return path

    return put


class Inline:
    """Stands for an engine: does each job when it is asked whether one has ended.

    Attributes:
      codes: name of a step -> exit codes of its next jobs; 0 and does it when there are none left.
      killed: after how many jobs the process that called it is killed.
    """

    def __init__(self, killed=99, **codes):
        self.codes, self.killed = codes, killed
        self.jobs, self.done, self.most = [], [], 0

    def has_room(self, job):
        return len(self.jobs) < 2

    def begin(self, job):
        self.jobs.append(job)
        self.most = max(self.most, len(self.jobs))
        assert len({job.name for job in self.jobs}) == len(self.jobs)

    def ended(self, seconds):
        if not self.jobs:
            return []
        if len(self.done) == self.killed:
            raise KeyboardInterrupt
        job = self.jobs.pop()
        *_, folder, cell, name = job.words
        if codes := self.codes.get(name):
            return [Ended(job, codes.pop(0), f"step 3\nlrl study step: no {name}\n")]
        run, _ = step.read_cell(folder, cell)
        perform(cells.placed(run, name), name, lambda run: made(run, name))
        self.done.append(name)
        return [Ended(job, 0)]

    def close(self):
        self.jobs.clear()


def made(run, step):
    """Stands for a step: what it writes depends on what real ones read, and it takes no time."""
    recipe = run.recipe
    peak = recipe.train.stages[0].learn[0].schedule.peak
    score = {"bits_per_byte": {"eng_Latn": {"bits_per_byte": recipe.seed + peak}}}
    path, value = {
        "vocab": ("tokenizer.json", recipe.vocab.size),
        "init": ("config.json", CONFIG | {"rows": recipe.init.input_rows}),
        "data": ("datasets.json", {"english": "english/0"}),
        "train": ("checkpoints/1/meta/metadata", {"peak": peak, "seed": recipe.seed}),
        "evaluate": ("after.json", score),
    }[step]
    (run.at(step) / path).parent.mkdir(parents=True, exist_ok=True)
    (run.at(step) / path).write_text(json.dumps(value))
    if step == "data":  # 2 bytes a token of the small vocabulary, 3 of the large one
        packed = PACKED | {"bytes": 2000 if recipe.vocab.size == 340 else 3000}
        folder = run.at(step) / "english/0"
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps(packed))


def plain(found):
    """Results without the time that they took."""
    return [{k: v for k, v in vars(cell).items() if k != "seconds"} for cell in found.cells]


WANT = {"vocab": 2, "data": 2, "init": 6, "train": 12, "evaluate": 12}


def test_a_killed_study_goes_on_and_each_shared_step_is_done_once(write):
    path = write()
    whole = study.perform_study(grid.load(path), Inline())
    assert not whole.failed
    assert cells.times_done("runs/grid") == WANT
    with pytest.raises(KeyboardInterrupt):
        study.perform_study(grid.load(path, folder="other"), Inline(killed=17))
    assert cells.times_done("other").total() == 17
    resumed = study.perform_study(grid.load(path, folder="other"), engine := Inline())
    assert cells.times_done("other") == WANT
    assert Counter(engine.done).total() == sum(WANT.values()) - 17
    assert engine.most == 2
    assert plain(resumed) == plain(whole)
    again = study.perform_study(grid.load(path), engine := Inline())
    assert (engine.done, plain(again)) == ([], plain(whole))
    # 12 steps of 8 rows of 50 tokens of 2 bytes; a token of the larger vocabulary has 3
    small, large = whole.cells[0], whole.cells[-1]
    assert (small.steps, small.tokens, small.bytes) == (12, 4800, 9600)
    assert (large.steps, large.tokens, large.bytes) == (8, 3200, 9600)
    written = json.loads(Path("runs/grid/results.json").read_text())
    assert written["differences"][0]["less"] == {"vocab.size": 340, "rows": "mean", PEAK: 0.01}
    assert "Differences" in Path("runs/grid/index.html").read_text()


TWO = """
name: two
folder: {folder}/runs
recipe: base.yaml
grid: {{seed: [0, 1]}}
compare: [after.bits_per_byte.eng_Latn]
"""


def test_a_step_that_a_machine_lost_begins_again_but_not_for_ever(write):
    path = write(TWO)
    lost = Inline(train=[75, 76, -9])
    assert not study.perform_study(grid.load(path), lost).failed
    lost = Inline(train=[75] * 9)
    failed = study.perform_study(grid.load(path, folder="other"), lost).failed
    assert [cell.error for cell in failed] == ["ended 4 times without progress: no train"] * 2


def test_a_cell_that_fails_is_named_and_tried_again_where_that_is_asked(write, capsys, monkeypatch):
    path = write(TWO)
    failed = study.perform_study(grid.load(path), Inline(train=[2])).cells
    assert sorted(cell.error for cell in failed) == ["", "no train"]
    (error,) = [c.error for c in study.perform_study(grid.load(path), Inline()).failed]
    assert error == "no train"
    assert main.main(["study", "show", "runs/two"]) == 0
    shown = capsys.readouterr()
    assert "no train" in shown.out
    assert "2 of 2 cells have ended, 1 of them failed" in shown.err
    monkeypatch.setattr(engines, "engine", lambda args, folder, jobs: Inline(train=[2] * 9))
    assert main.main(["study", "run", str(path), "train.batch_size=4", "--out", "other"]) == 1
    want = f"study run {path} train.batch_size=4 --out other --retry"
    assert want in capsys.readouterr().err
    assert not study.perform_study(grid.load(path), Inline(), retry=True).failed
    assert cells.times_done("runs/two")["train"] == 2


class Forgetful(Inline):
    """Stands for an engine whose jobs end well and leave nothing."""

    def ended(self, seconds):
        return [Ended(self.jobs.pop(), 0)] if self.jobs else []


class Late(Inline):
    """Stands for an engine whose machines' files are seen later than their jobs end."""

    def begin(self, job):
        super().begin(job)
        self.told = [*getattr(self, "told", ()), job]

    def ended(self, seconds):
        if told := self.told:
            self.told = []
            return [Ended(job, 0) for job in told]
        super().ended(seconds)
        return []


def test_what_a_job_made_may_be_seen_later_than_its_end(write):
    late = Late()
    assert not study.perform_study(grid.load(write(TWO)), late).failed
    assert late.done.count("train") == 2


def test_a_job_that_ends_well_and_leaves_nothing_is_not_begun_for_ever(write, monkeypatch):
    monkeypatch.setattr(schedule, "SEEN", 0.1)
    got = study.perform_study(grid.load(write()), Forgetful())
    assert len(got.failed) == 12
    assert all("vocab ended well, and what it made is not at" in cell.error for cell in got.cells)


def test_vocab_and_data_of_a_study_take_no_devices_and_join_nobody(write):
    made = grid.load(write(TWO)).cells[0]
    run = cells.run_of("runs/two", made)
    run = cells.placed(run, "vocab")
    cells.write_cell(made, run, works="measure_end")
    code = """
import sys
from lrl_jax.cli import main
from lrl_jax.devices import mesh
mesh.start = None
assert all(not main.main(["study", "step", "runs/two", "seed-0", step]) for step in sys.argv[1:])
from jax._src import xla_bridge
print(xla_bridge.backends_are_initialized())
"""
    got = subprocess.run(
        [sys.executable, "-c", code, "vocab", "data"], capture_output=True, text=True, check=False
    )
    assert (got.returncode, got.stdout.splitlines()[-1:]) == (0, ["False"]), got.stderr


def test_a_full_disk_ends_the_study(write):
    with pytest.raises(OSError, match="data: no data"):
        study.perform_study(grid.load(write(TWO)), Inline(data=[9]))


def test_a_full_disk_ends_a_study_in_this_process_and_no_cell_has_failed(write):
    def full(run):
        raise OSError(errno.ENOSPC, "No space left on device")

    made = grid.load(write(TWO)).cells
    with pytest.raises(OSError, match="No space left"):
        [*cells.perform_cells("runs/two", made, ("vocab",), {"vocab": full})]
    assert not [*Path("runs/two").glob("seed-*")]
    assert not Path("runs/two/steps.jsonl").exists()


def test_a_file_of_a_study_that_has_changed_is_named_with_what_to_remove(write):
    path = write(TWO)
    assert not study.perform_study(grid.load(path), Inline()).failed
    (damaged,) = Path("runs/two/shared").glob("vocab-*/vocab/tokenizer.json")
    damaged.write_text("{}")
    failed = study.perform_study(grid.load(path), Inline()).failed
    want = rf"has changed since .* remove \S+/{damaged.parents[1]}, and run the study"
    assert [bool(re.search(want, cell.error)) for cell in failed] == [True, True]
    shutil.rmtree(damaged.parents[1])
    assert not study.perform_study(grid.load(path), Inline(), retry=True).failed


def test_a_folder_holds_one_study_whose_axes_may_grow(write):
    study.perform_study(grid.load(write(TWO)), Inline())
    grown = grid.load(write(TWO.replace("[0, 1]", "[0, 1, 2]")))
    assert len(study.perform_study(grown, engine := Inline()).cells) == 3
    assert Counter(engine.done)["train"] == 1
    for other, changed in (("[1, 0]", "grid.seed"), ("[0, 1, 2]}}\nat: bytes #", "at")):
        with pytest.raises(ValueError, match=f"holds another study; changed: {changed}"):
            study.perform_study(grid.load(write(TWO.replace("[0, 1]", other))), Inline())
    started = TWO.replace("compare: [", "compare: [before.bits_per_byte.eng_Latn, ")
    with pytest.raises(ValueError, match="changed: whether compare names a before"):
        study.perform_study(grid.load(write(started.replace("[0, 1]", "[0, 1, 2]"))), Inline())
    with Lease("runs/two"), pytest.raises(InUseError):
        study.perform_study(grown, Inline())


# ---------------------------------------------------------------------------- the grid
def test_cells_are_all_combinations_of_values_and_choices(write):
    made = grid.load(write(), ["train.batch_size=4"])
    assert [cell.name for cell in made.cells[:3]] == [
        "size-340_rows-mean_peak-0.01", "size-340_rows-mean_peak-0.02",
        "size-340_rows-hewitt_peak-0.01",
    ]  # fmt: skip
    last = made.cells[-1]
    assert last.facts == {"vocab.size": 360, "rows": "noise", PEAK: 0.02}
    assert (last.recipe.vocab.size, last.recipe.init.input_rows) == (360, "random_normal")
    assert last.recipe.train.batch_size == 4
    assert made.works == "measure_end"


def test_no_pieces_keep_the_vocabulary_and_a_choice_may_name_its_recipe(write, tmp_path):
    from small_world import KOREAN

    (tmp_path / "korean.yaml").write_text(KOREAN.format(folder=tmp_path, steps=7))
    text = """
name: s
grid:
  base: {{en: {{recipe: base.yaml}}, ko: {{recipe: korean.yaml}}}}
compare: [before.bits_per_byte.eng_Latn]
"""
    first, second = grid.load(write(text)).cells
    assert (first.recipe.vocab.method, second.recipe.vocab.method) == ("train", "extend")
    text = "name: s\nrecipe: korean.yaml\ngrid: {{vocab.pieces: [0, 60]}}\ncompare: after.tasks\n"
    with pytest.raises(ValueError, match="measures nothing of this name"):
        grid.load(write(text))
    kept, _ = grid.load(write(text.replace("after.tasks", BITS))).cells
    assert kept.recipe.vocab.method == "keep"
    assert kept.recipe.vocab.report.texts


def test_two_orders_of_a_mixture_are_two_values(write):
    """Which row is next depends on the order of a mixture."""
    other = '{{kind: text, path: ["{folder}/en.txt"], language: eng_Latn}}'
    text = f"{TWO}overrides: {{{{data.datasets.other: {other}}}}}"
    orders = ["{{english: 1, other: 1}}", "{{other: 1, english: 1}}"]

    def named(x, y):
        choices = (f"{{{{train.stages.0.mixture: {order}}}}}" for order in (x, y))
        return text.replace("seed: [0, 1]", "a: {{{{x: {}, y: {}}}}}".format(*choices))

    listed = text.replace("seed: [0, 1]", f"train.stages.0.mixture: [{', '.join(orders)}]")
    for changed in (listed, named(*orders)):
        made = grid.load(write(changed))
        ended = [CellResult(each.name, each.facts, {"m": i}) for i, each in enumerate(made.cells)]
        assert [group["n"] for group in results.groups(ended, ["m"])] == [1, 1]
        assert [pair["values"]["m"]["mean"] for pair in results.differences(ended, ["m"])] == [1]
    grid.note_study(made)
    with pytest.raises(ValueError, match=r"holds another study; changed: grid\.a"):
        grid.note_study(grid.load(write(named(*orders[::-1]))))


@pytest.mark.parametrize(
    ("was", "now", "message"),
    [
        ("seed: [0, 1]", "trian.batch_size: [1, 2]", "trian: unknown key; did you mean 'train'"),
        ("seed: [0, 1]", "train.batchsize: [1]", "batchsize: unknown key; did you mean"),
        ("seed: [0, 1]", "data.datasets.englsh.take: [1]",
         "englsh.take: names nothing of the recipe; did you mean 'english'"),
        ("seed: [0, 1]", "train.stages.3.steps: [1]", "cell steps-1: .*want an index below 1"),
        ("seed: [0, 1]", "train.batch_size: [8, -1]", "(?s)cell batch_size--1: .*train.batch_size"),
        ("seed: [0, 1]", "seed: []", "grid.seed: is empty"),
        ("{{seed: [0, 1]}}", "{{}}", "grid: is empty; give it an axis"),
        ("seed: [0, 1]", "seed: [0, 1, 0]", "grid.seed: 0 stands twice"),
        ("seed: [0, 1]", "seed: 3", "grid.seed: want a list of values, or choices"),
        ("seed: [0, 1]", "a: {{x: {{seed: 1}}, y: {{seed: 1}}}}", "x and y are the same"),
        ("seed: [0, 1]", "name: [a, b]", "the name of a cell's recipe is the study's"),
        ("compare:", "comapre:", "comapre: unknown key; did you mean 'compare'"),
        ("eng_Latn", "eng_Ltan", "did you mean 'bits_per_byte.eng_Latn'"),
        ("after.", "aftr.", "want before. or after. first; did you mean 'after.bits_per_byte"),
        ("recipe: base.yaml", "recipe: bsae.yaml", "bsae.yaml: no such recipe"),
        ("name: two", "name: ..", "name: "),
        ("compare: [after.", "before: base\ncompare: [before.", "begins from scratch, so that it"),
    ],
)  # fmt: skip
def test_a_wrong_study_is_refused_before_anything_is_trained(write, was, now, message):
    text = TWO.replace(was, now)
    assert text != TWO
    with pytest.raises(ValueError, match=message):
        grid.load(write(text))


# ---------------------------------------------------------------------------- numbers
def test_a_metric_is_found_by_the_longest_name_and_the_nearest_is_named():
    told = {"after": {"tasks": {"x.y": {"metric": "acc", "acc": 0.5}, "x": {"acc": 0.25}}}}
    assert metrics.value(told, "after.tasks.x.y.score") == 0.5
    assert metrics.value(told, "after.tasks.x.y") == 0.5
    assert metrics.value(told, "after.tasks.x.acc") == 0.25
    with pytest.raises(ValueError, match=r"did you mean 'after\.tasks\.x\.y\.acc'"):
        metrics.value(told, "after.tasks.x.y.accu")


def test_a_misspelt_entry_is_answered_with_the_entry_and_several_numbers_with_one():
    scores = {"lines": 2, "bytes": 9, "bits_per_byte": 0.5}
    told = {"after": {"bits_per_byte": {"kor_Hang": scores}, "pairs": {"a": {"chrf": 1.0}}}}
    with pytest.raises(ValueError, match=r"did you mean 'after\.bits_per_byte\.kor_Hang'\?$"):
        metrics.value(told, "after.bits_per_byte.kor_Hagn")
    with pytest.raises(ValueError, match=r"name one of them, such as after\.pairs\.a\.chrf$"):
        metrics.value(told, "after.pairs.a")


def cell(size, seed, value, error=""):
    values = {} if error else {"m": value}
    return CellResult(f"{size}-{seed}", {"size": size, "seed": seed}, values, error)


def test_means_have_students_interval_and_differences_are_paired_by_seed():
    ended = [cell(0, 0, 1.0), cell(0, 1, 3.0), cell(9, 0, 2.0), cell(9, 1, 4.5), cell(9, 2, 7.0)]
    ended.append(cell(0, 2, 0, "no rows"))
    first, second = results.groups(ended, ["m"])
    assert (first["facts"], first["n"], second["n"]) == ({"size": 0}, 2, 3)
    # 2 and its standard error 1, times 12.7062 for one degree of freedom
    assert first["values"]["m"] == pytest.approx({"mean": 2, "low": -10.7062, "high": 14.7062})
    (difference,) = results.differences(ended, ["m"])
    assert (difference["of"], difference["less"], difference["n"]) == ({"size": 9}, {"size": 0}, 2)
    # 1 and 1.5: mean 1.25, standard error 0.25
    want = {"mean": 1.25, "low": 1.25 - 0.25 * 12.7062, "high": 1.25 + 0.25 * 12.7062}
    assert difference["values"]["m"] == pytest.approx(want, rel=1e-4)


def test_a_stage_that_becomes_shorter_warms_up_for_less(write):
    write()
    (stage,) = recipe_file.load("base.yaml").train.stages
    assert lengths.with_steps(stage, 6).learn[0].schedule.warmup == 1
    assert lengths.with_steps(stage, 24).learn[0].schedule.warmup == 2
    assert lengths.with_steps(stage, 1).learn[0].schedule.warmup == 0
