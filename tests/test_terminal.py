"""What files and people say reaches the terminal as text: no markup, no control characters."""

import io
import json
import logging
import os
from pathlib import Path

from hand_tokenizer import make
import pytest
from rich.table import Table
from rich.text import Text
import small_world
from test_show import ROW
import worker_train as tiny

from lrl_jax import storage, terminal
from lrl_jax.cli import main
from lrl_jax.data.feed import show
from lrl_jax.train import log

ROOT = Path(terminal.__file__).parent
CLEAR, CLIPBOARD = "\x1b[2J\x1b[H", "\x1b]52;c;cm0gLXJmIH4K\x07"
HOSTILE = f"a{CLEAR}{CLIPBOARD}\r\x9b2J\x08b\x7f\u202ec"
SHOWN = r"a\x1b[2J\x1b[H\x1b]52;c;cm0gLXJmIH4K\x07\x0d\x9b2J\x08b\x7f\u202ec"

SHOWN_BY_RICH = (
    SHOWN.replace("\\x07", "").replace("\\x0d", "").replace("\\x08", "")
)  # it drops these


def printed(*items, colour=False, **settings):
    out = io.StringIO()
    console = terminal.console(file=out, width=200, force_terminal=colour)
    console.print(*items, **settings)
    return out.getvalue()


def test_control_characters_are_written_out():
    assert terminal.visible(HOSTILE) == SHOWN


@pytest.mark.parametrize(
    "text", ["a\tb\nc", "서울 \u200d\u200c\u200f", "क्ष", "e\u0301", "[/b] :smile:"]
)
def test_text_is_left_alone(text):
    assert terminal.visible(text) == text
    assert printed(text).rstrip("\n") == text.replace("\t", "       ")


def table(cell):
    out = Table("name", title=cell)
    out.add_row(cell)
    return out


@pytest.mark.parametrize("make", [str, Text, table], ids=["text", "Text", "table"])
@pytest.mark.parametrize("colour", [False, True])
def test_a_console_sends_no_control_character_of_a_text(make, colour):
    got = printed(make(HOSTILE), colour=colour)
    assert SHOWN_BY_RICH in got
    assert CLEAR not in got
    assert CLIPBOARD not in got


def test_the_consoles_own_colours_remain():
    assert printed(Text("a", style="bold"), colour=True) == "\x1b[1ma\x1b[0m\n"


@pytest.mark.parametrize("make", [str, Text, table], ids=["text", "Text", "table"])
@pytest.mark.parametrize(
    "text", ["[a-z]", "[/b]", "runs/[red]x", ":smile:", "[link=http://x]y", "\\["]
)
def test_brackets_are_never_markup(make, text):
    assert text in printed(make(text))


def test_a_styled_line_is_text_too():
    got = terminal.styled(("[/b]\x1b", "bold"), " -> ", "[a-z]")
    assert got.plain == r"[/b]\x1b -> [a-z]"
    assert got.spans[0].style == "bold"


def test_a_rule_and_a_wrapped_line_are_text_too():
    out = io.StringIO()
    console = terminal.console(file=out, width=30)
    console.rule("[/b]\x1b")
    console.print("[a-z]\x1b" * 10, soft_wrap=True)
    assert r"[/b]\x1b" in out.getvalue()
    assert r"[a-z]\x1b" * 10 in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_warnings_are_text_too(capsys, monkeypatch):
    monkeypatch.setattr(logging, "lastResort", logging._StderrHandler(logging.WARNING))
    terminal.show_logs_visibly.cache_clear()
    terminal.show_logs_visibly()
    record = logging.LogRecord("a", logging.WARNING, "", 0, "%s: bad", ("\x1b[2J",), None)
    logging.lastResort.handle(record)
    assert capsys.readouterr().err == "\\x1b[2J: bad\n"


def test_nothing_prints_with_another_console():
    paths = [path for path in ROOT.rglob("*.py") if path.name != "terminal.py"]
    assert len(paths) > 100
    assert not [path for path in paths if "Console(" in path.read_text()]


def test_a_hostile_corpus_is_shown_and_not_obeyed(monkeypatch):
    tokenizer, pieces = make(), [HOSTILE, "[/b]"]
    monkeypatch.setattr(type(tokenizer), "decode", lambda self, ids: pieces[0] * len(ids))
    (first, *_) = show.documents(ROW, tokenizer)
    assert SHOWN in first.plain
    assert "\x1b" not in first.plain


def test_a_sample_of_hostile_text_is_shown_and_not_obeyed(tmp_path, capsys):
    with log.Log(tmp_path, tiny.settings(steps=9, tensorboard=False), 0, 9, 0.0) as out:
        out.say(f"step 1  prompt: {HOSTILE}")
    assert capsys.readouterr().err == f"step 1  prompt: {SHOWN}\n"


@pytest.mark.parametrize("folder", ["[/b]", "[a-z]", "[red]", f"a{CLEAR}"])
def test_check_prints_brackets_of_paths_and_rules_as_they_are(tmp_path, capsys, folder):
    recipe, _ = small_world.write_recipes(tmp_path)
    rule = "train.stages.0.learn.0.match=[a-z].*"
    where = f"folder={tmp_path}/{folder}"
    assert main.main(["check", recipe, json_text(where), json_text(rule)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert terminal.visible(folder) in shown.replace(" ", "")
    assert "[a-z].*:" in shown
    assert CLEAR not in shown


def json_text(override):
    key, _, value = override.partition("=")
    return f"{key}={json.dumps(value)}"


def test_libraries_are_told_what_they_would_complain_of_but_not_against_the_user(monkeypatch):
    monkeypatch.setattr(os, "environ", {"TPU_WORKER_HOSTNAMES": "mine"})
    monkeypatch.setattr(terminal, "GOOGLE", "no vendor")
    terminal.quiet_libraries.__wrapped__()
    assert os.environ == {
        "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",
        "TPU_ACCELERATOR_TYPE": "v5litepod-16",
        "TPU_WORKER_HOSTNAMES": "mine",
    }


def test_a_machine_with_a_tpu_knows_itself_what_it_is(monkeypatch, tmp_path):
    (tmp_path / "0000:00:05.0").mkdir()
    (tmp_path / "0000:00:05.0/vendor").write_text("0x1ae0\n")
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(terminal, "DEVICES", str(tmp_path))
    terminal.quiet_libraries.__wrapped__()
    assert os.environ == terminal.QUIET


def test_a_table_that_is_too_wide_goes_on_below(capsys):
    table = terminal.FittedTable("name", "a", "note", "b", "c", numbers=("a", "b", "c"), title="T")
    table.add_row("a/very/long/path", "1,000,000", "some words", "2,000,000", "3,000,000")
    console = terminal.console(width=44)
    console.print(table)
    wide = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert max(map(len, wide)) <= 44
    assert "\u2026" not in "".join(wide)
    headings = [line.split() for line in wide if "name" in line]
    names = [[word for word in line if word.isalpha()] for line in headings]
    assert names == [["name", "a", "note", "b"], ["name", "c"]]
    assert [line.strip() for line in wide].count("T") == 1
    terminal.console(width=200).print(table)
    assert capsys.readouterr().out.count("name") == 1


def test_check_tries_whether_the_run_folder_can_be_written(tmp_path, capsys):
    recipe, _ = small_world.write_recipes(tmp_path)
    (tmp_path / "file").write_text("")
    assert main.main(["check", recipe, f"folder={tmp_path}/file"]) == 3
    assert f"folder: {tmp_path}/file/base cannot be written" in capsys.readouterr().err
    assert main.main(["check", recipe]) == 0
    assert not (tmp_path / "runs").exists()  # nothing is left there


def test_a_folder_in_which_nothing_can_be_written_is_told(tmp_path):
    storage.check_writable(tmp_path / "a/b")
    assert [*tmp_path.iterdir()] == []
    with pytest.raises(OSError, match="/proc/"):
        storage.check_writable("/proc/lrl/a")
