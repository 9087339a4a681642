"""Every error has its exit code, which the docs list."""

import errno
from pathlib import Path
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from lrl_jax.cli import codes, main
from lrl_jax.devices import signals
from lrl_jax.text import DataError
from lrl_jax.train import loop
from lrl_jax.train.checkpoint import SaveError

ROOT = Path(__file__).parents[1]


def disk_full() -> OSError:
    try:
        Path("/dev/full").write_text("more than a disk that is full can take")
    except OSError as e:
        return e
    raise AssertionError("/dev/full took it")


def raised(outer, cause):
    try:
        raise outer from cause
    except type(outer) as e:
        return e


def test_a_full_disk_has_its_own_code_whoever_meets_it():
    full = disk_full()
    assert full.errno == errno.ENOSPC
    storage = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: [OS error 28: ENOSPC No space left]")
    for error in (
        full,
        raised(SaveError("checkpoint 5 was not written"), full),
        raised(SaveError("checkpoint 5 was not written"), storage),
        OSError(errno.EDQUOT, "over the quota"),
        storage,
    ):
        assert codes.code_of(error) == 9, error
    assert codes.code_of(SaveError("no such folder")) == 2
    assert "disk full while writing" in codes.message(full)
    said = codes.message(OSError(errno.ENOSPC, "No space left on device"))
    assert "or where the output of this command goes" in said


def test_a_limit_on_the_size_of_files_is_said_in_words():
    too_large = codes.message(OSError(errno.EFBIG, "File too large"))
    assert too_large.startswith("a file of the run folder: larger than this process may write")
    assert "ulimit -f" in too_large


def test_too_little_memory_has_its_own_code_and_advice(capsys):
    with pytest.raises(jax.errors.JaxRuntimeError) as error:
        jnp.zeros(1 << 50, jnp.int8).block_until_ready()
    assert codes.end(error.value, "train") == 8
    said = capsys.readouterr().err
    assert "out of memory: RESOURCE_EXHAUSTED" in said
    assert "Try a smaller train.batch_size" in said
    assert "Traceback" not in said
    assert codes.code_of(MemoryError()) == 8


def test_a_file_where_a_folder_is_wanted_is_said_in_words(tmp_path):
    (tmp_path / "out").write_text("a file")
    for path in (tmp_path / "out", tmp_path / "out/below"):
        with pytest.raises((FileExistsError, NotADirectoryError)) as caught:
            path.mkdir(parents=True, exist_ok=True)
        assert "is a file, where a folder is wanted" in codes.message(caught.value)


def test_other_errors():
    assert codes.code_of(loop.DivergedError("steps 5 to 7")) == 7
    assert codes.code_of(loop.Preempted(5)) == 75
    assert codes.code_of(ValueError("train.batchsize")) == 2
    assert codes.code_of(KeyError("a bug")) == 1
    gone = "UNKNOWN: Gloo AllGather failed: Read error [127.0.0.1]:1: Connection reset by peer"
    assert codes.code_of(ValueError(gone)) == 1
    assert codes.code_of(ValueError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")) == 8
    assert codes.code_of(raised(ValueError("a file"), KeyError("No space left on device"))) == 2


@pytest.mark.parametrize("made", [ValueError("not a file"), KeyError("a"), DataError("a: b")])
def test_what_a_library_makes_of_a_stop_is_a_stop(made, capsys):
    with signals.listening() as listening:
        listening.ask("SIGTERM")
        assert codes.end(made, "run") == 75
        assert codes.end(loop.DivergedError("steps 5 to 7"), "run") == 7
    assert str(made) in capsys.readouterr().err


def test_the_docs_and_the_help_list_every_code():
    tour = (ROOT / "docs/tour.md").read_text().partition("## When a command ends")[2]
    assert {int(code) for code in re.findall(r"(?m)^\| (\d+) \|", tour)} == {*codes.CODES}
    readme = (ROOT / "README.md").read_text().partition("\nExit codes: ")[2].partition("\n\n")[0]
    listed = {int(code) for code in re.findall(r"(?:^|, |\n| and )(\d+) [a-z]", readme)}
    assert listed == {*codes.CODES} - {1, 130}
    assert "9 disk full; 75 stopped as asked" in main.EPILOG


@pytest.mark.parametrize(("library", "ends"), [("jax", "at once"), ("json", "in order")])
def test_a_failed_process_does_not_wait_for_threads_of_jax_that_would_abort_it(library, ends):
    code = (
        f"import atexit, sys, {library}; from lrl_jax.cli import main; "
        "atexit.register(print, 'in order'); sys.argv = ['lrl', 'runs', 'nowhere']; main.script()"
    )
    got = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert got.returncode == 2, got.stderr
    assert (got.stdout.strip() or "at once") == ends
