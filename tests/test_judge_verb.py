"""`lrl judge`: from answers or models to scores, killed and gone on with, and never asked twice."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

from faulty_server import FaultyServer
import hand_tokenizer
import jax
import numpy as np
import pytest
import tiny_llama

import lrl_jax
from lrl_jax.cli import main
from lrl_jax.evaluate.judge import tables
from lrl_jax.hf import save
from lrl_jax.vocab.tokenizer import sentencepieces

KOREAN = "\uc11c\uc6b8\uc785\ub2c8\ub2e4"
needs_openai = pytest.importorskip(
    "openai", reason="openai is not installed (`pip install openai`)"
)


def lines(path, *rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return str(path)


def questions(tmp_path, *texts):
    rows = [{"question_id": n, "category": "c", "turns": [t]} for n, t in enumerate(texts, 1)]
    return lines(tmp_path / "question.jsonl", *rows)


def answers(tmp_path, model, *texts):
    rows = [
        {"question_id": n, "model_id": model, "choices": [{"index": 0, "turns": [text]}]}
        for n, text in enumerate(texts, start=1)
    ]
    return lines(tmp_path / f"{model}.jsonl", *rows)


def judge(kind, *words, server):
    options = ["--model", "j", "--base-url", server.url, "--timeout", "20", "--retries", "0"]
    return main.main(["judge", kind, *options, *words])


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_pair_is_judged_and_swapped_and_replayed(tmp_path, capsys):
    asked = questions(tmp_path, "q1", "q2", "q3", "q4", "fault=refusal", "q6")
    ours = answers(tmp_path, "ours", "long long", "x", "same", KOREAN, "a", KOREAN)
    theirs = answers(tmp_path, "theirs", "short", "longer", "four", "Seoul it is", "b", "y" * 30)
    out, back = tmp_path / "out", tmp_path / "back"
    with FaultyServer() as server:
        assert (
            judge("pair", ours, theirs, "--questions", asked, "--out", str(out), server=server) == 0
        )
        count = server.requests.total()
        assert count == 12
        back.mkdir()
        (back / "judgments.jsonl").write_bytes((out / "judgments.jsonl").read_bytes())
        assert (
            judge("pair", theirs, ours, "--questions", asked, "--out", str(back), server=server)
            == 0
        )
        assert server.requests.total() == count  # the same requests, in the other order
    got, swapped = (json.loads((f / "judge.json").read_text()) for f in (out, back))
    assert (got["kind"], got["models"], got["judges"], got["items"]) == (
        "pair", ["ours", "theirs"], ["j"], 6
    )  # fmt: skip
    assert got["failed"] == {"refusal": 1}
    for model in ("ours", "theirs"):
        for name in ("wins", "ties", "losses", "win_rate"):
            assert got["scores"][model][name] == swapped["scores"][model][name]
    assert [got["scores"]["ours"][name] for name in ("wins", "ties", "losses")] == [1, 1, 3]
    printed = capsys.readouterr()
    assert "30.0" in printed.out  # per cent: a win and half a tie of five
    assert "1 of 6 items have no verdict: refusal 1" in printed.err
    before = (out / "judge.json").read_text()
    assert judge(
        "pair", ours, theirs, "--questions", asked, "--out", str(out), "--replay", server=server
    ) == 0  # the server is gone  # fmt: skip
    assert (out / "judge.json").read_text() == before
    assert "replaced" not in capsys.readouterr().err
    rated = ["single", ours, "--questions", asked, "--out", str(out), "--replay"]
    assert judge(*rated, server=server) == 0
    assert "replaced the results of ours and theirs (pair) in" in capsys.readouterr().err
    pair = ["pair", ours, theirs, "--questions", asked, "--out", str(out), "--replay"]
    assert judge(*pair, server=server) == 0  # and back
    surer, narrow = [*pair, "--confidence", "0.99"], got["scores"]["ours"]["interval"]
    capsys.readouterr()
    assert judge(*surer, server=server) == 0
    assert "99 %" in capsys.readouterr().out
    wide = json.loads((out / "judge.json").read_text())
    assert wide["confidence"] == 0.99
    assert wide["scores"]["ours"]["interval"][1] > narrow[1]
    (table,) = tables.of_file(str(out / "forms/j_pair.jsonl"))
    assert (table.wins, table.losses, table.ties, table.failed) == (1, 3, 1, 1)
    (table,) = tables.of_file(str(out / "forms/j_annotations.json"))
    assert (table.models, table.wins, table.losses) == (("ours", "theirs"), 1, 3)
    page = (out / "index.html").read_text(encoding="utf-8")
    assert KOREAN in page
    assert "refusal" in page
    assert "http" not in page.replace("http-equiv", "").replace(server.url[:-3], "")


def test_ratings_of_two_models_with_the_wrong_script_apart(tmp_path, capsys):
    asked = questions(tmp_path, "q1", "fault=words")
    ours = answers(tmp_path, "ours", KOREAN, KOREAN)
    theirs = answers(tmp_path, "theirs", "Seoul", "<b>markup</b> " + KOREAN * 3)
    with FaultyServer() as server:
        assert judge(
            "single", ours, theirs, "--questions", asked, "--out", str(tmp_path / "o"),
            "--language", "Korean", server=server,
        ) == 0  # fmt: skip
        assert server.requests.total() == 3
    got = json.loads((tmp_path / "o/judge.json").read_text())
    assert got["scores"]["ours"]["rating"] == len(KOREAN)
    assert got["scores"]["theirs"]["rating"] == 1.0
    assert got["flaws"] == {"theirs": {"wrong script": 1}}
    assert got["failed"] == {"no verdict": 2}
    assert "wrong script 1" in capsys.readouterr().err
    (table, other) = tables.of_file(str(tmp_path / "o/forms/j_single.jsonl"))
    assert (table.mean, table.unrated, other.mean) == (len(KOREAN), (2,), 1.0)
    assert [*table.disagreements, *[d.id for d in other.disagreements]] == [1]
    assert "<b>markup" not in (tmp_path / "o/index.html").read_text(encoding="utf-8")


def test_two_judges_are_compared_with_each_other_and_with_people(tmp_path, capsys):
    asked = questions(tmp_path, "q1", "q2", "q3")
    ours, theirs = answers(tmp_path, "ours", "aa", "a", "aa"), answers(tmp_path, "theirs", *"bbb")
    votes = tmp_path / "votes.csv"
    votes.write_text("question_id,winner\n1,ours\n2,tie\n3,theirs\n")
    with FaultyServer() as server:
        words = [ours, theirs, "--questions", asked, "--out", str(tmp_path / "o"), "--judge", "k"]
        assert judge("pair", *words, "--humans", str(votes), server=server) == 0
        assert server.requests.total() == 12
    got = json.loads((tmp_path / "o/judge.json").read_text())
    assert got["judges"] == ["j", "k"]
    assert got["agreement"] == [{"judges": ["j", "k"], "items": 3, "same": 1.0, "kappa": 1.0}]
    # people: A tie B, judges: A tie A; by chance 1/3 2/3 + 1/3 1/3
    assert got["humans"]["k"] == {
        "items": 3, "same": pytest.approx(2 / 3), "kappa": pytest.approx(0.5),
    }  # fmt: skip
    assert "people and k say the same of 67% of 3 items, kappa 0.50" in capsys.readouterr().err


def test_an_estimate_is_printed_and_nothing_is_asked_or_written(tmp_path, capsys):
    asked, ours = questions(tmp_path, "q1", "q2"), answers(tmp_path, "ours", "a", "b")
    with FaultyServer() as server:
        words = ["--estimate", "--price-in", "2", "--price-out", "1000", "--judge", "k"]
        assert judge(
            "single", ours, "--questions", asked, "--out", str(tmp_path / "o"), *words,
            server=server,
        ) == 0  # fmt: skip
        assert not server.requests
    printed = capsys.readouterr().out
    assert "calls: 4 (0 more are kept already)" in printed
    assert "tokens written: about 580, at most 8,192" in printed
    assert "at most 8.19" in printed
    assert not (tmp_path / "o").exists()


def test_answers_that_are_not_there_yet_are_estimated_by_their_length(tmp_path, capsys):
    asked = questions(tmp_path, "q1", "q2")
    with FaultyServer() as server:
        words = ["--estimate", "--language", "kor_Hang", "--answer-tokens", "1000"]
        out = str(tmp_path / "o")
        args = ["some/model", "other/model", "--questions", asked, "--out", out, *words]
        assert judge("pair", *args, server=server) == 0
        assert not server.requests
    printed = capsys.readouterr()
    assert "calls: 4 " in printed.out
    assert 8000 < int(printed.out.split("about ")[1].split()[0].replace(",", "")) < 10000
    assert "model has not answered yet" in printed.err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--language", "Koreanish"], "FLORES code"),
        (["--request", "{"], "--request"),
        (["--request", '{"n": 2}'], "--request"),
        (["--price-in", "1"], "give both"),
        (["--temperature", "nan"], "--temperature"),
        (["--timeout", "0"], "--timeout"),
        (["--confidence", "99"], "want 0.5 to 0.999"),
        (["--prompt", "nowhere"], "no such prompts"),
        (["--humans", "nowhere.csv"], "nowhere.csv"),
        (["train.steps=1"], "no recipe"),
        (["--model", ""], "--model: names no judge"),
        (["--replay"], "--replay"),
        ([], "absent.jsonl: no such file"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_asked(tmp_path, capsys, words, problem):
    asked, ours = questions(tmp_path, "q1"), answers(tmp_path, "ours", "a")
    place = {"--replay": "some/model", "": "absent.jsonl"}.get("".join(words), ours)
    with FaultyServer() as server:
        code = judge(
            "single", place, "--questions", asked, "--out", str(tmp_path / "o"), *words,
            server=server,
        )  # fmt: skip
        assert not server.requests
    assert code in (2, 3)
    assert problem in capsys.readouterr().err


def test_a_key_that_is_missing_is_told_before_a_model_answers(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    asked = questions(tmp_path, "q1")
    words = ["no/model", "--questions", asked, "--model", "j", "--out", str(tmp_path / "o")]
    assert main.main(["judge", "single", *words]) == 2
    assert "https://api.openai.com wants a key" in capsys.readouterr().err


def test_a_killed_judge_goes_on_and_asks_for_nothing_that_it_has(tmp_path):
    count, first, at_once = 30, 11, 4
    asked = questions(tmp_path, *(f"q{n}" for n in range(count)))
    ours = answers(tmp_path, "ours", *("a" * (1 + n % 9) for n in range(count)))
    out = tmp_path / "out"
    words = ["judge", "single", ours, "--questions", asked, "--model", "j", "--out", str(out),
             "--concurrency", str(at_once)]  # fmt: skip
    with FaultyServer(pass_through=first) as server:
        words += ["--base-url", server.url]
        program = "import sys; from lrl_jax.cli import main; sys.exit(main.main(sys.argv[1:]))"
        process = subprocess.Popen([sys.executable, "-c", program, *words], env={**os.environ})
        deadline = time.monotonic() + 120
        file = out / "judgments.jsonl"
        while not file.exists() or len(read(file)) < first:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kept = {line["key"] for line in read(file)}
        assert {*server.answered} == kept
        assert len(kept) == first
        with file.open("a") as lines_of_it:
            lines_of_it.write('{"key": "cut short wh')
        server.gate.set()
        assert main.main(words) == 0
        lost = server.requests.total() - count
    assert len(read(file)) == count
    assert {server.requests[key] for key in kept} == {1}
    # sent once more: only what the server had not answered when the process ended
    assert 0 <= lost <= at_once
    results = read(out / "results.jsonl")
    assert [r["score"] for r in results] == [1.0 + n % 9 for n in range(count)]


# ---------------------------------------------------------------------------- models that answer
TEMPLATE = "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}</s>{% endif %}"
TEMPLATE += "{% endfor %}"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny model with a chat template, that writes letters."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = hand_tokenizer.make()
    cfg = dataclasses.replace(tiny_llama.CFG, vocab_size=tokenizer.size)
    params = {name: np.array(x) for name, x in tiny_llama.params(cfg).items()}
    letters = [*range(3 + ord("a"), 3 + ord("z")), *range(260, 266)]
    others = [i for i in range(cfg.padded_vocab_size) if i not in letters]
    params["unembed_DV"][:, others] = 0
    ids = {"bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 128}
    save.save(folder, jax.device_put(params), cfg, ids, "float32", 10**9)
    sentencepieces.write(tokenizer, folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def test_a_model_answers_every_turn_once(tmp_path, model, capsys):
    rows = [{"question_id": "x", "category": "c", "turns": ["ab", "cd"]},
            {"question_id": 2, "category": "c", "turns": ["ef"]}]  # fmt: skip
    asked, out = lines(tmp_path / "q.jsonl", *rows), tmp_path / "out"
    words = [str(model), "--questions", asked, "--out", str(out), "--answer-tokens", "6"]
    with FaultyServer(judge=lambda prompt: "[[7]]") as server:
        assert judge("single", *words, server=server) == 0
        items = read(out / "answers/tiny.items.jsonl")
        assert [(i["question_id"], i["turn"]) for i in items] in (
            [("x", 1), (2, 1), ("x", 2)], [(2, 1), ("x", 1), ("x", 2)]
        )  # fmt: skip
        talk = [{"role": "user", "content": "ef"}]
        want = lrl_jax.load_model(str(model)).generate([talk], max_new_tokens=6)
        assert [i["text"] for i in items if i["question_id"] == 2] == want
        (out / "answers/tiny.items.jsonl").write_text(
            "".join(json.dumps({**i, "text": f"kept{i['turn']}"}) + "\n" for i in items)
        )
        assert judge("single", *words, server=server) == 0  # goes on with what is there
    first, second = read(out / "answers/tiny.jsonl")
    assert first["choices"][0]["turns"][0] == "kept1"
    assert second["choices"] == [{"index": 0, "turns": ["kept1"]}]
    assert (first["question_id"], first["model_id"]) == ("x", "tiny")
    got = json.loads((out / "judge.json").read_text())
    assert got["scores"]["tiny"]["turns"] == {
        "1": {"mean": 7.0, "items": 2}, "2": {"mean": 7.0, "items": 1},
    }  # fmt: skip
    assert judge("single", *words, "--replay", server=server) == 0
    capsys.readouterr()
