"""A step is skipped, resumed or refused by what it was made from."""

import json
import os
import socket

import pytest

from lrl_jax.pipeline import run
from lrl_jax.pipeline.lease import InUseError
from lrl_jax.recipe import file as recipe_file

RECIPE = """
name: small
folder: {folder}
base: {{shape: {{hidden_size: 8, num_hidden_layers: 1, intermediate_size: 8,
        num_attention_heads: 1, num_key_value_heads: 1}}}}
vocab: {{method: train, text: ["{text}"], size: 300}}
data:
  sequence_length: 8
  datasets: {{t: {{kind: text, path: ["{text}"], language: eng_Latn}}}}
train:
  batch_size: 1
  stages:
    - {{name: a, steps: 1, mixture: {{t: 1}}, learn: [{{match: ".*", schedule: {{peak: 1}}}}]}}
"""


@pytest.fixture
def small(tmp_path):
    (tmp_path / "t.txt").write_text("one\n")
    path = tmp_path / "small.yaml"
    path.write_text(RECIPE.format(folder=tmp_path / "runs", text=tmp_path / "t.txt"))

    def make(*overrides):
        return run.Run(recipe_file.load(str(path), overrides))

    make.text = tmp_path / "t.txt"
    return make


def work_counting(calls):
    def work(this):
        calls.append(this.recipe.name)
        (this.at("vocab") / "made").write_text("x")

    return work


def test_a_finished_step_is_skipped_while_its_inputs_stay(small):
    calls = []
    assert run.perform(small(), "vocab", work_counting(calls))
    assert not run.perform(small(), "vocab", work_counting(calls))
    assert len(calls) == 1


def test_a_step_cut_short_is_taken_up_again_with_what_it_left(small):
    def dies(this):
        (this.at("vocab") / "half").write_text("x")
        raise RuntimeError("cut short")

    with pytest.raises(RuntimeError):
        run.perform(small(), "vocab", dies)
    calls = []
    assert run.perform(small(), "vocab", work_counting(calls))
    assert (small().at("vocab") / "half").exists()


def test_changed_text_is_refused_by_name_and_redone_on_demand(small):
    run.perform(small(), "vocab", work_counting([]))
    small.text.write_text("two\n")
    with pytest.raises(run.MismatchError, match=r"changed: .*t.txt.*--redo") as error:
        run.perform(small(), "vocab", work_counting([]))
    assert error.value.exit_code == 4
    (small().at("vocab") / "stale").write_text("x")
    assert run.perform(small(), "vocab", work_counting([]), redo=True)
    assert not (small().at("vocab") / "stale").exists()


def test_a_changed_field_of_the_recipe_is_a_changed_input(small):
    run.perform(small(), "vocab", work_counting([]))
    with pytest.raises(run.MismatchError, match="changed: vocab"):
        run.perform(small("vocab.size=301"), "vocab", work_counting([]))


def test_more_steps_make_a_finished_training_due_again(small):
    def work(this):
        pass

    for step in ("vocab", "init", "data", "train"):
        run.perform(small(), step, work)
    assert not run.perform(small(), "train", work)
    assert run.perform(small("train.stages.0.steps=2"), "train", work)


def test_only_the_lead_writes_and_the_others_meet_it(small):
    met, calls = [], []
    follower = run.Team(lead=False, meet=met.append)
    assert run.perform(small(), "vocab", work_counting(calls), team=follower)
    assert calls == []
    assert not small().at("vocab").exists()
    assert len(met) == 4


@pytest.mark.parametrize(
    "note", ["{", "[]", '{"finished": true}', '{"finished": 1, "inputs": 3, "settings": ""}']
)
def test_a_note_that_is_half_written_is_refused_by_its_name(small, note):
    this = small()
    path = this.folder / "steps" / "vocab.json"
    path.parent.mkdir(parents=True)
    path.write_text(note)
    with pytest.raises(run.MismatchError, match=r"vocab.json: does not say .*remove the file"):
        run.perform(this, "vocab", lambda _: None)


def test_a_step_wants_the_one_before_it(small):
    with pytest.raises(run.MismatchError, match="vocab is not finished; run `lrl vocab` first"):
        run.perform(small(), "data", work_counting([]))


def test_a_living_run_holds_its_folder_and_a_dead_one_does_not(small):
    this = small()
    lock = this.folder / "lock.json"
    with run.locked(this):
        assert json.loads(lock.read_text())["pid"] == os.getpid()
    assert not lock.exists()
    parent = {"host": socket.gethostname(), "pid": os.getppid()}
    lock.write_text(json.dumps(parent))
    with pytest.raises(InUseError, match="is in use by process"), run.locked(this):
        pass
    lock.write_text(json.dumps(parent | {"pid": 2**22 + 1}))
    with run.locked(this):
        pass


def test_the_resolved_recipe_lies_in_the_run_folder(small):
    this = small("seed=7")
    with run.locked(this):
        pass
    assert recipe_file.load(str(this.folder / "recipe.yaml")) == this.recipe
