"""Work that takes long is never silent: a bar where a person watches, lines in a log."""

import io
import time

from etils import epath
import pytest
import released_bases
from test_prompt import TEXT, trained_on

from lrl_jax import terminal
from lrl_jax.evaluate import kinds
from lrl_jax.evaluate.kinds import EvaluationKind
from lrl_jax.pipeline import console, vocab
from lrl_jax.pipeline.run import Run
from lrl_jax.recipe import evaluate as recipe_evaluate
from lrl_jax.recipe.schema import Pretrained
from lrl_jax.vocab.tokenizer import load as tokenizers


def until(done):
    end = time.monotonic() + 10
    while not done() and time.monotonic() < end:
        time.sleep(0.001)
    assert done()


def test_a_log_gets_a_line_now_and_then_with_what_is_done_and_for_how_long():
    said = []
    with console._lines("vocab", said.append, every=0.002) as tell:
        until(lambda: said)
        assert said[0] == "vocab: begins, 0 s"
        tell("proving", 30, 120)
        until(lambda: said[-1] == "vocab: proving, 25%, 0 s")
        tell("writing")
        until(lambda: said[-1] == "vocab: writing, 0 s")
    count = len(said)
    time.sleep(0.02)
    assert len(said) == count  # it ends with the work


def test_work_that_is_soon_done_says_nothing_in_a_log(capsys):
    with console.progress("vocab") as tell:
        tell("learning pieces", 0, 0)
    assert capsys.readouterr() == ("", "")


def test_the_lines_end_with_work_that_fails():
    said = []
    with pytest.raises(ValueError, match="no"), console._lines("v", said.append, every=0.001):
        raise ValueError("no")
    count = len(said)
    time.sleep(0.01)
    assert len(said) == count


@pytest.fixture
def screen(monkeypatch):
    """What a person sees on a terminal of 90 columns."""
    out = io.StringIO()
    plain = terminal.console
    monkeypatch.setattr(
        terminal, "console",
        lambda stderr=False: plain(stderr=stderr, file=out, force_terminal=True, width=90),
    )  # fmt: skip
    return out


def test_the_proof_of_an_export_is_shown_as_work_of_that_step(screen, tmp_path):
    released_bases.save("llama2", tmp_path)
    (tmp_path / "model.safetensors").touch()
    recipe = trained_on({"text": 1}, text=TEXT).recipe
    run = Run(recipe.model_copy(update={"base": Pretrained(model=str(tmp_path))}))
    vocab.prove_lossless(run, epath.Path(tmp_path), tokenizers.load(tmp_path), "export")
    assert "export: proving it lossless" in screen.getvalue()
    assert "vocab:" not in screen.getvalue()


def test_a_person_sees_a_bar_with_the_step_and_its_share(screen):
    with console.progress("evaluate") as tell:
        tell("after: [b]\x1b[2J", 50, 200)
        time.sleep(0.2)
    assert "evaluate: after: [b]\\x1b[2J" in screen.getvalue()
    assert " 25%" in screen.getvalue()


def test_evaluation_tells_what_it_measures_and_how_far_it_is(monkeypatch):
    def measure(entry, model, settings):
        model.tick(3, 9)
        return {"words": entry}

    kind = EvaluationKind("bits_per_byte", str, measure, lambda before, after: iter(()))
    assert kinds.find("bits_per_byte")  # it is imported
    monkeypatch.setitem(kinds.KINDS, "bits_per_byte", kind)
    told = []
    settings = recipe_evaluate.Evaluate(bits_per_byte={"ko": "a", "en": "b"})
    model = kinds.MeasuredModel(*[None] * 6)
    got = kinds.measure(settings, model, lambda *what: told.append(what))
    assert got["bits_per_byte"] == {"ko": {"words": "a"}, "en": {"words": "b"}}
    names = ("bits_per_byte ko", "bits_per_byte en")
    assert told == [(name, *count) for name in names for count in ((0, 0), (3, 9))]


def test_lines_that_are_read_are_counted_in_bytes_over_all_texts(tmp_path, monkeypatch):
    monkeypatch.setattr(vocab, "TOLD", 2)
    (tmp_path / "a").write_text("\uac00\nb\nc\n")
    assert vocab._size([str(tmp_path / "a")] * 2) == 16
    (tmp_path / "a.gz").write_bytes(b"packed")
    assert vocab._size([str(tmp_path / "a.gz")]) == 0  # not known
    read = []
    texts = vocab._counted([["\uac00", "b", "c"], ["d"]], read.append)
    assert [[*lines] for lines in texts] == [["\uac00", "b", "c"], ["d"]]
    assert read == [0, 6, 8]
