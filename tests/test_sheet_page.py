"""The page of a sheet: its script runs, in node, and keeps every answer that is given."""

import json
from pathlib import Path
import shutil
import subprocess

import pytest

from lrl_jax.evaluate.sheets import draw, forms, returned
from lrl_jax.evaluate.sheets.pairs import SheetItem
from lrl_jax.report import pages, sheet

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="needs node, which runs the page's script")
DOCUMENT = Path(__file__).with_name("sheet_dom.js")
MODELS = ("base", "tuned")
ITEMS = tuple(SheetItem(f"q{i}", f"Why {i}?", (f"a{i}", f"b{i}")) for i in range(4))
HEBREW = "\u05e9\u05dc\u05d5\u05dd"


def handout(items=ITEMS, annotator="kim", seed=0) -> draw.Handout:
    (only,) = draw.handouts(items, MODELS, (annotator,), seed)
    return only


@pytest.fixture
def do(tmp_path):
    """Gives what a page shows after each step, and the files that it saved."""

    def run(*steps, of=None):
        page = tmp_path / "page.html"
        page.write_text(sheet.page(of or handout()), encoding="utf-8")
        command = [NODE, str(DOCUMENT), str(page), json.dumps(steps)]
        return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)

    return run


def key_of(given):
    return forms.key_of([given], ITEMS, MODELS, 0, {}, {given.annotator: {}})


@needs_node
def test_keys_arrows_and_clicks_choose_and_go_on(do):
    steps = [
        ["key", "1"],
        ["key", "ArrowRight"],
        ["key", "3"],
        ["key", "ArrowUp"],
        ["click", "left"],
    ]
    got = do(*steps)
    assert not got["hidden"]
    assert [seen["shown"] for seen in got["seen"]] == [1, 2, 3, 4, 4]
    assert got["seen"][-1]["pressed"] == ["left"]
    assert got["seen"][-1]["count"] == "5 of 5 answered"
    assert "send that file back" in got["seen"][-1]["said"]
    assert not got["seen"][-2]["said"]


@needs_node
def test_a_keyboard_of_another_script_has_the_same_keys(do):
    got = do(["key", "Digit2"], ["key", "KeyP"], ["key", "KeyN"], ["key", "KeyQ"])
    assert [seen["shown"] for seen in got["seen"]] == [1, 0, 1, 1]
    assert got["seen"][1]["pressed"] == ["right"]


@needs_node
def test_what_is_saved_is_read_back(do, tmp_path):
    got = do(["comment", "good; =1+1 \u0c05"], ["key", "1"], ["key", "2"], ["key", "n"],
             ["key", "3"], ["click", "save"])  # fmt: skip
    (saved,) = got["saved"]
    assert saved["name"] == "kim.answers.json"
    assert got["seen"][-1]["said"] == "Saved 3 answers as kim.answers.json."
    path = tmp_path / saved["name"]
    path.write_text(saved["text"], encoding="utf-8")
    rows = [row.id for row in handout().rows]
    back = returned.read([str(path)], key_of(handout()))
    choices = {row: answer.choice for row, answer in back.answers.items()}
    assert choices == {rows[0]: "left", rows[1]: "right", rows[3]: "tie"}
    assert back.comments == {rows[0]: "good; =1+1 \u0c05"}
    assert not back.problems
    assert not back.notes


@needs_node
def test_a_page_opened_again_goes_on_where_it_was(do):
    got = do(["key", "1"], ["key", "2"], ["reload"], ["click", "save"], ["key", "p"])
    assert (got["seen"][2]["shown"], got["seen"][2]["count"]) == (2, "2 of 5 answered")
    assert len(json.loads(got["saved"][0]["text"])["answers"]) == 2
    assert got["seen"][4]["pressed"] == ["right"]


@needs_node
def test_a_loaded_file_adds_its_answers_and_the_later_of_two_counts(do):
    rows = [row.id for row in handout().rows]
    words = {"form": forms.ANSWERS_FORM, "sheet": handout().sheet, "annotator": "kim"}
    answers = {
        rows[0]: {"choice": "right", "comment": "", "at": 1},  # before the page's own
        rows[1]: {"choice": "right", "comment": "", "at": 9e15},
        rows[2]: {"choice": "lfet", "comment": "", "at": 9e15},
    }
    file = json.dumps({**words, "answers": answers})
    got = do(["key", "1"], ["load", "kim.answers.json", file], ["key", "p"], ["key", "n"])
    assert got["seen"][1]["count"] == "2 of 5 answered"
    assert got["seen"][1]["said"].startswith("Read 2 answers of kim.answers.json")
    assert (got["seen"][2]["pressed"], got["seen"][3]["pressed"]) == (["left"], ["right"])


@needs_node
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"form": "other"}, "it holds no answers to a sheet"),
        ({"sheet": "bcdfghjklm"}, "it belongs to another sheet"),
        ({"annotator": "lee"}, "it is of lee"),
    ],
)
def test_a_file_of_other_answers_is_not_loaded(do, change, said):
    own = {"form": forms.ANSWERS_FORM, "sheet": handout().sheet, "annotator": "kim"}
    answers = {handout().rows[0].id: {"choice": "tie", "comment": "", "at": 9e15}}
    file = json.dumps({**own, "answers": answers, **change})
    got = do(["load", "x.json", file], ["load", "x.json", "[1"])
    assert got["seen"][0]["said"] == f"x.json was not read: {said}."
    assert got["seen"][0]["count"] == "0 of 5 answered"
    assert got["seen"][1]["said"].startswith("x.json was not read: ")


@needs_node
def test_keys_with_another_meaning_choose_nothing(do):
    got = do(["keyInComment", "1"], ["key", "1", {"ctrlKey": True}], ["key", "1", {"repeat": True}],
             ["scroll", 300], ["key", "ArrowUp"], ["key", "x"])  # fmt: skip
    assert {seen["count"] for seen in got["seen"]} == {"0 of 5 answered"}


@needs_node
def test_a_browser_that_stores_nothing_is_named_and_saves_all_the_same(do):
    got = do(["forbid"], ["key", "1"], ["click", "save"])
    assert "This browser stores nothing" in got["seen"][1]["said"]
    assert len(json.loads(got["saved"][0]["text"])["answers"]) == 1


def test_each_text_has_the_direction_of_its_letters():
    items = (SheetItem("1", f"{HEBREW} {HEBREW}", (f"{HEBREW} (Shalom)", "Yes.")),)
    page = sheet.page(handout(items), language="heb_Hebr")
    assert page.count('dir="rtl" lang="he-Hebr"') == 2
    assert page.count('dir="ltr" lang="he-Hebr"') == 1
    mixed = (SheetItem("1", "What does Shalom mean?", (f"{HEBREW} (Shalom)", "Peace.")),)
    assert 'dir="rtl"' not in sheet.page(handout(mixed))


def test_most_letters_decide_a_direction():
    assert pages.direction(f"{HEBREW} abc") == "rtl"
    assert pages.direction(f"{HEBREW} abcde") == "ltr"
    assert pages.direction(f"{HEBREW} abcde", least=0.2) == "rtl"
    assert pages.direction("123 :-)", least=0.2) == "ltr"
