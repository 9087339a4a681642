"""All pages: text stays text, nothing is fetched, and the policy allows what the page has."""

import base64
import dataclasses
import fnmatch
import functools
import hashlib
import html.parser
import json
from pathlib import Path
import re
import tempfile
import tomllib

import compared_runs
from etils import epath
import jinja2
import numpy as np
import pytest

from lrl_jax.evaluate.sheets import draw
from lrl_jax.evaluate.sheets.pairs import SheetItem
from lrl_jax.laws import law as laws
from lrl_jax.laws.mixtures import law as mixture_law
from lrl_jax.laws.mixtures import runs as mixture_runs
from lrl_jax.report import alignment, fertility, judge, mixture, pages, plots, run, sheet, study
from lrl_jax.report import laws as laws_page
from lrl_jax.report.compare import page as compare_page
from lrl_jax.report.compare import runs
from lrl_jax.vocab.fertility import FertilityRow

HOSTILE = "</title></style></script><img src=//x.test/a onerror='f()'>{{ 7*7 }}{% x %}&\"'"
HARMLESS = "plain"
TEMPLATES = Path(pages.__file__).parent / "templates"
WITHIN = ("base.html.j2", "parts.html.j2")  # used by the others
VOID = ("meta", "input")


def aligned(text: str) -> dict:
    """The result of an alignment that has every piece of the page."""
    layers = [{"gap": 0.1, "mexa": 0.2, "accuracy_forward": text, "cka": None}] * 3
    scores = {"layers": layers, "max": {"gap": 0.1}, "middle": {"layers": [1, 2], "gap": 0.1}}
    drawn = {"layer": text, "source": [[0.0, 1.0]], "target": [[1.0, 2.0]]}
    counts = {"lines": 100, "repeated": text, "truncated": text}
    return {**counts, "poolings": {"weighted": scores, "mean": scores}, "maps": [drawn]}


def study_page(text: str, folder: Path) -> str:
    """The page of a study, of which one cell failed."""
    amounts = {"tokens": 10, "bytes": 20, "flops": 30.0, "steps": 2, "seconds": 1.0}
    cells = [
        {"name": text, "facts": {text: text, "seed": 0}, "values": {text: 2.0}, "error": ""},
        {"name": text, "facts": {text: "b", "seed": 0}, "values": {}, "error": text},
    ]
    mean = {text: {"mean": 2.0, "low": 1.0, "high": 3.0}}
    facts, other = {text: text}, {text: "b"}
    groups = [{"facts": facts, "n": 2, "values": mean, **amounts}]
    groups += [{"facts": other, "n": 0, "values": {}}]
    results = {
        "study": text, "at": "bytes", "compare": [text], "groups": groups,
        "cells": [{**cell, **amounts} for cell in cells],
        "differences": [{"of": other, "less": facts, "n": 2, "values": mean}],
    }  # fmt: skip
    return study.page(results, epath.Path(folder))


def run_page(text: str, folder: Path) -> str:
    """The page of a run folder with the text in every field that may hold one."""
    score = {"bits_per_byte": 2.0, "tokens": 600, "bytes": 900, "lines": 10}
    translated = {"chrf": 1.0, "bleu": 2.0, "bleu_tokenizer": text, "lines": 10,
                  "signatures": {text: text},
                  "examples": 7 * [{text: text, "b": text}]}  # fmt: skip
    measured = {
        "bits_per_byte": {text: score, "b": score},
        "translation": {text: translated},
        "chains": {text: {"parsed": 97.0, "chrf": 31.0, "examples": [{text: text}]}},
        "alignment": {text: aligned(text), "b": {}},
        "baselines": {text: {text: 3.0}},
        "facts": {"devices": text, text: text, "seconds": 2.0},
    }
    step = {"stage": text, "loss": 4.0, "bits_per_byte": {text: 1.0}, "lr": {text: 0.1},
            "tokens_per_second": 10.0, "epochs": {text: 0.1}}  # fmt: skip
    fertility_row = {"tokenizer": text, "language": text, "per_line": 6.0}
    stage = {"name": text, "steps": 2, "mixture": {text: 1, "b": 1}}
    pieces = {
        "recipe.yaml": {"name": text, "train": {"stages": [stage]}},
        "steps/train.json": {"seconds": 75.0},
        "vocab/fertility.json": [fertility_row],
        "vocab/proof.json": {text: text, "list": [text], "more": {"count": 1, "examples": [text]}},
        "data/datasets.json": {text: "a/1"},
        "data/a/1/manifest.json": {"tokens": 1000, "bytes": 3000},
        "evaluate/before.json": measured,
        "evaluate/after.json": measured,
        "export/gate.json": {"passed": True, text: text},
    }
    lines = {
        "train/metrics.jsonl": [{**step, "step": 1}, {**step, "step": 2}],
        "train/samples.jsonl": [{"step": 2, "prompt": text, "text": text}],
    }
    written = {name: json.dumps(piece) for name, piece in pieces.items()}
    written |= {name: "\n".join(map(json.dumps, records)) + "\n" for name, records in lines.items()}
    for name, content in written.items():
        path = folder / "demo" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return run.write(folder / "demo").read_text()


def fertility_page(text: str, languages: int) -> str:
    rows = [
        FertilityRow(
            tokenizer=tokenizer, language=f"{text}{i}" if i else "eng", name=f"{text}{i:02}",
            script=("Latn", text, "Deva")[i % 3], lines=10, words=100, characters=500, bytes=500,
            tokens=100 + i, per_word=1.0, per_character=0.2, per_byte=0.2, per_line=10.0,
            parity=1.0 + i, relative=0.5 + i, whole_types=0.5, whole_words=0.25, byte_share=0.6,
            floor=2.0, lost=1)
        for tokenizer in (text, "b")
        for i in range(languages)
    ]  # fmt: skip
    return fertility.render(rows, "eng", 4096)


def laws_of(text: str) -> str:
    points = [laws.Point(text, x, y, where=text) for x, y in ((1, 36), (100, 84), (10000, 96))]
    return laws_page.page(laws.fit(points), points)


def probe_page(text: str) -> str:
    return pages.render(
        "probe.html.j2",
        bytes=1000,
        advice=text,
        ends=plots.dumbbells({text: 2.0}, {text: 1.0}, text),
        curves=plots.panels({text: ([1, 2], [2.0, 1.0])}, text, text),
        columns=[text, text],
        rows=[[text, text]],
    )


def alignment_page(text: str) -> str:
    results = {"before": aligned(text), "after": aligned(text)}
    return alignment.page(results, text, {"before": text, "after": text})


def sheet_page(text: str) -> str:
    items = [SheetItem(f"{text}{i}", text, (text, text)) for i in range(3)]
    (handout,) = draw.handouts(items, (text, "b"), (text,), seed=0)
    return sheet.page(dataclasses.replace(handout, sheet=text), text)


@functools.cache
def compared_page(text: str) -> str:
    """The page of two runs that differ in everything that has a place on it; drawn once a text."""
    with tempfile.TemporaryDirectory() as folder:
        return _compared_page(text, Path(folder))


def _compared_page(text: str, folder: Path) -> str:
    places = {}
    for number, name in enumerate((text, "b")):
        files = compared_runs.pieces()
        after, recipe = files["evaluate/after.json"], files["recipe.yaml"]
        for kind in ("bits_per_byte", "translation"):
            (result,) = after[kind].values()
            after[kind] = {text: result}
            recipe["evaluate"][kind] = {text: next(iter(recipe["evaluate"][kind].values()))}
        result["examples"] = [{text: text, "hypothesis": text}]
        inputs = files["steps/evaluate.json"]["inputs"]
        inputs |= {f"evaluate.{kind}.{text}": "1" for kind in ("bits_per_byte", "translation")}
        recipe["base"]["model"] = f"{text}{number}"
        files["train/samples.jsonl"] = [{"step": 2, "prompt": text, "text": text}]
        files["judge/judge.json"] = {
            "kind": text,
            "judges": [text],
            "scores": {text: 7.0},
            "models": [text],
        }
        places[name] = compared_runs.write(folder / f"{number}", files)
    compared = runs.read(places, {})
    facts = compare_page.facts(compared)
    return compare_page.render(facts, compare_page.figures(compared, facts))


def judge_page(text: str) -> str:
    """The page of a judge and models whose names, answers and failures are all this text."""
    scores = {
        "rating": 7.0,
        "interval": [6.0, 8.0],
        "items": 1,
        "categories": {text: {"mean": 7.0}},
    }
    summary = {
        "kind": "single", "models": [text], "judges": [text], "items": 2, "scores": {text: scores},
        "failed": {text: 1}, "flaws": {text: {text: 1}}, "prompt": text, "endpoint": text,
    }  # fmt: skip
    example = {
        "title": text, "verdict": text, "question": text, "reference": text,
        "answers": [[text, text]], "judgments": [[text, text]],
    }  # fmt: skip
    return judge.page(summary, [example])


def mixture_page(text: str) -> str:
    """The page of a law whose datasets, losses and runs are named by this text."""
    weights_ND = np.array([[0.1 * i, 1 - 0.1 * i] for i in range(1, 10)])
    names = tuple(f"{text}{i}" for i in range(9))
    losses_NK = 2 - weights_ND[:, :1]
    runs_of = mixture_runs.MixtureRuns(names, (text, "b"), (text,), weights_ND, losses_NK, (text,))
    return mixture.page(mixture_law.fit(runs_of))


PAGES = {
    "run.html.j2": run_page,
    "compare.html.j2": lambda text, folder: compared_page(text),
    "fertility.html.j2": lambda text, folder: fertility_page(text, 3),
    "fertility.html.j2, many": lambda text, folder: fertility_page(text, 30),
    "alignment.html.j2": lambda text, folder: alignment_page(text),
    "laws.html.j2": lambda text, folder: laws_of(text),
    "probe.html.j2": lambda text, folder: probe_page(text),
    "sheet.html.j2": lambda text, folder: sheet_page(text),
    "judge.html.j2": lambda text, folder: judge_page(text),
    "mixture.html.j2": lambda text, folder: mixture_page(text),
    "study.html.j2": lambda text, folder: study_page(text, folder),
}


class Tags(html.parser.HTMLParser):
    """Every tag of a page with its attributes; they must close in order."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.open, self.declared, self.said = [], [], [], []
        self.feed(text)
        self.close()

    def handle_decl(self, decl):
        self.declared.append(decl)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes), "svg" in self.open))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        assert "svg" in self.open, tag
        self.tags.append((tag, dict(attributes), True))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.said.append(data)

    def outline(self) -> list:
        """Tags outside of figures with the names of their attributes: what text cannot change."""
        return [(tag, sorted(names)) for tag, names, figure in self.tags if not figure]


@pytest.fixture(params=PAGES)
def page(request, tmp_path) -> tuple[str, str]:
    """The same page with hostile and with harmless text."""
    make = PAGES[request.param]
    return make(HOSTILE, tmp_path / "hostile"), make(HARMLESS, tmp_path / "harmless")


def test_every_page_has_its_row_here():
    covered = {name.partition(",")[0] for name in PAGES}
    assert {path.name for path in TEMPLATES.iterdir()} == covered | set(WITHIN)


def test_text_stays_text_wherever_it_stands(page):
    hostile, harmless = page
    assert HOSTILE not in hostile
    got, want = Tags(hostile), Tags(harmless)
    assert any(HOSTILE in data for data in got.said)
    assert got.outline() == want.outline()
    assert not got.open


def test_a_page_is_one_whole_document(page):
    got = Tags(page[0])
    assert got.declared == ["doctype html"]
    names = [tag for tag, _, figure in got.tags if not figure]
    assert names[:2] == ["html", "head"]
    for tag in ("html", "head", "title", "style", "body", "main"):
        assert names.count(tag) == 1
    ids = [
        attributes["id"] for _, attributes, figure in got.tags if "id" in attributes and not figure
    ]
    assert len(ids) == len(set(ids))


def test_a_page_fetches_nothing_and_has_no_handlers(page):
    got = Tags(page[0])
    assert not {"link", "img", "iframe", "object", "embed", "base", "form"} & {
        tag for tag, *_ in got.tags
    }
    for _, attributes, _ in got.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "action", "srcset"):
            assert attributes.get(name, "#").startswith("#")
        assert "url(" not in attributes.get("style", "")
    (styles,) = re.findall(r"<style>(.*?)</style>", page[0], flags=re.S)
    assert not re.findall(r"url\(|@import", styles)


def test_the_policy_forbids_all_but_style_and_the_script_that_is_there(page):
    (policy,) = [
        attributes["content"]
        for tag, attributes, _ in Tags(page[0]).tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    want = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    for script in re.findall(r"<script>(.*?)</script>", page[0], flags=re.S):
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        want += f"; script-src 'sha256-{digest}'"
    assert policy == want


def test_only_figures_of_plots_go_in_unescaped():
    sources = {path.name: path.read_text() for path in TEMPLATES.iterdir()}
    marked = {name: len(re.findall(r"\|\s*safe\b|autoescape", s)) for name, s in sources.items()}
    assert {name: count for name, count in marked.items() if count} == {"parts.html.j2": 1}


def test_a_value_that_a_template_lacks_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="'columns' is undefined"):
        pages.render("laws.html.j2", svg="", beyond=10, width=5, limit=100, rows=[])


def test_the_templates_are_in_the_package():
    root = Path(__file__).parents[1]
    settings = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = [
        f"{package.replace('.', '/')}/{pattern}"
        for package, package_patterns in settings["package-data"].items()
        for pattern in package_patterns
    ]
    templates = [*(root / "lrl_jax").rglob("*.j2")]
    assert {*TEMPLATES.iterdir()} < {*templates}  # other rooms have some too
    for path in templates:
        name = str(path.relative_to(root))
        assert any(fnmatch.fnmatch(name, pattern) for pattern in patterns), name
