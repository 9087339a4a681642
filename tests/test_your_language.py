"""docs/your_language.md leads to a model: what it says to type is typed, on the sample world."""

import dataclasses
import io
import itertools
import json
from pathlib import Path
import re
import shlex

import forked
import pytest
import sentencepiece
import tiny_llama

from lrl_jax.data.sample import world
from lrl_jax.vocab.tokenizer.load import from_bytes

PAGE = Path(__file__).parents[1] / "docs/your_language.md"
STEP = re.compile(
    r"<!-- (?:run|check|edit: (?P<file>\S+)) -->\n\n"
    r"(?:```yaml\n(?P<lines>(?:(?!```)[^\n]*\n)+)|(?P<typed>(?: {4}[^\n]*\n)+))"
)


def steps(text):
    """What a reader does, in order: (file, lines to write) or ("", commands to type)."""
    for step in STEP.finditer(text):
        given = step["lines"] if step["file"] else re.sub("(?m)^ {4}", "", step["typed"])
        lines = given.splitlines()
        if step[0].startswith(
            "<!-- check"
        ):  # as long as the run itself: its recipe is only checked
            lines = [line.replace("lrl run", "lrl check", 1) for line in lines]
        yield step["file"] or "", lines


def edited(text, lines):
    """A file with each line put in place of the one that begins alike: same indent, same key."""
    for line in lines:
        begin = re.escape(line.partition(":")[0]) + ":"
        text, count = re.subn(rf"(?m)^{begin}.*$", lambda _, line=line: line, text)
        assert count == 1, line
    return text


def bring(folder):
    """What the page has the reader bring: three texts of the sample world, and a base."""
    for place, name, count in (
        ("corpus/news.txt", "mono.kor", 40),
        ("english/stories.txt", "mono.eng", 40),
        ("heldout/kor_Hang.txt", "test.kor", 4),
        ("heldout/eng_Latn.txt", "test.eng", 4),
    ):
        (folder / place).parent.mkdir(exist_ok=True)
        lines = itertools.islice(world.lines(name), count)
        (folder / place).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=itertools.islice(world.lines("mono.eng"), 60), model_writer=model,
        model_type="bpe", vocab_size=340, byte_fallback=True, normalization_rule_name="identity",
        minloglevel=2,
    )  # fmt: skip
    tokenizer = from_bytes(model.getvalue())
    cfg = dataclasses.replace(tiny_llama.CFG, vocab_size=tokenizer.size, depth=1)
    tiny_llama.write(folder / "base", cfg, tokenizer)


def test_a_line_is_written_in_place_of_the_one_that_begins_alike():
    text = "a:\n  b: {}   # what b is\n    b: 2\n"
    assert edited(text, ["  b: {x: 1}"]) == "a:\n  b: {x: 1}\n    b: 2\n"
    with pytest.raises(AssertionError):
        edited(text, ["  c: 1"])


def test_the_page_says_every_step_from_the_recipe_to_an_answer():
    verbs = [
        line.split()[1] for file, lines in steps(PAGE.read_text()) if not file for line in lines
    ]
    assert verbs == ["vocab", "new", "check", "vocab", "check", "run", "report", "generate"]


@pytest.mark.slow
def test_a_reader_who_types_only_what_is_written_gets_a_model(tmp_path):
    bring(tmp_path)
    for file, lines in steps(PAGE.read_text(encoding="utf-8")):
        if file:
            recipe = tmp_path / file
            recipe.write_text(edited(recipe.read_text("utf-8"), lines), encoding="utf-8")
            continue
        for line in lines:
            name, *words = shlex.split(line)
            assert name == "lrl"
            got = forked.run("lrl_jax.cli", words, tmp_path, timeout=500)
            assert got.returncode == 0, f"{line}\n{got.stdout}\n{got.stderr}"
    assert got.stdout.strip()
    export = tmp_path / "runs/korean/export"
    assert json.loads((export / "gate.json").read_text())["passed"]
    scores = json.loads((tmp_path / "runs/korean/evaluate/after.json").read_text())
    assert {"kor_Hang", "eng_Latn"} <= set(scores["bits_per_byte"])
    assert (tmp_path / "runs/korean/report/index.html").exists()
