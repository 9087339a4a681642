"""The report: the table's numbers, the page's safety, and that any piece may be missing."""

import html.parser
import io
import json
import re
import xml.etree.ElementTree as ET

import pytest
import rich.console

from lrl_jax.report import efficiency, pages, pieces, plots
from lrl_jax.report import run as run_page
from lrl_jax.train import goodput

EVIL = "<script>alert('x$y^$')</script>&\"'"
SCORE = {"bits_per_byte": 2.0, "nats_per_token": 1.0, "tokens": 600, "bytes": 900, "lines": 10}
BEFORE = {
    "bits_per_byte": {"korean": SCORE, "english": {**SCORE, "tokens": 200}},
    "translation": {"en_to_ko": {"chrf": 1.0, "bleu": 0.0, "lines": 10}},
    "baselines": {"korean": {"unigram": 3.15, "bigram": 2.376}},
}
AFTER = {
    "bits_per_byte": {
        "korean": {**SCORE, "bits_per_byte": 1.1, "tokens": 200},
        "english": {**SCORE, "bits_per_byte": 2.1, "tokens": 200},
    },
    "translation": {
        "en_to_ko": {
            "chrf": 61.25,
            "bleu": 30.0,
            "bleu_tokenizer": "13a",
            "lines": 10,
            "examples": [{"source": EVIL, "reference": EVIL, "hypothesis": EVIL}],
        }
    },
    "facts": {"devices": EVIL},
}
STEPS = [
    {
        "step": 1,
        "stage": "align",
        "loss": 5.0,
        "epochs": {"ko": 0.1},
        "at": 1060.0,
        "spent": {"compute": 45.0, "compile": 15.0},
    },
    {"step": 2, "stage": "align", "loss": None, "epochs": {"ko": 0.2}},
    {
        "step": 3,
        "stage": EVIL,
        "loss": 4.0,
        "bits_per_byte": {"ko": 2.0, EVIL: 1.0},
        "lr": {"embed": 1e-3},
        "tokens_per_second": 1000.0,
        "epochs": {"ko": 0.3, "en": 0.3},
    },
]
RECIPE = """
name: run
train:
  stages:
  - {name: align, steps: 2, mixture: {ko: 1}}
  - {name: "<script>alert('x$y^$')</script>&\\"'", steps: 1, mixture: {ko: 1, en: 3}}
"""
EVENTS = [{"event": "start", "at": 1000.0 + 90 * i, "step": 0, "lost": 7 * i,
           "lost_seconds": 30.0 * i} for i in (0, 1)]  # fmt: skip
PIECES = {
    "recipe.yaml": RECIPE,
    "steps/train.json": {"seconds": 75.0},
    "vocab/fertility.json": [
        {"tokenizer": "base", "language": "kor_Hang", "per_line": 60.0},
        {"tokenizer": EVIL, "language": "kor_Hang", "per_line": 20.0},
    ],
    "vocab/proof.json": {"forms_differ": 0, "worst": EVIL, "more": {"a": [EVIL]}},
    "data/datasets.json": {"ko": "ko/0123", "en": "en/4567"},
    "data/ko/0123/manifest.json": {"tokens": 1000, "bytes": 3000},
    "data/en/4567/manifest.json": {"tokens": 2000, "bytes": 8000},
    "train/metrics.jsonl": "".join(json.dumps(step) + "\n" for step in STEPS),
    "train/events.jsonl": "".join(json.dumps(event) + "\n" for event in EVENTS),
    "train/samples.jsonl": json.dumps({"step": 3, "prompt": EVIL, "text": EVIL}) + "\n",
    "evaluate/before.json": BEFORE,
    "evaluate/after.json": AFTER,
    "export/gate.json": {"passed": True, "files": 3, "note": EVIL},
}


def write_pieces(folder, names=tuple(PIECES)):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        piece = PIECES[name]
        path.write_text(piece if isinstance(piece, str) else json.dumps(piece))
    return folder


class Tags(html.parser.HTMLParser):
    """Every tag and attribute of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in ("meta", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_table_says_how_each_number_changed():
    got = {(r.measure, r.name): (r.before, r.after, r.change, r.verdict, r.note)
           for r in run_page.rows(BEFORE, AFTER, {"passed": True})}  # fmt: skip
    assert got == {
        ("tokens per line", "korean"): ("60.0", "20.0", "3.00x fewer", "better", ""),
        ("tokens per line", "english"): ("20.0", "20.0", "+0.0 %", "", ""),
        ("bits per byte", "korean"): (
            "2.000", "1.100", "-45.0 %", "better", "unigram 3.15, bigram 2.38"),
        ("bits per byte", "english"): ("2.000", "2.100", "+5.0 %", "worse", ""),
        ("chrF", "en_to_ko"): ("1.0", "61.2", "+60.2", "better", "10 lines"),
        ("BLEU", "en_to_ko"): ("0.0", "30.0", "+30.0", "better", "10 lines, tokenized by 13a"),
        ("export gate", ""): ("", "passed", "", "", ""),
    }  # fmt: skip


def test_what_was_not_measured_says_so():
    (row, bits) = run_page.rows({}, {"bits_per_byte": {"ko": {"bits_per_byte": 1.5}}})
    assert (row.before, row.after, row.change) == ("not measured", "not measured", "")
    assert (bits.before, bits.after, bits.change, bits.verdict) == ("not measured", "1.500", "", "")


def test_a_failed_gate_is_loud():
    (row,) = run_page.rows({}, {}, {"passed": False})
    assert (row.after, row.verdict) == ("FAILED", "worse")


def test_summary_table_prints_the_same_lines():
    before, after = (
        {**part, "bits_per_byte": {**part["bits_per_byte"], "[red]x": SCORE}}
        for part in (BEFORE, AFTER)
    )
    console = rich.console.Console(width=120, file=io.StringIO())
    console.print(run_page.summary_table(before, after, {"passed": True}))
    got = console.file.getvalue()
    for want in ("3.00x fewer", "+60.2", "[red]x", "passed", "tokenized by 13a"):
        assert want in got


def test_page_is_well_formed_and_runs_nothing(tmp_path):
    text = run_page.write(write_pieces(tmp_path)).read_text()
    got = Tags(text)
    assert got.open == []
    assert "script" not in got.tags
    assert EVIL not in text
    assert not [name for name, _ in got.attributes if name.startswith("on")]


def test_page_fetches_nothing(tmp_path):
    text = run_page.write(write_pieces(tmp_path)).read_text()
    got = Tags(text)
    assert not {"link", "img", "iframe", "object", "embed", "base"} & set(got.tags)
    links = [v for name, v in got.attributes if name in ("src", "href", "xlink:href", "action")]
    assert links
    assert all(link.startswith("#") for link in links)
    assert not re.findall(r"url\((?!#)|@import", text)
    assert "default-src 'none'; " in text


@pytest.mark.parametrize("missing", sorted(PIECES))
def test_any_piece_may_be_missing(tmp_path, missing):
    folder = write_pieces(tmp_path, [name for name in PIECES if name != missing])
    assert run_page.write(folder).read_text().endswith("</html>\n")


@pytest.mark.parametrize("only", sorted(PIECES))
def test_any_piece_may_be_alone(tmp_path, only):
    text = run_page.write(write_pieces(tmp_path, [only])).read_text()
    assert "Nothing yet for:" in text


def test_an_empty_run_has_a_report(tmp_path):
    text = run_page.write(tmp_path).read_text()
    assert "not trained yet" in text
    assert "Nothing yet for: Results, Vocabulary, Training" in text


def test_a_step_logged_twice_counts_once_and_a_torn_line_is_left_out(tmp_path):
    write_pieces(tmp_path)
    path = tmp_path / "train" / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 3, "loss": 3.5}\n{"step": 4, "lo')
    got = run_page.read(tmp_path).metrics
    assert [(record["step"], record["loss"]) for record in got] == [(1, 5.0), (2, None), (3, 3.5)]


def test_a_damaged_piece_is_named(tmp_path):
    write_pieces(tmp_path)
    (tmp_path / "export" / "gate.json").write_text("{")
    with pytest.raises(ValueError, match=r"export/gate\.json: not JSON"):
        run_page.write(tmp_path)
    (tmp_path / "export" / "gate.json").write_text("[]")
    with pytest.raises(ValueError, match=r"export/gate\.json: want an object, got list"):
        run_page.write(tmp_path)


def test_realised_mixture_is_counted_in_tokens(tmp_path):
    text = run_page.write(write_pieces(tmp_path)).read_text()
    got = re.findall(r">([\d.]+ %)<", text[text.index('id="mixture"') :])
    # align: all ko; then 0.1 of 1000 ko tokens beside 0.3 of 2000 en tokens
    assert got == ["100.0 %", "100.0 %", "25.0 %", "14.3 %", "75.0 %", "85.7 %"]


def test_what_was_configured_is_read_from_the_plan(tmp_path):
    folder = write_pieces(tmp_path)
    for name, rows in (("ko/0123", 10), ("en/4567", 10)):  # rows of 100 and of 200 tokens
        path = folder / "data" / name / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"rows": rows}))
    parts = [{"name": "align.01", "rows": 4, "weights": {"ko": 1, "en": 1}},
             {"name": "align.02", "rows": 4, "weights": {"en": 5}}]  # fmt: skip
    (folder / "data" / "plan.json").write_text(json.dumps({"stages": parts}))
    text = run_page.write(folder).read_text()
    got = re.findall(r">([\d.]+ %)<", text[text.index('id="mixture"') :])
    # 2 rows of ko are 200 tokens; 2 + 4 rows of en are 1200
    assert got[:4] == ["14.3 %", "100.0 %", "85.7 %", "0.0 %"]


def test_curves_can_be_read_by_tokens_and_by_bytes(tmp_path):
    p = run_page.read(write_pieces(tmp_path))
    # 0.1 of 1000 tokens; then 0.3 of 1000 and 0.3 of 2000
    assert run_page.points(p, "tokens_read", "loss") == ([100.0, 900.0], [5.0, 4.0])
    assert run_page.points(p, "bytes_read", "loss") == ([300.0, 3300.0], [5.0, 4.0])
    assert run_page.marks_of(p, "bytes_read") == [(300.0, "align"), (3300.0, EVIL)]
    text = run_page.write(tmp_path).read_text()
    assert re.findall(r'<div class="view (\w+)">', text) == ["tokens_read", "bytes_read", "step"]


def test_the_numbers_to_remember_are_a_few_that_changed_and_the_gate(tmp_path):
    text = run_page.write(write_pieces(tmp_path)).read_text()
    cards = text[text.index('<ul class="cards">') : text.index("</ul>")]
    assert re.findall("<span>(.*?)</span>", cards) == [
        "tokens per line, korean",
        "bits per byte, korean",
        "bits per byte, english",
        "chrF, en_to_ko",
        "export gate",
    ]


def test_the_time_of_training_is_that_of_goodput_wherever_it_stands(tmp_path):
    p = run_page.read(write_pieces(tmp_path))
    wall = goodput.measure(p.events, p.metrics).wall
    assert wall != p.seconds["train"]  # of the last process alone
    said = pages.duration(wall)
    assert f", {said}, on " in run_page.subtitle(p)
    assert run_page.about(p)["time: train"] == said
    assert f">{said}<" in run_page.write(tmp_path).read_text()
    (tmp_path / "train/events.jsonl").unlink()
    assert ", 1 min 15 s, on " in run_page.subtitle(run_page.read(tmp_path))


def test_where_the_time_went_is_a_bar_and_a_table(tmp_path):
    text = run_page.write(write_pieces(tmp_path)).read_text()
    section = text[text.index('<section id="time"') :]
    section = section[: section.index("</section>")]
    assert "Goodput: 50.0 % of the time" in section
    assert "Restarts: 1; steps made again: 7." in section
    assert 'aria-label="seconds: compute 50.0 %, compile 16.7 %, lost 33.3 %"' in section
    rows = re.findall(r"<tr><td>([^<]*)</td><td[^>]*>([^<]*)</td><td[^>]*>([^<]*)</td>", section)
    assert rows[0] == ("steps that count", "45.0 s", "50.0 %")
    assert rows[-1] == ("from the first start to the last step", "1 min 30 s", "100 %")


def test_without_manifests_curves_are_read_by_steps(tmp_path):
    names = ["train/metrics.jsonl", "data/datasets.json", "data/ko/0123/manifest.json"]
    # en is in the epochs, not here
    text = run_page.write(write_pieces(tmp_path, names)).read_text()
    assert re.findall(r'<div class="view (\w+)">', text) == ["step"]


def test_a_report_of_the_same_run_has_the_same_bytes(tmp_path):
    write_pieces(tmp_path)
    assert run_page.write(tmp_path).read_bytes() == run_page.write(tmp_path).read_bytes()


FIGURES = {
    "dumbbells": lambda: plots.dumbbells(
        {"a": 1.0, EVIL: 30.0}, {"a": 1.0}, "bits", {"a": {EVIL: 2.0}}
    ),
    "bars": lambda: plots.bars({"base": {"a": 2.0, EVIL: 0.0}, EVIL: {"a": 1.0}}, "tokens"),
    "stack": lambda: plots.stack({EVIL: 2.0, "b": 1.0, "c": 0.0}, EVIL),
    "curve": lambda: plots.curve(([1], [2.0]), "steps", EVIL, [(1, EVIL)]),
    "panels": lambda: plots.panels({EVIL: ([1, 2], [2.0, 2.0]), "b": ([1], [0.0])}, "x", "y"),
    "changes": lambda: plots.changes(
        {EVIL: ([0, 1], [0.5, 0.1])}, {EVIL: ([0, 1], [0.5, 0.9]), "b": ([0], [1.0])}, "layer"
    ),
    "maps": lambda: plots.maps(
        {EVIL: (([0, 1], [0, 1]), ([1, 0], [0, 1])), "b": (([0], [0]),) * 2}
    ),
    "lines": lambda: plots.lines({"a": ([1, 2], [0.0, 0.0]), EVIL: ([1], [3.0])}, "x", "y"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_xml_in_the_pages_colours(name):
    svg = FIGURES[name]()
    root = ET.fromstring(svg.replace("<svg", '<svg xmlns:xlink="http://www.w3.org/1999/xlink"', 1))
    assert root.attrib["aria-label"]
    assert EVIL not in svg
    assert "var(--accent)" in svg
    assert not re.findall(r"#[0-9a-f]{6}\b", svg.replace("#ffffff", ""))


def test_a_long_curve_is_thinned_to_its_means():
    x, y = plots.thin((list(range(100_000)), [float(i % 2) for i in range(100_000)]), points=100)
    assert len(x) == 100
    assert set(y) == {0.5}
    assert x[0] == 499.5


# ---------------------------------------------------------------------------- efficiency
def test_what_text_costs_is_shown_before_and_after_at_equal_tokens_and_at_equal_bytes(tmp_path):
    before = {
        "efficiency": {"input": {"kor_Hang": {"characters": 2000, "bytes": 5000, "tokens": 2500}}},
        "facts": {"seconds_per_1000_characters": {"input": {"kor_Hang": 0.25}}},
    }
    after = {
        "efficiency": {
            "input": {"kor_Hang": {"characters": 2000, "bytes": 5000, "tokens": 1000}},
            "answer": {"translation en_ko": {"characters": 40.0, "tokens": 10.0}},
        },
        "facts": {"seconds_per_1000_characters": {"answer": {"translation en_ko": 1.5}}},
    }
    (tmp_path / "evaluate").mkdir()
    for name, results in (("before", before), ("after", after)):
        (tmp_path / "evaluate" / f"{name}.json").write_text(json.dumps(results))
    p = pieces.read(tmp_path)
    got = efficiency.tables(p)
    assert got["Text that is read"]["rows"] == [
        ["kor_Hang", "1250.0", "500.0", "0.2500", "", "2.00", "5.00", "500", "200"]
    ]
    assert got["Answers"]["rows"] == [["translation en_ko", "", "250.0", "", "1.5000"]]
    page = run_page.render(p)
    assert "MB of text per 1M tokens, after" in page
    assert "0.25" in page
    assert "seconds_per_1000_characters" not in page
