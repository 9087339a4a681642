"""The command line: quick to start, and every failure has its exit code and its reason."""

from pathlib import Path
import subprocess
import sys
import time

import pytest

from lrl_jax.cli import main
from lrl_jax.recipe import file as recipe_file

ROOT = Path(__file__).parents[1]


def lrl(*args, **kwargs):
    return subprocess.run(
        [sys.executable, "-m", "lrl_jax.cli", *args],
        capture_output=True, text=True, cwd=ROOT, timeout=300, check=False, **kwargs,
    )  # fmt: skip


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from lrl_jax.cli import main\n"
        "try: main.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('jax', 'numpy', 'pydantic', 'tensorflow') if m in sys.modules])"
    )
    got = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert got.stdout.splitlines()[-1] == "[]"


def test_help_is_there_in_under_a_third_of_a_second():
    times = []
    for _ in range(3):
        start = time.perf_counter()
        assert "vocab, init, data, train, evaluate, export" in lrl("--help").stdout
        times.append(time.perf_counter() - start)
    assert min(times) < 0.3


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["judge"], 2, "lrl judge: say which of its verbs. There are\n  lrl judge single\n"),
        (["laws", "mixture", "--help"], 0, "  lrl laws mixture fit\n      how losses"),
        (["sheet", "mak", "a"], 2, "lrl sheet: no verb 'mak'; did you mean 'sheet make'?"),
        (["fly"], 2, "lrl: no verb 'fly'."),
        (["evalute", "r.yaml"], 2, "lrl: no verb 'evalute'; did you mean 'evaluate'?"),
    ],
)
def test_a_word_that_is_no_verb_is_told_the_verbs_that_begin_with_it(capsys, words, code, said):
    assert main.main(words) == code
    out, err = capsys.readouterr()
    assert said in (err if code else out)


def test_a_new_recipe_loads_as_it_stands_and_is_never_overwritten(tmp_path, capsys):
    path = tmp_path / "tamil.yaml"
    args = ["new", str(path), "--language", "tam_Taml", "--base", "some/model"]
    assert main.main(args) == 0
    got = recipe_file.load(str(path))
    assert (got.name, got.vocab.scripts, got.base.model) == ("tamil", ("Taml",), "some/model")
    assert main.main(args) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """A folder, which is the current one, with 3.2 million tokens of a corpus and some English."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ta.txt").write_text("\u0b85 \u0b86 \u0b87 \u0b88\n" * 400_000)
    (tmp_path / "en.txt").write_text("A thousand bytes. " * 100_000)
    (tmp_path / "base").mkdir()
    (tmp_path / "base/config.json").write_text('{"max_position_embeddings": 512}')
    return tmp_path


def new(*more):
    assert main.main(["new", "r.yaml", "--language", "Tamil", *more]) == 0
    return recipe_file.load("r.yaml")


def test_a_new_recipe_reads_its_corpus_four_times_at_most(corpus):
    got = new("--base", "base", "--text", "ta.txt", "--english", "en.txt")
    steps, read = got.train.steps, got.train.batch_size * got.data.sequence_length
    assert got.data.sequence_length == 512  # the base's context
    # 3.2 million tokens of Tamil by words, 450,000 of English by bytes, a quarter of what is read
    assert 3.9 < steps * read * 0.25 / 450_000 <= 4
    assert steps * read * 0.75 / 3.2e6 < 4
    assert not got.supply
    Path("r.yaml").unlink()
    often = new("--base", "base", "--text", "ta.txt", "--english", "en.txt", "--epochs", "8")
    twice = often.train.steps * often.train.batch_size * often.data.sequence_length
    assert twice == pytest.approx(2 * steps * read, rel=0.01)


def test_a_new_recipe_lists_what_is_not_here_and_is_sound_once_it_is(corpus, capsys):
    got = new("--base", "some/model", "--text", "ta.txt")
    assert got.supply == {
        "english/*.txt": "raw English text, a document a line, for replay and proof"
    }
    assert got.data.sequence_length == 2048
    Path("r.yaml").unlink()
    assert [*new("--base", "some/model").supply] == ["corpus/*.txt", "english/*.txt"]
    assert "steps are those of a corpus of some 100 million" in Path("r.yaml").read_text().replace(
        "\n# ", " "
    )


def test_an_override_without_a_value_is_told_how_it_is_written(capsys):
    with pytest.raises(SystemExit):
        main.main(["check", "quickstart", "train.batch_size"])
    assert "an override says a value: train.batch_size=VALUE" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main.main(["check", "quickstart", "no.thing/here"])
    assert "VALUE" not in capsys.readouterr().err


def test_a_language_that_is_no_flores_code_is_explained(tmp_path, capsys):
    args = ["new", str(tmp_path / "a.yaml"), "--language", "tamilian", "--base", "b"]
    assert main.main(args) == 2
    assert "such as kor_Hang" in capsys.readouterr().err


def test_a_typo_in_a_recipe_is_exit_code_2_with_the_nearest_name(capsys):
    code = main.main(["check", str(ROOT / "configs/quickstart.yaml"), "train.batchsize=8"])
    assert code == 2
    assert "did you mean 'batch_size'?" in capsys.readouterr().err


@pytest.mark.parametrize("bad", [["check", "x.yaml", "--nonsense"], []])
def test_an_unknown_argument_is_exit_code_2(bad):
    with pytest.raises(SystemExit) as end:
        main.main(bad)
    assert end.value.code == 2


def test_overrides_may_stand_on_either_side_of_options(capsys):
    for args in (["--redo", "name=é=x"], ["name=é=x", "--redo"]):
        assert main.main(["vocab", str(ROOT / "configs/quickstart.yaml"), *args]) == 2
        assert "name: String should match pattern" in capsys.readouterr().err
