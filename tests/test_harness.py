"""Tasks through lm-evaluation-harness: equal to its own transformers backend, and resumed."""

import dataclasses
import functools
import json
import os
from pathlib import Path
import socket
import subprocess
import sys
import time

from conftest import data_file
from etils import epath
import forked
import jax
import numpy as np
import pytest
import tiny_llama

from lrl_jax.evaluate import harness
from lrl_jax.evaluate.zoo.answers import Answers
from lrl_jax.evaluate.zoo.finished import Finished
from lrl_jax.evaluate.zoo.relay import Relay
from lrl_jax.evaluate.zoo.text import HarnessText
from lrl_jax.hf import save
from lrl_jax.pipeline import models
from lrl_jax.recipe import train as recipe_train
from lrl_jax.text import DataError
from lrl_jax.vocab.pieces import learn
from lrl_jax.vocab.tokenizer import sentencepieces

pytest.importorskip("lm_eval", reason='needs lm_eval: pip install -e ".[eval]"')

LIMIT = 4  # documents of each task
LENGTH = 256  # cuts the questions of BoolQ
CONNECTORS = {
    "sw": ("kwa sababu", "kwa hiyo"), "ta": ("காரணமாக", "எனவே"), "th": ("เพราะ", "ดังนั้น"),
    "tr": ("çünkü", "bu yüzden"), "vi": ("bởi vì", "vì vậy"), "zh": ("因为", "所以"),
}  # fmt: skip
CHAT = (
    "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}"
    "{{ eos_token if m.role == 'assistant' else '\\n' }}{% endfor %}"
    "{{ 'assistant: ' if add_generation_prompt }}"
)
KOBEST = {
    "BoolQ": dict(
        doc_to_text="{{Text}} 질문: {{Question}} 답변: ",
        doc_to_choice=["아니오", "예"],
        doc_to_target="{{ (Answer|string|lower == 'true')|int }}",
    ),
    "COPA": dict(
        columns=["id", "premise", "question", "first", "second", "label"],
        doc_to_text="{{premise}} {{ {'원인': ' 왜냐하면', '결과': ' 그래서'}[question] }}",
        doc_to_choice="{{ [first, second] }}",
        doc_to_target="{{ label - 1 }}",
    ),
    "HellaSwag": dict(
        doc_to_text="문장: {{context}}",
        doc_to_choice="{{ [choice1, choice2, choice3, choice4] }}",
        doc_to_target="{{label}}",
    ),
    "SentiNeg": dict(
        doc_to_text="문장: {{Text}} 긍부정:",
        doc_to_choice=["부정", "긍정"],
        doc_to_target="{{Label}}",
    ),
    "WiC": dict(
        doc_to_text="문장1: {{SENTENCE1}} 문장2: {{SENTENCE2}} {{Target}}?",
        doc_to_choice=["아니오", "예"],
        doc_to_target="{{ (ANSWER|string|lower == 'true')|int }}",
    ),
}
KORNLI = dict(  # whole sentences after an empty context
    doc_to_text="",
    doc_to_choice="{{ [sentence1 ~ ', 예, ' ~ sentence2, sentence1 ~ ', 또 ' ~ sentence2, "
    "sentence1 ~ ', 아니, ' ~ sentence2] }}",
    doc_to_target="{{ {'entailment': 0, 'neutral': 1, 'contradiction': 2}[gold_label] }}",
)
TSV = dict(delimiter="\t", quoting=3)


def task(folder: Path, name: str, builder: str, file: Path, **keys) -> str:
    """Writes a task file that reads a local file; returns its path."""
    kwargs = {"data_files": {"validation": str(file)}} | (TSV if builder == "csv" else {})
    if columns := keys.pop("columns", None):
        kwargs |= {"column_names": columns, "skiprows": 1}
    about = dict(
        task=name, dataset_path=builder, dataset_kwargs=kwargs, validation_split="validation",
        output_type="multiple_choice", metric_list=[{"metric": m} for m in ("acc", "acc_norm")],
        metadata={"version": 3},
    )  # fmt: skip
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(about | keys, ensure_ascii=False), encoding="utf-8")  # JSON is YAML
    return str(path)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory) -> list[str]:
    """XCOPA in six languages, KoBEST's five tasks and KorNLI, as they stand in local files."""
    folder = tmp_path_factory.mktemp("tasks")
    os.environ["HF_DATASETS_CACHE"] = str(folder / "cache")
    paths = []
    for code, (cause, effect) in CONNECTORS.items():
        connector = f"{{{{ {{'cause': '{cause}', 'effect': '{effect}'}}[question] }}}}"
        paths.append(task(
            folder, f"copa_{code}", "json", data_file(f"nlu/xcopa/val.{code}.jsonl"),
            doc_to_text="{{premise.strip()[:-1]}} " + connector,
            doc_to_choice="{{ [choice1[:1]|lower ~ choice1[1:], "
            "choice2[:1]|lower ~ choice2[1:]] }}",
            doc_to_target="label",
        ))  # fmt: skip
    for name, keys in KOBEST.items():
        file = data_file(f"nlu/kobest/{name}.dev.tsv")
        paths.append(task(folder, f"ko_{name.lower()}", "csv", file, **keys))
    file = data_file("nlu/kornli/xnli.dev.ko.tsv")
    return [*paths, task(folder, "kornli", "csv", file, **KORNLI)]


@pytest.fixture(scope="module")
def export(tmp_path_factory, tasks) -> Path:
    """A tiny random Llama whose tokenizer has learnt pieces of these languages."""
    folder = tmp_path_factory.mktemp("model") / "export"
    files = ["xcopa/val.sw.jsonl", "xcopa/val.ta.jsonl", "kobest/COPA.dev.tsv"]
    texts = [data_file(f"nlu/{name}").read_text("utf-8") for name in files]
    tokenizer = learn.train([line for text in texts for line in text.splitlines()], 1200, 0.98)
    cfg = dataclasses.replace(tiny_llama.CFG, vocab_size=tokenizer.size)
    ids = {"bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 512}
    save.save(folder, tiny_llama.params(cfg), cfg, ids, "float32", 10**9)
    sentencepieces.write(tokenizer, folder)
    (folder / "chat_template.jinja").write_text(CHAT)
    return folder


def opened(folder, length=LENGTH) -> models.MeasuredModel:
    one = recipe_train.Mesh(data=1, fsdp=1)
    return models.open_model(str(folder), length=length, mesh=one, devices=jax.devices()[:1])


def ours(folder, path, length=LENGTH):
    model = opened(folder, length)
    return harness.adapter()(Answers(model, Relay(model, 8), Finished(epath.Path(path))))


@functools.cache
def theirs(folder, length=LENGTH):
    pytest.importorskip("torch", reason="needs torch to compare with transformers")
    from lm_eval.models.huggingface import HFLM

    return HFLM(
        pretrained=str(folder), dtype="float32", device="cpu", add_bos_token=True,
        max_length=length, batch_size=16,
    )  # fmt: skip


def asked(tasks, limit=LIMIT, **others):
    """What the harness asks of a model, of so many documents of each task."""
    loaded = harness.load(tasks, ())["tasks"]
    for name, one in loaded.items():
        one.set_config("num_fewshot", 0)
        one.build_all_requests(limit=others.get(name, limit), rank=0, world_size=1)
    return [instance for one in loaded.values() for instance in one.instances]


# ---------------------------------------------------------------------------- the same numbers
def compared(folder, requests, path, length=LENGTH):
    """Log-probabilities by both, [2, request, 2], and the requests that have other ids there."""
    both = ours(folder, path, length), theirs(str(folder), length)
    spelt = [
        [
            lm._encode_pair(*r.args) if r.args[0] else lm.tok_encode(r.args[1], False)
            for r in requests
        ]
        for lm in both
    ]
    odd = [
        f"{r.task_name} {r.doc_id}.{r.idx}"
        for r, a, b in zip(requests, *spelt, strict=True)
        if a != b
    ]
    return np.array([lm.loglikelihood(requests, disable_tqdm=True) for lm in both]), odd


def test_choices_are_scored_as_by_transformers(export, tasks, tmp_path):
    requests = asked(tasks)
    (got, want), odd = compared(export, requests, tmp_path / "a.jsonl")
    assert len(requests) == LIMIT * (6 * 2 + 4 * 2 + 4 + 3)
    assert odd == []
    np.testing.assert_allclose(got[:, 0], want[:, 0], rtol=0, atol=1e-4)
    np.testing.assert_array_equal(got[:, 1], want[:, 1])


def test_choices_of_a_released_model_are_scored_so_too(tasks, tmp_path):
    """Of sw, choices 15.1 and 16.1 have double spaces.

    The model form of the tokenizer would remove them; tokenizer.json, by which both sides read,
    keeps them.
    """
    requests = asked(tasks, limit=2, copa_sw=17)
    folder = data_file("models/stories260K-hf")
    (got, want), odd = compared(folder, requests, tmp_path / "a.jsonl", 512)
    double = [f"{r.doc_id}.{r.idx}" for r in requests if "  " in r.args[1]]
    assert double == ["15.1", "16.1"]
    assert odd == []
    # transformers sums in float32, in which 4,000 nats have steps of 2.4e-4.
    np.testing.assert_allclose(got[:, 0], want[:, 0], rtol=3e-7, atol=1e-4)


def test_whole_texts_are_scored_as_by_transformers(export, tmp_path):
    """The first is longer than a row, the last has no token but bos."""
    texts = [Asked(((DATA_LINE * 40)[:900],)), Asked(("Mwanaume alifungua.",)), Asked(("",))]
    want = theirs(str(export)).loglikelihood_rolling(texts, disable_tqdm=True)
    got = ours(export, tmp_path / "a.jsonl").loglikelihood_rolling(texts)
    np.testing.assert_allclose(got, want, rtol=3e-7, atol=1e-4)


def test_answers_are_those_of_transformers(export, tmp_path):
    kwargs = {"until": ["a"], "max_gen_toks": 12, "do_sample": False}
    prompts = ["Mwanaume alifungua bomba la maji", "그는", "Choo kilijaa", "maji " * 200]
    requests = [Asked((prompt, kwargs)) for prompt in prompts]
    want = theirs(str(export)).generate_until(requests, disable_tqdm=True)
    got = ours(export, tmp_path / "a.jsonl").generate_until(requests)
    assert got == want
    assert len(set(got)) > 1


def test_settings_that_cannot_be_honoured_are_refused(export, tmp_path):
    lm = ours(export, tmp_path / "a.jsonl")
    with pytest.raises(DataError, match="generation_kwargs: num_beams, top_k cannot be honoured"):
        lm.generate_until([Asked(("a", {"top_k": 5, "num_beams": 2}))])
    with pytest.raises(DataError, match=r"max_gen_toks=600: the model reads 512 tokens"):
        lm.generate_until([Asked(("a", {"max_gen_toks": 600}))])


def test_a_chat_template_is_rendered_and_read_as_by_transformers(export):
    text = HarnessText(opened(export).tokenizer)
    turns = [("user", "Choo </s>kilijaa"), ("assistant", "Maji"), ("user", "그는")]
    history = [{"role": role, "content": content} for role, content in turns]
    clean = [turn | {"content": turn["content"].replace("</s>", "")} for turn in history]
    want = theirs(str(export)).tokenizer.apply_chat_template(
        clean, add_generation_prompt=True, return_dict=False
    )
    assert text.encode(text.chat(clean, ask=True)) == want
    spelt = text.encode(text.chat(history, ask=True))
    assert spelt.count(2) == want.count(2)  # what a user writes is no end of a turn
    begun = [*clean, {"role": "assistant", "content": "Ma"}]
    assert text.chat(begun, ask=False) == text.chat(clean, ask=True) + "Ma"
    assert text.chat_end() == 2


# ---------------------------------------------------------------------------- whole tasks
@dataclasses.dataclass
class Asked:
    """A request as the harness makes them."""

    args: tuple


DATA_LINE = "Msichana aliona mdudu kwenye uji wake. "


def chosen(tasks):
    return [path for path in tasks if path.endswith(("copa_sw.yaml", "ko_sentineg.yaml"))]


@pytest.fixture(scope="module")
def whole(export, tasks, tmp_path_factory):
    """The results of two tasks, run at once, and the folder of their items."""
    out = epath.Path(tmp_path_factory.mktemp("whole"))
    return harness.run(opened(export), chosen(tasks), out, limit=LIMIT, batch_size=2), out


def test_results_have_the_scores_the_number_of_items_and_the_version(whole, export, tasks):
    results, out = whole
    assert [*results] == ["copa_sw", "ko_sentineg"]
    assert {*results["copa_sw"]} == {"acc", "acc_norm", "items", "shots", "version"}
    assert (results["copa_sw"]["items"], results["copa_sw"]["version"]) == (LIMIT, 3)
    for name, result in results.items():
        items = [json.loads(line) for line in (out / f"{name}.jsonl").read_text().splitlines()]
        assert len(items) == LIMIT
        assert result["acc"] == np.mean([item["acc"] for item in items])
        for item in items:
            best = np.argmax([float(choice[0][0]) for choice in item["resps"]])
            assert item["acc"] == float(best == int(item["target"]))


def child(export, tasks, out, **options) -> forked.Forked:
    given = dict(folder=str(export), tasks=chosen(tasks), out=str(out), limit=LIMIT) | options
    return forked.Forked("worker_harness", [json.dumps(given)], out.with_suffix(".out"), ERRORS)


ERRORS = Path(os.devnull)


def said(process: forked.Forked) -> dict:
    assert process.wait(300) == 0
    return json.loads(process.out.read_text().splitlines()[-1])


def test_no_pytorch_is_needed(whole, export, tasks, tmp_path):
    options = dict(folder=str(export), tasks=chosen(tasks), out=str(tmp_path / "out"), torch=False)
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("worker_harness.py"), json.dumps(options)],
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    got = json.loads(done.stdout.splitlines()[-1])
    assert (got["results"], got["torch"]) == (whole[0], False)
    assert "fatal: not a git repository" not in done.stderr


@pytest.mark.slow
def test_a_killed_evaluation_goes_on_and_scores_nothing_twice(whole, export, tasks, tmp_path):
    out = tmp_path / "out"
    process = child(export, tasks, out, batch_size=1, slow=0.2, length=64)
    while not (lines := [line for path in out.glob("answers-*") for line in path.open()][4:]):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait(60)
    (path,) = out.glob("answers-*.jsonl")
    path.write_text(path.read_text() + lines[0][:30])  # a line that was cut short
    there = path.read_text().count("\n")
    again = said(child(export, tasks, out, batch_size=1, length=64))
    assert there < 4 * LIMIT
    assert again["computed"] == [4 * LIMIT - there]
    keys = [json.loads(line)[0] for line in path.read_text().splitlines()]
    assert len(keys) == len({*keys}) == 4 * LIMIT
    assert json.dumps(again["results"]) == json.dumps(whole[0])
    told = []
    model = dataclasses.replace(opened(export, 64), tick=lambda *done: told.append(done))
    assert harness.run(model, chosen(tasks), epath.Path(out), limit=LIMIT) == whole[0]
    assert told == []  # all of it is there


@pytest.mark.slow
def test_two_processes_give_the_results_of_one(whole, export, tasks, tmp_path):
    with socket.socket() as s:
        s.bind(("localhost", 0))
        coordinator = f"localhost:{s.getsockname()[1]}"
    options = dict(coordinator=coordinator, processes=2, devices=2, piece=100)
    both = [child(export, tasks, tmp_path / f"{i}", process_id=i, **options) for i in range(2)]
    results = [said(process)["results"] for process in both]
    assert results[0] == results[1] == whole[0]
    assert not (tmp_path / "1").exists()  # process 0 alone writes


def test_a_task_of_the_harness_that_runs_code_is_refused_by_key_and_file(export, tmp_path):
    with pytest.raises(ValueError, match=r"kobest_copa\.yaml: doc_to_text runs utils\.copa_doc_to"):
        harness.run(opened(export), ["kobest_copa"], epath.Path(tmp_path))
    with pytest.raises(ValueError, match=r"'kobest_kopa' is neither .* 'kobest_copa'"):
        harness.run(opened(export), ["kobest_kopa"], epath.Path(tmp_path))
