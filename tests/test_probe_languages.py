"""A probe decides by text of the languages that a recipe teaches, whatever it is called."""

import dataclasses

import pytest

from lrl_jax.cli.studies import probe
from lrl_jax.recipe import file as recipe_file


def recipe(texts: dict[str, str], **language: str):
    tree = recipe_file.read_tree(recipe_file.epath.Path(recipe_file._shipped()["quickstart"]))
    tree["evaluate"] = {"bits_per_byte": texts}
    tree["data"]["datasets"] = {
        name: {"kind": "text", "path": [f"{name}.txt"], "language": code}
        for name, code in {"target": "kor_Hang", "english": "eng_Latn", **language}.items()
    }
    tree["train"]["replay"] = {}
    for stage in tree["train"]["stages"]:
        stage["mixture"] = {"target": 1}
        stage.pop("ramp_to", None)
    return recipe_file.parse(tree)


@pytest.mark.parametrize(
    ("name", "uri", "counts"),
    [
        ("kor_Hang", "a.txt", True),
        ("kor_Hang.news", "a.txt", True),
        ("korean-news", "a.txt", True),
        ("test.ko", "a.txt", True),
        ("held_out", "target.txt", True),  # the file of a dataset
        ("stories", "a.txt", False),  # of no language that is known: shown, and not decisive
        ("english", "a.txt", False),
        ("held_out", "english.txt", False),
        ("kor_Hang", "english.txt", True),  # the code that is said goes first
        ("jpn_Jpan", "a.txt", False),  # nothing is taught of it
    ],
)
def test_a_text_decides_by_its_language(name, uri, counts):
    got = probe.in_new_languages(recipe({"eng_Latn": "e.txt", name: uri}))
    assert got == [name] * counts


def test_enga_is_not_english():
    got = probe.in_new_languages(recipe({"enq_Latn": "a", "eng_Latn": "b"}, target="enq_Latn"))
    assert got == ["enq_Latn"]


def test_a_text_that_is_not_of_the_new_language_does_not_decide():
    trial = probe.ProbeTrial(
        "t", 9, "mean", 1, 1, 1, {}, {"ko": 2.0, "stories": 8.0}, (), decisive=["ko"]
    )
    assert trial.sought(trial.after) == 2.0
    other = dataclasses.replace(trial, pieces=4, after={"ko": 3.0, "stories": 1.0})
    assert probe.best([other, trial]) == 1


def test_a_probe_without_text_of_the_new_language_says_which_it_wants(tmp_path):
    from lrl_jax.pipeline.run import Run

    with pytest.raises(ValueError, match=r"text of the new language \(kor\)"):
        probe.probe(Run(recipe({"stories": "a.txt"})), [0], ["mean"], 1)
