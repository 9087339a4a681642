"""Names of machines, what is sent to hosts, what hosts say, and manifests for others' machines."""

import fnmatch
import json
from pathlib import Path
import re
import subprocess
import tarfile

import jsonschema
import pytest
from ruamel.yaml import YAML

from lrl_jax.cli import main
from lrl_jax.cli.machines import bundle, gcloud, names
from lrl_jax.cli.machines import doctor as doctor_verb

SCHEMA = json.loads(Path(__file__).with_name("data").joinpath("jobset.schema.json").read_text())
TPU = {"name": "tamil", "zone": "europe-west4-b", "project": "my-project", "type": "v5litepod-64"}
MANIFEST = ("launch", "quickstart", "folder=gs://b/runs", "--type=v5litepod-64", "--name=tamil")


@pytest.mark.parametrize(
    ("change", "want"),
    [
        ({"name": "Tamil run"}, "such as tamil-run"),
        ({"name": "it's"}, "such as it-s"),
        ({"name": "a" * 64}, f"such as {'a' * 63}"),
        ({"name": "$(reboot)"}, "such as reboot"),
        ({"zone": "europe-wset4-b"}, "did you mean europe-west4-b?"),
        ({"zone": "us-central2-b"}, "v5e is in europe-west4-b"),
        ({"type": "v5e-64"}, "did you mean v5litepod-64?"),
        ({"type": "v5litepod-63"}, "did you mean v5litepod-64?"),
        ({"project": "My Project"}, "such as my-project"),
        ({"slices": 0}, "want a number of slices from 1"),
        ({"spot": True, "reserved": True}, "a TPU is one of them"),
    ],
)
def test_a_wrong_name_is_refused_with_the_nearest_right_one(change, want):
    with pytest.raises(ValueError, match=re.escape(want)):
        names.Tpu(**(TPU | change))


@pytest.mark.parametrize("kind", names.types())
def test_every_type_has_the_hosts_and_the_shape_of_its_chips(kind):
    family = next(f for f in names.FAMILIES.values() if f.prefix == kind.rpartition("-")[0])
    tpu = names.Tpu("a", family.zones[0], "my-project", kind)
    sides = [int(side) for side in tpu.topology.split("x")]
    product = 1
    for side in sides:
        product *= side
    assert product == tpu.chips
    assert tpu.chips % tpu.hosts == 0
    assert tpu.chips // tpu.hosts <= 8


def test_sizes_are_those_that_fit_compiles_for():
    from lrl_jax.fit import topology

    for kind, family in names.FAMILIES.items():
        assert dict(family.sizes) == topology.SIZES[kind]


@pytest.mark.parametrize(
    ("zone", "kind", "spot", "slices", "want"),
    [
        ("us-central2-b", "v4-64", False, 1, True),
        ("us-central2-b", "v4-128", False, 1, False),
        ("europe-west4-b", "v5litepod-64", True, 1, True),
        ("europe-west4-b", "v5litepod-64", False, 1, False),
        ("europe-west4-b", "v5litepod-64", True, 2, False),
        ("us-west4-a", "v5litepod-8", True, 1, False),
    ],
)
def test_what_a_grant_pays_for_is_told_from_what_is_billed(zone, kind, spot, slices, want):
    assert names.Tpu("a", zone, "my-project", kind, slices, spot=spot).free() is want


@pytest.mark.parametrize("grant", names.GRANTS)
def test_the_table_of_the_guide_is_that_of_the_code(grant):
    page = (bundle.CHECKOUT / "docs/launch.md").read_text()
    kind = "`--spot`" if grant.spot else "on demand"
    begin = f"| {grant.zone} | {grant.chips} {grant.family} | {kind}"
    row = next(r for r in page.splitlines() if begin in r)
    size = row.split("|")[4].strip()
    tpu = names.Tpu("a", grant.zone, "my-project", size, spot=grant.spot)
    assert (tpu.chips, str(tpu.hosts)) == (grant.chips, row.split("|")[5].strip())
    assert all(zone in page for zone in names.zones())


# ---------------------------------------------------------------------------- what is sent
def checkout_in(folder):
    checkout = folder / "checkout"
    (checkout / "tpu/host").mkdir(parents=True)
    (checkout / bundle.HOST_SETUP).write_text("")
    return checkout


def test_a_recipe_and_its_texts_go_along_though_nobody_committed_them(tmp_path, monkeypatch):
    checkout = checkout_in(tmp_path)
    (checkout / "corpus").mkdir()
    subprocess.run(["git", "init", "-q", checkout], check=True)
    recipe = (bundle.CHECKOUT / "configs/quickstart.yaml").read_text()
    (checkout / ".gitignore").write_text("corpus/\n*.big\n")
    (checkout / "code.py").write_text("new\n")
    (checkout / "left.big").write_text("ignored\n")
    (checkout / "corpus/a.txt").write_text("text\n")
    (checkout / "mine.yaml").write_text(recipe)
    monkeypatch.chdir(checkout)
    texts = ["vocab.text=[corpus/*.txt, gone.txt, /etc/hostname, sample:ko]"]
    left = bundle.write(tmp_path / "a.tar.gz", "mine.yaml", texts, checkout)
    with tarfile.open(tmp_path / "a.tar.gz") as tar:
        got = tar.getnames()
    assert got == [".gitignore", "code.py", "corpus/a.txt", "mine.yaml", bundle.HOST_SETUP]
    assert [sentence.split(":")[0] for sentence in left] == ["gone.txt", "/etc/hostname"]
    monkeypatch.setattr(bundle, "MOST", 3)
    assert "too much to send" in bundle.named("mine.yaml", texts)[1][0]


@pytest.mark.parametrize("with_git", [True, False])
def test_keys_tokens_and_large_files_that_nobody_committed_stay_here(
    tmp_path, monkeypatch, with_git
):
    checkout = checkout_in(tmp_path)
    (checkout / "sub").mkdir()
    subprocess.run(["git", "init", "-q", checkout], check=True)
    secret = {
        ".env": "A=1", ".env.local": "A=1", "id_ed25519": "x", "my.pem": "x", "hf_token": "x",
        "sub/credentials.json": "{}", "sub/robot-123.json": '{"private_key": "x"}',
        "note.txt": "log in with hf_" + "a" * 34,
    }  # fmt: skip
    plain = {
        ".env.example": "A=",
        "tokenizer.json": "{}",
        "token.py": "x",
        "odd \n'n\u00e9.txt": "x",
    }
    for name, words in {**secret, **plain}.items():
        (checkout / name).write_text(words)
    (checkout / "model.bin").write_bytes(b"1" * 40)
    monkeypatch.setattr(bundle, "LARGE", 39 + (not with_git))
    want = {*plain, bundle.HOST_SETUP} | ({"model.bin"} if not with_git else set())
    if not with_git:
        monkeypatch.setenv("PATH", str(tmp_path))
    left = bundle.write(tmp_path / "a.tar.gz", checkout=checkout)
    with tarfile.open(tmp_path / "a.tar.gz") as tar:
        assert {*tar.getnames()} == want
    assert {sentence.split(":")[0] for sentence in left} == {*secret} | ({"model.bin"} - want)


def test_an_image_has_none_of_the_files_that_a_host_does_not_get_by_name():
    rules = (bundle.CHECKOUT / ".dockerignore").read_text().splitlines()

    def is_left_out(path: str) -> bool:
        """The last rule that fits decides, as Docker has it."""
        out = False
        for rule in rules:
            pattern = rule.removeprefix("!").removeprefix("**/")
            if any(fnmatch.fnmatchcase(name, pattern) for name in path.split("/")):
                out = not rule.startswith("!")
        return out

    paths = (
        ".env", "a/.env.local", ".env.example", ".envrc", "a/.netrc", ".aws/config", ".ssh/known",
        "id_ed25519", "my.pem", "a/my.key", "client_secret.json", "secrets", "gcp-credentials.json",
        "hf_token", "a/token.txt", "my.token.txt", "token", "token.py", "tokenizer.json", "a.yaml",
        "lrl_jax/text.py", "mytoken",
    )  # fmt: skip
    want = {path for path in paths if bundle._is_secret(path)}
    assert len(want) == 16
    assert {path for path in paths if is_left_out(path)} == want


def test_a_folder_of_a_recipe_goes_without_the_keys_in_it(tmp_path, monkeypatch):
    checkout = checkout_in(tmp_path)
    (checkout / "corpus").mkdir()
    for name in ("a.txt", ".env"):
        (checkout / "corpus" / name).write_text("text")
    (checkout / "mine.yaml").write_text((bundle.CHECKOUT / "configs/quickstart.yaml").read_text())
    monkeypatch.chdir(checkout)
    files, left = bundle.named("mine.yaml", ["vocab.text=[corpus]"])
    assert "corpus/a.txt" in files
    assert "corpus/.env" not in files
    assert "corpus/.env: looks like a key" in " ".join(left)


def test_an_installed_package_is_not_sent_to_hosts(tmp_path):
    with pytest.raises(gcloud.PersonError, match="is no checkout of lrl_jax"):
        bundle.write(tmp_path / "a.tar.gz", checkout=tmp_path)


def test_a_text_that_is_a_link_goes_as_the_text(tmp_path, monkeypatch):
    checkout = checkout_in(tmp_path)
    (tmp_path / "disk.txt").write_text("text\n")
    (checkout / "a.txt").symlink_to(tmp_path / "disk.txt")
    (checkout / "mine.yaml").write_text((bundle.CHECKOUT / "configs/quickstart.yaml").read_text())
    monkeypatch.chdir(checkout)
    assert not bundle.write(tmp_path / "a.tar.gz", "mine.yaml", ["vocab.text=[a.txt]"], checkout)
    with tarfile.open(tmp_path / "a.tar.gz") as tar:
        file = tar.extractfile("a.txt")
        assert file is not None
        assert file.read() == b"text\n"
    assert [path.name for path in tmp_path.glob("a.tar.gz*")] == ["a.tar.gz"]


def test_hosts_get_no_tests_and_everything_that_installs_the_package():
    files = bundle.tracked(bundle.CHECKOUT)
    assert {"pyproject.toml", "constraints.txt", "README.md", "LICENSE"} <= set(files)
    assert {"tpu/host/setup.sh", "lrl_jax/cli/main.py", "configs/quickstart.yaml"} <= set(files)
    assert not [name for name in files if name.startswith(("tests/", "docs/"))]


# ---------------------------------------------------------------------------- what Google says
@pytest.mark.parametrize(
    ("said", "kind", "want"),
    [
        ("RESOURCE_EXHAUSTED: There is no more capacity in the zone", gcloud.CapacityError, ""),
        ("Quota limit 'X' has been exceeded", gcloud.PersonError, "docs/launch.md lists"),
        ("Reauthentication failed", gcloud.PersonError, "gcloud auth login"),
        ("PERMISSION_DENIED: Cloud TPU API", gcloud.PersonError, "roles/tpu.admin"),
        ("UNAVAILABLE: try again", gcloud.MachineError, ""),
        (
            "HTTPError 403: me@x.org does not have storage.buckets.get access to the Google Cloud "
            "Storage bucket. Permission 'storage.buckets.get' denied on resource (or it may not "
            "exist).",
            gcloud.PersonError,
            "roles/storage.admin",
        ),
    ],
)
def test_an_error_of_google_is_for_a_person_or_passes(said, kind, want):
    error = gcloud.CallResult(1, err=f"ERROR: (gcloud) {said}").error("asking")
    assert type(error) is kind
    assert want in str(error)


def test_waits_grow_to_ten_minutes_and_are_never_in_step():
    pauses = gcloud.Pauses(first=10)
    waits = [[pauses.seconds(tries) for _ in range(50)] for tries in (0, 3, 20)]
    assert [5 <= min(some) < max(some) <= 10 for some in waits] == [True, False, False]
    assert 40 <= min(waits[1]) < max(waits[1]) <= 80
    assert 300 <= min(waits[2]) < max(waits[2]) <= 600


# ---------------------------------------------------------------------------- manifests
@pytest.mark.parametrize("more", [(), ("--spot", "--node-count=2", "--compiled=gs://b/c")])
def test_a_jobset_is_what_kubernetes_takes(capsys, more):
    assert main.main([*MANIFEST, "--manifest=gke", "--image=i:1", *more]) == 0
    tree = YAML(typ="safe").load(capsys.readouterr().out)
    jsonschema.validate(tree, SCHEMA)
    (job,) = tree["spec"]["replicatedJobs"]
    assert job["replicas"] == (2 if more else 1)
    assert job["template"]["spec"]["parallelism"] == 16
    pod = job["template"]["spec"]["template"]["spec"]
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == "8x8"
    assert pod["containers"][0]["resources"] == {"limits": {"google.com/tpu": 4}}
    assert pod["containers"][0]["command"] == ["lrl", "run", "quickstart", "folder=gs://b/runs"]
    assert ("tolerations" in pod) is bool(more)
    tree["spec"]["replicaJobs"] = tree["spec"].pop("replicatedJobs")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tree, SCHEMA)


def test_a_task_of_skypilot_recovers_on_what_passes(capsys, tmp_path):
    file = tmp_path / "sky.yaml"
    words = ["--manifest=skypilot", "--spot", "--zone=us-central1-a", f"--to={file}"]
    assert main.main([*MANIFEST, *words, "folder=gs://b/it's"]) == 0
    assert f"wrote {file}; read it, then: sky jobs launch {file}\n" == capsys.readouterr().out
    tree = YAML(typ="safe").load(file.read_text())
    assert tree["resources"]["infra"] == "gcp/us-central1/us-central1-a"
    assert tree["resources"]["accelerators"] == {"tpu-v5litepod-64": 1}
    assert tree["resources"]["job_recovery"]["recover_on_exit_codes"] == [6, 75, 76, 137]
    assert tree["run"].splitlines()[-1] == (
        """.venv/bin/lrl run quickstart folder=gs://b/runs 'folder=gs://b/it'"'"'s'"""
    )
    assert main.main([*MANIFEST, *words, "--node-count=2"]) == 2
    assert "makes no TPUs of several slices" in capsys.readouterr().err


def test_machines_that_come_and_go_want_a_bucket_and_an_image(capsys):
    local = ["launch", "quickstart", "--type=v5litepod-8", "--manifest=gke", "--image=i"]
    assert main.main(local) == 2
    assert "add folder=gs://BUCKET/runs" in capsys.readouterr().err
    assert main.main([*MANIFEST, "--manifest=gke"]) == 2
    assert "--image: want a container image" in capsys.readouterr().err


# ---------------------------------------------------------------------------- doctor
def doctor(*words):
    return main.main(["doctor", "--seconds=0.01", *words])


def test_a_host_says_in_a_line_what_it_has(capsys, tmp_path):
    assert main.main(["doctor", "quickstart", f"folder={tmp_path}"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    for word in (" ok lrl=", " python=3.", " jax=", " devices=", "xcpu", " disk=", " clock=20"):
        assert word in line
    assert line.endswith(f"folder={tmp_path}/quickstart written")
    assert [*(tmp_path / "quickstart").iterdir()] == []


def test_a_host_names_what_would_stop_a_run(capsys, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    assert doctor("quickstart", f"folder={tmp_path}/file") == 2
    said = capsys.readouterr().out
    assert " wrong lrl=" in said
    assert "JAX found no devices within 0 s: another process may use them" in said
    assert "quickstart cannot be written" in said
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 2**30}))
    assert doctor() == 9
    assert "its disk has 1.0 GiB free" in capsys.readouterr().out


def test_a_bucket_in_another_region_is_named(tmp_path, monkeypatch):
    tool = tmp_path / "gcloud"
    tool.write_text("#!/bin/sh\necho US-EAST1\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    problems: list[tuple[int, str]] = []
    place = ("gs://b/runs/tamil", "europe-west4-b")
    assert doctor_verb._region(*place, False, problems) == ["region=us-east1"]
    ((code, said),) = problems
    assert code == 2
    assert said.startswith("gs://b is in us-east1, and the TPU in europe-west4-b")
    assert doctor_verb._region(*place, True, problems) == ["region=us-east1"]
    assert len(problems) == 1
