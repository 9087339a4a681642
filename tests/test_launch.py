"""Launching from a laptop, in a cloud of the test's own in which things go wrong."""

import itertools
import json
import os
import shutil
import subprocess
import sys

from cloud import FAKES, RECIPE, ROOT, SOON, TPU, Cloud
import pytest

from lrl_jax.cli.machines import watch

SAVE, STEPS = 5, 20  # of tests/fake_cloud/lrl.py


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    return Cloud(tmp_path / "cloud", monkeypatch)


def no_step_is_lost(steps):
    """Every step is there; after a stop it goes on at most SAVE steps before where it was."""
    assert steps[0] == 1
    assert steps[-1] == STEPS
    for before, step in itertools.pairwise(steps):
        assert step == before + 1 or before - SAVE < step <= before, steps


# The ten faults: what goes wrong in the cloud, and in training.
FAULTS = {
    "preempted in creation, and deleting fails once": (
        [{"on": ["request describe"], "do": "preempt"}, {"on": ["delete"], "do": "unavailable"}],
        [],
    ),
    "preempted in set-up": ([{"on": ["ssh tamil worker 1.", "setup.sh"], "do": "preempt"}], []),
    "preempted in training": ([], [{"step": 8, "do": "preempt"}]),
    "preempted twice running": ([], [{"step": 8, "do": "preempt"}, {"step": 7, "do": "preempt"}]),
    "no capacity": ([{"on": ["request create"], "do": "no capacity", "times": 3}], []),
    "no capacity after a while": ([{"on": ["request describe"], "do": "failed"}], []),
    "made though the call failed": (
        [{"on": ["request create"], "do": "made though it failed"}], []
    ),
    "ssh to one worker fails": (
        [{"on": ["ssh tamil worker 1.", "job.sh run"], "do": "refused", "times": 2}], []
    ),
    "a connection breaks": (
        [{"on": ["ssh tamil worker 0.", "job.sh run"], "do": "connection breaks"}], []
    ),
    "a host is gone": ([], [{"step": 12, "do": 76}, {"step": 13, "do": 75}]),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_run_is_done_whatever_goes_wrong_and_leaves_no_machine_behind(cloud, name):
    faults, training = FAULTS[name]
    cloud.faults(*faults, training=tuple(training))
    assert cloud.watch("--spot", "--delete") == 0
    no_step_is_lost(cloud.steps())
    assert not cloud.world["faults"]
    assert json.loads((cloud.folder / "bucket/train_faults").read_text()) == []
    assert cloud.machines() == {}
    assert cloud.world["requests"] == cloud.world["nodes"] == {}


def test_a_stale_lock_of_a_dead_host_is_waited_for_and_taken_over(cloud, capsys):
    lock = {"host": "gone", "pid": 7, "owner": "x", "machine": "another", "started": "1"}
    (cloud.folder / "bucket/lock.json").write_text(json.dumps(lock))
    assert cloud.watch("--poll=0.5") == 0
    assert "the run is in use; again in 1 s" in capsys.readouterr().err
    no_step_is_lost(cloud.steps())
    assert cloud.machines() == {"tamil": 1}  # without --delete it stays, and is said to
    assert cloud.launch("delete", *TPU, *SOON) == 0
    assert cloud.launch("delete", *TPU, *SOON) == 0  # of what is gone
    assert cloud.machines() == {}
    cloud.change(nodes={"tamil": {"state": "READY", "hosts": 2}})  # a slice without a request
    assert cloud.launch("delete", *TPU, *SOON) == 0
    assert cloud.world["nodes"] == {}


def test_a_clock_that_is_off_is_named_and_nothing_else_stops(cloud, capsys):
    cloud.faults({"on": ["ssh tamil worker 1."], "do": "clock", "times": 2})
    assert cloud.launch("create", *TPU, *SOON) == 0
    assert cloud.launch("setup", *RECIPE, *TPU, *SOON) == 0
    said = capsys.readouterr().err
    assert "tamil/1: its clock is 9" in said
    assert "ahead of the other hosts'" in said


def test_a_full_disk_of_a_host_ends_with_9_and_its_name(cloud, capsys):
    assert cloud.launch("create", *TPU, *SOON) == 0
    for call in ("ssh", "scp"):
        cloud.change(faults=[{"on": [f"{call} tamil worker 1."], "do": "disk full"}])
        assert cloud.launch("setup", *RECIPE, *TPU, *SOON) == 9
        assert "tamil/1: exit code 9" in capsys.readouterr().err


@pytest.mark.parametrize(("free", "want"), [(5000, 1), (99, 9)])
def test_a_damaged_archive_is_not_told_as_a_full_disk(tmp_path, free, want):
    (tmp_path / "df").write_text(f"#!/bin/sh\necho Avail\necho ' {free}'\n")
    (tmp_path / "df").chmod(0o755)
    (tmp_path / watch.ARCHIVE).write_text("half")
    paths = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", watch.UNPACK], cwd=tmp_path, env={"PATH": paths}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == want
    assert done.stdout.splitlines()[-1] == f"lrl-host code {want}"
    assert not (tmp_path / "lrl_jax.new").exists()


@pytest.mark.parametrize(
    ("wrong", "want"),
    [
        ("far", "is in europe-west4, and the TPU in us-central2-b"),
        ("gone", "there is no such bucket; make it where the TPU is"),
        ("forbidden", "ask the owner of the bucket"),
    ],
)
def test_a_bucket_that_is_no_use_is_refused_before_anything_is_rented(cloud, capsys, wrong, want):
    cloud.faults({"on": ["bucket gs://bkt"], "do": wrong})
    assert cloud.watch() == 2
    assert want in capsys.readouterr().err
    assert [call[:2] for call in cloud.world["calls"]] == [["storage", "buckets"]]


def test_a_quota_that_is_not_there_is_for_a_person(cloud, capsys):
    cloud.faults({"on": ["request create"], "do": "quota"})
    assert cloud.watch() == 2
    assert "docs/launch.md lists what a grant gives where" in capsys.readouterr().err
    assert cloud.world["requests"] == {}


@pytest.mark.parametrize("code", [2, 3, 4, 5, 7, 8, 9])
def test_a_run_ends_with_the_code_that_wants_a_person(cloud, code):
    ready(cloud)
    cloud.change(faults=[])
    (cloud.folder / "bucket/train_faults").write_text(json.dumps([{"step": 3, "do": code}]))
    assert cloud.launch("run", *RECIPE, *TPU, *SOON) == code


def test_a_watch_ends_after_equal_failures_in_a_row_and_says_so(cloud, capsys):
    ready(cloud)
    faults = [{"step": step, "do": 1} for step in (2, 1, 3)]
    (cloud.folder / "bucket/train_faults").write_text(json.dumps(faults))
    assert cloud.watch("--failures=3") == 1
    assert "ended with code 1 3 times in a row, on a TPU that is there" in capsys.readouterr().err


def test_one_host_of_sixteen_that_never_answers_is_named(cloud, capsys):
    ready(cloud, hosts=16)
    hang = {"on": ["ssh tamil worker 7.", "status"], "do": "no answer", "times": 9}
    cloud.change(faults=[hang])
    assert cloud.launch("status", *TPU, "--wait=0.02", "--answer=15") == 76
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["request tamil: none", "slice tamil: READY"]
    assert [line for line in lines[2:] if "does not answer" in line or "did not end" in line] == [
        line for line in lines[2:] if line.startswith("tamil/7: ")
    ]
    assert sum("nothing runs" in line for line in lines) == 15


def test_a_host_gets_every_word_as_it_was_given(cloud):
    ready(cloud)
    odd = ["train.stages=[{name: a, steps: 3}]", "name=it's $HOME"]
    cloud.launch("run", *RECIPE, *odd, *TPU, *SOON, "--compiled=gs://my-bucket/a c")
    got = (cloud.folder / "hosts/tamil/0/words").read_text().splitlines()
    assert got == [*RECIPE, *odd, "cache=gs://my-bucket/a c"]
    assert (cloud.folder / "logs/tamil/tamil-1.log").exists()


def test_a_line_drawn_over_and_over_hides_no_line_after_a_broken_connection(tmp_path, monkeypatch):
    lrl = tmp_path / "lrl"
    lrl.write_text(
        "#!/bin/bash\nprintf 'load 1\\rload 2\\rload 3\\n'; sleep 1.5; "
        "for i in 1 2 3; do echo line $i; done\n"
    )
    cloud = Cloud(tmp_path / "cloud", monkeypatch, f"bash {lrl}")
    ready(cloud)
    cloud.change(faults=[{"on": ["ssh tamil worker 1.", "run"], "do": "connection breaks"}])
    assert cloud.launch("run", *RECIPE, *TPU, *SOON) == 0
    lines = (cloud.folder / "logs/tamil/tamil-1.log").read_text().splitlines()
    assert [line for line in lines if line.startswith(("load", "line"))] == [
        "load 1", "load 2", "load 3", "line 1", "line 2", "line 3",
    ]  # fmt: skip
    assert not cloud.world["faults"]


def test_a_recipe_that_hosts_would_not_find_is_refused_before_anything_is_rented(cloud, capsys):
    (cloud.folder / "mine.yaml").write_text((ROOT / "configs/quickstart.yaml").read_text())
    (cloud.folder / "below").mkdir()
    os.chdir(cloud.folder / "below")
    for recipe in ("../mine.yaml", str(cloud.folder / "mine.yaml")):
        assert cloud.launch("watch", recipe, RECIPE[1], *TPU, *SOON) == 2
        said = capsys.readouterr().err
        assert f"{recipe}: lies outside of the folder you work in" in said
        assert "copy the recipe into it" in said
    assert cloud.world["calls"] == []


def test_a_bucket_that_is_no_use_deletes_no_tpu_that_is_there(cloud):
    ready(cloud)
    cloud.change(faults=[{"on": ["bucket gs://bkt"], "do": "far"}])
    assert cloud.watch("--delete") == 2
    assert [*cloud.world["nodes"]] == ["tamil"]


def test_a_tpu_on_which_another_command_is_under_way_is_left_as_it_is(cloud, capsys):
    ready(cloud, hosts=1)
    home = cloud.folder / "hosts/tamil/0"
    job = ["bash", "lrl_jax/tpu/host/job.sh"]
    env = {"HOME": str(home), "PATH": str(cloud.folder / "hostbin")}
    words = [*job, "run", "1", "0", "sleep", "100"]
    begun = subprocess.Popen(words, cwd=home, env=env, stdout=subprocess.PIPE, text=True)
    assert begun.stdout
    while "from" not in begun.stdout.readline():
        pass
    assert cloud.watch("--type=v4-8", "--delete") == 6
    assert "another command is under way on tamil, which is left" in capsys.readouterr().err
    assert [*cloud.world["nodes"]] == ["tamil"]
    assert begun.poll() is None
    subprocess.run([*job, "stop"], cwd=home, env=env, check=True, capture_output=True)
    begun.communicate(timeout=60)


def test_a_preemption_that_a_host_tells_as_its_own_failure_ends_no_watch(tmp_path, monkeypatch):
    lrl = tmp_path / "lrl.py"
    lrl.write_text(TAKEN_AWAY.replace("LRL_OF_THE_TESTS", str(FAKES / "lrl.py")))
    cloud = Cloud(tmp_path / "cloud", monkeypatch, f"env PYTHONPATH={ROOT} {sys.executable} {lrl}")
    assert cloud.watch("--type=v4-8", "--delete") == 0
    assert (cloud.folder / "taken").exists()
    no_step_is_lost(cloud.steps())
    assert cloud.machines() == {}


TAKEN_AWAY = """
import json, os, pathlib, runpy, sys
world = pathlib.Path(os.environ["LRL_FAKE_CLOUD"])
if sys.argv[1] == "doctor" and not (world / "taken").exists():
    (world / "taken").touch()
    state = json.loads((world / "world.json").read_text())
    state["nodes"]["tamil"]["state"] = "PREEMPTED"
    state["requests"]["tamil"]["state"] = "SUSPENDED"
    (world / "world.json").write_text(json.dumps(state))
    print("doctor 0 wrong devices=none")
    sys.exit(2)
runpy.run_path("LRL_OF_THE_TESTS", run_name="__main__")
"""


def test_slices_are_asked_for_together_and_each_has_its_hosts(cloud):
    words = [*TPU, *SOON, "--node-count=2"]
    assert cloud.launch("create", *words) == 0
    assert cloud.machines() == {"tamil-0": 1, "tamil-1": 1}
    assert cloud.calls("--node-count=2 --node-prefix=tamil")
    assert cloud.launch("delete", *words) == 0
    assert cloud.machines() == {}


@pytest.mark.parametrize("is_there", [True, False])
def test_a_tpu_of_another_type_is_not_taken_up_under_its_name(cloud, capsys, is_there):
    held = {"state": "WAITING_FOR_RESOURCES", "nodes": ["tamil"], "type": "v4-16"}
    cloud.change(requests={"tamil": held})  # asked for
    if is_there:
        assert cloud.launch("create", *TPU, *SOON) == 0
    for words in (["create", *TPU], ["watch", *RECIPE, *TPU, "--delete"]):
        assert cloud.launch(*words, *SOON, "--type=v4-32") == 2
        said = capsys.readouterr().err
        assert "--type v4-32: tamil is there already, as a v4-16; say --type v4-16" in said
    assert [*cloud.world["requests"]] == ["tamil"]
    assert not cloud.calls("delete")


def test_what_failed_before_is_deleted_before_a_new_request(cloud):
    for state in ("FAILED", "SUSPENDED"):
        cloud.faults()
        cloud.change(requests={"tamil": {"state": state, "nodes": ["tamil"], "type": "v4-16"}})
        assert cloud.launch("create", *TPU, *SOON) == 0
        verbs = [c[3] for c in cloud.world["calls"] if c[3] in ("create", "delete")]
        assert verbs == ["delete", "create"]


def test_a_run_that_a_person_stopped_is_not_begun_again(cloud, capsys):
    ready(cloud, hosts=1)
    (cloud.folder / "bucket/train_faults").write_text(json.dumps([{"step": 6, "do": "stop"}]))
    assert cloud.watch("--type=v4-8") == 143  # lrl itself ends with 75
    assert "it was stopped by a person; start this again to go on" in capsys.readouterr().err
    assert cloud.steps()[-1] == 6


def test_results_are_fetched_without_what_is_heavy(cloud, capsys):
    (cloud.folder / "bucket/report").mkdir()
    (cloud.folder / "bucket/report/index.html").write_text("page")
    assert cloud.launch("fetch", *RECIPE, *TPU, "--to=here") == 0
    assert (cloud.folder / "here/quickstart/report/index.html").read_text() == "page"
    assert capsys.readouterr().out == "here/quickstart/report/index.html\n"
    (call,) = cloud.calls("storage rsync --recursive")
    assert call.endswith("(/|$) gs://bkt/runs/quickstart here/quickstart")


def test_a_run_on_the_disk_of_its_host_is_fetched_twice_into_the_same_folder(cloud):
    ready(cloud)
    report = cloud.folder / "hosts/tamil/0/lrl_jax/runs/quickstart/report"
    report.mkdir(parents=True)
    for page in ("first", "second"):
        (report / "index.html").write_text(page)
        assert cloud.launch("fetch", "quickstart", *TPU, "--to=new/here") == 0
        assert (cloud.folder / "new/here/quickstart/report/index.html").read_text() == page
    assert [*(cloud.folder / "new/here/quickstart").iterdir()] == [
        cloud.folder / "new/here/quickstart/report"
    ]


def ready(cloud, hosts=2):
    """Makes a TPU whose hosts are set up already."""
    lrl = (cloud.folder / "uv").read_text().partition("exec ")[2].partition(' "$@"')[0]
    for worker in range(hosts):
        home = cloud.folder / "hosts/tamil" / str(worker) / "lrl_jax"
        (home / ".venv/bin").mkdir(parents=True)
        shutil.copytree(ROOT / "tpu", home / "tpu")
        (home / ".venv/bin/lrl").write_text(f'#!/bin/bash\nexec {lrl} "$@"\n')
        (home / ".venv/bin/lrl").chmod(0o755)
    cloud.change(nodes={"tamil": {"state": "READY", "hosts": hosts}})
