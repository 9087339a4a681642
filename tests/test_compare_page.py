"""The page of several runs and the verbs `report` and `runs`: bad input, sizes, states."""

import json
import os
import re
import tarfile
import time

import compared_runs
from compared_runs import write
from make_old_run import ARCHIVES
import object_store
import pytest
from test_report_pages import Tags

from lrl_jax import storage
from lrl_jax.cli import main
from lrl_jax.cli import runs as listing
from lrl_jax.devices import lease
from lrl_jax.report.compare import markdown, page, runs
from lrl_jax.report.places import STEPS


def two(tmp_path) -> list[str]:
    return [str(write(tmp_path / name)) for name in ("a", "b")]


def compare(tmp_path, *places: str, more: tuple[str, ...] = ()) -> int:
    return main.main(["report", *places, "--out", str(tmp_path / "out"), *more])


# ---------------------------------------------------------------------------- lrl report A B C
def test_report_of_runs_writes_one_page_that_loads_nothing(tmp_path, capsys):
    assert compare(tmp_path, *two(tmp_path)) == 0
    text = (tmp_path / "out" / "index.html").read_text()
    got = Tags(text)
    assert not got.open
    assert not re.findall(r"(?:src|href)\s*=\s*[\"']?(?!#|[\"']#)", text)
    assert not re.findall(r"https?://(?!www\.w3\.org)", text)
    assert {"link", "img", "iframe", "script"}.isdisjoint(tag for tag, *_ in got.tags)
    assert "bits per byte" in capsys.readouterr().out
    assert not (tmp_path / "out" / "comparison.json").exists()


def test_json_has_the_same_facts_printed_and_written_and_a_card_is_a_table(tmp_path, capsys):
    card = tmp_path / "card.md"
    card.write_text(f"{markdown.MARK}\nold")
    more = ("--json", "--card", str(card))
    places = [str(write(tmp_path / name / "korean")) for name in ("x", "y")]
    assert compare(tmp_path, *places, more=more) == 0
    facts = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert json.loads(capsys.readouterr().out) == facts
    assert facts["format"] == "lrl_jax comparison 1"
    assert [run["name"] for run in facts["runs"]] == ["x/korean", "y/korean"]
    assert card.read_text() == markdown.section(facts)


def test_a_file_that_is_no_card_of_ours_is_not_written_over(tmp_path, capsys):
    card = tmp_path / "card.md"
    card.write_text("# My own card\n")
    assert compare(tmp_path, *two(tmp_path), more=("--card", str(card))) == 2
    assert card.read_text() == "# My own card\n"
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a", "a"], "given twice; name each run once"),
        (["a", "a/../a/"], "given twice"),
        (["a", "none"], "none: no such folder; `lrl runs` lists"),
        (["a", "empty"], "empty: is no run"),
        (["a", "a/recipe.yaml"], "is a file; name the folder of its run"),
        (["a", "b", "--out", "a"], "--out a: is the folder of a run"),
        (["a", "b", "train.steps=3"], "train.steps=3: of a recipe, and not of several runs"),
        (["a", "--json"], "name two or more"),
        (["a", "--card", "c.md"], "name two or more"),
        (["none.yaml"], "none.yaml: no such recipe"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_line(words, said, tmp_path, monkeypatch, capsys):
    two(tmp_path)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main.main(["report", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert not (tmp_path / "comparison").exists()


def test_the_folder_of_one_run_has_its_own_report(tmp_path, monkeypatch, capsys):
    write(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    assert main.main(["report", "a"]) == 0
    assert "<title>a: report</title>" in (tmp_path / "a/report/index.html").read_text()
    assert "report: a/report/index.html" in capsys.readouterr().err


DAMAGE = {
    "evaluate/after.json": "{",
    "evaluate/before.json": "[]",
    "steps/evaluate.json": "[1]",
    "steps/train.json": "{",
    "recipe.yaml": "a: [",
    "data/datasets.json": "7",
    "vocab/fertility.json": "<html>",
    "train/metrics.jsonl": "nonsense\n",
    "init/config.json": "[]",
    "judge/judge.json": "{",
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_piece_is_named_and_the_other_runs_are_compared(name, tmp_path):
    path = write(tmp_path / "c") / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(DAMAGE[name])
    places = {"a": write(tmp_path / "a"), "b": write(tmp_path / "b"), "c": tmp_path / "c"}
    facts = page.facts(runs.read(places, {}))
    problems = "".join(facts["runs"][2]["problems"])
    # bad lines are a warning, and FLOPs that are not known stand in the table
    assert (path.name in problems) == (name not in ("train/metrics.jsonl", "init/config.json"))
    row = next(r for r in facts["results"] if r["key"] == "bits_per_byte.bits_per_byte")
    assert row["cells"]["b"]["value"] == 0.5


@pytest.mark.parametrize(
    "results",
    [{"bits_per_byte": []}, {"tasks": {"copa": 3}}, {"translation": {"x": None}}, {"facts": 7},
     {"efficiency": {"input": {"kor": 1}}}, {"efficiency": []},
     {"tasks": {"copa": {"scores": {"acc": 1.0}, "each": "no"}}},
     {"translation": {"x": {"chrf": 1.0, "signatures": [1]}}}, {"alignment": {"x": []}},
     {"alignment": {"x": {"poolings": {"mean": {"layers": [{"mexa": "high"}]}}}}}],
)  # fmt: skip
def test_results_of_another_form_are_damaged_or_left_out(results, tmp_path):
    files = compared_runs.pieces()
    files["evaluate/after.json"] = results
    places = {"a": write(tmp_path / "a"), "c": write(tmp_path / "c", files)}
    facts = page.facts(runs.read(places, {}))
    assert "value" not in facts["results"][0]["cells"]["c"]


def test_damaged_runs_are_named_beside_the_page(tmp_path, capsys):
    places = two(tmp_path)
    for name in ("evaluate/after.json", "recipe.yaml", "steps/train.json"):
        places.append(str(write(tmp_path / name.partition(".")[0].replace("/", "_"))))
        (tmp_path / places[-1] / name).write_text(DAMAGE[name])
    assert compare(tmp_path, *places) == 0
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert "evaluate_after: its evaluate/after.json is damaged" in error
    assert "recipe: " in error
    assert "steps/train.json: not JSON" in error
    assert "is damaged" in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.name)
def test_a_run_of_an_older_version_is_compared_and_listed(archive, tmp_path):
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    old = tmp_path / "runs" / "korean"
    places = {"old": old, "new": write(tmp_path / "new")}
    facts = page.facts(runs.read(places, {}))
    assert facts["runs"][0]["problems"] == ["not evaluated yet"]
    assert facts["runs"][0]["trained"]["step"] > 0
    assert facts["runs"][0]["trained"]["flops"] > 0
    (run,) = listing.listing(tmp_path / "runs")
    assert (run.state, run.at, run.done) == ("stopped", "train", ("vocab", "init", "data"))
    assert (run.steps, 0 < run.step < 300) == (300, True)


def test_cells_of_a_study_are_read_where_their_steps_lie(tmp_path):
    files = compared_runs.pieces()
    own = {name: files.pop(name) for name in [*files] if name.startswith("recipe")}
    write(tmp_path / "study" / "shared" / "all-1f", files)
    for name in ("ko", "en"):
        steps = {step: f"shared/all-1f/{step}" for step in STEPS}
        write(tmp_path / "study" / name, own | {"cell.json": {"steps": steps, "error": ""}})
    places = {name: tmp_path / "study" / name for name in ("ko", "en")}
    facts = page.facts(runs.read(places, {}))
    cells = facts["results"][0]["cells"]
    assert [cell["value"] for cell in cells.values()] == [0.5, 0.5]
    assert facts["runs"][0]["trained"]["flops"] > 0
    assert len(facts["runs"][1]["origins"]["tokenizer"]) == 64
    en, ko = listing.listing(tmp_path / "study")
    assert (en.name, en.state, en.step) == ("en", "due", 2)
    storage.write_json(tmp_path / "study/ko/cell.json", {"error": "no such text", "steps": {}})
    ko = listing.listing(tmp_path / "study")[1]
    assert (ko.state, ko.problem) == ("failed", "no such text")


def test_thirty_runs_stay_one_small_page(tmp_path):
    places = {}
    for i in range(30):
        files = compared_runs.pieces()
        files["evaluate/after.json"]["bits_per_byte"]["kor"]["bits_per_byte"] = 0.5 + 0.01 * (i % 7)
        files["evaluate/after.json"]["tasks"] = {
            f"task{n}": compared_runs.TASK | {"task": f"task{n}"} for n in range(20)
        }
        files["steps/evaluate.json"]["inputs"] |= {f"task task{n} task{n}": "f" for n in range(20)}
        files["train/metrics.jsonl"] = [
            compared_runs.RECORD | {"step": n, "epochs": {"korean": n / 60}} for n in range(1, 61)
        ]
        files["recipe.yaml"]["seed"] = i % 3
        places[f"a run with a long name of number {i}"] = write(tmp_path / str(i), files)
    compared = runs.read(places, {})
    facts = page.facts(compared)
    drawn = page.figures(compared, facts)
    text = page.render(facts, drawn)
    assert len(text.encode()) < 5_000_000
    assert text.count("<tr><td>a run with a long name of number") >= 30  # a line each
    assert len(drawn["coloured"]) == 6
    assert drawn["coloured"][0] == "a run with a long name of number 0"
    small = page.render(facts, drawn, most=len(text.encode()) // 2)
    assert len(small) < len(text)
    assert "more lines in comparison.json" in small


def test_runs_on_a_store_are_compared_and_listed(tmp_path, capsys):
    with object_store.mounted(tmp_path / "store") as store:
        for name in ("a", "b"):
            write(store.local(f"gs://bucket/runs/{name}"))
        places = ["gs://bucket/runs/a", "gs://bucket/runs/b"]
        assert main.main(["report", *places, "--out", "gs://bucket/out", "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert [run["path"] for run in facts["runs"]] == places
        assert facts["results"][0]["cells"]["b"]["value"] == 0.5
        assert store.local("gs://bucket/out/index.html").exists()
        assert main.main(["report", places[0], places[0] + "/"]) == 2
        assert main.main(["runs", "gs://bucket/runs", "--json"]) == 0
        assert [run["name"] for run in _json(capsys.readouterr().out)] == ["a", "b"]


def _json(text: str):
    return json.loads(text[text.index("[") :])


# ---------------------------------------------------------------------------- lrl runs
def state_of(folder) -> tuple[str, str]:
    (run,) = listing.listing(folder)
    return run.state, run.at


def note(folder, step: str, finished: bool) -> None:
    path = folder / "steps" / f"{step}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"inputs": {}, "settings": "", "finished": finished}))


def run_with(folder, *done: str, begun: str = ""):
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("name: r\n")
    for step in done:
        note(folder, step, True)
    if begun:
        note(folder, begun, False)
    return folder


def locked_by(folder, **changes) -> None:
    owner = lease.dataclasses.asdict(lease._this_process()) | {"owner": "x"} | changes
    storage.write_json(folder / lease.LOCK, owner | {"heartbeat": changes.get("heartbeat", 1.0)})


def test_a_run_is_done_due_or_new_by_its_notes(tmp_path):
    run_with(tmp_path / "1" / "r", *STEPS)
    run_with(tmp_path / "2" / "r", "vocab", "init")
    run_with(tmp_path / "3" / "r")
    got = [state_of(tmp_path / name) for name in "123"]
    assert got == [("done", ""), ("due", ""), ("new", "")]


def test_a_run_goes_on_while_its_lease_lives_and_was_cut_short_after(tmp_path):
    folder = run_with(tmp_path / "r", "vocab", begun="train")
    locked_by(folder)
    (run,) = listing.listing(tmp_path)
    assert (run.state, run.at) == ("running", "train")
    assert run.problem.startswith(f"process {os.getpid()} on ")
    locked_by(folder, started="1")  # another process had this pid
    assert state_of(tmp_path) == ("cut short", "train")
    elsewhere = {"host": "h", "machine": "m"}
    locked_by(folder, **elsewhere, heartbeat=time.time() - lease.LEASE / 2)
    assert state_of(tmp_path) == ("running", "train")
    locked_by(folder, **elsewhere, heartbeat=time.time() - 2 * lease.LEASE)
    assert state_of(tmp_path) == ("cut short", "train")


def test_a_step_that_was_left_without_a_lease_was_stopped_or_failed(tmp_path):
    folder = run_with(tmp_path / "r", begun="train")
    assert state_of(tmp_path) == ("failed", "train")
    (folder / "train").mkdir()
    events = [{"event": "start", "at": 1.0, "step": 0}, {"event": "stop", "at": 2.0, "step": 3}]
    (folder / "train/events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    assert state_of(tmp_path) == ("stopped", "train")


def test_training_is_shown_by_its_last_step_and_loss(tmp_path):
    write(tmp_path / "r")
    path = tmp_path / "r/train/metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 3, "loss": null}\n{"step": 4, "lo')
    os.utime(path, (time.time() + 9, time.time() + 9))
    (run,) = listing.listing(tmp_path)
    assert (run.step, run.steps, run.loss, run.age) == (3, 2, 2.0, 0.0)
    assert run.size == sum(p.stat().st_size for p in (tmp_path / "r").rglob("*") if p.is_file())


def test_steps_of_epochs_are_those_of_the_plan(tmp_path):
    files = compared_runs.pieces()
    files["recipe.yaml"]["train"] |= {"batch_size": 4}
    files["recipe.yaml"]["train"]["stages"][0] |= {"steps": 0, "epochs": 2}
    files["data/plan.json"] = {"stages": [{"rows": 10}, {"rows": 7}]}
    write(tmp_path / "r", files)
    (run,) = listing.listing(tmp_path)
    assert run.steps == 5


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("recipe.yaml", "a: [", "recipe.yaml"),
        ("recipe.yaml", None, "has no recipe.yaml"),
        ("steps/train.json", "{", "not JSON"),
        ("steps/train.json", "[]", "want an object, got list"),
        ("lock.json", "{}", "does not say who uses the folder"),
        ("train/metrics.jsonl", "\x00\n[]\n{}\n", ""),
    ],
)
def test_a_broken_run_is_listed_with_what_is_wrong(name, content, said, tmp_path, capsys):
    write(tmp_path / "good")
    path = write(tmp_path / "odd") / name
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_text(content)
    assert main.main(["runs", str(tmp_path), "--json"]) == 0
    good, odd = _json(capsys.readouterr().out)
    assert good["state"] == "due"
    assert (odd["state"] == "broken") == bool(said)
    assert said in odd["problem"]
    assert main.main(["runs", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    problems = [line for line in printed.out.splitlines() if line.startswith("odd: ")]
    assert said == "" or said in problems[0]  # below the table, in a line


def test_other_folders_are_no_runs_and_a_run_may_be_named_itself(tmp_path, capsys):
    (tmp_path / "notes").mkdir()
    (tmp_path / "file").write_text("x")
    assert main.main(["runs", str(tmp_path)]) == 0
    assert "holds no run yet" in capsys.readouterr().out
    write(tmp_path / "r")
    assert [run.name for run in listing.listing(tmp_path / "r")] == ["r"]
    assert main.main(["runs", str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err
