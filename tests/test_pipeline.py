"""The whole pipeline on CPU: what each step leaves, what is done again, what is refused."""

import contextlib
import io
import json
from pathlib import Path
import shutil
import socket
import subprocess
import sys
import time

import fake_hub
import forked
import numpy as np
import pytest
import safetensors.numpy
from small_world import ROOT, lrl, write_recipes

import lrl_jax
from lrl_jax.cli import main
from lrl_jax.evaluate import generate as generation
from lrl_jax.evaluate.kinds import MeasuredModel
from lrl_jax.pipeline import export
from lrl_jax.recipe import supply


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with both runs finished."""
    folder = tmp_path_factory.mktemp("world")
    base, korean = write_recipes(folder)
    lrl("run", base)
    folder.joinpath("out.txt").write_text(lrl("run", korean).stdout)
    return folder


@pytest.fixture
def copy(world, tmp_path):
    """A copy to damage. Recipes name the original's folder, so paths are rewritten."""
    shutil.copytree(world / "runs", tmp_path / "runs")
    for name in ("en.txt", "ko.txt", "tasks.json"):
        shutil.copy(world / name, tmp_path / name)
    write_recipes(tmp_path)
    return tmp_path


def test_every_step_leaves_its_files(world):
    run = world / "runs/korean"
    for path in (
        "recipe.yaml", "vocab/tokenizer.model", "vocab/tokenizer.json", "vocab/splice.json",
        "vocab/proof.json", "vocab/fertility.csv", "init/config.json", "init/checkpoint/0",
        "data/datasets.json", "data/korean", "data/pairs", "train/metrics.jsonl",
        "train/samples.jsonl", "train/checkpoints/12", "evaluate/before.json",
        "evaluate/after.json", "export/config.json", "export/tokenizer.model",
        "export/README.md", "export/manifest.json", "export/gate.json", "report/index.html",
    ):  # fmt: skip
        assert (run / path).exists(), path
    assert not (run / "lock.json").exists()
    assert not (run / "export.unproved").exists()


def test_an_export_has_as_many_positions_as_its_rows_had_tokens(world):
    for name in ("base", "korean"):  # the recipe of the base says 48
        config = json.loads((world / f"runs/{name}/export/config.json").read_text())
        assert config["max_position_embeddings"] == 64


def test_the_run_ends_with_a_table_of_before_and_after(world):
    out = (world / "out.txt").read_text()
    for words in ("bits per byte", "kor_Hang", "chrF", "export gate", "passed"):
        assert words in out


def test_a_finished_run_is_not_done_again(world):
    got = lrl("run", str(world / "korean.yaml"))
    for step in ("vocab", "init", "data", "train", "evaluate", "export"):
        assert f"{step}: done already" in got.stderr


def test_english_keeps_its_ids_and_korean_takes_fewer_tokens(world):
    proof = json.loads((world / "runs/korean/vocab/proof.json").read_text())
    assert proof["ok"]
    assert proof["base_moved"]["count"] == 0
    assert proof["tokens_after"] * 2.5 < proof["tokens_before"]


def test_metrics_have_one_line_a_step_and_the_mixture_of_their_stage(world):
    lines = (world / "runs/korean/train/metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line) for line in lines]
    assert [s["step"] for s in steps] == list(range(1, 13))
    assert all(np.isfinite(s["loss"]) for s in steps)
    assert {s["stage"] for s in steps[:4]} == {"align"}
    assert set(steps[0]["bits_per_byte"]) == {"korean"}


def test_transformers_loads_the_export_with_the_logits_of_the_gate(world):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = str(world / "runs/korean/export")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    ids = tokenizer("민수이 공원에서 책를 보았다.", return_tensors="pt")
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer)
    with torch.no_grad():
        assert torch.isfinite(model(**ids).logits).all()
    gate = json.loads((world / "runs/korean/export/gate.json").read_text())
    assert gate["transformers_error"] < 1e-4


def run_snippet(folder, changed):
    """Runs the Python that a model card shows, with some of it changed; returns what it prints."""
    code = (folder / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    for text, instead in changed.items():
        assert text in code
        code = code.replace(text, instead)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    return printed.getvalue()


def test_messages_give_in_transformers_what_the_trained_model_gives_here(world):
    folder = world / "runs/korean/export"
    card = (folder / "README.md").read_text()
    assert "chat template (template alpaca, 25 % of the last stage)" in card
    assert "### Instruction:\n{message}\n\n### Response:\n```" in card
    assert "Asked in training (template translation, 25 % of the last stage)" in card
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    talks = [[{"role": "user", "content": f"Who saw a {thing}?"}] for thing in ("peach", "book")]
    generate = transformers.pipeline(
        "text-generation", model=str(folder), dtype=torch.float32, device="cpu"
    )
    answers = generate(talks, max_new_tokens=16, do_sample=False, return_full_text=False)
    model = lrl_jax.load_model(str(folder))
    want = lrl_jax.generate(model, talks, max_new_tokens=16)
    assert all(want)
    assert [answer[0]["generated_text"] for answer in answers] == want
    exact = 'this/folder", dtype="float32"'
    changed = {"...": "Who saw a peach?", "=256": "=16", 'this/folder"': exact}
    changed["path/of/this/folder"] = str(folder)
    assert run_snippet(folder, changed) == f"{want[0]}\n"
    asked = [{"instruction": talk[0]["content"]} for talk in talks]
    plain = MeasuredModel(model.config, model.params, model.tokenizer, model.mesh, 0, 1)
    assert want == generation.answers(plain, "alpaca", asked, 16, 2)


def test_training_never_imports_tensorflow(world):
    code = (
        "import sys; from lrl_jax.cli import main as cli\n"
        f"assert cli.main(['train', {str(world / 'korean.yaml')!r}]) == 0\n"
        "from lrl_jax.pipeline import steps\n"
        "print([m for m in ('tensorflow', 'seqio', 'torch') if m in sys.modules])"
    )
    got = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert got.stdout.splitlines()[-1] == "[]"


def test_show_prints_the_prompt_and_the_answer(world):
    out = lrl("show", str(world / "korean.yaml"), "--dataset", "pairs").stdout
    assert "pairs row 0" in out
    assert "Korean" in out


def forget_all_but_vocab(run):
    for step in ("init", "data", "train", "evaluate", "export"):
        shutil.rmtree(run / step)
        (run / f"steps/{step}.json").unlink()


def test_a_flipped_bit_in_the_base_is_named(copy):
    weights = copy / "runs/base/export/model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-100] ^= 1
    weights.write_bytes(data)
    forget_all_but_vocab(copy / "runs/korean")
    got = lrl("init", str(copy / "korean.yaml"), code=2)
    assert "model.safetensors: content differs from manifest.json" in got.stderr
    assert not (copy / "runs/korean/init/checkpoint").exists()


def test_a_truncated_base_is_named(copy):
    weights = copy / "runs/base/export/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    (copy / "runs/base/export/manifest.json").unlink()
    forget_all_but_vocab(copy / "runs/korean")
    got = lrl("init", str(copy / "korean.yaml"), code=2)
    assert "model.safetensors" in got.stderr
    assert "Traceback" not in got.stderr


def flip_bits(checkpoints):
    """Flips one bit in the middle of every file of arrays."""
    for file in checkpoints.rglob("*"):
        if file.is_file() and "/d/" in str(file):
            data = bytearray(file.read_bytes())
            data[len(data) // 2] ^= 4
            file.write_bytes(data)


def test_a_flipped_bit_in_the_only_checkpoint_stops_evaluation(copy):
    flip_bits(copy / "runs/korean/train/checkpoints")
    got = lrl("evaluate", str(copy / "korean.yaml"), "--redo", code=5)
    assert "checkpoints: step 12: " in got.stderr
    assert "restore it from a copy, or name another step" in got.stderr


def test_an_older_checkpoint_is_used_only_where_it_is_named(copy):
    flip_bits(copy / "runs/korean/train/checkpoints/12")
    got = lrl("export", str(copy / "korean.yaml"), "--redo", code=5)
    assert "Or use another of its steps: --step 5, 10" in got.stderr
    got = lrl("export", str(copy / "korean.yaml"), "--redo", "--step", "11", code=2)
    assert "--step 11: there is no " in got.stderr
    mean = "export.use_ema=true"  # step 5 has the averages of the stage that it ends
    got = lrl("export", str(copy / "korean.yaml"), "--redo", "--step", "5", mean)
    assert "the card has no results, as step 12 (" in got.stderr
    gate = json.loads((copy / "runs/korean/export/gate.json").read_text())
    assert gate["checkpoint_step"] == 5
    card = (copy / "runs/korean/export/README.md").read_text()
    assert "- Checkpoint: step 5 (" in card
    assert "bits per byte" not in card


def test_training_with_a_damaged_end_is_done_again_from_what_verifies(copy):
    metrics = copy / "runs/korean/train/metrics.jsonl"
    losses = [json.loads(line)["loss"] for line in metrics.read_text().splitlines()]
    flip_bits(copy / "runs/korean/train/checkpoints/12")
    got = lrl("train", str(copy / "korean.yaml"), "--redo")
    assert "step 12 does not verify" in got.stderr
    again = [json.loads(line)["loss"] for line in metrics.read_text().splitlines()]
    assert again[-2:] == losses[-2:]
    lrl("export", str(copy / "korean.yaml"), "--redo")
    card = (copy / "runs/korean/export/README.md").read_text()
    assert "- Checkpoint: step 12 (" in card
    assert "bits per byte" in card


def test_a_base_that_holds_no_numbers_is_refused_by_the_name_of_the_tensor(copy):
    export = copy / "runs/base/export"
    tensors = safetensors.numpy.load_file(export / "model.safetensors")
    tensors["model.norm.weight"][3] = np.nan
    safetensors.numpy.save_file(tensors, export / "model.safetensors")
    (export / "manifest.json").unlink()
    forget_all_but_vocab(copy / "runs/korean")
    got = lrl("init", str(copy / "korean.yaml"), code=2)
    assert "its weights are not all finite numbers: norm_D" in got.stderr


def test_a_tokenizer_that_is_not_the_models_is_refused(copy):
    """A vocabulary with more pieces than the checkpoint has rows."""
    larger = copy / "runs/korean/vocab/tokenizer.model"
    (copy / "runs/base/export/tokenizer.model").write_bytes(larger.read_bytes())
    got = lrl("check", str(copy / "korean.yaml"), code=3)
    assert "this tokenizer is not this model's" in got.stderr


def test_text_that_changed_under_a_finished_run_is_refused_by_name(copy):
    with (copy / "ko.txt").open("a") as f:
        f.write("새 줄\n")
    got = lrl("run", str(copy / "korean.yaml"), code=4)
    assert "ko.txt" in got.stderr
    assert "--redo" in got.stderr


WHO = """
task: who
test_split: test
output_type: multiple_choice
doc_to_text: "{{start}}"
doc_to_choice: [Minsu, Yuna, Junho]
doc_to_target: name
target_delimiter: ""
metric_list: [{metric: acc}]
metadata: {language: eng_Latn, files: {test: [who.jsonl]}}
"""


def test_another_text_or_task_to_evaluate_on_leaves_training_alone(copy):
    checkpoint, recipe = copy / "runs/korean/train/checkpoints/12", str(copy / "korean.yaml")
    before = checkpoint.stat().st_mtime_ns
    (copy / "who.yaml").write_text(WHO)
    starts = {"At the park ": "Minsu", "In the town ": "Yuna", "At home ": "Junho"}
    rows = [{"start": start, "name": name} for start, name in starts.items()]
    (copy / "who.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tasks = (f"evaluate.tasks.who={copy}/who.yaml", f"evaluate.task_data={copy}")
    lrl("run", recipe, "evaluate.max_lines=3", *tasks, "--redo")
    assert checkpoint.stat().st_mtime_ns == before
    folder = copy / "runs/korean/evaluate"
    after = json.loads((folder / "after.json").read_text())
    assert after["bits_per_byte"]["kor_Hang"]["lines"] == 3
    assert after["facts"]["checkpoint"].startswith("step 12 (")
    assert after["tasks"]["who"]["chance"] == pytest.approx(100 / 3)
    items = [*map(json.loads, (folder / "items/after/who.jsonl").read_text().splitlines())]
    right = sum(item["nats"].index(min(item["nats"])) == item["target"] for item in items)
    assert after["tasks"]["who"]["scores"]["acc"] == pytest.approx(100 * right / 3)
    assert len((folder / "items/before/who.jsonl").read_text().splitlines()) == len(items) == 3

    looked = lrl("evaluate", recipe, "evaluate.max_lines=3", *tasks, "--only", "who").stdout
    assert "acc, %" in looked
    assert "bits per byte" not in looked
    assert json.loads((folder / "after.json").read_text()) == after
    rows[1]["name"] = "Boram"
    (copy / "who.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    changed = lrl("evaluate", recipe, "evaluate.max_lines=3", *tasks, code=4)
    assert "who.jsonl" in changed.stderr
    refused = lrl("evaluate", recipe, "evaluate.max_lines=3", *tasks, "--redo", code=3)
    assert "who.jsonl:2: its target is 'Boram'; want the index of a choice" in refused.stderr


def test_a_tokenizer_swapped_under_a_finished_run_is_named_before_it_is_used(copy):
    tokenizer = copy / "runs/korean/vocab/tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace("<0xBE>", "<0pBE>"))
    got = lrl("export", str(copy / "korean.yaml"), "--redo", code=5)
    assert "vocab/tokenizer.json: has changed since `lrl vocab` wrote it" in got.stderr


@pytest.mark.parametrize(
    ("step", "arguments"), [("vocab", ["name=other"]), ("evaluate", ["--redo"])]
)
def test_sigterm_ends_a_step_soon_with_75_and_says_how_to_go_on(copy, step, arguments):
    name = arguments[0].partition("=")[2] or "korean"
    note = copy / "runs" / name / "steps" / f"{step}.json"
    words = [step, str(copy / "korean.yaml"), *arguments]
    child = forked.Forked("lrl_jax.cli", words, copy / "said", cwd=ROOT)
    while not note.exists() or json.loads(note.read_text())["finished"]:
        assert child.poll() is None, child.said()
        time.sleep(0.01)
    child.terminate()
    began = time.monotonic()
    assert child.wait(60) == 75, child.said()
    assert time.monotonic() - began < 20
    assert "SIGTERM: stopping; once more stops at once" in child.said()
    assert "what is finished is kept: run again to go on" in child.said()
    assert not (note.parents[1] / "lock.json").exists()


def test_an_error_of_the_lead_ends_both_processes_in_seconds_with_its_code(copy):
    (copy / "tasks.json").write_text('[{"instruction": ')
    began = time.monotonic()
    children = two_processes("run", copy)
    codes = [child.wait(120) for child in children]
    lead, other = (child.said() for child in children)
    assert codes == [3, 3], lead + other
    assert time.monotonic() - began < 60  # most of it to begin; they hung for 300 s
    assert "tasks.json" in lead
    assert "process 0 ended with code 3" in other


def two_processes(verb, folder, *arguments):
    with socket.socket() as s:
        s.bind(("localhost", 0))
        together = ["--coordinator", f"localhost:{s.getsockname()[1]}", "--processes", "2"]
    words = [verb, str(folder / "korean.yaml"), *arguments, *together, "--process-id"]
    return [
        forked.Forked("lrl_jax.cli", [*words, str(i)], folder / f"said-{i}", cwd=ROOT)
        for i in range(2)
    ]


def test_two_processes_train_the_recipe_with_the_losses_of_one(copy):
    one = (copy / "runs/korean/train/metrics.jsonl").read_text().splitlines()
    children = two_processes("train", copy, "--discard-training")
    codes = [child.wait(300) for child in children]
    assert codes == [0, 0], [child.said() for child in children]
    two = (copy / "runs/korean/train/metrics.jsonl").read_text().splitlines()
    got, want = ([json.loads(line)["loss"] for line in lines] for lines in (two, one))
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_a_smaller_batch_from_a_checkpoint_on_reads_what_is_left_of_every_stage(copy):
    """The checkpoint after row 40 of 96; `continue` begins at row 32 and has a rate of its own."""
    train = copy / "runs/korean/train"
    for step in ("10", "12"):
        shutil.rmtree(train / "checkpoints" / step)
    steps = [json.loads(line) for line in (train / "metrics.jsonl").read_text().splitlines()]
    got = lrl("train", str(copy / "korean.yaml"), "train.batch_size=4")
    assert "steps of the recipe count 8 (train.step_rows)" in got.stderr
    assert "another plan" not in got.stderr
    halves = [json.loads(line) for line in (train / "metrics.jsonl").read_text().splitlines()]
    assert [m["rows"] for m in halves] == [8, 16, 24, 32, 40, *range(44, 97, 4)]
    assert halves[-1]["epochs"] == steps[-1]["epochs"]
    assert [m["lr"] for m in halves[5::2]] == [pytest.approx(m["lr"]) for m in steps[5:]]
    assert "step_rows: 8" in (copy / "runs/korean/recipe.yaml").read_text()


@pytest.mark.parametrize(
    ("name", "data", "code", "message"),
    [
        ("ko.txt", b"", 3, "is empty"),
        ("ko.txt", b"\xb0\xa1\n", 3, "ko.txt:1: not UTF-8"),
        ("ko.txt", None, 3, "no such file"),
        ("ko.txt", "한\n".encode(), 3, "ko.txt"),
        ("tasks.json", b"[{]", 3, "tasks.json"),
    ],
)
def test_bad_text_is_named_with_its_exit_code(tmp_path, capsys, name, data, code, message):
    base, _ = write_recipes(tmp_path)
    (tmp_path / name).unlink() if data is None else (tmp_path / name).write_bytes(data)
    text = Path(base).read_text().replace(
        "english: {", "x: {kind: parallel, source: '%s/en.txt', target: '%s/ko.txt', "
        "source_language: eng_Latn, target_language: kor_Hang}, t: {kind: instructions, "
        "path: ['%s/tasks.json'], language: eng_Latn}, english: {" % ((tmp_path,) * 3),
    )  # fmt: skip
    Path(base).write_text(text)
    assert main.main(["check", base]) == code
    assert message in capsys.readouterr().err


def test_a_start_that_needs_what_the_recipe_does_not_name_is_told_by_check(world):
    got = lrl("check", str(world / "korean.yaml"), "init.input_rows=wechsel",
              "init.output_rows=clp", code=3)  # fmt: skip
    assert "init.input_rows: wechsel needs more; set init.words" in got.stderr
    assert "init.output_rows: clp needs more; set init.helper" in got.stderr


def test_the_proof_is_made_again_and_finds_what_was_changed_since(copy):
    recipe = str(copy / "korean.yaml")
    assert "proved on 320 base and 320 new texts" in lrl("vocab", recipe, "--prove").stderr
    form = copy / "runs/korean/vocab/tokenizer.json"
    tree = json.loads(form.read_text())
    tree["model"]["merges"] = tree["model"]["merges"][:-30]
    form.write_text(json.dumps(tree))
    got = lrl("vocab", recipe, "--prove", code=5)
    assert "form_ids: " in got.stderr
    assert not json.loads((copy / "runs/korean/vocab/proof.json").read_text())["ok"]


def test_fertility_of_a_folder_of_languages_is_a_page_and_a_table(world, tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    for name, language in (("en", "eng_Latn"), ("ko", "kor_Hang")):
        shutil.copy(world / f"{name}.txt", texts / f"{language}.txt")
    runs, out = world / "runs", tmp_path / "out"
    page = tmp_path / "page" / "tokenizer.model"
    page.parent.mkdir()
    page.write_text("<!doctype html>\n<title>Sign in</title>\n")
    got = lrl("vocab", "fertility", str(runs / "base/vocab"), str(page.parent), str(tmp_path),
              str(runs / "korean/vocab"), "--texts", str(texts), "--out", str(out))  # fmt: skip
    assert {"base", "korean", "kor_Hang", "Korean"} <= set(got.stdout.replace("│", " ").split())
    assert f"fertility: page is left out: {page}: is a web page, such as a login form" in got.stderr
    assert f"fertility: {tmp_path.name} is left out: {tmp_path}: holds no tokenizer" in got.stderr
    assert (out / "index.html").read_text().startswith("<!doctype html>")
    refused = lrl("vocab", "fertility", str(page), "--texts", str(texts), code=2)
    assert f"{page}: is a web page" in refused.stderr
    refused = lrl("vocab", "fertility", str(runs / "base/vocab"), "--texts", str(texts),
                  "--reference", "fra_Latn", "--out", str(out), code=2)  # fmt: skip
    assert "no text of the reference language" in refused.stderr


def test_an_export_is_proved_on_what_text_there_is_where_the_recipe_names_none_for_it(copy):
    path = str(copy / "korean.yaml")
    none = ["export.gate_on=[]", "evaluate.translation={}"]
    none += ["evaluate.bits_per_byte={}", "evaluate.baseline_text={}"]
    assert "same tokens on 20 texts" in lrl("export", path, "--redo", *none).stderr
    keep = lrl_jax.load_recipe(path, *none, "vocab={method: keep}")
    assert supply.gate_texts(keep) == ()
    first = (copy / "ko.txt").read_text().splitlines()[0]
    assert export.texts(keep)[0] == first


def test_models_measured_by_a_recipe_have_the_numbers_of_its_own_step(copy):
    """Among them a run that has no export left, of which the newest checkpoint is taken."""
    runs, out = copy / "runs", copy / "scores"
    shutil.rmtree(runs / "korean/export")
    words = ["evaluate", str(copy / "korean.yaml"), "--out", str(out)]
    words += ["--model", str(runs / "korean"), "--model", str(runs / "base/export")]
    got = lrl(*words)
    steps = {name: json.loads((runs / f"korean/evaluate/{name}.json").read_text())
             for name in ("before", "after")}  # fmt: skip
    for model, when in (("base", "before"), ("korean", "after")):
        measured = json.loads((out / model / "results.json").read_text())
        for kind in ("bits_per_byte", "translation"):
            assert measured[kind] == steps[when][kind]
    score = steps["after"]["bits_per_byte"]["kor_Hang"]["bits_per_byte"]
    assert f"{score:.3f}" in got.stdout
    before = (out / "base/results.json").stat().st_mtime_ns
    absent = ["--model", str(runs / "absent"), "--out", str(copy / "none"), "--dtype", "bfloat16"]
    assert "absent: no such folder" in lrl(*words, *absent, code=2).stderr
    assert not (copy / "none").exists()  # refused before the first is measured
    lrl(*words)
    assert (out / "base/results.json").stat().st_mtime_ns == before
    got = lrl(*words, "evaluate.max_lines=2", code=4)
    assert "holds results with other evaluate than" in got.stderr


def test_a_probe_compares_vocabularies_and_starts_at_equal_bytes(copy):
    recipe = str(copy / "korean.yaml")
    out = lrl("vocab", "probe", recipe, "--pieces", "0,30", "--rows", "subword_mean,random_normal",
              "--steps", "3").stdout  # fmt: skip
    trials = json.loads((copy / "runs/korean/probe/probe.json").read_text())
    assert [(t["rows"], t["pieces"] > 0) for t in trials] == [
        ("", False), ("subword_mean", True), ("random_normal", True),
    ]  # fmt: skip
    base, mean, noise = trials
    assert base["steps"] > mean["steps"] == noise["steps"] == 3
    assert base["bytes"] == pytest.approx(mean["bytes"], rel=0.2)
    assert mean["before"] != noise["before"]
    assert mean["after"]["kor_Hang"] < mean["before"]["kor_Hang"]
    assert mean["curve"][-1][0] == pytest.approx(mean["bytes"], abs=1)
    assert "bits per byte at equal bytes" in out
    assert "Go on with" in (copy / "runs/korean/probe/index.html").read_text()
    assert (copy / "runs/korean/train/metrics.jsonl").exists()  # the run itself stays


# ---------------------------------------------------------------------------- to the hub
@pytest.fixture
def hub(monkeypatch, tmp_path):
    with fake_hub.serving(monkeypatch, tmp_path) as server:
        yield server


def push(folder, *words):
    return main.main(["export", str(folder / "korean.yaml"), "--push", *words])


def test_a_run_is_pushed_as_a_model_a_tokenizer_and_data(world, hub, capfd):
    assert push(world, "org/korean") == 0
    assert push(world, "org/pieces", "--what", "tokenizer", "--public") == 0
    assert push(world, "org/rows", "--what", "data", "--revision", "first") == 0
    said = "".join(capfd.readouterr())
    assert f"push: {hub.url}/org/korean: 10 files verified, 10 of them sent; private" in said
    assert fake_hub.TOKEN not in said
    model, export = hub.files("org/korean"), world / "runs/korean/export"
    assert model["model.safetensors"] == (export / "model.safetensors").read_bytes()
    assert 'from_pretrained("org/korean")' in model["README.md"].decode() or (
        'model="org/korean"' in model["README.md"].decode()
    )
    assert not hub.repositories["org/pieces"].private
    pieces = hub.files("org/pieces")
    assert {"tokenizer.json", "tokenizer.model", "splice.json", "proof.json"} <= pieces.keys()
    rows = hub.files("datasets/org/rows", "first")
    assert sum(name.endswith(".array_record") for name in rows) == 3
    assert str(world).encode() not in b"".join(rows.values())
    for files in (model, pieces, rows):
        assert str(world) not in files["README.md"].decode()


def test_a_push_refuses_before_it_works_and_what_changed_by_name(copy, hub, capfd, monkeypatch):
    assert push(copy, "korean") == 2
    assert push(copy, "org/korean", "--revision", "a b") == 2
    assert main.main(["export", str(copy / "korean.yaml"), "--public"]) == 2
    said = capfd.readouterr().err
    assert "'korean' is no name on the hub; want ORG/NAME" in said
    assert "--public: say where to with --push ORG/NAME" in said
    license = "base.license=llama3.1"
    assert push(copy, "org/korean", "--public", license) == 2
    assert "asks that the name begin with 'Llama'" in capfd.readouterr().err
    lrl("export", str(copy / "korean.yaml"), "--redo")  # its texts lie elsewhere now
    config = copy / "runs/korean/export/config.json"
    config.write_text(config.read_text().replace("64", "65"))
    assert push(copy, "org/korean") == 5
    assert f"{config}: has changed since it passed the gate" in capfd.readouterr().err
    monkeypatch.delenv("HF_TOKEN")
    assert push(copy, "org/korean") == 2
    assert "no token of the Hugging Face hub" in capfd.readouterr().err
    assert not hub.repositories
