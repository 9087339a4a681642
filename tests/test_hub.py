"""What is pushed is complete and right, once, private, and no secret is seen."""

import hashlib
import json
import logging

import fake_hub
from huggingface_hub import constants
import pytest

from lrl_jax.cli import codes
from lrl_jax.hf.hub import client, parcel, push
from lrl_jax.hf.hub.client import HubError, HubPlace
from lrl_jax.hf.hub.parcel import ChangedError

NAME = "org/llama-korean"
WEIGHTS = {f"model-{i}.safetensors": bytes([i]) * 3000 for i in range(2)}
WEIGHTS["model-2.safetensors"] = b"x" * 3000 + b"y" * 3000  # large enough to be sent in parts
SMALL = {"config.json": b"{}", "tokenizer.json": b'{"a": 1}'}
CARD = "# Korean\n\nLoad it from path/of/this/folder.\n"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with fake_hub.serving(monkeypatch, tmp_path) as server:
        yield server


def packed(folder, files=None, what="model"):
    """A parcel of files that are written into a folder."""
    folder.mkdir(exist_ok=True)
    for name, data in (WEIGHTS | SMALL if files is None else files).items():
        (folder / name).write_bytes(data)
    return parcel.parcel(what, "Korean", NAME, {p.name: p for p in folder.iterdir()}, CARD)


PLACE = HubPlace(NAME)


def send(made, place=PLACE, said=None, **options):
    say = (lambda line: None) if said is None else said.append
    return push.push(made, place, say=say, wait=lambda seconds: None, **options)


def digests(files):
    return {hashlib.sha256(data).hexdigest(): 1 for data in files.values()}


def check(hub, made, name=NAME, branch="main"):
    """Compares every byte that the hub has with what was pushed."""
    got = hub.files(name, branch)
    got.pop(".gitattributes")
    assert got == {name: file.content() for name, file in made.files.items()}


# ---------------------------------------------------------------------------- it arrives
def test_a_push_is_whole_private_and_says_where_it_is(hub, tmp_path):
    made = packed(tmp_path / "export")
    done = send(made)
    check(hub, made)
    assert hub.repositories[NAME].private
    assert done == push.Pushed(
        f"{hub.url}/{NAME}", hub.repositories[NAME].commits["main"], 7, 7, True
    )


def test_a_card_names_the_repository_and_the_manifest_has_its_digest(hub, tmp_path):
    send(packed(tmp_path / "export"))
    files = hub.files(NAME)
    assert files["README.md"].decode() == f"# Korean\n\nLoad it from {NAME}.\n"
    listed = json.loads(files["manifest.json"])["files"]
    assert {name: entry["sha256"] for name, entry in listed.items()} == {
        name: hashlib.sha256(data).hexdigest()
        for name, data in files.items()
        if name not in ("manifest.json", ".gitattributes")
    }


def test_a_second_push_sends_nothing_and_commits_nothing(hub, tmp_path):
    made = packed(tmp_path / "export")
    send(made)
    commit = hub.repositories[NAME].commits["main"]
    hub.requests.clear()
    assert send(made).sent == 0
    assert hub.repositories[NAME].commits["main"] == commit
    assert all(request.startswith("GET ") for request in hub.requests)


def test_a_push_of_another_export_replaces_what_the_first_had(hub, tmp_path):
    send(packed(tmp_path / "first"))
    made = packed(tmp_path / "second", SMALL | {"model.safetensors": b"x" * 99})
    send(made)
    check(hub, made)


@pytest.mark.parametrize("how", ["500", "after", "cut"])
def test_a_push_that_fails_once_at_any_request_is_whole_and_sends_nothing_twice(
    hub, tmp_path, how, capfd, caplog
):
    caplog.set_level(logging.DEBUG)
    made, said = packed(tmp_path / "export"), []
    send(made, HubPlace("org/first"))  # of this process, which asks a little more
    hub.objects.clear(), hub.requests.clear()
    send(made, HubPlace("org/second"))
    count = len(hub.requests)
    assert count > 12
    for number in range(1, count + 1):
        name = f"org/try-{number}"
        hub.objects.clear(), hub.stored.clear(), hub.committed.clear(), hub.requests.clear()
        hub.fail_at = {number: how}
        send(made, HubPlace(name), said)
        assert not hub.fail_at, number
        check(hub, made, name)
        assert hub.stored == digests(WEIGHTS), (number, hub.requests)
        assert set(hub.committed.values()) == {1}, number
    seen = "\n".join([*said, *capfd.readouterr(), caplog.text])
    assert "once more in 1 s" in seen
    assert fake_hub.TOKEN not in seen
    assert "signedByTheStore" not in "\n".join(said)


def test_a_push_that_was_cut_goes_on_where_it_stood(hub, tmp_path):
    made = packed(tmp_path / "export")
    first_upload = 1 + [r.startswith("PUT") for r in requests_of(hub, made)].index(True)
    hub.objects.clear(), hub.stored.clear(), hub.requests.clear()
    hub.fail_at = dict.fromkeys(range(first_upload + 2, 999), "500")
    with pytest.raises(push.UnreachableError, match="run the same command again") as error:
        send(made, HubPlace("org/cut"))
    assert codes.code_of(error.value) == 76
    assert sum(hub.stored.values()) <= 2  # files go side by side, and some may not have come
    assert "config.json" not in hub.files("org/cut")  # nobody sees half of it
    hub.fail_at = {}
    send(made, HubPlace("org/cut"))
    check(hub, made, "org/cut")
    assert hub.stored == digests(WEIGHTS)


def requests_of(hub, made):
    send(made, HubPlace("org/other"))
    return hub.requests


@pytest.mark.parametrize("refused", ["/commit/", "/api/repos/create", "/store/"])
def test_a_hub_that_never_does_a_step_is_given_up_in_the_end(hub, tmp_path, monkeypatch, refused):
    serve = hub.serve

    def broken(request, body):
        if refused in request.path:
            return fake_hub.error(503, "Service unavailable")
        return serve(request, body)

    monkeypatch.setattr(hub, "serve", broken)
    said = []
    with pytest.raises(push.UnreachableError, match="failed 6 times in a row"):
        send(packed(tmp_path / "export"), said=said)
    pauses = [line.rpartition(" in ")[2] for line in said if "once more" in line]
    assert pauses[-5:] == ["1 s", "2 s", "4 s", "8 s", "16 s"]


def test_a_hub_that_never_answers_is_given_up_in_the_end(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(client, "SILENCE", 0.05)
    monkeypatch.setattr(push, "TRIES", 2)
    monkeypatch.setattr(hub, "serve", lambda *_: fake_hub.okay({"late": hub.hang.wait(20)}))
    with pytest.raises(push.UnreachableError, match=r"failed 2 times in a row.*ReadTimeout"):
        send(packed(tmp_path / "export"))
    hub.hang.set()


# ---------------------------------------------------------------------------- it is right
def test_a_hub_that_holds_another_file_is_found_out(hub, tmp_path):
    hub.damaged = {hashlib.sha256(WEIGHTS["model-1.safetensors"]).hexdigest()}
    with pytest.raises(HubError, match=r"another model-1\.safetensors than was sent \(1 of 7"):
        send(packed(tmp_path / "export"))


def test_a_file_that_changes_during_the_push_is_found_out(hub, tmp_path):
    made = packed(tmp_path / "export")
    (tmp_path / "export/model-1.safetensors").write_bytes(b"x" * 3000)
    with pytest.raises(ChangedError, match=r"model-1\.safetensors: changed while") as error:
        send(made)
    assert codes.code_of(error.value) == 5
    assert {*hub.files(NAME, "main")} == {".gitattributes"}  # nobody sees any of it
    made = packed(tmp_path / "small", {"config.json": b"{}"})
    (tmp_path / "small/config.json").write_bytes(b"[]")
    with pytest.raises(ChangedError, match=r"config\.json: changed while it was pushed"):
        send(made, HubPlace("org/small"))


def test_a_small_file_that_changes_once_all_is_sent_is_published_as_it_was_hashed(
    hub, tmp_path, monkeypatch
):
    made = packed(tmp_path / "export")
    config = tmp_path / "export/config.json"

    def changing(call):
        def then(*args):
            config.write_bytes(b"[]")
            return call(*args)

        return then

    monkeypatch.setattr(client, "commit", changing(client.commit))
    with pytest.raises(ChangedError, match=r"config\.json: changed while"):
        send(made)
    assert hub.files(NAME)["config.json"] == b"{}"
    made = packed(tmp_path / "export")
    monkeypatch.undo()
    with fake_hub.serving(monkeypatch, tmp_path) as another:
        sent = client.send

        def and_changing(*args):
            sent(*args)
            config.write_bytes(b"[]")

        monkeypatch.setattr(client, "send", and_changing)
        with pytest.raises(ChangedError, match=r"config\.json: changed while"):
            send(made)
        assert {*another.files(NAME)} == {".gitattributes"}


def test_a_large_file_that_changes_as_chunks_of_it_are_sent_is_not_published(
    hub, tmp_path, monkeypatch
):
    """hf_xet believes a digest that it is given, and hashes what it reads where there is none."""
    made = packed(tmp_path / "export")

    def by_chunks(place, secret, additions):
        (tmp_path / "export/model-1.safetensors").write_bytes(b"other" * 600)
        for addition in additions:
            large = addition.path_in_repo.endswith(fake_hub.LARGE)
            addition._upload_mode = "lfs" if large else "regular"
            addition._should_ignore, addition._is_uploaded = False, large
            with addition.as_file() as file:
                data = file.read()
            if not addition.upload_info.is_hashed:
                addition.upload_info.sha256 = hashlib.sha256(data).digest()
            hub.objects[addition.upload_info.sha256.hex()] = data

    monkeypatch.setattr(client, "send", by_chunks)
    with pytest.raises(ChangedError, match=r"model-1\.safetensors: changed while"):
        send(made)
    assert {*hub.files(NAME)} == {".gitattributes"}


# ---------------------------------------------------------------------------- who may see it
def test_a_public_repository_is_made_only_where_that_is_said(hub, tmp_path):
    made = packed(tmp_path / "export")
    send(made, HubPlace("org/open"), private=False)
    assert not hub.repositories["org/open"].private
    with pytest.raises(HubError, match=r"is public; push to another name.*--public"):
        send(made, HubPlace("org/open"))
    send(made)
    with pytest.raises(HubError, match=r"is private.*leave out --public"):
        send(made, private=False)


def test_files_of_others_are_left_alone(hub, tmp_path):
    repository = hub.repositories[NAME] = fake_hub.Repository(private=True)
    repository.branches["main"] |= {"notes.txt": b"mine", "README.md": b"# Mine"}
    made = packed(tmp_path / "export")
    with pytest.raises(HubError, match=r"holds other files \(README.md, notes.txt\).*--revision"):
        send(made)
    assert hub.files(NAME)["README.md"] == b"# Mine"
    send(made, HubPlace(NAME, branch="step-10"), anywhere=True)
    assert hub.files(NAME)["README.md"] == b"# Mine"
    assert hub.files(NAME, "step-10")["README.md"] == made.files["README.md"].content()
    send(made, anywhere=True)
    assert hub.files(NAME)["notes.txt"] == b"mine"


def test_a_push_of_another_kind_does_not_replace_a_model(hub, tmp_path):
    send(packed(tmp_path / "export"))
    with pytest.raises(HubError, match=r"a push of another kind \(model\)"):
        send(packed(tmp_path / "vocab", SMALL, what="tokenizer"))


def test_data_goes_to_a_dataset_repository(hub, tmp_path):
    made = packed(tmp_path / "data", {"rows.array_record": b"r" * 70}, what="data")
    done = send(made, HubPlace(NAME, made.kind))
    assert done.address == f"{hub.url}/datasets/{NAME}"
    check(hub, made, f"datasets/{NAME}")


def test_without_a_token_nothing_is_asked(hub, tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ValueError, match=r"no token.*`hf auth login`, or set HF_TOKEN"):
        send(packed(tmp_path / "export"))
    assert not hub.requests


@pytest.mark.parametrize(
    "place", [HubPlace("another/name"), HubPlace(NAME)], ids=["owner", "token"]
)
def test_a_token_that_may_not_write_is_told_without_being_shown(hub, tmp_path, place, monkeypatch):
    secret = "hf_anotherSecret" if place.name == NAME else fake_hub.TOKEN
    monkeypatch.setenv("HF_TOKEN", secret)
    with pytest.raises(HubError, match=r"does not let this token write there \(40[13]") as error:
        send(packed(tmp_path / "export"), place)
    assert secret not in str(error.value)


def test_offline_is_named(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        send(packed(tmp_path / "export"))


@pytest.mark.parametrize(
    "name", ["", "model", "a/b/c", "org/", "/name", "org/a b", "org/a--b", "org/.a", "org/a.",
             "org/a\nb", "org/" + "a" * 96, "https://hf.co/org/a", "org/a.git", "org/\uac00"]
)  # fmt: skip
def test_a_name_of_wrong_form_is_refused(name):
    with pytest.raises(ValueError, match="want ORG/NAME"):
        client.checked(name)
    assert client.checked("my-org/Llama-3.1_ko") == "my-org/Llama-3.1_ko"


@pytest.mark.parametrize("name", ["", "a/b", "a b", "-x", "a..b", "0" * 40])
def test_a_revision_that_is_no_branch_is_refused(name):
    with pytest.raises(ValueError, match="want the name of a branch"):
        client.checked_branch(name)


# ---------------------------------------------------------------------------- what may be pushed
def export(folder, **changes):
    """A folder as an export leaves it."""
    folder.mkdir(exist_ok=True)
    files = {"config.json": b"{}", "gate.json": b'{"passed": true, "problems": []}'} | changes
    for name, data in files.items():
        (folder / name).write_bytes(data)
    entries = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in files.items()
    }
    manifest = {"format": "lrl_jax export 1", "files": entries}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_an_export_that_is_as_it_passed_is_taken(tmp_path):
    assert {*parcel.verified_export(export(tmp_path / "e"))} == {"config.json", "gate.json"}


def test_what_changed_after_the_gate_is_refused_by_name(tmp_path):
    folder = export(tmp_path / "e")
    (folder / "config.json").write_bytes(b"[]")
    with pytest.raises(ChangedError, match=r"config\.json: has changed since it passed the gate"):
        parcel.verified_export(folder)
    with pytest.raises(ChangedError, match=r"config\.json: has changed since it passed the gate"):
        parcel.verified_text(folder / "config.json", hashlib.sha256(b"{}").hexdigest())
    assert parcel.verified_text(folder / "config.json", hashlib.sha256(b"[]").hexdigest()) == "[]"
    (folder / "config.json").unlink()
    with pytest.raises(ChangedError, match=r"config\.json: is missing.*--redo") as error:
        parcel.verified_export(folder)
    assert codes.code_of(error.value) == 5
    (export(tmp_path / "e") / "added.bin").write_bytes(b"x")
    with pytest.raises(ChangedError, match=r"added\.bin: was put there after the gate"):
        parcel.verified_export(folder)


@pytest.mark.parametrize(
    "gate", [b'{"passed": false}', b"[]", b'{"passed": true, "problems": [1]}']
)
def test_an_export_whose_gate_was_not_passed_is_refused(tmp_path, gate):
    with pytest.raises(ChangedError, match="the gate was not passed"):
        parcel.verified_export(export(tmp_path / "e", **{"gate.json": gate}))


def test_what_is_no_export_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no export to push"):
        parcel.verified_export(tmp_path / "absent")
    with pytest.raises(ChangedError, match=r"has no manifest\.json"):
        parcel.verified_export(tmp_path)
    (tmp_path / "manifest.json").write_text('{"format": "another", "files": {}}')
    with pytest.raises(ChangedError, match="none of an export with a gate"):
        parcel.verified_export(tmp_path)


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "secret").write_text("x")
    folder = export(tmp_path / "e")
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match="link that leads out"):
        parcel.verified_export(folder)


def test_a_manifest_that_names_files_elsewhere_is_refused(tmp_path):
    folder = export(tmp_path / "e")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["../secret"] = {"bytes": 1, "sha256": "0" * 64}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ChangedError, match="is missing"):
        parcel.verified_export(folder)
