"""Sheets for people: drawn blindly, the same in every form, and read whatever became of them."""

import csv
import io
import json
import re
from xml.etree import ElementTree

from hypothesis import example, given, settings
from hypothesis import strategies as st
import pytest

from lrl_jax import text
from lrl_jax.cli import main
from lrl_jax.evaluate.sheets import draw, forms, pairs, verdicts
from lrl_jax.evaluate.sheets.forms import KeyAnnotator, KeyRow, SheetKey, guarded, unguarded
from lrl_jax.evaluate.sheets.pairs import SheetItem
from lrl_jax.evaluate.sheets.returned import Returned, SheetAnswer

MODELS = ("base", "tuned")
ITEMS = tuple(SheetItem(f"q{i}", f"Why {i}?", (f"a{i}\r\n- x", f"=b{i};=1")) for i in range(20))
NAMES = ("kim", "007")


def lines(path, *rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def fastchat(number: int, model: str, *turns: str) -> dict:
    choices = [{"index": 0, "turns": list(turns)}]
    return {"question_id": number, "answer_id": "x", "model_id": model, "choices": choices,
            "tstamp": 1.5}  # fmt: skip


# ---------------------------------------------------------------------------- answers of two models
def test_fastchat_answers_meet_their_questions(tmp_path):
    a = lines(tmp_path / "a.jsonl", fastchat(7, "m1", "One.", "Two."), fastchat(9, "m1", "Nine."))
    b = lines(tmp_path / "b.jsonl", fastchat(8, "m2", "Eight."), fastchat(7, "m2", "1", "2"))
    asked = {"question_id": 7, "category": "math", "turns": ["Count.", "Go on."]}
    others = [{"question_id": n, "category": "math", "turns": ["?"]} for n in (8, 9)]
    got = pairs.paired(a, b, lines(tmp_path / "q.jsonl", asked, *others))
    answers = ("[1] One.\n\n[2] Two.", "[1] 1\n\n[2] 2")
    assert got.items == (SheetItem("7", "[1] Count.\n\n[2] Go on.", answers, "math"),)
    assert got.models == ("m1", "m2")
    ending = "left out 1 answers to questions that the other file has none to"
    assert got.notes == (f"{a}: {ending}: 9", f"{b}: {ending}: 8")


def test_plain_answers_meet_by_their_prompts(tmp_path):
    a = lines(
        tmp_path / "old.jsonl", {"prompt": "Hi ", "output": "1"}, {"prompt": "B", "output": ""}
    )
    b = lines(tmp_path / "new.jsonl", {"instruction": "B", "input": "", "output": "2"},
              {"instruction": "Hi", "output": "3"})  # fmt: skip
    got = pairs.paired(a, b)
    assert got.items == (SheetItem("1", "Hi ", ("1", "3")), SheetItem("2", "B", ("", "2")))
    assert got.models == ("old", "new")


def test_files_of_one_model_are_told_apart_by_their_paths(tmp_path):
    names = [lines(tmp_path / f"{n}.jsonl", {**fastchat(1, "m", "x"), "prompt": "P"}) for n in "ab"]
    assert pairs.paired(*names).models == tuple(names)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"prompt": "A"}], r"a.jsonl:1: want an answer, either question_id and choices or .* has"),
        ([{"prompt": "A", "output": ["x"]}], r"a.jsonl:1: field 'output' must be a string"),
        ([{"prompt": "A", "output": "\0"}], r"a.jsonl:1: field 'output' holds a NUL"),
        ([{"question_id": 1, "choices": []}], r"a.jsonl:1: want choices such as"),
        (
            2 * [{"prompt": "A", "output": "x"}],
            r"a.jsonl:2: the question 'A' stands at .*:1 already",
        ),
        ([{"prompt": "Z", "output": "x"}], "answer no question both, compared by the text"),
        ([fastchat(1, "m", "x")], "answers without their questions; name .* --questions"),
        ([fastchat(1, "m", "x"), fastchat(2, "n", "x")], "answers without their questions"),
    ],
)
def test_answers_that_cannot_be_compared_are_named(tmp_path, rows, said):
    a = lines(tmp_path / "a.jsonl", *rows)
    b = lines(tmp_path / "b.jsonl", {"prompt": "A", "output": "x"})
    with pytest.raises(ValueError, match=said):
        pairs.paired(a, b)


def test_a_question_that_stands_twice_in_its_file_is_named(tmp_path):
    asked = [{"question_id": 1, "turns": ["Q"]}, {"question_id": 1, "turns": ["another Q"]}]
    files = [lines(tmp_path / f"{n}.jsonl", fastchat(1, n, n)) for n in "ab"]
    with pytest.raises(text.DataError, match=r"q.jsonl:2: the question '1' stands at .*:1 already"):
        pairs.paired(*files, lines(tmp_path / "q.jsonl", *asked))


def test_one_id_with_two_questions_is_refused(tmp_path):
    a = lines(tmp_path / "a.jsonl", {"id": 1, "prompt": "A", "output": "x"})
    b = lines(tmp_path / "b.jsonl", {"id": 1, "prompt": "B", "output": "x"})
    with pytest.raises(text.DataError, match=r"a\.jsonl:1 and .*b\.jsonl:1: have different ques"):
        pairs.paired(a, b)
    with pytest.raises(ValueError, match="given as A and as B"):
        pairs.paired(a, str(tmp_path / ".." / tmp_path.name / "a.jsonl"))


# ---------------------------------------------------------------------------- what is drawn
def drawn(seed: int = 0, items=ITEMS, names=NAMES):
    return draw.handouts(items, MODELS, names, seed)


def test_each_annotator_has_all_questions_with_the_sides_even_and_a_tenth_again():
    for handout in drawn():
        once = [row for row in handout.rows if not row.repeat]
        again = [row for row in handout.rows if row.repeat]
        assert sorted(row.item.id for row in once) == sorted(item.id for item in ITEMS)
        assert [row.left for row in once].count("A") == 10
        assert len(again) == 2
        for row in again:
            (first,) = [other for other in once if other.item == row.item]
            assert {first.left, row.left} == {"A", "B"}
            assert handout.rows.index(row) >= handout.rows.index(first) + 3
    assert len({row.id for handout in drawn() for row in handout.rows}) == 44


def test_order_and_sides_are_drawn_for_each_annotator_by_the_seed():
    kim, lee = drawn()
    orders = [[row.item.id for row in handout.rows] for handout in (kim, lee, drawn(1)[0])]
    lefts = [{row.item.id: row.left for row in handout.rows} for handout in (kim, lee)]
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert lefts[0] != lefts[1]
    assert drawn() == (kim, lee)
    assert kim.sheet == lee.sheet != drawn(1)[0].sheet


def test_a_larger_draw_holds_the_smaller():
    few, many = draw.chosen(ITEMS, 5, seed=3), draw.chosen(ITEMS, 12, seed=3)
    assert (len(few), len(many)) == (5, 12)
    assert set(few) < set(many)
    assert set(few) != set(draw.chosen(ITEMS, 5, seed=4))
    assert draw.chosen(ITEMS, 99, seed=3) == ITEMS


@pytest.mark.parametrize("names", [("kim", "kim"), ("kim", "KIM "), ("a b", "a-b"), ("kim", "?")])
def test_two_annotators_are_not_given_one_name(names):
    with pytest.raises(
        ValueError, match=r"--names: .* (are alike; give each|is no name for a file)"
    ):
        draw.names(names, 2)


def test_no_id_can_be_taken_for_a_number_or_a_date():
    assert all(re.fullmatch("[bcdfghjklmnpqrstvwxz]{10}", row.id) for row in drawn()[0].rows)


# ---------------------------------------------------------------------------- cells
SIGNS = "=+-@\uff1d\uff0b\uff0d\uff20"


@settings(max_examples=300, deadline=None)
@example("a\n'- b")
@example("=a;'=b")
@given(st.text(alphabet="=+-@'\";\t\r\n (|!a\uff1d"))
def test_a_cell_reads_back_exactly_and_begins_no_formula(cell):
    assert unguarded(guarded(cell)) == cell
    first, *others = re.split(r"[;\t\r\n]", guarded(cell))
    assert first.lstrip(' "')[:1] not in tuple(SIGNS)
    for piece in others:
        sign = piece.lstrip(' "')[:1]
        assert sign not in tuple("=@\uff1d")


def test_a_list_stays_as_it_is_unless_it_calls_something():
    assert guarded("Two:\n- one\n+ two") == "Two:\n- one\n+ two"
    assert guarded("Two:\n-cmd|'/C calc'!A0") == "Two:\n'-cmd|'/C calc'!A0"


def test_a_sheet_in_csv_gives_its_texts_back_exactly():
    (handout, _) = drawn()
    data = forms.sheet_csv(handout)
    assert data.startswith(b"\xef\xbb\xbf")
    table = csv.reader(io.StringIO(data[3:].decode(), newline=""))
    header, *rows = table
    assert header == list(forms.COLUMNS)
    got = [tuple(map(unguarded, row[1:4])) for row in rows]
    assert got == [row.texts() for row in handout.rows]


def test_the_interface_of_label_studio_is_xml_whatever_annotators_are_told():
    told = "Which \"is\" <b>better</b> & 'why'?\n\x0bNow {{ 7*7 }}"
    view = ElementTree.fromstring(forms.label_studio_config(told, rtl=True))
    assert view[0].get("value") == told.replace("\x0b", " ")
    choices = [(tag.get("value"), tag.get("hotkey")) for tag in view.iter("Choice")]
    assert choices == [("left", "1"), ("right", "2"), ("tie", "3")]
    shown = [tag.get("value") for tag in view.iter("Text")]
    assert shown == ["$prompt", "$left", "$right"]
    styles = [tag.get("style", "") for tag in view.iter("View")]
    assert sum("direction: rtl" in style for style in styles) == 3
    assert "direction: rtl" not in forms.label_studio_config(told)


# ---------------------------------------------------------------------------- verbs
MAKE = ["sheet", "make", "base.jsonl", "tuned.jsonl", "--questions", "q.jsonl"]


@pytest.fixture
def made(tmp_path, capsys, monkeypatch):
    """A folder in which sheets were made of 20 questions for kim and 007."""
    monkeypatch.chdir(tmp_path)
    questions = [
        {"question_id": i, "category": "abc"[i % 3], "turns": [f"Why {i}?"]} for i in range(20)
    ]
    for name in MODELS:
        answers = (
            fastchat(i, f"llama-{name}", f"=answer {i} of {name[0]}\n- so") for i in range(20)
        )
        lines(tmp_path / f"{name}.jsonl", *answers)
    lines(tmp_path / "q.jsonl", *questions)
    assert main.main([*MAKE, "--names", *NAMES]) == 0
    assert "20 questions are answered in both files" in capsys.readouterr().err
    return tmp_path


def key_at(folder):
    return forms.read_key(folder / "sheets/key.json")


def wanted(key, name):
    """Choices by row: A where the number of the question is below 12, then B, and two ties."""
    sides = {}
    for row in key.annotators[name].rows:
        number = int(row.item)
        model = "tie" if number in (3, 4) else "A" if number < 12 else "B"
        sides[row.row] = "tie" if model == "tie" else "left" if row.left == model else "right"
    return sides


def filled(folder, name, choices) -> list[list[str]]:
    data = (folder / f"sheets/hand_out/{name}.csv").read_bytes()
    rows = [*csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""))]
    for row in rows[1:]:
        row[4] = choices.get(row[8], "")
    return rows


def as_csv(rows, delimiter=",", **how) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, **how).writerows(rows)
    return out.getvalue()


def give_back(folder, name, content: bytes) -> str:
    path = folder / "back" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return str(path)


def both_back(folder) -> list[str]:
    key = key_at(folder)
    return [
        give_back(folder, f"{n}.csv", as_csv(filled(folder, n, wanted(key, n))).encode("utf-8-sig"))
        for n in NAMES
    ]


def read(folder, files, want=0):
    assert main.main(["sheet", "read", *files, "--key", "sheets/key.json"]) == want
    return json.loads((folder / "sheets/human.json").read_text())


def test_nothing_that_is_handed_out_tells_the_models_or_the_repeats(made):
    key = (made / "sheets/key.json").read_text()
    assert "llama-base" in key
    assert '"repeat": true' in key
    files = sorted((made / "sheets/hand_out").iterdir())
    assert [path.name for path in files] == [
        "007.csv", "007.html", "007.tasks.json", "config.xml", "kim.csv", "kim.html",
        "kim.tasks.json",
    ]  # fmt: skip
    for path in files:
        content = path.read_text(encoding="utf-8")
        content = re.sub(r"(?s)<(style|script)>.*?</\1>", "", content)  # the same on every page
        for word in ("llama", "repeat", "question_id", "seed", "base.jsonl", "tuned"):
            assert word not in content


def test_the_key_has_the_digest_of_every_file_and_the_same_command_gives_the_same(made, capsys):
    key = key_at(made)
    for own in key.annotators.values():
        for name, digest in own.files.items():
            assert text.digest(str(made / "sheets/hand_out" / name)) == digest
    before = {path: path.read_bytes() for path in (made / "sheets").rglob("*.*")}
    command = [*MAKE, "--names", *NAMES]
    assert main.main(command) == 0
    assert {path: path.read_bytes() for path in before} == before
    assert main.main([*command, "--seed", "1"]) == 2
    assert "is the key of other sheets" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before


def test_csv_pages_and_label_studio_give_the_same_table(made, capsys):
    key = key_at(made)
    results, tables = [], []
    csvs = both_back(made)
    saved, exported, flat = [], [], []
    for name in NAMES:
        choices = wanted(key, name)
        answers = {row: {"choice": c, "comment": "", "at": 5} for row, c in choices.items()}
        page = {
            "form": forms.ANSWERS_FORM,
            "sheet": key.sheet,
            "annotator": name,
            "answers": answers,
        }
        saved.append(give_back(made, f"{name}.answers.json", json.dumps(page).encode()))
        tasks = json.loads((made / f"sheets/hand_out/{name}.tasks.json").read_text())
        export, minimal = [], []
        for number, task in enumerate(tasks):
            choice = choices[task["data"]["row"]]
            if number % 2 and choice != "tie":
                result = {"type": "pairwise", "value": {"selected": choice}}
            else:
                result = {"type": "choices", "value": {"choices": [choice]}}
            skipped = {"completed_by": 1, "was_cancelled": True, "result": []}
            annotations = [skipped, {"completed_by": 1, "result": [result]}]
            export.append({"id": number, **task, "annotations": annotations})
            minimal.append({"id": number, **task["data"], "annotator": 1, "choice": choice})
        exported.append(give_back(made, f"{name}.export.json", json.dumps(export).encode()))
        flat.append(give_back(made, f"{name}.min.json", json.dumps(minimal).encode()))
    for files in (csvs, saved, exported, flat, [csvs[0], exported[1]]):
        results.append(read(made, files))
        tables.append(capsys.readouterr().out)
        assert results[-1].pop("sources").keys() == {*files, "sheets/key.json"}
    assert all(got == results[0] for got in results)
    assert all(got == tables[0] for got in tables)
    assert results[0]["wins"] == {"llama-base": 10, "llama-tuned": 8}
    assert results[0]["verdicts"]["3"] == "tie"


def changed(rows, column: int, change) -> list[list[str]]:
    """The rows with another cell in one column, but for the header."""
    return [
        rows[0],
        *([*row[:column], change(row[column]), *row[column + 1 :]] for row in rows[1:]),
    ]


CHOICE, COMMENT, ANNOTATOR = 4, 5, 6
KEYS = {"left": "1.0", "right": "2", "tie": "\u06f3"}
MANGLED = {
    "without its mark": lambda rows: as_csv(rows).encode(),
    "semicolons": lambda rows: as_csv(rows, ";").encode("utf-8-sig"),
    "Unicode text": lambda rows: as_csv(rows, "\t").encode("utf-16"),
    "a line that says how": lambda rows: b"sep=;\r\n" + as_csv(rows, ";").encode(),
    "UTF-8 read as cp1252": lambda rows: (
        as_csv([row[::-1] for row in rows]).encode("utf-8-sig").decode("cp1252").encode()
    ),
    "a code page": lambda rows: as_csv(changed(rows, COMMENT, lambda _: "\u00e9")).encode("cp1252"),
    "empty columns": lambda rows: as_csv(
        [[*row, "", ""] for row in rows] + 3 * [12 * [""]]
    ).encode(),
    "lines that end in LF": lambda rows: as_csv(rows, lineterminator="\n").encode(),
    "breaks within cells": lambda rows: as_csv(
        [[cell.replace("\n", "\r\n") for cell in row] for row in rows]
    ).encode(),
    "words in capitals": lambda rows: as_csv(
        changed(rows, CHOICE, lambda choice: f"{choice.upper()}. ")
    ).encode(),
    "quotes of a word processor": lambda rows: as_csv(
        changed(rows, CHOICE, lambda choice: f"\u201c{choice}\u201d")
    ).encode(),
    "columns in another order": lambda rows: as_csv([row[::-1] for row in rows]).encode(),
    "numbers without zeros": lambda rows: as_csv(
        changed(rows, ANNOTATOR, lambda name: name.lstrip("0"))
    ).encode(),
    "keys of the page": lambda rows: as_csv(changed(rows, CHOICE, KEYS.get)).encode(),
}


@pytest.mark.parametrize("how", MANGLED)
def test_a_sheet_that_a_spreadsheet_mangled_says_the_same(made, how):
    files = both_back(made)
    want = read(made, files)
    rows = filled(made, "007", wanted(key_at(made), "007"))
    got = read(made, [files[0], give_back(made, "007.csv", MANGLED[how](rows))])
    assert got["votes"] == want["votes"]
    assert not got["problems"]
    names = {"UTF-8 read as cp1252": [], "a code page": ["is not UTF-8"]}.get(how, [])
    assert len(got["notes"]) == len(names)
    assert all(name in note for name, note in zip(names, got["notes"], strict=True))


def test_what_is_wrong_in_a_sheet_is_named_and_all_else_counts(made, capsys):
    key = key_at(made)
    kim, other = both_back(made)
    rows = filled(made, "kim", wanted(key, "kim"))
    # a row is of three lines, for each answer is of two
    rows[2][4], rows[3][4], rows[5][8] = "lfet", "", "bcdfghjklm"
    lost = rows.pop(4)
    got = read(made, [give_back(made, "kim.csv", as_csv(rows).encode()), other], want=3)
    err = capsys.readouterr().err
    wrong = "the choice 'lfet' is none of left, right, tie; did you mean left"
    assert got["problems"] == [
        f"{kim}:5: row {rows[2][8]}: {wrong}",
        f"{kim}:11: the key has no row 'bcdfghjklm'; its answer is left out",
        f"{kim}: 2 of 22 rows of 'kim' are deleted, number 4, 5; they count as missing",
    ]
    assert all(problem in err for problem in got["problems"])
    (of_kim,) = [row for row in got["annotators"] if row["name"] == "kim"]
    assert (of_kim["answered"], of_kim["missing"]) == (18, 4)
    assert lost[8] in {row.row for row in key.annotators["kim"].rows}


def test_contradictory_answers_count_for_neither_and_equal_ones_once(made):
    key = key_at(made)
    kim, other = both_back(made)
    choices = wanted(key, "kim")
    first = key.annotators["kim"].rows[0].row
    turned = {**choices, first: "tie" if choices[first] != "tie" else "left"}
    again = give_back(made, "kim2.csv", as_csv(filled(made, "kim", turned)).encode())
    got = read(made, [kim, again, other], want=3)
    (problem,) = got["problems"]
    assert problem.startswith(f"{again}:2: row {first} is {turned[first]!r} here and ")
    assert f"{choices[first]!r} at {kim}:2" in problem
    (of_kim,) = [row for row in got["annotators"] if row["name"] == "kim"]
    assert of_kim["missing"] == 1


def test_a_file_given_twice_counts_once(made):
    kim, other = both_back(made)
    copy = give_back(made, "copy.csv", (made / "back/kim.csv").read_bytes())
    got = read(made, [kim, copy, other])
    assert got["notes"] == [f"{copy}: is the same as {kim}; it counts once"]
    assert got["votes"] == read(made, [kim, other])["votes"]


def test_a_sheet_of_another_key_is_named_and_the_others_are_read(made, capsys):
    kim, other = both_back(made)
    assert main.main([*MAKE, "--seed", "5", "--out", "other"]) == 0
    foreign = "other/hand_out/annotator-1.csv"
    got = read(made, [kim, foreign, "gone.csv", other], want=3)
    assert "belongs to another key" in got["problems"][0]
    assert forms.read_key("other/key.json").sheet in got["problems"][0]
    assert got["problems"][1] == "gone.csv: no such file"
    assert got["items"] == 20
    before = (made / "sheets/human.json").read_bytes()
    assert main.main(["sheet", "read", foreign, "--key", "sheets/key.json"]) == 3
    assert "belongs to another key" in capsys.readouterr().err
    assert (made / "sheets/human.json").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!doctype html><html>", "is the page itself, and holds no answers"),
        (b"PK\x03\x04...", "is a workbook; save it as CSV UTF-8"),
        (b"name,age\nkim,7\n", "want a sheet, with the columns row and choice"),
        (b'{"a": 1}', "want the answers that a page saved"),
        (b'[{"id": 1, "text": "x"}]', "or tasks that Label Studio exported"),
        (b"[1, 2", "not JSON"),
        (b"row,choice\n", "has no answers in it"),
        (b"choice,row,Choice (left)\ntie,a,left\n", "the columns 'choice' and 'Choice (left)'"),
        (b"row;choice;row 2\na;left;b\n", "the columns 'row' and 'row 2', of which one is read"),
        (b"\xff\xfe\x00", "want a sheet"),
    ],
)
def test_a_file_that_is_no_sheet_is_named(made, content, said):
    kim, other = both_back(made)
    got = read(made, [kim, other, give_back(made, "x", content)], want=3)
    assert len(got["problems"]) == 1
    assert said in got["problems"][0]
    assert got["items"] == 20


def test_a_quote_that_is_left_open_is_named(made):
    both_back(made)
    content = (made / "back/kim.csv").read_text(encoding="utf-8")
    rows = key_at(made).annotators["kim"].rows
    broken = content.replace(f",{rows[5].row}", f',"{rows[5].row}')
    got = read(made, [give_back(made, "kim.csv", broken.encode())], want=3)
    assert any("a quote mark before them has no end" in problem for problem in got["problems"])
    assert got["annotators"][0]["answered"] >= 5


def test_sheets_without_an_answer_or_a_key_are_refused(made, capsys):
    empty = "sheets/hand_out/kim.csv"
    assert main.main(["sheet", "read", empty]) == 3  # the folder sheets has the key
    assert "the sheets have no answers" in capsys.readouterr().err
    for key, said in (("q.jsonl", "not JSON"), ("none.json", "no such file"), (empty, "not JSON")):
        assert main.main(["sheet", "read", empty, "--key", key]) == 3
        assert said in capsys.readouterr().err
    key = json.loads((made / "sheets/key.json").read_text())
    (made / "key2.json").write_text(json.dumps({**key, "seed": "x"}))
    assert main.main(["sheet", "read", empty, "--key", "key2.json"]) == 3
    assert "is not the key of sheets (seed: " in capsys.readouterr().err


def test_what_is_wrong_is_named_where_no_answer_is_left(made, capsys):
    row = key_at(made).annotators["kim"].rows[0].row
    file = give_back(made, "kim.csv", f"row,choice\n{row},lfet\n".encode())
    assert main.main(["sheet", "read", file, "--key", "sheets/key.json"]) == 3
    err = capsys.readouterr().err
    assert f"{file}:2: row {row}: the choice 'lfet' is none of left, right, tie" in err
    assert "21 of 22 rows of 'kim' are deleted" in err
    assert "the sheets have no answers" in err


def test_changed_texts_are_noted_and_their_choices_count(made):
    key = key_at(made)
    kim, other = both_back(made)
    rows = filled(made, "kim", wanted(key, "kim"))
    rows[3][2] = "something else"
    got = read(made, [give_back(made, "kim.csv", as_csv(rows).encode()), other])
    (note,) = got["notes"]
    assert note.startswith(
        f"{kim}: 1 rows have other texts than were handed out, such as those of 8"
    )


def test_rows_count_as_those_of_whom_they_were_handed_to(made):
    kim, other = both_back(made)
    want = read(made, [kim, other])
    rows = changed(filled(made, "kim", wanted(key_at(made), "kim")), ANNOTATOR, lambda _: "lee")
    got = read(made, [give_back(made, "kim.csv", as_csv(rows).encode()), other])
    assert got["votes"] == want["votes"]
    (note,) = got["notes"]
    assert "bears the name 'lee'; its rows were handed to 'kim'" in note.replace(
        "'lee''s", "'lee's"
    )


def test_a_table_of_label_studio_has_its_own_numbers_and_lacks_open_rows(made):
    key = key_at(made)
    files = both_back(made)
    rows = filled(made, "kim", wanted(key, "kim"))
    header = [name.split()[0] for name in rows[0]]
    answered = [[*row[:ANNOTATOR], "1", *row[ANNOTATOR + 1 :], "9"] for row in rows[1:-2]]
    exported = as_csv([[*header, "annotation_id"], *answered]).encode()
    got = read(made, [give_back(made, "kim.csv", exported), files[1]])
    assert (got["problems"], got["notes"]) == ([], [])
    assert got["annotators"][0]["missing"] == 2


def test_a_comment_that_no_file_can_hold_loses_no_answer(made):
    key = key_at(made)
    rows = [row.row for row in key.annotators["kim"].rows]
    answers = {rows[0]: {"choice": "tie", "comment": "a\ud800"}, rows[1]: None, rows[2]: ["left"]}
    page = {"form": forms.ANSWERS_FORM, "sheet": key.sheet, "annotator": "kim", "answers": answers}
    got = read(made, [give_back(made, "kim.json", json.dumps(page).encode())])
    assert [entry["comment"] for entry in got["comments"]] == ["a?"]
    assert got["ties"] == 1


def test_annotators_are_told_what_a_file_says(made, capsys):
    (made / "how.txt").write_text("\ufeff\u05d1\u05d7\u05e8\u05d5 <b>\n", encoding="utf-8")
    command = [*MAKE, "--out", "two"]
    assert main.main([*command, "--instructions", "how.txt"]) == 0
    hand_out = made / "two/hand_out"
    assert '<p dir="rtl">\u05d1\u05d7\u05e8\u05d5 &lt;b&gt;</p>' in (
        hand_out / "annotator-2.html"
    ).read_text(encoding="utf-8")
    assert 'value="\u05d1\u05d7\u05e8\u05d5 &lt;b&gt;"' in (hand_out / "config.xml").read_text()
    assert main.main([*command, "--names", "kim", "lee", "--annotators", "3"]) == 2
    assert "--annotators 3, and 2 names" in capsys.readouterr().err


# ---------------------------------------------------------------------------- what people prefer
def small_key(**lefts: str) -> SheetKey:
    """A key of three questions: for each annotator the model that stands left in each row."""
    annotators = {}
    for name, left in lefts.items():
        rows = [
            KeyRow(row=f"{name}{i}", item=f"q{i % 3}", left=side, repeat=i >= 3, texts="")
            for i, side in enumerate(left)
        ]
        annotators[name] = KeyAnnotator(rows=tuple(rows), files={})
    items = {"q0": "x", "q1": "x", "q2": ""}
    return SheetKey(
        sheet="s", models=MODELS, seed=0, sources={}, items=items, annotators=annotators
    )


def results(key, **choices):
    """Results of choices such as kim="lrt.": left, right, tie, and nothing."""
    words = {"l": "left", "r": "right", "t": "tie"}
    answers = {
        f"{name}{i}": SheetAnswer(words[letter], "", "x.csv:1")
        for name, said in choices.items()
        for i, letter in enumerate(said)
        if letter != "."
    }
    return verdicts.results(key, Returned(answers, {}, (), ()))


def test_wins_are_of_models_and_not_of_sides():
    got = results(small_key(kim="ABA", lee="BBA"), kim="lrt", lee="rrt")
    assert got["verdicts"] == {"q0": "A", "q1": "A", "q2": "tie"}
    assert got["wins"] == {"base": 2, "tuned": 0}
    assert (got["items"], got["ties"], got["share"]) == (3, 1, 1.0)
    assert got["interval"] == pytest.approx([0.342380227, 1.0])  # Wilson, 2 of 2: 2 / (2 + 1.96^2)
    assert got["sign_test"] == 0.5  # 2 * (1/2)^2
    assert got["categories"] == {"x": {"A": 2, "B": 0, "tie": 0}}


def test_a_question_goes_to_the_majority_of_its_annotators_and_else_is_a_tie():
    got = results(small_key(kim="AAA", lee="AAA", park="AAA"), kim="lll", lee="lr.", park="rt.")
    assert got["verdicts"] == {"q0": "A", "q1": "tie", "q2": "A"}
    assert got["votes"]["q1"] == {"kim": "A", "lee": "B", "park": "tie"}
    # q0 A A B, q1 A B tie: both have 3 judgements; counts A 3, B 2, tie 1; all pairs but A A of q0
    # differ, so (4 + 6) / 2 = 5 of 6; expected (36 - 9 - 4 - 1) / 5
    assert got["alpha"]["nominal"] == pytest.approx(1 - 5 * 5 / 22)
    assert [pair["items"] for pair in got["kappa"]] == [2, 2, 2]


def test_an_annotator_agrees_with_himself_on_what_is_shown_twice():
    (kim,) = results(small_key(kim="ABABA"), kim="lltrr")["annotators"]
    # q0: A on the left is chosen, then A on the right; q1: B on the left, then B on the right
    assert (kim["repeats"], kim["self_agreement"]) == (2, 1.0)
    got = results(small_key(kim="ABABA"), kim="lltll")
    assert got["votes"] == {"q0": {"kim": "A"}, "q1": {"kim": "B"}, "q2": {"kim": "tie"}}
    (kim,) = got["annotators"]
    assert (kim["repeats"], kim["self_agreement"]) == (2, 0.0)
    assert (kim["left"], kim["right"], kim["ties"]) == (4, 0, 1)


def test_the_second_answer_counts_where_the_first_is_missing():
    got = results(small_key(kim="AAAB"), kim=".l.r")
    assert got["votes"] == {"q0": {"kim": "A"}, "q1": {"kim": "A"}}
    assert got["annotators"][0]["missing"] == 2
    assert got["annotators"][0]["self_agreement"] is None


@pytest.mark.parametrize(
    ("left", "right", "ties", "said"),
    [(5, 0, 2, "always left"), (0, 7, 0, "always right"), (4, 0, 0, ""), (20, 12, 0, ""),
     (30, 5, 0, "nearly always left"), (0, 0, 5, "always a tie"), (0, 0, 4, ""), (1, 0, 9, "")],
)  # fmt: skip
def test_who_always_chooses_one_side_is_named(left, right, ties, said):
    assert verdicts.one_sided(left, right, ties) == said


def test_one_sided_annotators_and_missing_ones_stand_in_the_table(made, capsys):
    key = key_at(made)
    always = dict.fromkeys(wanted(key, "kim"), "left")
    file = give_back(made, "kim.csv", as_csv(filled(made, "kim", always)).encode())
    read(made, [file])
    out = capsys.readouterr().out
    assert "kim: always left; 007: gave nothing back" in out
    assert re.search(r"007 +. +0 . +22 ", out)
