"""`lrl check` says which settings a later step would refuse, with the key of the recipe."""

import pytest
import small_world

from lrl_jax import text
from lrl_jax.cli import main
from lrl_jax.evaluate import kinds
from lrl_jax.pipeline import export
from lrl_jax.recipe import file as recipe_file

SHAPE = (
    "base.expected={hidden_size: 32, num_hidden_layers: 2, intermediate_size: 64, "
    "num_attention_heads: 4, num_key_value_heads: 2, vocab_size: 340}"
)
BOTH = "[{match: '.*', schedule: {peak: 1.0e-3}}]"


@pytest.fixture
def korean(tmp_path, monkeypatch):
    """The words that check a recipe whose base is to be supplied, in a folder of its texts."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    _, path = small_world.write_recipes(tmp_path)
    return [path, SHAPE, "supply={'*/export': make it}"]


def check(capsys, words, *overrides):
    """Exit code, what was printed, and what was wrong, without its first line."""
    code = main.main(["check", *words, *overrides])
    got = capsys.readouterr()
    return code, got.out, got.err.splitlines()[1:]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (
            ["train.lora={rank: 4}", "export.form=adapter", f"train.stages.0.learn={BOTH}"],
            "export.form: adapter: mlp.down_proj has an adapter and is trained itself too",
        ),
        (
            ["init.input_rows=token_distillation", "init.distillation.layer=9"],
            "init.distillation.layer: 9, but the base has 2 layers",
        ),
        (["train.loss_blocks=7"], "train.loss_blocks: loss_blocks=7 must divide the padded vocab"),
    ],
)
def test_what_a_later_step_would_refuse_is_refused_before_training(korean, capsys, overrides, says):
    code, _, problems = check(capsys, korean, *overrides)
    assert code == 3
    assert [line.strip()[: len(says)] for line in problems] == [says]


def test_a_vocabulary_that_may_come_out_divisible_is_not_refused(korean, capsys):
    code, _, problems = check(capsys, korean, "train.loss_blocks=3", "vocab.pieces=200")
    assert (code, problems) == (0, [])  # 384 rows or 640, and 384 divides by 3


def test_a_mesh_of_more_devices_than_are_here_is_noted(korean, tmp_path, capsys):
    base, mesh = str(tmp_path / "base.yaml"), "train.mesh={data: 64, fsdp: 1}"
    code, out, problems = check(capsys, [base], mesh, "train.batch_size=64")
    assert (code, problems) == (0, [])
    assert "note train.mesh: mesh data=64, fsdp=1, tensor=1 does not fit " in out


# ---------------------------------------------------------------------------- files
@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (
            ["evaluate.baseline_text={kor_Hang: [no.txt]}"],
            "evaluate.baseline_text.kor_Hang: no.txt: no such file",
        ),
        (
            ["evaluate.baseline_text={kor_Hang: [empty.txt]}"],
            "evaluate.baseline_text.kor_Hang: empty.txt: is empty",
        ),
        (["init.input_rows=align", "init.text=[no.txt]"], "init.text: no.txt: no such file"),
        (
            ["init.input_rows=wechsel", "init.words={source: a.vec, target: a.vec}"],
            "init.words.source, init.words.target: a.vec: no such file",
        ),
        (
            ["init.output_rows=omp", "init.helper=no/model"],
            "init.helper: no/model: no such file; want a SentencePiece .model",
        ),
        (
            ["export.vector={instruct: /no/a, base: /no/b}"],
            "export.vector.instruct: /no/a: no such folder; want a folder, gs:// or a hub id",
        ),
        (["export.gate_on=[blank.txt]"], "export.gate_on: blank.txt: holds no text, blank lines"),
        (
            ["evaluate.bits_per_byte.eng_Latn=blank.txt"],
            "evaluate.bits_per_byte.eng_Latn: blank.txt: holds no text, blank lines alone; name",
        ),
        (
            ["evaluate.baseline_text={kor_Hang: [blank.txt]}"],
            "evaluate.baseline_text.kor_Hang: blank.txt: holds no text",
        ),
        (["vocab.prove_on=[blank.txt]"], "vocab.prove_on: blank.txt: holds no text"),
        (["vocab.text=[blank.txt]"], "vocab.text: blank.txt: holds no text"),
    ],
)
def test_a_file_that_no_step_could_read_is_named_with_its_key(
    korean, tmp_path, capsys, overrides, says
):
    (tmp_path / "empty.txt").touch()
    (tmp_path / "blank.txt").write_text("\n \n\n")
    code, _, problems = check(capsys, korean, *overrides)
    assert code == 3
    assert problems[0].strip()[: len(says)] == says
    assert len(problems) == 1 + ("vector" in says)


def test_an_export_names_the_files_of_blank_lines_that_it_is_compared_on(korean, tmp_path):
    (tmp_path / "blank.txt").write_text("\n\n")
    recipe = recipe_file.load(korean[0], ["export.gate_on=[blank.txt]"])
    with pytest.raises(text.DataError, match=r"blank\.txt: blank lines alone; the export is"):
        export.texts(recipe)


def test_a_test_set_whose_sides_differ_in_lines_is_refused(korean, tmp_path, capsys):
    lines = (tmp_path / "en.txt").read_text()
    (tmp_path / "more.txt").write_text(f"A title of the test set\n{lines}")
    code, _, problems = check(
        capsys, korean, "evaluate.translation.eng_kor.source=more.txt",
    )  # fmt: skip
    assert code == 3
    assert problems[0].startswith("  evaluate.translation.eng_kor: more.txt has ")
    assert "321" in problems[0]
    assert "320" in problems[0]
    settings = recipe_file.load(korean[0], ["evaluate.translation.eng_kor.source=more.txt"])
    with pytest.raises(text.DataError, match=r"evaluate\.translation\.eng_kor: more\.txt"):
        kinds.validate(settings.evaluate)
    few = ["en.txt", "ko.txt"]
    for name in few:
        first = (tmp_path / name).read_text().splitlines()[:2]
        (tmp_path / name).write_text("\n".join(first) + "\n")
    kinds.validate(recipe_file.load(korean[0]).evaluate)  # fewer than `limit`, and as many


def test_whole_epochs_of_shares_by_temperature_are_refused_before_packing(korean, capsys):
    mixtures = "data.mixtures={all: {of: {korean: 1, pairs: 1}, by: size, temperature: 3}}"
    stage = f"{{name: b, epochs: 1, mixture: {{all: 1}}, learn: {BOTH}}}"
    code, _, problems = check(capsys, korean, mixtures, f"train.stages.1={stage}")
    assert code == 3
    assert problems[0].startswith("  train.stages.b: stage 'b': epochs read datasets whole, and")
