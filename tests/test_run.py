"""A step is skipped, resumed or refused by what it was made from."""

import dataclasses
import json
import os
import shutil
import socket

import jax.numpy as jnp
import pytest
from small_run import finish, small_run, writes

from lrl_jax.devices.lease import InUseError
from lrl_jax.pipeline import inputs, notes, run
from lrl_jax.pipeline.notes import MismatchError
from lrl_jax.pipeline.perform import Team, perform
from lrl_jax.recipe import file as recipe_file
from lrl_jax.train.checkpoint import CheckpointMismatchError, Checkpoints, VerificationError


@pytest.fixture
def small(tmp_path):
    return small_run(tmp_path)


def work_counting(calls):
    def work(this):
        calls.append(this.recipe.name)
        (this.at("vocab") / "made").write_text("x")

    return work


def test_a_finished_step_is_skipped_while_its_inputs_stay(small):
    calls = []
    assert perform(small(), "vocab", work_counting(calls))
    assert not perform(small(), "vocab", work_counting(calls))
    assert len(calls) == 1


def dies(this):
    (this.at("vocab") / "half").write_text("x")
    raise RuntimeError("cut short")


def test_a_step_that_failed_begins_anew_from_whatever_the_recipe_says_now(small):
    with pytest.raises(RuntimeError):
        perform(small(), "vocab", dies)
    small.text.write_text("mended\n")
    calls = []
    assert perform(small("vocab.size=301"), "vocab", work_counting(calls))
    assert calls == ["small"]
    assert not (small().at("vocab") / "half").exists()


@pytest.mark.parametrize("step", ["data", "train"])
def test_what_packing_or_training_has_done_so_far_is_kept_when_it_is_cut_short(small, step):
    for earlier in ("vocab", "init", "data")[: 1 if step == "data" else 3]:
        perform(small(), earlier, lambda this: None)

    def cut_short(this):
        (this.at(step) / "half").write_text("x")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        perform(small(), step, cut_short)
    assert perform(small(), step, lambda this: None)
    assert (small().at(step) / "half").exists()


def test_finished_items_of_tasks_are_kept_unless_the_step_is_made_anew(small):
    finish(small)
    other = f'evaluate.bits_per_byte={{t: "{small.text}"}}'
    items, left = small().at("evaluate") / "items/after/x.jsonl", small().at("evaluate") / "x.part"

    def work(this):
        items.parent.mkdir(parents=True, exist_ok=True)
        items.write_text("{}")
        left.write_text("x")

    perform(small(other), "evaluate", work, redo=True)
    assert items.exists()
    perform(small(), "evaluate", lambda this: None, redo=True)  # made anew as its inputs changed
    assert items.exists()
    assert not left.exists()
    perform(small(), "evaluate", lambda this: None, force=True)
    assert not items.exists()


def test_text_may_move_but_not_change(small, tmp_path):
    perform(small(), "vocab", work_counting([]))
    moved = tmp_path / "elsewhere.txt"
    small.text.rename(moved)
    assert not perform(small(f'vocab.text=["{moved}"]'), "vocab", work_counting([]))
    moved.write_text("two\n")
    with pytest.raises(MismatchError, match=r"vocab.text.0 \(.*elsewhere.txt\)"):
        perform(small(f'vocab.text=["{moved}"]'), "vocab", work_counting([]))


def test_a_setting_without_a_value_is_as_none_and_one_with_a_value_is_not():
    now = {"pieces": 60, "new": {"words": None, "drift": 0.0}, "text": ["", "a"], "marks": {}}
    assert inputs._digest(now) == inputs._digest({"pieces": 60, "text": ["", "a"], "new": {}})
    assert inputs._digest(now) != inputs._digest(now | {"new": {"drift": 1.0}})
    assert inputs._digest({"text": ["", "a"]}) != inputs._digest({"text": ["a"]})


def test_data_follows_the_recipe_without_a_flag(small):
    for step in ("vocab", "data"):
        perform(small(), step, lambda this: None)
    assert perform(small("data.sequence_length=16"), "data", lambda this: None)


@pytest.mark.parametrize(
    ("file", "step"),
    [
        ("vocab/tokenizer.json", "init"),
        ("vocab/splice.json", "init"),
        ("vocab/tokenizer.json", "evaluate"),
        ("init/config.json", "train"),
        ("init/config.json", "export"),
        ("data/datasets.json", "train"),
        ("data/t/0/manifest.json", "train"),
        ("data/t/0/order.npy", "train"),
        ("train/checkpoints/3/meta/metadata", "evaluate"),
        ("evaluate/after.json", "export"),
        ("evaluate/items/after/bits/k.jsonl", "export"),
    ],
)
@pytest.mark.parametrize("damage", ["changed", "removed"])
def test_a_file_that_is_not_what_its_step_wrote_is_named_before_it_is_used(
    small, file, step, damage
):
    finish(small)
    path = small().folder / file
    path.write_text("other") if damage == "changed" else path.unlink()
    with pytest.raises(VerificationError, match=rf"{path.name}: (has changed|is missing)") as error:
        perform(small(), step, lambda this: None)
    assert error.value.exit_code == 5


@pytest.mark.parametrize("name", ["3.bak", "4.orbax-checkpoint-tmp-1", "2.unverified"])
def test_what_lies_beside_checkpoints_is_none_of_them(small, name):
    finish(small)
    beside = writes({f"train/checkpoints/{name}/meta/metadata": "x"})
    perform(small(), "train", beside, force=True, discard=True)
    assert notes.read(small().folder / "steps/train.json").outputs == {}


@pytest.mark.parametrize("step", ["evaluate", "vocab"])
def test_a_step_whose_own_files_are_gone_is_not_called_done(small, step):
    finish(small)
    shutil.rmtree(small().at(step))
    with pytest.raises(VerificationError, match="is missing"):
        perform(small(), step, lambda this: None)


def test_a_step_that_was_not_trained_removes_no_results(small):
    finish(small)
    this = dataclasses.replace(small(), step=77)
    with pytest.raises(ValueError, match=r"--step 77: there is no .*checkpoints/77"):
        perform(this, "evaluate", lambda this: None, force=True)
    assert (small().at("evaluate") / "after.json").exists()


def test_a_text_may_have_the_name_of_an_input(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vocab").write_text("one\n")
    for step in ("vocab", "init", "data", "train"):
        perform(small('data.datasets.t.path=["vocab"]'), step, lambda this: None)
    assert not perform(small('data.datasets.t.path=["vocab"]'), "train", lambda this: None)


def test_what_is_written_for_people_may_change(small):
    finish(small)
    (small().at("vocab") / "proof.json").write_text("x")
    assert not perform(small(), "init", lambda this: None)


def test_redo_makes_anew_only_what_changed_and_keeps_training(small):
    finish(small)
    other = 'evaluate.bits_per_byte={t: "' + str(small.text) + '"}'
    with pytest.raises(MismatchError, match=r"changed: evaluate"):
        perform(small(other), "evaluate", lambda this: None)
    ran = [
        step
        for step in ("vocab", "init", "data", "train", "evaluate")
        if perform(small(other), step, lambda this: None, redo=True)
    ]
    assert ran == ["evaluate"]
    assert (small().at("train") / "checkpoints/3").exists()


def test_training_on_other_weights_is_set_aside_only_where_that_is_said(small):
    finish(small)
    perform(small("seed=5"), "init", writes({"init/config.json": "2"}), redo=True)
    perform(small("seed=5"), "data", writes({"data/datasets.json": "{}"}))
    with pytest.raises(MismatchError, match=r"began with other weights.*--discard-training"):
        perform(small("seed=5"), "train", lambda this: None, redo=True)
    assert (small().at("train") / "checkpoints/3").exists()
    assert perform(small("seed=5"), "train", lambda this: None, discard=True)
    assert (small().folder / "train.aside-1/checkpoints/3/meta/metadata").read_text() == "m"
    assert not (small().at("train") / "checkpoints").exists()


@pytest.mark.parametrize(
    "edits",
    [
        ('data.datasets.u={{kind: text, path: ["{text}"], language: eng_Latn}}',),
        ("data.datasets.t.max_epochs=9",),
        ('vocab.text=["{moved}"]', 'data.datasets.t.path=["{moved}"]'),
    ],
    ids=["a dataset more", "more epochs", "moved text"],
)
def test_a_training_that_was_cut_short_goes_on_after_edits_of_its_data(small, tmp_path, edits):
    for step, text in (("vocab", "tokenizer.json"), ("init", "config.json"), ("data", "t.json")):
        perform(small(), step, writes({f"{step}/{text}": "1"}))

    def cut_short(this):
        writes({"train/checkpoints/3/meta/metadata": "m"})(this)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        perform(small(), "train", cut_short)
    moved = tmp_path / "moved.txt"
    moved.write_text(small.text.read_text())
    edited = small(*(edit.format(text=small.text, moved=moved) for edit in edits))
    assert not perform(edited, "vocab", dies)
    assert not perform(edited, "init", dies)
    assert perform(edited, "data", writes({"data/t.json": "packed anew"}))
    found = []
    assert perform(edited, "train", lambda this: found.extend(this.at("train").glob("*/*/*/*")))
    assert [path.read_text() for path in found] == ["m"]


def test_training_done_again_keeps_what_is_trained_unless_it_is_to_be_discarded(small, capsys):
    finish(small)
    assert not perform(small(), "train", lambda this: None, discard=True)
    assert "nothing is set aside" in capsys.readouterr().err
    assert perform(small(), "train", lambda this: None, force=True)
    assert (small().at("train") / "checkpoints/3").exists()
    assert perform(small(), "train", lambda this: None, force=True, discard=True)
    assert not (small().at("train") / "checkpoints").exists()
    assert (small().folder / "train.aside-1/checkpoints/3").exists()


@pytest.mark.parametrize("refusal", [MismatchError("another scale"), ValueError("another mesh")])
@pytest.mark.parametrize("step", ["data", "train", "evaluate"])
def test_a_step_that_refuses_a_recipe_is_as_finished_as_before(small, step, refusal):
    finish(small)
    other = {
        "data": "data.sequence_length=16", "train": "train.ema=0.5",
        "evaluate": f"evaluate.bits_per_byte={{t: '{small.text}'}}",
    }[step]  # fmt: skip

    def refuses(this):
        raise refusal

    def breaks(this):
        raise RuntimeError

    with pytest.raises(type(refusal), match="another"):
        perform(small(other), step, refuses, redo=True)
    assert not perform(small(), step, lambda this: None)
    with pytest.raises(RuntimeError):
        perform(small(other), step, breaks, redo=True)
    assert perform(small(), step, lambda this: None)


def test_training_that_saved_before_it_refused_is_not_what_was_finished(small):
    finish(small)

    def saves_and_refuses(this):
        writes({"train/checkpoints/4/meta/metadata": "n"})(this)
        raise ValueError("too late")

    with pytest.raises(ValueError, match="too late"):
        perform(small("train.ema=0.5"), "train", saves_and_refuses)
    assert perform(small(), "train", lambda this: None)


@pytest.mark.parametrize("how", [{"force": True}, {"redo": True}])
def test_results_of_an_evaluation_stand_until_there_are_new_ones(small, how):
    finish(small)
    other = f"evaluate.bits_per_byte={{t: '{small.text}'}}"
    results, items = small().at("evaluate") / "after.json", "items/after/bits/k.jsonl"
    earlier = results.parent.with_name("evaluate.earlier")

    def refuses_late(this):
        assert not results.exists()
        writes({"evaluate/after.json": "half", "evaluate/x": "x"})(this)
        raise ValueError("no such language")

    with pytest.raises(ValueError, match="no such language"):
        perform(small(other), "evaluate", refuses_late, **how)
    assert results.read_text() == (results.parent / items).read_text() == "{}"
    assert not earlier.exists()
    assert not perform(small(), "evaluate", lambda this: None)
    perform(small(other), "evaluate", writes({"evaluate/after.json": "new"}), **how)
    assert results.read_text() == "new"
    assert not earlier.exists()


def test_results_of_an_evaluation_outlive_an_error_of_ours(small):
    finish(small)
    results = small().at("evaluate") / "after.json"

    def breaks(this):
        assert not results.exists()
        raise KeyError("kor_Hangg")

    with pytest.raises(KeyError):
        perform(small(), "evaluate", breaks, force=True)
    assert results.read_text() == "{}"
    assert perform(small(), "evaluate", lambda this: None)


def test_results_of_an_evaluation_outlive_one_that_was_killed(small):
    finish(small)
    results = small().at("evaluate") / "after.json"

    def killed(this):
        writes({"evaluate/after.json": "half"})(this)
        raise KeyboardInterrupt

    def refuses(this):
        raise ValueError("bad text")

    with pytest.raises(KeyboardInterrupt):
        perform(small(), "evaluate", killed, force=True)
    with pytest.raises(ValueError, match="bad text"):
        perform(small(), "evaluate", refuses)
    assert results.read_text() == "{}"


@pytest.mark.parametrize("how", [{"force": True}, {}])
def test_packing_uses_nothing_again_that_has_changed(small, how, capsys):
    finish(small)
    (small().at("data") / "datasets.json").write_text("{ }")
    left = []
    change = () if how else ("data.sequence_length=16",)

    def lists(this):
        left.extend(path.name for path in this.at("data").iterdir())

    perform(small(*change), "data", lists, **how)
    assert left == ["t"]  # whose files are as they were
    assert "data/datasets.json is not what `lrl data` wrote" in capsys.readouterr().err


def test_a_step_whose_base_was_made_anew_is_not_used(small):
    finish(small)
    perform(small("vocab.size=301"), "vocab", writes({"vocab/tokenizer.json": "u"}), redo=True)
    with pytest.raises(MismatchError, match="init was made from another vocab"):
        perform(small("vocab.size=301"), "evaluate", lambda this: None, redo=True)


def test_a_note_of_an_earlier_version_is_taken_over_and_completed(small, capsys):
    finish(small)
    path = small().folder / "steps" / "init.json"
    note = json.loads(path.read_text())
    del note["outputs"]
    path.write_text(json.dumps(note | {"inputs": {"base": "as it was hashed then"}}))
    assert not perform(small(), "init", lambda this: None)
    assert "of an earlier version" in capsys.readouterr().err
    assert json.loads(path.read_text())["outputs"].keys() == {"config.json"}
    assert not perform(small(), "evaluate", lambda this: None)


def test_changed_text_is_refused_by_name_and_redone_on_demand(small):
    perform(small(), "vocab", work_counting([]))
    small.text.write_text("two\n")
    with pytest.raises(MismatchError, match=r"changed: .*t.txt.*--redo") as error:
        perform(small(), "vocab", work_counting([]))
    assert error.value.exit_code == 4
    (small().at("vocab") / "stale").write_text("x")
    assert perform(small(), "vocab", work_counting([]), redo=True)
    assert not (small().at("vocab") / "stale").exists()


def test_a_changed_field_of_the_recipe_is_a_changed_input(small):
    perform(small(), "vocab", work_counting([]))
    with pytest.raises(MismatchError, match="changed: vocab"):
        perform(small("vocab.size=301"), "vocab", work_counting([]))


def test_more_steps_make_a_finished_training_due_again(small):
    def work(this):
        pass

    for step in ("vocab", "init", "data", "train"):
        perform(small(), step, work)
    assert not perform(small(), "train", work)
    assert perform(small("train.stages.0.steps=2"), "train", work)


def test_the_folder_of_an_export_is_not_there_before_it_is_proved(small):
    for step in ("vocab", "init", "data", "train"):
        perform(small(), step, lambda this: None)

    def fails_its_gate(this):
        assert not this.at("export").exists()
        raise VerificationError("the export is not the model")

    with pytest.raises(VerificationError):
        perform(small(), "export", fails_its_gate)
    assert not small().at("export").exists()


def test_only_the_lead_writes_and_the_others_meet_it(small):
    met, calls = [], []
    follower = Team(lead=False, meet=met.append)
    assert perform(small(), "vocab", work_counting(calls), team=follower)
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
    with pytest.raises(MismatchError, match=r"vocab.json: does not say .*remove the file"):
        perform(this, "vocab", lambda _: None)


def test_a_step_wants_the_one_before_it(small):
    with pytest.raises(MismatchError, match="vocab is not finished; run `lrl vocab` first"):
        perform(small(), "data", work_counting([]))


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


# ---------------------------------------------------------------------------- the batch size
def saved(this, step, **train):
    """Saves a checkpoint of training, as `lrl_jax.train` does, with this section of the recipe."""
    with Checkpoints(this.at("train") / "checkpoints", keep=9) as checkpoints:
        checkpoints.save(step, {"w": jnp.zeros(1)}, {"train": train})


def test_steps_count_the_batch_size_with_which_training_began(small):
    longer = "train.stages.0.steps=12"
    assert run.counted(small("train.batch_size=6")).train.rows_per_step == 6
    saved(small(), 3, batch_size=4)  # as earlier versions did
    assert run.counted(small("train.batch_size=6", longer)).train.rows_per_step == 4
    assert run.resolved(small("train.batch_size=6", longer)).train.ends == (48,)
    assert run.counted(small("train.batch_size=4")) == small("train.batch_size=4").recipe
    assert run.counted(small("train.step_rows=5")).train.rows_per_step == 5
    saved(small(), 5, batch_size=6, step_rows=4)
    saved(small(), 7, batch_size=1, step_rows=1)
    newest = small().at("train") / "checkpoints" / "7" / "meta" / "metadata"
    newest.write_text(newest.read_text().replace("batch_size", "butch_size"))  # does not verify
    assert run.counted(small("train.batch_size=8")).train.rows_per_step == 4
    with run.locked(small("train.batch_size=8")):
        text = (small().folder / "recipe.yaml").read_text()
    assert "step_rows: 4" in text


def test_notes_of_training_are_those_of_recipes_without_step_rows(small):
    """So that a training that an earlier version finished is still finished."""
    for earlier in ("vocab", "init", "data", "train"):
        perform(small(), earlier, lambda this: None)
    note = json.loads((small().folder / "steps" / "train.json").read_text())
    train = small().recipe.train.model_dump_json(exclude={"step_rows", "stall_seconds"})
    assert note["settings"] == notes.digest(train)
    assert not perform(small(), "train", lambda this: None)
    assert perform(small("train.step_rows=2"), "train", lambda this: None)


@pytest.mark.parametrize("changed", ["alpha=9", "rank_stabilised=true"])
@pytest.mark.parametrize("step", ["evaluate", "export"])
def test_adapters_of_another_scale_are_refused_before_results_are_removed(small, step, changed):
    adapters = "train.lora={rank: 4, alpha: 8}"
    finish(small, adapters)
    saved(small(), 5, batch_size=1, lora={"rank": 4, "alpha": 8.0, "rank_stabilised": False})
    with pytest.raises(CheckpointMismatchError, match=f"train.lora.{changed[:5]}.* was ") as error:
        perform(small(adapters, f"train.lora.{changed}"), step, lambda this: None, redo=True)
    assert error.value.exit_code == 4
    assert (small().at("evaluate") / "after.json").exists()
    assert notes.read(small().folder / "steps/evaluate.json").finished


@pytest.mark.parametrize("redo", [False, True])
def test_a_task_that_there_is_not_is_named_and_earlier_results_stay(small, redo):
    finish(small)
    perform(small(), "evaluate", lambda this: (this.at("evaluate") / "after.json").write_text("{}"))
    with pytest.raises(ValueError, match="no task 'xcopa_xx'; did you mean 'xcopa'"):
        perform(small("evaluate.tasks.t=xcopa_xx"), "evaluate", lambda this: None, redo=redo)
    assert (small().at("evaluate") / "after.json").exists()
    assert not perform(small(), "evaluate", lambda this: None)
