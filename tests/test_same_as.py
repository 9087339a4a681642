"""The comparison of two checkouts: what is read, what counts as a difference, what is refused."""

import json
from pathlib import Path
import subprocess
import sys

import pytest

from scripts.same_as import bad_inputs, inside, readers, trees
from scripts.same_as.__main__ import CHECKS, Check, main, outcome
from scripts.same_as.compare import Result, first_difference
from scripts.same_as.trees import Side

STEP = {"step": 1, "stage": "align", "loss": 0.1, "losses": {"korean": 0.2}, "grad_norm": 3.0}
LEAF = {"digest": "00ff", "dtype": "float32", "shape": [2]}
HEADER = {"norm": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}
RESULTS = {"bits_per_byte": {"kor_Hang": {"bits_per_byte": 1.25}}, "facts": {"seconds": 3.0}}


def safetensors(content: bytes) -> bytes:
    header = json.dumps(HEADER).encode()
    return len(header).to_bytes(8, "little") + header + content


FILES = {
    "train/metrics.jsonl": json.dumps(STEP | {"seconds": 9.5}).encode() + b"\n",
    "train/checkpoints/7/meta/metadata": json.dumps({"body": {"leaves": {"norm": LEAF}}}).encode(),
    "data/korean/0a/rows-00000-of-00001.array_record": b"\0\1\2\3",
    "data/korean/0a/manifest.json": b'{"rows": 1}',
    "vocab/tokenizer.model": b"pieces",
    "vocab/tokenizer.json": b"{}",
    "vocab/fertility.svg": b"made at noon",
    "export/model.safetensors": safetensors(b"abcd"),
    "evaluate/after.json": json.dumps(RESULTS).encode(),
}


def side(name: str, folder: Path, changes: dict[str, bytes | None] | None = None) -> Side:
    """Writes a run's files, some of them changed or (None) left out."""
    for path, content in (FILES | (changes or {})).items():
        if content is not None:
            (folder / "runs/quickstart" / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / "runs/quickstart" / path).write_bytes(content)
    return Side(name, folder / "checkout", folder, "python")


def compared(name: str, tmp_path: Path, changes: dict[str, bytes | None], expected=False) -> Result:
    base = side("BASE", tmp_path / "base")
    work = side("here", tmp_path / "here", changes)
    return outcome(name, CHECKS[name], "", base, work, tmp_path / "resumed", expected)


READ = ("losses", "rows", "tokenizers", "checkpoints", "tensors", "evaluation")


@pytest.mark.parametrize(
    ("name", "count"), zip(READ, (1, 2, 2, 1, 2, 1), strict=True), ids=READ
)  # fmt: skip
def test_equal_runs_are_equal_and_their_things_are_counted(name, count, tmp_path):
    got = compared(name, tmp_path, {})
    assert not got.failed
    assert got.line().startswith(f"equal     {name:<12} {count} ")


@pytest.mark.parametrize(
    ("name", "path", "content", "words"),
    [
        (
            "losses", "train/metrics.jsonl",
            json.dumps(STEP | {"loss": 0.10000000000000002}).encode(),
            r"quickstart, step 1 \(align\): line 1 is .*0\.1,.* in BASE, .*0\.10000000000000002",
        ),
        ("rows", "data/korean/0a/rows-00000-of-00001.array_record", b"\0\1\6\3",
         r"rows-00000-of-00001\.array_record: byte 2 differs \(4 bytes in BASE, 4 here\)"),
        ("rows", "data/korean/0a/manifest.json", b'{"rows": 1}\n',
         r"manifest\.json: byte 11 differs \(11 bytes in BASE, 12 here\)"),
        ("tokenizers", "vocab/tokenizer.model", b"pieceS", r"tokenizer\.model: byte 5 differs"),
        (
            "checkpoints", "train/checkpoints/7/meta/metadata",
            json.dumps({"body": {"leaves": {"norm": LEAF | {"digest": "00fe"}}}}).encode(),
            r"runs/quickstart/train/checkpoints/7: norm: .*float32\[2\] 00ff.* 00fe",
        ),
        ("tensors", "export/model.safetensors", safetensors(b"abcD"),
         r"model\.safetensors: norm, bytes: byte 3 differs"),
        (
            "evaluation", "evaluate/after.json",
            json.dumps({"bits_per_byte": {"kor_Hang": {"bits_per_byte": 1.5}}}).encode(),
            r"after\.json: bits_per_byte\.kor_Hang\.bits_per_byte: line 1 is '1\.25' .*'1\.5' here",
        ),
    ],
)  # fmt: skip
def test_one_change_is_a_difference_that_names_its_place(name, path, content, words, tmp_path):
    got = compared(name, tmp_path, {path: content})
    assert got.failed
    assert got.line().startswith(f"DIFFERENT {name}")
    with pytest.raises(ValueError, match=words):
        raise ValueError(got.line())


@pytest.mark.parametrize(
    ("name", "path", "content"),
    [
        ("losses", "train/metrics.jsonl", json.dumps(STEP | {"seconds": 1.5}).encode()),
        ("tokenizers", "vocab/fertility.svg", b"made at one"),
        ("evaluation", "evaluate/after.json",
         json.dumps(RESULTS | {"facts": {"seconds": 4.0}}).encode()),
    ],
)  # fmt: skip
def test_times_are_no_difference(name, path, content, tmp_path):
    assert not compared(name, tmp_path, {path: content}).failed


def test_a_file_that_one_side_lacks_is_a_difference(tmp_path):
    got = compared("tokenizers", tmp_path, {"vocab/tokenizer.json": None})
    assert got.difference == "runs/quickstart/vocab/tokenizer.json: only in BASE"
    assert first_difference({}, {"b": "1"}) == "b: only here"


def test_nothing_to_compare_is_a_difference(tmp_path):
    here = Side("here", tmp_path, tmp_path, "python")
    got = outcome("losses", CHECKS["losses"], "", here, here, tmp_path, False)
    assert got.line() == (
        "DIFFERENT losses       nothing was left to compare, neither by BASE nor here"
    )


def test_a_difference_that_is_expected_is_printed_and_does_not_count(tmp_path):
    got = compared("tokenizers", tmp_path, {"vocab/tokenizer.model": b"pieceS"}, expected=True)
    assert not got.failed
    assert got.line().startswith("expected  tokenizers   runs/quickstart/vocab/tokenizer.model: ")


def test_what_is_expected_and_does_not_differ_is_equal(tmp_path):
    got = compared("tokenizers", tmp_path, {}, expected=True)
    assert got.line().startswith("equal     tokenizers")


def test_a_side_that_fails_is_a_difference(tmp_path):
    here = Side("here", tmp_path, tmp_path, "python")
    check = Check((), readers.losses, "steps")
    got = outcome("losses", check, "here: lrl run ended with 1: no text", here, here, here, False)
    assert got.failed
    assert "ended with 1: no text" in got.line()


def test_the_resumed_run_is_compared_with_that_of_base(tmp_path):
    base, here = side("BASE", tmp_path / "base"), side("here", tmp_path / "here", {})
    changed = json.dumps(STEP | {"loss": 9.0}).encode()
    side("resumed", tmp_path / "resumed", {"train/metrics.jsonl": changed})
    got = outcome("resume", CHECKS["resume"], "", base, here, tmp_path / "resumed", False)
    assert "quickstart, step 1 (align)" in got.difference


# ---------------------------------------------------------------------------- the command line
@pytest.mark.parametrize("option", ["--only", "--expect"])
def test_an_unknown_check_is_refused_with_those_there_are(option, capsys):
    with pytest.raises(SystemExit) as refused:
        main(["main", option, "losses,row"])
    assert refused.value.code == 2
    assert f"no check row; there are {', '.join(CHECKS)}" in capsys.readouterr().err


def test_a_base_that_is_no_revision_is_refused(capsys):
    assert main(["no-such-revision"]) == 2
    assert "no-such-revision: no revision of " in capsys.readouterr().err


def test_a_folder_that_is_there_is_not_written_over(tmp_path):
    with pytest.raises(SystemExit, match="exists already; name a new folder"):
        main(["main", "--keep", str(tmp_path)])


# ---------------------------------------------------------------------------- the two checkouts
def checkout(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir()
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def test_a_checkout_is_copied_as_it_is_without_what_git_ignores(tmp_path):
    script = '[project.scripts]\nlrl = "own.main:start"\n'
    source = checkout(
        tmp_path / "source",
        {"pyproject.toml": script, "own/new.py": "1", ".gitignore": "runs\n", "runs/a": "made"},
    )
    trees.copy(str(source), tmp_path / "copy")
    copied = sorted(p.name for p in (tmp_path / "copy").rglob("*") if p.is_file())
    assert copied == [".gitignore", "new.py", "pyproject.toml"]
    assert trees.console_script(tmp_path / "copy") == "own.main:start"


def test_a_checkout_without_the_command_is_refused(tmp_path):
    source = checkout(tmp_path / "source", {"pyproject.toml": "[project]\nname = 'else'\n"})
    with pytest.raises(ValueError, match="no command lrl under"):
        trees.copy(str(source), tmp_path / "copy")


def test_a_side_runs_with_its_own_modules_and_a_pinned_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    (tmp_path / "checkout/own").mkdir(parents=True)
    (tmp_path / "checkout/pyproject.toml").write_text('[project.scripts]\nlrl = "own.main:start"\n')
    (tmp_path / "checkout/own/main.py").write_text(
        "import os, sys\ndef start():\n"
        "    print(sys.argv[1:], os.environ.get('XLA_FLAGS'), os.environ['COLUMNS'])\n"
        "    return len(sys.argv) - 2\n"
    )
    here = Side("here", tmp_path / "checkout", tmp_path, sys.executable)
    here.lrl(["check"], tmp_path / "work", tmp_path / "log")
    assert (tmp_path / "log").read_text() == "['check'] None 200\n"
    with pytest.raises(trees.SideFailedError, match=r"here: lrl check a ended with 1: \['check', "):
        here.lrl(["check", "a"], tmp_path / "work", tmp_path / "log")


# ---------------------------------------------------------------------------- bad inputs
def test_bad_inputs_are_many_and_each_has_a_name_of_its_own(tmp_path):
    arguments = bad_inputs.write(tmp_path)
    assert len(arguments) == len(bad_inputs.CASES) >= 25
    assert (tmp_path / "recipe_not_utf8/recipe.yaml").read_bytes() == b"name: \xff\n"
    assert "batch_size: 4" in (tmp_path / "wrong_type/recipe.yaml").read_text()


def test_what_a_command_says_is_noted_with_its_exit_code(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / "inputs" / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "inputs")

    def command_line(arguments):
        sys.stdout.write(f"{Path.cwd()}/x.txt of /there/lrl_jax: {arguments[0]}  \n")
        if arguments[0] == "stop":
            raise SystemExit(2)
        return 3

    inside.refusals(command_line, "/there", {"a": ["go"], "b": ["stop"]}, tmp_path)
    assert readers.texts(tmp_path) == {
        "a.txt": "exit code 3\nFOLDER/x.txt of CHECKOUT/lrl_jax: go\n",
        "b.txt": "exit code 2\nFOLDER/x.txt of CHECKOUT/lrl_jax: stop\n",
    }


def test_tracebacks_keep_their_error_and_lose_their_places():
    text = (
        "Traceback (most recent call last):\n"
        '  File "/a/lrl_jax/cli.py", line 3, in main\n    work()\n'
        "lrl_jax.run.MismatchError: made from other inputs\n"
    )
    want = "Traceback (most recent call last):\nMODULE: made from other inputs\n"
    assert inside.plain(text, {}) == want


def test_lowered_programs_lose_the_names_of_functions_and_keep_their_order():
    program = (
        "module @jit_run attributes {a = 1} {\n"
        "  func.func public @main(%arg0) {\n    call @_where(%arg0)\n    custom_call @Sharding()\n"
        "  func.func private @_where(%arg0) {\n"
    )
    assert inside.anonymous(program) == (
        "module @program attributes {a = 1} {\n"
        "  func.func public @f0(%arg0) {\n    call @f1(%arg0)\n    custom_call @Sharding()\n"
        "  func.func private @f1(%arg0) {\n"
    )
    assert inside.anonymous(program.replace("_where", "_select")) == inside.anonymous(program)
