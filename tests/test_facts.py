"""What a card says of data and scores: sources without paths, intervals that hold the score."""

from types import SimpleNamespace

import pytest
import worker_train as tiny

from lrl_jax.evaluate.benchmark import paired
from lrl_jax.pipeline import perform
from lrl_jax.pipeline.hub import facts
from lrl_jax.recipe.data import Data


def dataset(**fields):
    said = {"kind": "text", "language": "kor_Hang"} | fields
    return Data(sequence_length=8, datasets={"d": said}).datasets["d"]


@pytest.mark.parametrize(
    ("fields", "want"),
    [
        ({"path": ["/home/me/corpus/a.txt", "gs://bucket/me/b.jsonl"]}, "a.txt, b.jsonl"),
        ({"path": [f"x/{i}.txt" for i in range(6)]}, "0.txt, 1.txt, 2.txt, 3.txt and 2 more"),
        ({"path": ["sample:mono.kor"]}, "the sample, mono.kor"),
        ({"hub": {"dataset": "org/web"}}, "org/web"),
        ({"hub": {"dataset": "org/web", "config": "ko", "revision": "v2"}}, "org/web ko at v2"),
        ({"hub": {"dataset": "/home/me/web"}}, "web"),
        ({"tfds": {"builder": "wiki/ko:1.0.0"}}, "TFDS wiki/ko:1.0.0"),
    ],
)
def test_a_source_names_no_folder_of_this_machine(fields, want):
    assert facts.source(dataset(**fields)) == want


def test_an_interval_holds_its_score_and_needs_two_lines():
    low, high = facts._of_ratio([2.0, 6.0, 4.0, 9.0], [2.0, 3.0, 4.0, 3.0])
    assert 1.0 <= low < 21 / 12 < high <= 3.0
    assert facts._of_ratio([1.0], [2.0]) is None
    same = ["a cat sat", "the dog ran", "no"]
    signature = "nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.5"
    assert paired.interval_of_texts(signature, same, same) == (100.0, 100.0)
    low, high = paired.interval_of_texts(signature, same, ["a cat sat", "xyz", "no"])
    assert 0 <= low < high <= 100


def test_licences_and_trackers_are_left_out_of_what_older_recipes_said():
    assert not {"license", "origin"} & dataset(path=["a.txt"]).model_dump().keys()
    assert dataset(path=["a.txt"], license="mit").model_dump()["license"] == "mit"
    plain = tiny.settings(steps=4)
    assert "tracker" not in plain.model_dump()

    shown = plain.model_copy(update={"tracker": "wandb"})
    runs = [SimpleNamespace(recipe=SimpleNamespace(train=train)) for train in (plain, shown)]
    digests = {perform.settings_digest(run, "train") for run in runs}
    assert len(digests) == 1
