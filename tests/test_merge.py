"""Merged models: means and task arithmetic of exports, proved as an export is."""

import contextlib
import dataclasses
import json
from pathlib import Path
import re
import shutil

import hand_tokenizer
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
import tiny_llama

from lrl_jax.cli.main import main
from lrl_jax.hf import gate, load, merge, save, shards
from lrl_jax.vocab.tokenizer.load import family
from lrl_jax.vocab.tokenizer.types import Tokenizer

BASE = hand_tokenizer.make()
CFG = dataclasses.replace(tiny_llama.CFG, vocab_size=BASE.size)
CONFIG = {"bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 64}
WHOLE = 10**9


def write(folder: Path, seed: int, cfg=CFG, tokenizer: Tokenizer = BASE, dtype="float32") -> Path:
    save.save(folder, tiny_llama.params(cfg, seed), cfg, CONFIG, dtype, WHOLE)
    family(tokenizer).write(tokenizer, str(folder))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[Path]:
    top = tmp_path_factory.mktemp("models")
    return [write(top / name, seed) for seed, name in enumerate(("a", "b", "c"))]


def merged(out: Path, models, weights, base=None, most=WHOLE) -> dict[str, np.ndarray]:
    """The tensors of a merge, as they are read from its files."""
    out.mkdir()
    with contextlib.ExitStack() as stack:
        merge.write(merge.opened(models, weights, base, stack), out, most)
    files = sorted(out.glob("*.safetensors"))
    return {name: w for path in files for name, w in load_file(path).items()}


def tensors(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "model.safetensors")


# ---------------------------------------------------------------------------- arithmetic
def test_a_mean_weighs_every_tensor(folders, tmp_path):
    got = merged(tmp_path / "out", folders, (0.5, 0.3, 0.2))
    a, b, c = map(tensors, folders)
    assert got.keys() == a.keys()
    for name, w in got.items():
        want = 0.5 * a[name].astype(np.float64) + 0.3 * b[name] + 0.2 * c[name]
        np.testing.assert_allclose(w, want, atol=1e-6)


def test_a_task_adds_weighted_differences_to_the_base(folders, tmp_path):
    base, b, c = map(tensors, folders)
    got = merged(tmp_path / "out", folders[1:], (0.5, -2.0), base=folders[0])
    for name, w in got.items():
        want = base[name] + 0.5 * (b[name] - base[name]) - 2 * (c[name] - base[name])
        np.testing.assert_allclose(w, want, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.3, 0.7), (0.1, 0.2, 0.7)])
def test_the_mean_of_equal_models_is_the_model_bit_for_bit(tmp_path, dtype, weights):
    model = write(tmp_path / "model", 0, dtype=dtype)
    merged(tmp_path / "out", [model] * len(weights), weights)
    got, want = (path / "model.safetensors" for path in (tmp_path / "out", model))
    assert got.read_bytes() == want.read_bytes()


def test_a_zero_keeps_its_sign(tmp_path):
    model = write(tmp_path / "model", 0)
    held = tensors(model)
    held["model.norm.weight"][:3] = [-0.0, 0.0, -0.0]
    save_file(held, model / "model.safetensors")
    got = merged(tmp_path / "out", [model, model], (0.3, 0.7))["model.norm.weight"]
    assert np.signbit(got[:3]).tolist() == [True, False, True]


def test_pieces_and_several_files_are_the_tensors_written_at_once(folders, tmp_path, monkeypatch):
    want = merged(tmp_path / "one", folders[:2], (0.3, 0.7))
    monkeypatch.setattr(shards, "PIECE", 1 << 9)
    got = merged(tmp_path / "many", folders[:2], (0.3, 0.7), most=30_000)
    assert len([*(tmp_path / "many").glob("model-*.safetensors")]) > 2
    assert (tmp_path / "many/model.safetensors.index.json").exists()
    assert {n: w.tobytes() for n, w in got.items()} == {n: w.tobytes() for n, w in want.items()}


# ---------------------------------------------------------------------------- the verb
def test_the_verb_leaves_a_proved_folder_that_says_what_it_is_made_of(folders, tmp_path, capsys):
    a, b, _ = folders
    out = tmp_path / "soup"
    lines = "a b c abc\ncab bac\n"
    (tmp_path / "text.txt").write_text(lines)
    command = ["merge", str(a), str(b), "--weights", "0.3,0.7", "--out", str(out)]
    assert main([*command, "--texts", str(tmp_path / "text.txt")]) == 0, capsys.readouterr().err
    load.verify(out)
    said = json.loads((out / "gate.json").read_text())
    assert (said["passed"], said["method"]) == (True, "mean")
    assert [model["weight"] for model in said["models"]] == [0.3, 0.7]
    page = (out / "README.md").read_text()
    for folder, weight in ((a, "0.3"), (b, "0.7")):
        assert f"{folder.parent.name}/{folder.name} | {weight} | `{merge.digest(folder)}` |" in page
    np.testing.assert_allclose(
        tensors(out)["model.norm.weight"],
        0.3 * tensors(a)["model.norm.weight"] + 0.7 * tensors(b)["model.norm.weight"],
        atol=1e-6,
    )
    assert "base_model" not in page  # no hub id among them
    assert [path.name for path in tmp_path.iterdir() if "soup" in path.name] == ["soup"]
    assert main(command) == 2
    assert "is there already" in capsys.readouterr().err


def test_a_folder_that_fails_the_gate_never_looks_finished(folders, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gate, "TOLERANCE", -1.0)
    (tmp_path / "text.txt").write_text("a b c\n")
    command = ["merge", *map(str, folders[:2]), "--out", str(tmp_path / "soup")]
    assert main([*command, "--texts", str(tmp_path / "text.txt")]) == 5
    assert "is not the merged model" in capsys.readouterr().err
    assert not (tmp_path / "soup").exists()
    assert not (tmp_path / "soup.unproved/manifest.json").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("A", "one model is no merge"),
        ("A B --weights 0.5", "1 for 2 models; want one for each"),
        ("A B --weights 0.5,0.6", "together 1.1; those of a mean are 0 or more and together 1"),
        ("A B --weights 1.5,-0.5", "those of a mean are 0 or more"),
        ("A B --weights nan,0.5", "want finite numbers"),
        ("A B --base C", "a mean has no base"),
        ("A B --method task --weights 1,1", "name it with --base"),
        ("A B --method task --base C", "wants a weight for each difference"),
        ("A nowhere", "nowhere: no such folder"),
        ("A B --title T train.steps=3", "reads no recipe to override"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(folders, tmp_path, capsys, arguments, words):
    places = dict(zip("ABC", map(str, folders), strict=True))
    argv = [places.get(word, word) for word in arguments.split()]
    assert main(["merge", *argv, "--out", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []


def test_texts_without_a_line_are_refused_before_anything_is_read(tmp_path, capsys):
    (tmp_path / "blank.txt").write_text("\n \n")
    command = ["merge", "no/model", "no/other", "--out", str(tmp_path / "out")]
    assert main([*command, "--texts", str(tmp_path / "blank.txt")]) == 2
    assert "blank.txt to compare" in capsys.readouterr().err


def refuses(folders, other: Path, words: str) -> None:
    """Opening both is refused in these words."""
    match = re.escape(words)
    with contextlib.ExitStack() as stack, pytest.raises(ValueError, match=match):
        merge.opened([folders[0], other], (0.5, 0.5), None, stack)


def test_another_tokenizer_is_named_with_its_first_difference(folders, tmp_path):
    other = hand_tokenizer.make(controls=("<|im_start|>",))
    folder = write(tmp_path / "chatty", 1, dataclasses.replace(CFG, vocab_size=267), other)
    apart = "token 266 is None in one and '<|im_start|>' in the other"
    refuses(folders, folder, f"chatty have different tokenizers (266 and 267 pieces): {apart}")


def test_another_shape_or_arithmetic_is_named(folders, tmp_path):
    wide = write(tmp_path / "wide", 1, dataclasses.replace(CFG, mlp_width=64))
    refuses(folders, wide, "mlp_width is 48 and 64")
    turned = write(tmp_path / "turned", 1, dataclasses.replace(CFG, rope_theta=7.0))
    refuses(folders, turned, "rope_theta is 100.0 and 7.0")


def test_another_dtype_is_named(folders, tmp_path):
    half = write(tmp_path / "half", 1, dtype="bfloat16")
    refuses(folders, half, "its dtype is F32 in ")


def test_an_adapter_is_no_model(folders, tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/adapter_config.json").write_text("{}")
    refuses(folders, tmp_path / "adapter", "holds an adapter, which is no whole model")


def test_a_tensor_without_finite_numbers_is_named_and_nothing_is_left(folders, tmp_path, capsys):
    broken = tmp_path / "broken"
    shutil.copytree(folders[1], broken)
    held = tensors(broken)
    held["model.layers.1.mlp.up_proj.weight"][2, 3] = np.nan
    save_file(held, broken / "model.safetensors")
    assert main(["merge", str(folders[0]), str(broken), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "broken: model.layers.1.mlp.up_proj.weight holds numbers that are not finite" in said
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]
