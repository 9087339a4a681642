"""The scripts around gcloud, beside a gcloud of the test's own that plays the TPU's hosts."""

import os
from pathlib import Path
import subprocess

import pytest

TPU = Path(__file__).parents[1] / "tpu"
# Each call is a line of `calls`. The hosts run what `ssh` brings if it is `lrl`, and see nothing of
# the caller's environment. `state` and `codes` hold what comes next, a line a time.
GCLOUD = """\
#!/usr/bin/env bash
line="$3 $4 $*"
echo "${line//$'\\n'/ }" >> "$HOME/calls"
next() { head -n 1 "$HOME/$1"; sed -i 1d "$HOME/$1"; }
[[ $4 != s[sc][hp] || $* == *--worker=all* ]] || echo "one host alone" >> "$HOME/calls"
case "$3 $4" in
  "tpu-vm describe" | "queued-resources describe") next state ;;
  "tpu-vm ssh") for word; do command=${word#--command=}; done
    case "$command" in
      *"lrl run"*) cd "$HOME" && exec env -i HOME="$HOME" PATH="$PATH" bash -c "$command" ;;
    esac ;;
esac
"""
LRL = """\
#!/usr/bin/env bash
printf '%s\\n' "$@" "cache=${JAX_COMPILATION_CACHE_DIR:-none}" > "$HOME/words"
code=$(head -n 1 "$HOME/codes"); sed -i 1d "$HOME/codes"; exit $code
"""


@pytest.fixture
def machine(tmp_path):
    """A function that runs one script with the exit codes of `lrl` and the states to come."""
    for name, text in {
        "bin/gcloud": GCLOUD,
        "bin/git": "#!/bin/sh\n",
        "bin/sleep": "#!/bin/sh\n",
        "lrl_jax/.venv/bin/lrl": LRL,
    }.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)

    def run(script, *words, codes=(), states=(), **env):
        (tmp_path / "codes").write_text("".join(f"{code}\n" for code in codes))
        (tmp_path / "state").write_text("".join(f"{state}\n" for state in states))
        (tmp_path / "calls").write_text("")
        names = {"NAME": "tamil", "ZONE": "europe-west4-b", "PROJECT": "mine", "WAIT": "0"}
        names |= {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "HOME": str(tmp_path)} | env
        done = subprocess.run(
            ["bash", TPU / script, *words], env=names, capture_output=True, text=True, timeout=60
        )
        lines = (tmp_path / "calls").read_text().splitlines()
        done.calls = [" ".join(line.split()[:2]) for line in lines]
        return done

    return run


def test_a_host_gets_every_word_as_it_was_given(machine, tmp_path):
    words = ["configs/tamil.yaml", "train.stages=[{name: a, steps: 3}]", "folder=gs://b/it's $HOME"]
    done = machine("run.sh", *words, codes=[0])
    assert done.calls == ["tpu-vm ssh"]
    assert (tmp_path / "words").read_text().splitlines() == ["run", *words, "cache=none"]


def test_a_folder_of_compiled_steps_reaches_the_hosts(machine, tmp_path):
    machine("run.sh", "a.yaml", codes=[0], JAX_COMPILATION_CACHE_DIR="gs://my bucket/c")
    assert (tmp_path / "words").read_text().splitlines()[-1] == "cache=gs://my bucket/c"


@pytest.mark.parametrize("code", [0, 2, 3, 4, 5, 7, 8, 9, 75, 76])
def test_the_exit_code_of_a_run_is_passed_on(machine, code):
    assert machine("run.sh", "a.yaml", codes=[code]).returncode == code


@pytest.mark.parametrize("code", [0, 2, 3, 4, 5, 7, 8, 9])
def test_a_watch_ends_where_a_person_is_wanted(machine, code):
    done = machine("watch.sh", "a.yaml", codes=[75, code], states=["READY"])
    assert done.returncode == code
    assert done.calls == ["tpu-vm ssh", "tpu-vm describe", "tpu-vm ssh"]


def test_a_watch_tries_again_until_the_run_is_free(machine):
    done = machine("watch.sh", "a.yaml", codes=[6, 6, 0])
    assert done.returncode == 0
    assert done.calls == ["tpu-vm ssh"] * 3
    assert done.stderr.count("the run is in use; again in 60 s") == 2


def test_a_watch_ends_after_three_equal_failures_in_a_row_and_says_so(machine):
    codes = [1, 1, 76, 1, 75, 1, 1, 1, 0]  # what is between them begins the count anew
    done = machine("watch.sh", "a.yaml", codes=codes, states=["READY"] * 8)
    assert done.returncode == 1
    assert done.calls.count("tpu-vm ssh") == 8
    assert "ended with code 1 3 times in a row, on a TPU that is there" in done.stderr
    twice = machine("watch.sh", "a.yaml", codes=[76, 76], states=["READY"] * 2, FAILURES="2")
    assert twice.returncode == 76


def test_preemptions_are_no_failures_however_many(machine):
    codes = [255, 255, 255, 255, 75, 75, 75, 75, 0]
    states = ["PREEMPTED", "ACTIVE"] * 4 + ["READY"] * 4
    done = machine("watch.sh", "a.yaml", codes=codes, states=states, TYPE="v4-8")
    assert done.returncode == 0


def test_a_tpu_that_was_taken_away_is_asked_for_again(machine):
    done = machine(
        "watch.sh",
        "a.yaml",
        codes=[255, 0],
        states=["PREEMPTED", "WAITING_FOR_RESOURCES", "ACTIVE"],
        TYPE="v4-64",
        CREATE_FLAGS="--spot",
    )
    assert done.returncode == 0
    queue = [f"queued-resources {verb}" for verb in ("delete", "create", "describe", "describe")]
    hosts = ["tpu-vm scp", "tpu-vm ssh", "tpu-vm ssh"]
    assert done.calls == ["tpu-vm ssh", "tpu-vm describe", *queue, *hosts]


@pytest.mark.parametrize(
    ("kind", "version"),
    [
        ("v4-64", "tpu-ubuntu2204-base"),
        ("v5litepod-64", "v2-alpha-tpuv5-lite"),
        ("v5p-16", "v2-alpha-tpuv5"),
        ("v6e-64", "v2-alpha-tpuv6e"),
    ],
)
def test_a_tpu_gets_the_software_of_its_generation(machine, tmp_path, kind, version):
    machine("create.sh", "--spot", states=["ACTIVE"], TYPE=kind)
    asked = (tmp_path / "calls").read_text().splitlines()[0]
    assert f"--accelerator-type={kind} --runtime-version={version} --spot" in asked


def test_a_request_that_failed_is_said(machine):
    done = machine("create.sh", states=["WAITING_FOR_RESOURCES", "FAILED"], TYPE="v4-8")
    assert done.returncode == 1
    assert "the request ended as FAILED; see the quota page of mine" in done.stderr


@pytest.mark.parametrize("script", ["create.sh", "setup.sh", "run.sh", "watch.sh", "delete.sh"])
def test_a_name_that_is_missing_is_said_before_anything_is_done(machine, script):
    done = machine(script, NAME="")
    assert done.returncode != 0
    assert "NAME: name of the TPU" in done.stderr
    assert not done.calls
