"""Alignment by layer: the numbers of MEXA's definition on real text, and what is odd is said."""

import dataclasses
import json
import os
import socket

import conftest
import forked
import hand_tokenizer
import jax
import numpy as np
import pytest
import tiny_llama

from lrl_jax.cli import main
from lrl_jax.evaluate import alignment, kinds, states
from lrl_jax.pipeline import models
from lrl_jax.recipe.evaluate import Alignment, Evaluate
from lrl_jax.report import alignment as alignment_page
from lrl_jax.text import DataError

# stories260K on the first 100 lines of FLORES-101, eng against the other: transformers 5.23,
# float32, one sentence at a time; layers 0 to 5.
WANT = {
    "swh": {
        ("weighted", "mexa"): [0.04, 0.06, 0.08, 0.08, 0.08, 0.05],
        ("mean", "mexa"): [0.03, 0.05, 0.07, 0.09, 0.08, 0.06],
        ("last", "mexa"): [0.00, 0.12, 0.16, 0.14, 0.13, 0.19],
        ("weighted", "accuracy_forward"): [0.15, 0.16, 0.16, 0.16, 0.18, 0.13],
        ("mean", "gap"): [0.02518, 0.02176, 0.02684, 0.02324, 0.01711, 0.01481],
        ("mean", "cka"): [0.63522, 0.64284, 0.64787, 0.63776, 0.62496, 0.45715],
    },
    "kor": {
        ("weighted", "mexa"): [0.01, 0.00, 0.01, 0.00, 0.00, 0.00],
        ("mean", "mexa"): [0.01, 0.01, 0.00, 0.00, 0.00, 0.00],
        ("last", "mexa"): [0.00, 0.00, 0.00, 0.01, 0.00, 0.00],
        ("weighted", "accuracy_forward"): [0.03, 0.02, 0.04, 0.02, 0.02, 0.03],
        ("mean", "gap"): [0.00367, 0.00239, 0.00285, 0.00314, 0.00281, 0.00349],
        ("mean", "cka"): [0.36432, 0.20924, 0.18883, 0.18096, 0.21492, 0.27522],
    },
}


def write(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


# ---------------------------------------------------------------------------- real text
@pytest.fixture(scope="module")
def flores():
    """States of 100 sentences in each language: language -> pooling -> [L + 1, N, D]."""
    stories = models.open_model(
        str(conftest.data_file("models/stories260K-hf")), devices=jax.devices()[:1]
    )
    folder = conftest.data_file("parallel/flores101_first200")
    texts = {}
    for language in WANT:
        files = [str(folder / f"{code}.devtest") for code in ("eng", language)]
        lines = alignment.read(*files, limit=100)
        assert lines.repeated == 0
        texts |= {"eng": lines.sources, language: lines.targets}
    ids = {
        code: [[1, *ids] for ids in stories.tokenizer.encode_batch(texts[code])] for code in texts
    }
    pooled = states.pool(stories, [*ids["eng"], *ids["swh"], *ids["kor"]], batch_size=8)
    return {
        code: {name: x[:, n * 100 : (n + 1) * 100] for name, x in pooled.items()}
        for n, code in enumerate(ids)
    }


@pytest.mark.parametrize("language", WANT)
def test_stories260k_has_the_numbers_of_transformers_at_every_layer(flores, language):
    for (pooling, key), want in WANT[language].items():
        got = alignment.by_layer(flores["eng"][pooling], flores[language][pooling])
        values = [layer[key] for layer in got["layers"]]
        exactly = key not in ("gap", "cka")
        np.testing.assert_allclose(values, want, rtol=0, atol=1e-9 if exactly else 1e-5)


# ---------------------------------------------------------------------------- one layer
def test_the_same_states_score_1_and_random_ones_one_in_n():
    rng = np.random.default_rng(0)
    x_ND = rng.standard_normal((50, 16)).astype(np.float32)
    same = alignment.scores(alignment.cosine(x_ND, x_ND))
    assert (same["accuracy_forward"], same["accuracy_backward"], same["mexa"]) == (1, 1, 1)
    assert alignment.linear_cka(x_ND, x_ND) == pytest.approx(1, abs=1e-12)
    chance = [
        alignment.scores(alignment.cosine(*rng.standard_normal((2, 50, 16)))) for _ in range(100)
    ]
    for key in ("accuracy_forward", "accuracy_backward"):
        assert np.mean([scores[key] for scores in chance]) == pytest.approx(1 / 50, abs=0.006)
    assert abs(np.mean([scores["gap"] for scores in chance])) < 0.01
    assert np.mean([scores["mexa"] for scores in chance]) < 1 / 50


def test_forward_is_by_rows_and_backward_by_columns():
    cosines_NN = np.array([[0.5, 0.1, 0.6], [0.4, 0.3, 0.2], [0.1, 0.0, 0.9]])
    got = alignment.scores(cosines_NN)
    assert got["accuracy_forward"] == pytest.approx(1 / 3, abs=1e-6)
    assert got["accuracy_backward"] == 1
    assert got["mexa"] == pytest.approx(1 / 3, abs=1e-6)  # 0.3 is below 0.4 in its row
    assert got["gap"] == pytest.approx(1.7 / 3 - 1.4 / 6, abs=1e-6)


def test_of_two_equal_sentences_mexa_finds_neither():
    x_ND = np.eye(4)[[0, 1, 2, 2]] + 0.25
    got = alignment.scores(alignment.cosine(x_ND, x_ND))
    assert got["mexa"] == 0.5
    assert got["accuracy_forward"] == 0.75  # argmax takes the first


def test_equal_states_tie_though_rounding_would_tell_them_apart():
    x_ND = np.tile(np.random.default_rng(0).standard_normal(77), (30, 1))
    got = alignment.scores(alignment.cosine(x_ND, 3 * x_ND))
    assert got["mexa"] == 0
    assert got["accuracy_forward"] == pytest.approx(1 / 30, abs=1e-6)
    assert alignment.linear_cka(x_ND.astype(np.float32), x_ND.astype(np.float32)) is None
    assert alignment.scores(np.ones((3, 3)) + 1e-15 * np.eye(3))["mexa"] == 0


def test_cka_is_that_of_its_definition_and_does_not_see_a_rotation():
    rng = np.random.default_rng(0)
    x_ND, y_ND = rng.standard_normal((9, 4)), rng.standard_normal((9, 4))
    a_ND, b_ND = x_ND - x_ND.mean(0, keepdims=True), y_ND - y_ND.mean(0, keepdims=True)
    want = np.linalg.norm(a_ND.T @ b_ND) ** 2
    want /= np.linalg.norm(a_ND.T @ a_ND) * np.linalg.norm(b_ND.T @ b_ND)
    assert alignment.linear_cka(x_ND, y_ND) == pytest.approx(want, abs=1e-12)
    turn_DD = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    assert alignment.linear_cka(x_ND, 2 * x_ND @ turn_DD + 5) == pytest.approx(1, abs=1e-9)


def test_the_interval_of_the_gap_leaves_each_pair_out_in_turn():
    cosines_NN = np.random.default_rng(0).uniform(size=(6, 6))

    def gap(c_NN):
        n = len(c_NN)
        return np.trace(c_NN) / n - (c_NN.sum() - np.trace(c_NN)) / (n * (n - 1))

    without = np.array(
        [gap(np.delete(np.delete(cosines_NN, i, 0), i, 1)) for i in range(len(cosines_NN))]
    )
    error = np.sqrt(5 / 6 * np.sum((without - without.mean()) ** 2))
    want = (gap(cosines_NN), gap(cosines_NN) - 1.96 * error, gap(cosines_NN) + 1.96 * error)
    np.testing.assert_allclose(alignment.gap_interval(cosines_NN), want, rtol=1e-12)


# ---------------------------------------------------------------------------- the files
def test_files_of_unequal_length_are_refused_with_both_counts(tmp_path):
    a, b = write(tmp_path / "a", *"abcde"), write(tmp_path / "b", *"abcd")
    with pytest.raises(DataError, match=r"a has 5 lines and .*b 4; parallel files say the same"):
        alignment.read(a, b, 3)
    with pytest.raises(DataError, match=r"b has 4 lines and .*a 5; "):
        alignment.read(b, a, 100)


def test_pairs_with_a_blank_side_are_left_out_and_counted(tmp_path):
    a = write(tmp_path / "a", "1", "", "3", "4", "5", "6")
    got = alignment.read(a, write(tmp_path / "b", "i", "ii", "  ", " iv\t", "v", "vi"), 3)
    assert (got.sources, got.targets, got.blank) == (["1", "4", "5"], ["i", "iv", "v"], 2)


def test_fewer_than_three_pairs_are_refused(tmp_path):
    a, b = write(tmp_path / "a", "1", "", "3"), write(tmp_path / "b", "i", "ii", "iii")
    with pytest.raises(DataError, match=r"2 pairs .* limit 100; .* wants 3 at least"):
        alignment.read(a, b, 100)


def test_what_scores_by_itself_is_counted_and_said(tmp_path):
    a = write(tmp_path / "a", "x", "y", "y", "z")
    same = alignment.read(a, a, 100)
    assert (same.repeated, same.identical) == (2, 4)
    mixed = alignment.read(a, write(tmp_path / "b", "k", "y", "m", "k"), 100)
    assert (mixed.repeated, mixed.identical) == (4, 1)
    result = dict(lines=4, repeated=2, identical=4, blank=1, truncated=3)
    assert alignment.remarks(result) == [
        "all sentences are the same as their translation, which scores 1 and says nothing of "
        "languages",
        "2 pairs have a sentence that occurs twice: MEXA cannot find them",
        "1 pairs with a blank line were left out",
        "3 sentences are longer than the model reads here and were cut",
    ]
    assert alignment.remarks(dict(lines=4, repeated=0, identical=0)) == []


def test_files_that_cannot_be_compared_are_known_before_a_model_is_read(tmp_path):
    languages = dict(source_language="eng_Latn", target_language="kor_Hang")
    pair = dict(source=write(tmp_path / "a", *"abc"), target=write(tmp_path / "b", *"ab"))
    settings = Evaluate(alignment={"eng_kor": Alignment(**pair, **languages)})
    ((key, problem),) = kinds.problems(settings)
    assert key == "evaluate.alignment.eng_kor"
    assert "3 lines" in problem
    with pytest.raises(DataError, match=r"evaluate\.alignment\.eng_kor: .* has 3 lines"):
        kinds.validate(settings)
    assert [*kinds.problems(settings, wanted=[pair["target"]])] == []
    with pytest.raises(ValueError, match="greater than or equal to 3"):
        Alignment(**pair, **languages, limit=2)


# ---------------------------------------------------------------------------- a model
@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    tokenizer = hand_tokenizer.make()
    cfg = dataclasses.replace(tiny_llama.CFG, vocab_size=tokenizer.size)
    return tiny_llama.write(tmp_path_factory.mktemp("model"), cfg, tokenizer)


SOURCE = ("a b c", "ab", "c c c b", "b a", "x" * 100, "cab")
TARGET = ("b c a", "ba", "b c", "b a", "y", "abc")


@pytest.fixture(scope="module")
def measured(folder, tmp_path_factory):
    """(the entry, its result under the recipe's kind)"""
    texts = tmp_path_factory.mktemp("texts")
    entry = Alignment(
        source=write(texts / "en", *SOURCE), target=write(texts / "ko", *TARGET),
        source_language="eng_Latn", target_language="kor_Hang",
    )  # fmt: skip
    model = models.open_model(str(folder))
    got = kinds.measure(Evaluate(alignment={"eng_kor": entry}, batch_size=2), model)
    return entry, json.loads(json.dumps(got))


def test_a_result_has_every_layer_of_every_pooling_and_two_maps(measured):
    got = measured[1]["alignment"]["eng_kor"]
    assert (got["lines"], got["identical"], got["truncated"]) == (6, 1, 1)
    assert [*got["poolings"]] == ["weighted", "mean", "last"]
    for scores in got["poolings"].values():
        assert len(scores["layers"]) == tiny_llama.CFG.depth + 1
        mexa = [layer["mexa"] for layer in scores["layers"]]
        assert scores["max"]["mexa"] == max(mexa) == mexa[scores["best_layer"]]
        assert scores["mean"]["mexa"] == pytest.approx(np.mean(mexa), abs=1e-6)
        assert scores["middle"]["layers"] == [1, 2]
        low, high = scores["middle"]["gap_interval"]
        middle_gap = np.mean([layer["gap"] for layer in scores["layers"][1:3]])
        assert low < scores["middle"]["gap"] < high
        assert scores["middle"]["gap"] == pytest.approx(middle_gap, abs=2e-6)
    assert got["maps"][0]["layer"] == 1
    for drawn in got["maps"]:
        points = np.array(drawn["source"] + drawn["target"])
        assert points.shape == (12, 2)
        np.testing.assert_allclose(points.mean(0), 0, atol=1e-3 * np.abs(points).max())
        assert 0 < drawn["explained"] <= 1


def test_a_result_is_the_same_in_rows_of_one_batch_or_of_many(folder, measured):
    entry, want = measured
    lines = alignment.read(entry.source, entry.target, 100)
    got = alignment.align(lines, models.open_model(str(folder), length=16), batch_size=1)
    for pooling, scores in got["poolings"].items():
        other = want["alignment"]["eng_kor"]["poolings"][pooling]
        for layer, same in zip(scores["layers"], other["layers"], strict=True):
            assert layer == pytest.approx(same, abs=3e-6)


def test_states_that_are_no_numbers_are_refused(folder, measured):
    model = models.open_model(str(folder))
    params = model.params | {"norm_D": model.params["norm_D"] * np.float32("nan")}
    lines = alignment.read(measured[0].source, measured[0].target, 100)
    with pytest.raises(ValueError, match="not all finite numbers"):
        alignment.align(lines, dataclasses.replace(model, params=params), 2)


# ---------------------------------------------------------------------------- reporting
def result(mexa, gap, low, high, lines=100):
    layers = [dict(gap=gap, mexa=mexa, accuracy_forward=mexa, accuracy_backward=mexa, cka=None)] * 3
    scores = {
        "layers": layers, "max": {"mexa": mexa}, "mean": {"mexa": mexa}, "best_layer": 0,
        "middle": {"layers": [1, 2], "gap": gap, "gap_interval": [low, high]},
    }  # fmt: skip
    return {"alignment": {"eng_kor": {"lines": lines, "poolings": {"weighted": scores}}}}


def test_the_summary_has_mexa_of_the_best_layer_and_the_gap_of_the_middle():
    before, after = result(0.1, 0.02, 0.015, 0.025), result(0.45, 0.05, 0.04, 0.06)
    mexa, gap = kinds.all_rows(before, after)
    assert (mexa.measure, mexa.name) == ("MEXA, best layer", "eng_kor")
    assert (mexa.before, mexa.after, mexa.change) == ("0.100", "0.450", "+0.350")
    assert (mexa.verdict, mexa.note) == ("better", "100 pairs")
    assert (gap.measure, gap.note) == ("gap of cosines, middle layers", "layers 1 to 2")
    assert (gap.before, gap.after, gap.change) == ("0.020", "0.050", "+0.030")
    assert gap.verdict == "better"
    assert [row.verdict for row in kinds.all_rows(after, before)] == ["worse", "worse"]


def test_a_change_within_the_intervals_is_no_verdict():
    few = kinds.all_rows(result(0.1, 0.02, 0.01, 0.03, 10), result(0.4, 0.03, 0.02, 0.04, 10))
    assert [row.verdict for row in few] == ["", ""]
    alone = [*kinds.all_rows({}, result(0.4, 0.03, 0.02, 0.04))]
    assert [(row.before, row.after, row.change) for row in alone] == [
        ("not measured", "0.400", ""), ("not measured", "0.030", ""),
    ]  # fmt: skip
    empty = [*kinds.all_rows({}, {"alignment": {"eng_kor": {}}})]
    assert [row.after for row in empty] == ["not measured", "not measured"]


def test_a_table_by_layer_has_both_models_beside_each_other():
    results = {"before": result(0.1, 0.02, 0, 1), "after": result(0.45, 0.05, 0, 1)}
    results = {when: of["alignment"]["eng_kor"] for when, of in results.items()}
    columns, rows = alignment_page.by_layer(results, "weighted")
    assert columns[:3] == ["layer", "gap before", "gap after"]
    assert [row[0] for row in rows] == ["0", "1", "2", "max", "mean"]
    assert rows[1][:3] == ["1", "0.020", "0.050"]
    at = columns.index("MEXA before")
    assert [row[at : at + 2] for row in rows[3:]] == [["0.100", "0.450"]] * 2
    assert rows[1][columns.index("CKA after")] == ""
    assert alignment_page.by_layer(results, "last")[1] == []


# ---------------------------------------------------------------------------- lrl align
def align(folder, measured, *more):
    entry = measured[0]
    return main.main(["align", str(folder), "--texts", entry.source, entry.target, *more])


def test_lrl_align_prints_a_table_and_writes_json_and_a_page(folder, measured, tmp_path, capsys):
    out = tmp_path / "out"
    assert align(folder, measured, "--base", str(folder), "--out", str(out)) == 0
    got = json.loads((out / "alignment.json").read_text())
    want = measured[1]["alignment"]["eng_kor"]
    assert got["before"] == got["after"]
    for scores, same in zip(
        got["after"]["poolings"]["mean"]["layers"], want["poolings"]["mean"]["layers"], strict=True
    ):
        assert scores == pytest.approx(same, abs=3e-6)
    assert (got["texts"], got["models"]["before"]) == (
        [measured[0].source, measured[0].target], str(folder),
    )  # fmt: skip
    said = capsys.readouterr()
    assert "weighted mean of tokens" in said.out
    assert f"{got['after']['poolings']['weighted']['layers'][2]['gap']:.3f}" in said.out
    assert "align: 1 sentences are longer than the model reads here and were cut" in said.err
    page = (out / "index.html").read_text()
    assert page.count("<svg") == 2
    assert "linear CKA" in page


def test_the_same_file_twice_scores_1_and_it_is_said(folder, tmp_path, capsys):
    a = write(tmp_path / "a", "a b c", "ab", "c c c b")
    args = ["align", str(folder), "--texts", a, a, "--out", str(tmp_path / "o")]
    assert main.main([*args, "--pooling", "last"]) == 0
    got = json.loads((tmp_path / "o/alignment.json").read_text())["after"]
    for scores in got["poolings"].values():
        assert scores["layers"][2]["cka"] == pytest.approx(1, abs=1e-6)
        assert scores["layers"][2]["mexa"] == scores["layers"][2]["accuracy_forward"] == 1
    said = capsys.readouterr()
    assert "last token" in said.out
    assert "all sentences are the same as their translation, which scores 1" in said.err


def test_lrl_align_says_what_is_wrong_before_it_reads_a_model(tmp_path, capsys):
    a, b = write(tmp_path / "a", *"abcde"), write(tmp_path / "b", *"abcd")
    assert main.main(["align", "nowhere", "--texts", a, b]) == 3
    assert "has 5 lines and" in capsys.readouterr().err
    assert main.main(["align", "nowhere", "--texts", a, a, "seed=1"]) == 2
    assert "reads no recipe to override" in capsys.readouterr().err
    assert main.main(["align", str(tmp_path), "--texts", a, a, "--base"]) == 2
    assert "has no base model to compare with" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_give_the_alignment_of_one(folder, measured, tmp_path):
    with socket.socket() as s:
        s.bind(("localhost", 0))
        address = f"localhost:{s.getsockname()[1]}"
    entry, want = measured
    args = ["align", str(folder), "--texts", entry.source, entry.target, "--processes", "2"]
    args += ["--coordinator", address]
    children = []
    for i in range(2):
        own = ["--process-id", str(i), "--out", str(tmp_path / f"{i}")]
        env = {**os.environ, "JAX_PLATFORMS": "cpu"}
        children.append(
            forked.Forked("lrl_jax.cli", [*args, *own], tmp_path / f"said-{i}", env=env)
        )
    assert [child.wait(300) for child in children] == [0, 0], children[0].said()
    assert not (tmp_path / "1").exists()  # process 0 alone writes
    got = json.loads((tmp_path / "0/alignment.json").read_text())["after"]
    for pooling, scores in got["poolings"].items():
        same = want["alignment"]["eng_kor"]["poolings"][pooling]["layers"]
        for layer, other in zip(scores["layers"], same, strict=True):
            assert layer == pytest.approx(other, abs=3e-6)
