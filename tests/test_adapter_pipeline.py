"""The whole pipeline with adapters on a base in four bits, merged and in PEFT's format."""

import json

import numpy as np
import pytest
from small_world import KOREAN, lrl, write_recipes

ALL = 'learn: [{{match: ".*", schedule: {{peak: 1.0e-2, warmup: 2}}}}]'
ADAPTERS = """learn:
        - {{match: lora, schedule: {{peak: 1.0e-2, warmup: 2}}}}
        - {{match: embed, schedule: {{peak: 1.0e-3, warmup: 2}}}}
        - {{match: ".*", schedule: frozen}}
  lora: {{rank: 4, alpha: 8}}
  frozen_dtype: nf4"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A finished run with adapters, and its base."""
    folder = tmp_path_factory.mktemp("world")
    korean = KOREAN.replace(ALL, ADAPTERS)
    assert korean != KOREAN
    for recipe in write_recipes(folder, korean):
        lrl("run", recipe)
    return folder


def test_the_merged_export_is_evaluated_and_passes_its_gate(world):
    gate = json.loads((world / "runs/korean/export/gate.json").read_text())
    assert gate["passed"]
    config = json.loads((world / "runs/korean/export/config.json").read_text())
    assert config["vocab_size"] > json.loads(
        (world / "runs/base/export/config.json").read_text()
    )["vocab_size"]  # fmt: skip
    after = json.loads((world / "runs/korean/evaluate/after.json").read_text())
    assert np.isfinite(after["bits_per_byte"]["kor_Hang"]["bits_per_byte"])
    recipe = str(world / "korean.yaml")
    for step, change in (("evaluate", "alpha=9"), ("export", "rank_stabilised=true")):
        got = lrl(step, recipe, f"train.lora.{change}", "--redo", code=4)
        assert f"at another rank or scale: train.lora.{change.split('=')[0]} was " in got.stderr
    assert json.loads((world / "runs/korean/evaluate/after.json").read_text()) == after
    assert json.loads((world / "runs/korean/export/gate.json").read_text()) == gate


def test_the_same_run_leaves_as_an_adapter_that_peft_loads(world):
    recipe = str(world / "korean.yaml")
    lrl("export", recipe, "export.form=adapter", "--redo")
    folder = world / "runs/korean/export"
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(world / "runs/base/export")
    assert config["modules_to_save"] == ["embed_tokens", "lm_head"]
    assert not (folder / "config.json").exists()
    gate = json.loads((folder / "gate.json").read_text())
    assert gate["passed"]
    peft = pytest.importorskip("peft", reason="the adapter is loaded where peft is installed")
    model = peft.AutoPeftModelForCausalLM.from_pretrained(folder)  # the longer vocabulary too
    assert gate["transformers_error"] < 1e-4
    assert model.get_base_model().get_input_embeddings().weight.shape[0] > 340


def test_an_instruct_vector_is_added_at_export(world):
    base = world / "runs/base/export"
    pair = f"{{instruct: {base}, base: {base}}}"  # of equal models: nothing is added
    got = lrl("export", str(world / "korean.yaml"), f"export.vector={pair}", "--redo")
    assert "same tokens" in got.stderr
    got = lrl("export", str(world / "korean.yaml"), f"export.vector={pair}",
              "export.form=adapter", "--redo", code=2)  # fmt: skip
    assert "use form: merged" in got.stderr


def test_what_adapters_cannot_be_is_told_by_check(world):
    got = lrl("check", str(world / "korean.yaml"), "train.lora.match=attention", code=3)
    assert "train.lora: lora.match: 'attention' finds no weight of a layer" in got.stderr


def test_a_run_begins_with_an_adapter_on_its_base(world):
    recipe, adapter = str(world / "korean.yaml"), world / "runs/korean/export"
    lrl("export", recipe, "export.form=adapter", "export.dtype=float32", "--redo")
    stage = (
        '{name: more, steps: 2, mixture: {korean: 1}, learn: [{match: ".*", schedule: '
        "{peak: 1.0e-3}}]}"
    )
    more = [recipe, "name=more", f"base.adapter={adapter}", "vocab={method: keep}",
            "train.lora=null", "train.frozen_dtype=as_is", f"train.stages=[{stage}]"]  # fmt: skip
    lrl("check", *more)
    got = lrl("run", *more)
    base = world / "runs/base/export"
    assert f"init: {adapter}: an adapter of rank 4 for {base}, merged" in got.stderr
    was, begins = (
        json.loads((world / path).read_text())["bits_per_byte"]
        for path in ("runs/korean/evaluate/after.json", "runs/more/evaluate/before.json")
    )
    for language, score in was.items():
        want = score["bits_per_byte"]
        assert begins[language]["bits_per_byte"] == pytest.approx(want, rel=1e-5)
    assert json.loads((world / "runs/more/export/gate.json").read_text())["passed"]
    card = (world / "runs/more/export/README.md").read_text()
    assert "a model kept in a local folder, with the adapter kept in a local folder" in card
    got = lrl("check", *more, "export.form=adapter", "train.lora={rank: 4}", code=2)
    assert "began with base.adapter on it; use form: merged" in got.stderr
    got = lrl("check", *more, f"base.adapter={base}", code=3)
    assert f"base.adapter: {base / 'adapter_config.json'}: no such file" in got.stderr
