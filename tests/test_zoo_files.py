"""Task files of others run Python only where the user names it; they are read as data first."""

import dataclasses
from pathlib import Path

import pytest

from lrl_jax.evaluate.zoo import files

PLAIN = "task: capitals\ndataset_path: json\ndoc_to_text: '{{question}}'\nmetric_list: [acc]\n"


@pytest.fixture
def write(tmp_path):
    def make(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return make


def test_a_file_without_code_is_accepted(write):
    files.refuse_code(write("a.yaml", PLAIN), ())


@pytest.mark.parametrize(
    ("line", "key", "python"),
    [
        ("process_docs: !function utils.clean", "process_docs", "utils.py"),
        ("custom_dataset: !function make.rows", "custom_dataset", "make.py"),
        ("class: !function deep.inner.Task", "class", "deep/inner.py"),
        ("filter_list: [{name: a, filter: [{function: !function f.g}]}]",
         r"filter_list\[0\].filter\[0\].function", "f.py"),
        ("fewshot_config: {samples: !function list.shots}", "fewshot_config.samples", "list.py"),
        ("? !function keys.of\n: 1", "keys.of", "keys.py"),
        ("a: &x !function anchor.f\nb: *x", "a", "anchor.py"),
        ("a: !!python/object/apply:os.system [true]", "a", ""),
    ],
)  # fmt: skip
def test_code_is_refused_by_file_key_and_python_file(write, line, key, python):
    path = write("a.yaml", PLAIN + line)
    with pytest.raises(ValueError, match=rf"a\.yaml: {key} runs ") as refused:
        files.refuse_code(path, ())
    assert f"allow it with --import {path.parent / python}".rstrip("/") in str(refused.value)


@pytest.mark.parametrize(
    "line",
    [
        "metric_list: [{metric: f1, hf_evaluate: true}]",
        "dataset_kwargs: {trust_remote_code: yes}",
        "unsafe_code: True",
    ],
)
def test_code_fetched_from_the_hub_is_refused(write, line):
    with pytest.raises(ValueError, match=r"(hf_evaluate|trust_remote_code|unsafe_code) is "):
        files.refuse_code(write("a.yaml", PLAIN.replace("metric_list: [acc]\n", line)), ())


def test_settings_that_fetch_nothing_are_accepted(write):
    files.refuse_code(write("a.yaml", PLAIN + "unsafe_code: false\n"), ())


@pytest.mark.parametrize("allowed", ["a.yaml", "utils.py", "."])
def test_code_runs_where_its_file_or_folder_is_named(write, tmp_path, allowed):
    path = write("a.yaml", PLAIN + "process_docs: !function utils.clean")
    files.refuse_code(path, [str(tmp_path / allowed)])
    with pytest.raises(ValueError, match="process_docs"):
        files.refuse_code(path, [str(tmp_path / "other.py"), str(tmp_path / "a.yaml.old")])


def test_code_of_an_included_file_is_refused_by_that_files_name(write):
    write("base/default.yaml", PLAIN + "process_docs: !function utils.clean")
    path = write("a.yaml", "include: base/default.yaml\ntask: b\n")
    with pytest.raises(ValueError, match=r"base/default\.yaml: process_docs"):
        files.refuse_code(path, ())


def test_a_circle_of_includes_ends_in_a_refusal(write):
    path = write("a.yaml", "include: b.yaml\ntask: a\n")
    write("b.yaml", "include: a.yaml\n")
    with pytest.raises(ValueError, match="includes more than 100 files"):
        files.refuse_code(path, ())


@pytest.mark.parametrize("text", ["a: [", "- 1\n", "", "\ud800"])
def test_what_is_no_task_file_is_refused(tmp_path, text):
    path = tmp_path / "a.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=r"a\.yaml: "):
        files.refuse_code(path, ())


def test_an_alias_within_itself_is_read_once(write):
    files.refuse_code(write("a.yaml", PLAIN + "a: &a [*a, 1]"), ())


def test_the_folders_of_tasks_groups_and_tags_are_found(tmp_path, monkeypatch):
    for name, text in {
        "kob/boolq.yaml": "task: kob_boolq\ntag: korean\n",
        "kob/all.yaml": "group: kob\ntask:\n  - kob_boolq\n",
        "kob/deep/more.yaml": "task: 'kob_more'\n",
        "cop/sw.yaml": "include: base.yaml\ntask: cop_sw\ntag:\n  - korean\n  - african\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(files, "folder", lambda: tmp_path)
    kob, cop = tmp_path / "kob", tmp_path / "cop"
    assert files.folders(["kob_boolq"]) == [kob]
    assert files.folders(["kob", "kob_more"]) == [kob]
    assert files.folders(["kob_more"]) == [kob / "deep"]
    assert files.folders(["african"]) == [cop]
    assert sorted(files.folders(["korean"])) == [cop, kob]
    assert files.folders([str(cop / "sw.yaml"), "kob"]) == [cop, kob]
    with pytest.raises(ValueError, match=r"'kob_bolq' is neither a file .* 'kob_boolq'"):
        files.folders(["kob_bolq"])


def test_a_task_file_names_its_task(write):
    assert files.defined_in(write("a.yaml", PLAIN)) == "capitals"
    assert files.defined_in(write("b.yaml", "group: all\ntask: [capitals]\n")) == "all"
    with pytest.raises(ValueError, match="defines no task"):
        files.defined_in(write("c.yaml", "include: a.yaml\n"))


def test_without_the_harness_its_extra_is_named(monkeypatch):
    monkeypatch.setattr(files.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"need the extra `eval`: pip install"):
        files.folder()
    assert files.folders(["mine.yaml"]) == [Path.cwd()]


@dataclasses.dataclass
class Entry:
    """An entry of the harness's index."""

    yaml_path: Path | None
    cfg: dict | None = None
    tags: frozenset = frozenset()


def test_the_files_of_a_group_are_those_of_all_its_tasks_however_deep():
    a, b, c, d, e = (Path(name) for name in "abcde")
    index = {
        "a": Entry(a, {"task": "a"}),
        "b": Entry(b, {"task": "b"}, frozenset({"tagged"})),
        "c": Entry(c, {"task": "c"}),
        "all": Entry(d, {"group": "all", "task": [
            "a", {"group": "inner", "task": ["b", {"task": "c", "alias": "x"}]}, "all", "away",
        ]}),
        "tagged": Entry(None, None, frozenset({"a", "c"})),
        "other": Entry(e, {"task": "other"}),
    }  # fmt: skip
    assert files.of_task(index, "all") == {a, b, c, d}
    assert files.of_task(index, "tagged") == {a, c}
    assert files.of_task(index, "b") == {b}
    assert files.of_task(index, "away") == set()
