"""`lrl generate` and `lrl chat`: answers on the terminal, and a word for what is wrong."""

import dataclasses
import io
import json
import os
import pty
import re
import select
import socket
import subprocess
import sys
import time

import hand_tokenizer
import jax
import numpy as np
import pytest
import tiny_llama

from lrl_jax.cli import main
from lrl_jax.hf import save
from lrl_jax.pipeline import models
from lrl_jax.vocab.tokenizer import sentencepieces

TOKENIZER = hand_tokenizer.make()
CFG = dataclasses.replace(tiny_llama.CFG, vocab_size=TOKENIZER.size)
IDS = {"bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 64}
TEMPLATE = "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}</s>{% endif %}"
TEMPLATE += "{% endfor %}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model that writes letters: other tokens have no logit, and the largest are above 0."""
    folder = tmp_path_factory.mktemp("model")
    params = {name: np.array(x) for name, x in tiny_llama.params(CFG).items()}
    letters = [*range(3 + ord("a"), 3 + ord("z")), *range(260, 266)]
    others = [i for i in range(CFG.padded_vocab_size) if i not in letters]
    params["unembed_DV"][:, others] = 0
    save.save(folder, jax.device_put(params), CFG, IDS, "float32", 10**9)
    sentencepieces.write(TOKENIZER, folder)
    return folder


@pytest.fixture(scope="module")
def chatting(folder, tmp_path_factory):
    """The same model with a chat template."""
    copy = tmp_path_factory.mktemp("chat")
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "chat_template.jinja").write_text(TEMPLATE)
    return copy


def lines(path, *rows):
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return str(path)


TALK = '{"messages": [{"role": "user", "content": "ab"}]}'
ANSWERED = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


def test_a_prompt_is_continued_on_stdout_and_counted_on_stderr(folder, capsys):
    args = ["generate", str(folder), "--prompt", "ab abc", "--max-new-tokens", "5"]
    assert main.main(args) == 0
    got = capsys.readouterr()
    assert got.out.strip()
    assert "generate: 1 answers, 5 tokens, " in got.err
    assert not [char for char in got.out if char < " " and char != "\n"]


def test_every_prompt_of_a_file_gives_a_line_as_soon_as_it_is_answered(chatting, tmp_path, capsys):
    talk = {"messages": [{"role": "user", "content": "ab"}]}
    file = lines(tmp_path / "p.jsonl", json.dumps({"prompt": "ab"}), "", json.dumps(talk))
    args = ["generate", str(chatting), "--file", file, "--max-new-tokens", "4", "--seed", "3"]
    assert main.main([*args, "--temperature", "0.8", "--stop", "zzz"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(row["line"] for row in rows) == [1, 3]
    assert {row["why"] for row in rows} <= {"length", "end"}
    assert [row["prompt"] for row in rows if row["line"] == 3] == [talk["messages"]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], r"p.jsonl"),
        (["", ""], r"p.jsonl: no prompts; want lines such as"),
        (['{"prompt": "a"}', '{"text": "a"}'], r"p.jsonl:2: no prompt; want"),
        (['{"prompt": ""}'], r"p.jsonl:1: no prompt; want"),
        (['{"prompt": 5}'], r"p.jsonl:1: prompt is no text; want"),
        (["ab"], r"p.jsonl:1: not JSON"),
        (['["ab"]'], r"p.jsonl:1: '\[\"ab\"\]' is no JSON object"),
        (['{"messages": []}'], r"p.jsonl:1: a conversation without a turn"),
        (['{"messages": "ab"}'], r"p.jsonl:1: 'ab' is no conversation"),
        (['{"messages": [{"role": "user"}]}'], r"p.jsonl:1: turn 1 of the conversation is {'role"),
        (
            [TALK, json.dumps({"messages": ANSWERED})],
            r"p.jsonl:2: .* of 'assistant'; want .* user's",
        ),
        (['{"prompt": "a", "why": 1}'], r"p.jsonl:1: has a field 'why', as its answer will have"),
        (["[" * 100_000], r"p.jsonl:1: not JSON"),
        (
            ['{"prompt": "ab"}', r'{"prompt": "a\ud800"}'],
            r"p.jsonl:2: .* character 2 is U\+D800, half",
        ),
    ],
)
def test_a_line_without_a_prompt_is_named_and_nothing_is_generated(
    rows, message, chatting, tmp_path, capsys
):
    file = lines(tmp_path / "p.jsonl", *rows)
    assert main.main(["generate", str(chatting), "--file", file]) == 3
    got = capsys.readouterr()
    assert not got.out
    assert re.search(message, got.err)


def test_other_fields_of_a_line_come_back_as_they_were(chatting, tmp_path, capsys):
    ours = {"id": 3, "of": [None, {"a": 1.5}], "half": "\ud800", "messages_": "b"}
    said = {**json.loads(TALK), "id": "x"}
    file = lines(tmp_path / "p.jsonl", json.dumps({"prompt": "ab", **ours}), json.dumps(said))
    args = ["generate", str(chatting), "--max-new-tokens", "2"]
    assert main.main([*args, "--file", file]) == 0
    one, two = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert {key: one[key] for key in ("line", "prompt", *ours)} == {
        "line": 1,
        "prompt": "ab",
        **ours,
    }
    assert (two["prompt"], two["id"]) == (said["messages"], "x")
    file = lines(tmp_path / "p.jsonl", '{"instruction": "a", "input": "b", "output": 5, "id": 3}')
    assert main.main([*args, "--file", file, "--template", "alpaca"]) == 0
    one = json.loads(capsys.readouterr().out)
    assert (one["prompt"], one["output"]) == ({"instruction": "a", "input": "b"}, 5)
    file = lines(tmp_path / "p.jsonl", '{"instruction": "a", "input": 5}')
    assert main.main([*args, "--file", file, "--template", "alpaca"]) == 3
    assert "p.jsonl:1: input is no text" in capsys.readouterr().err


def test_prompts_are_read_from_standard_input_and_no_pipe_is_waited_for(folder, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    for place, said in (("pipe", "is a pipe or device"), (".", "is a folder; name a file with")):
        assert main.main(["generate", "nowhere", "--file", str(tmp_path / place)]) == 3
        assert said in capsys.readouterr().err
    args = [sys.executable, "-m", "lrl_jax.cli", "generate", str(folder), "--file", "-"]
    ended = subprocess.run(
        [*args, "--max-new-tokens", "1"], input=b'\n{"prompt": "ab"}\n', capture_output=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"}, check=True,
    )  # fmt: skip
    assert json.loads(ended.stdout)["line"] == 2


@pytest.mark.parametrize("option", ["--prompt", "--stop"])
def test_an_argument_that_is_not_utf_8_is_refused(option, capsys):
    args = ["generate", "nowhere", "--prompt", "a", option, "caf\udce9"]
    assert main.main(args) == 2
    assert f"{option} 'caf\\udce9': character 4 is U+DCE9" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_give_the_answers_of_one(folder, tmp_path, capsys):
    prompts = [json.dumps({"prompt": "ab abc"[:n]}) for n in range(1, 6)]
    args = ["generate", str(folder), "--file", lines(tmp_path / "p.jsonl", *prompts)]
    args += ["--max-new-tokens", "6", "--temperature", "0.9", "--batch-size", "2"]
    with socket.socket() as s:
        s.bind(("localhost", 0))
        args_of_two = ["--processes", "2", "--coordinator", f"localhost:{s.getsockname()[1]}"]
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "lrl_jax.cli", *args, *args_of_two, "--process-id", str(i)],
            stdout=subprocess.PIPE, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"},
        )
        for i in range(2)
    ]  # fmt: skip
    said = [
        [line for line in child.communicate(timeout=300)[0].splitlines() if "[Gloo]" not in line]
        for child in children
    ]
    assert [child.returncode for child in children] == [0, 0]
    assert main.main(args) == 0
    want = capsys.readouterr().out.splitlines()
    assert sorted(said[0]) == sorted(want)
    assert (len(want), said[1]) == (5, [])


def test_a_folder_that_is_no_model_is_refused(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main.main(["generate", str(tmp_path / "empty"), "--prompt", "a"]) == 2
    assert "want a Hugging Face model" in capsys.readouterr().err
    (tmp_path / "r.yaml").write_text("name: x\n")
    assert main.main(["generate", str(tmp_path / "r.yaml"), "--prompt", "a"]) == 2
    assert "is a recipe; name the folder of its run" in capsys.readouterr().err
    assert main.main(["generate", "nowhere", "--prompt", "a", "--top-p", "2"]) == 2
    assert "top_p=2.0; want" in capsys.readouterr().err


def test_a_model_of_a_folder_knows_its_context_and_its_ends(folder):
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 70, 5000]}')
    got = models.open_model(str(folder))
    assert (got.context, got.length, got.ends) == (64, 64, (2, 70))
    with pytest.raises(ValueError, match=r"length=65: .* reads 64 tokens at most"):
        models.open_model(str(folder), length=65)


# ---------------------------------------------------------------------------- lrl chat
class Terminal:
    """A pseudo-terminal in which `lrl chat` runs."""

    def __init__(self, *args):
        self.own, theirs = pty.openpty()
        command = [sys.executable, "-m", "lrl_jax.cli", "chat", *args]
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True,
            env={**os.environ, "JAX_PLATFORMS": "cpu", "TERM": "xterm", "COLUMNS": "80"},
        )  # fmt: skip
        os.close(theirs)
        self.said = ""

    def until(self, words, seconds=120):
        """Reads until the words have been said again, and returns what was said up to them."""
        said, ends = "", time.monotonic() + seconds
        while words not in said:
            assert time.monotonic() < ends, self.said
            if select.select([self.own], [], [], 1)[0]:
                new = os.read(self.own, 4096).decode(errors="replace")
                said, self.said = said + new, self.said + new
        return said

    def type(self, line):
        os.write(self.own, f"{line}\n".encode())


def test_chat_answers_in_a_terminal(chatting):
    terminal = Terminal(str(chatting), "--max-new-tokens", "6", "--temperature", "0")
    try:
        said = terminal.until("> ")
        assert "template tokenizer" in said
        assert "/reset forgets the conversation" in said
        terminal.type("ab")
        first = terminal.until("\n> ").partition("ab\r\n")[2]
        assert len(first.strip("> \r\n")) > 1
        assert "\x1b" not in first.replace("\x1b[?2004h", "").replace("\x1b[?2004l", "")
        terminal.type("ab")
        assert terminal.until("\n> ").partition("ab\r\n")[2] != first  # a longer conversation
        terminal.type("/reset")
        assert "a new conversation" in terminal.until("\n> ")
        terminal.type("ab")
        assert terminal.until("\n> ").partition("ab\r\n")[2] == first
        os.write(terminal.own, b"\xff\xfe\xe9\n")
        assert "this line is not UTF-8 (character 1 is U+DCFF" in terminal.until("> ")
        terminal.type("/sytem")
        assert "there is no /sytem" in terminal.until("> ")
        terminal.type("/exit")
        assert terminal.process.wait(30) == 0
    finally:
        terminal.process.kill()
        os.close(terminal.own)


def test_two_models_answer_side_by_side(chatting, folder, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("ab\n/exit\n"))
    args = ["chat", str(chatting), "--base", str(folder), "--max-new-tokens", "4"]
    assert main.main(args) == 0
    got = capsys.readouterr()
    assert "before" in got.out
    assert "after" in got.out
    assert "each line is continued as it stands" in got.err
