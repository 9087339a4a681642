"""A user's own seqio Tasks and Mixtures: read as text, described elsewhere, refused clearly."""

from pathlib import Path
import subprocess
import sys

import hand_tokenizer
import pytest

from lrl_jax.data.seqio import imports, user_tasks
from lrl_jax.data.seqio.libraries import seqio, tf
from lrl_jax.data.seqio.vocabulary import Vocabulary
from lrl_jax.recipe import data as recipe_data
from lrl_jax.recipe import file as recipe_file
from lrl_jax.text import Bad

# What users write: plain seqio, with the tokenizer of some other model.
HEAD = """
import functools
import seqio
import tensorflow as tf

OTHER = seqio.ByteVocabulary()
FEATURES = {"inputs": seqio.Feature(OTHER), "targets": seqio.Feature(OTHER)}
LM = {"targets": seqio.Feature(OTHER)}
"""
LINES = """
LINES = seqio.TextLineDataSource({"train": FOLDER + "/*.txt", "dev": FOLDER + "/b.txt"})
@seqio.map_over_dataset
def ASK(line):
    halves = tf.strings.split(line, "|", maxsplit=2)
    return {"inputs": halves[0], "targets": halves[1]}
def name_it(dataset):
    return dataset.map(lambda line: {"text": line})
def own_tokenize(dataset):
    return dataset.map(lambda e: {"targets": OTHER.encode_tf(e["targets"])})
"""


def module(tmp_path: Path, body: str, name: str = "my_tasks.py") -> str:
    """A user's file, beside two files of text."""
    (tmp_path / "a.txt").write_text("a|b\nc|d\n")
    (tmp_path / "b.txt").write_text("e|f\n")
    path = tmp_path / name
    path.write_text(f"FOLDER = {str(tmp_path)!r}\n{HEAD}{LINES}{body}")
    return str(path)


@pytest.fixture(autouse=True)
def forget():
    """Tests register tasks of the same names."""
    before = {r: set(r.names()) for r in (seqio.TaskRegistry, seqio.MixtureRegistry)}
    yield
    for registry, names in before.items():
        for name in set(registry.names()) - names:
            registry.remove(name)


def dataset(file: str, task: str = "mine", **fields) -> recipe_data.Task:
    return recipe_data.Task(kind="task", task=task, language="kor_Hang", imports=(file,), **fields)


def read(one: recipe_data.Task) -> list:
    return [record for shard in imports.shards(one) for record in user_tasks.read(one, shard)]


TASK = 'seqio.TaskRegistry.add("mine", source=LINES, preprocessors=[{}], output_features={})\n'
PAIRS = [
    {"inputs": "a", "targets": "b"},
    {"inputs": "c", "targets": "d"},
    {"inputs": "e", "targets": "f"},
]


# ---------------------------------------------------------------------------- where text ends
@pytest.mark.parametrize(
    "steps",
    [
        "ASK, seqio.preprocessors.tokenize, seqio.CacheDatasetPlaceholder(), "
        "seqio.preprocessors.append_eos_after_trim",
        "ASK, seqio.CacheDatasetPlaceholder(), seqio.preprocessors.tokenize_and_append_eos",
        "ASK, functools.partial(seqio.preprocessors.tokenize, with_eos=True)",
        "seqio.CacheDatasetPlaceholder(), ASK, seqio.preprocessors.tokenize",
        "ASK, seqio.CacheDatasetPlaceholder(), own_tokenize",
        "ASK",
    ],
)
def test_a_task_is_text_up_to_where_it_tokenises(tmp_path, steps):
    assert read(dataset(module(tmp_path, TASK.format(steps, "FEATURES")))) == PAIRS


@pytest.mark.parametrize(
    "steps",
    [
        'name_it, functools.partial(seqio.preprocessors.rekey, key_map={"targets": "text"}), '
        "seqio.preprocessors.tokenize",
        "name_it, functools.partial("
        'seqio.preprocessors.rekey, key_map={"inputs": None, "targets": "text"})',
        "name_it",
    ],
)
def test_a_task_without_inputs_is_learnt_whole(tmp_path, steps):
    want = [{"inputs": "", "targets": line} for line in ("a|b", "c|d", "e|f")]
    assert read(dataset(module(tmp_path, TASK.format(steps, "LM")))) == want


def test_a_tokenizer_we_do_not_know_is_not_cut_by_guess(tmp_path):
    file = module(tmp_path, TASK.format("ASK, own_tokenize", "LM"))
    with pytest.raises(ValueError, match=r"own_tokenize makes ids .*CacheDatasetPlaceholder"):
        read(dataset(file))


@pytest.mark.parametrize(
    ("step", "why"),
    [
        ('lambda d: d.map(lambda line: {"targets": OTHER.encode_tf(line)})', "gives targets where"),
        ('lambda d: d.map(lambda line: {"other": line})', "gives other where it ends; want str"),
        ('name_it, lambda d: d.map(lambda e: {"other": e["text"]})', "makes ids of the text, or"),
    ],
)
def test_a_task_that_gives_neither_text_nor_ids_of_ours_is_refused(tmp_path, step, why):
    with pytest.raises(ValueError, match=why):
        read(dataset(module(tmp_path, TASK.format(step, "LM"))))


def test_a_step_that_fails_is_told_with_its_line(tmp_path):
    body = "def bad(d):\n    return d.map(lambda line: line['nothing'])\n"
    with pytest.raises(
        ValueError, match=r"bad fails: .*my_tasks.py:21: TypeError: Only .*\n *lambda"
    ):
        read(dataset(module(tmp_path, body + TASK.format("bad", "LM"))))


@pytest.mark.parametrize(
    ("ids", "want"),
    [
        ([263, 264, 2], {"inputs": "", "targets": "a b"}),
        ([263, 264], {"inputs": "", "targets": "a b"}),
        ([1, 263], None),  # <s> is no text
        ([259, 260], None),  # "a" in two pieces, where its tokenizer takes one
    ],
)
def test_ids_of_our_own_vocabulary_are_taken_where_they_are_its_ids_of_their_text(ids, want):
    tokenizer = hand_tokenizer.make()
    source = lambda **unused: tf.data.Dataset.from_tensors({"targets": ids})  # noqa: E731
    seqio.TaskRegistry.add(
        "ours",
        source=seqio.FunctionDataSource(lambda split, shuffle_files: source(), ["train"]),
        preprocessors=[],
        output_features={"targets": seqio.Feature(Vocabulary(tokenizer))},
    )
    one = recipe_data.Task(kind="task", task="ours", language="kor_Hang")
    (got,) = read(one)
    if want:
        assert got == want
    else:
        assert isinstance(got, Bad)
        assert "not those that the tokenizer makes" in got.why


def test_a_record_that_is_no_text_is_named(tmp_path):
    file = module(tmp_path, TASK.format("ASK", "FEATURES"))
    (tmp_path / "a.txt").write_bytes(b"a|b\nc|\xff\n")
    got = read(dataset(file))
    assert got[0] == PAIRS[0]
    assert (got[1].where, got[1].reason) == (
        "task 'mine' (train, shard 1 of 2): record 2",
        "unreadable",
    )
    assert "targets: " in got[1].why


def test_a_task_that_fails_on_its_text_is_named_with_the_reason(tmp_path):
    file = module(tmp_path, TASK.format("ASK", "FEATURES"))
    (tmp_path / "a.txt").write_text("no bar\n")
    with pytest.raises(ValueError, match=r"task 'mine' \(train, shard 1 of 2\): .*"):
        read(dataset(file))


# ---------------------------------------------------------------------------- shards
def test_a_source_of_files_is_read_file_by_file(tmp_path):
    one = dataset(module(tmp_path, TASK.format("ASK", "FEATURES")))
    shards = imports.shards(one)
    assert [(span.start, span.end) for (span,) in shards] == [(0, 2), (1, 2)]
    assert [list(user_tasks.read(one, shard)) for shard in shards] == [PAIRS[:2], PAIRS[2:]]
    assert imports.uris(one) == (one.imports[0], str(tmp_path / "a.txt"), str(tmp_path / "b.txt"))


def test_another_split_is_other_text(tmp_path):
    one = dataset(module(tmp_path, TASK.format("ASK", "FEATURES")), split="dev")
    assert read(one) == PAIRS[2:]


def test_what_a_task_depends_on_is_its_file_those_beside_it_and_its_text(tmp_path):
    (tmp_path / "beside_h6.py").write_text("STEPS = []\n")
    body = "from beside_h6 import STEPS\n" + TASK.format("ASK, *STEPS", "FEATURES")
    one = dataset(module(tmp_path, body))
    assert imports.uris(one)[:2] == (one.imports[0], str(tmp_path / "beside_h6.py"))
    before = imports.fingerprints(one)
    assert [len(shard) for shard in before] == [3, 3]
    (tmp_path / "b.txt").write_text("g|h\n")
    after = imports.fingerprints(one)
    assert after[0] == before[0]
    assert after[1] != before[1]


# ---------------------------------------------------------------------------- a user's file
@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("x = 1\nraise KeyError('gone')\n", r"my_tasks.py:\d+: KeyError: 'gone'\n    raise Key"),
        ("def f(:\n", r"line \d+: SyntaxError: .*\n    def f\(:"),
        ("import sys\nsys.exit(3)\n", r"my_tasks.py:\d+: SystemExit: 3"),
        ("import nothing_of_this_name\n", r"ModuleNotFoundError: No module named"),
        ("def f():\n    return 1 / 0\nf()\n", r"ZeroDivisionError: .*\n    return 1 / 0"),
    ],
)
def test_a_file_that_fails_is_told_with_its_line(tmp_path, body, why):
    with pytest.raises(ValueError, match=why):
        user_tasks.load([module(tmp_path, body)])


def test_a_remote_file_is_not_run():
    with pytest.raises(ValueError, match=r"gs://b/my_tasks.py: imports are files of this machine"):
        imports.describe(["gs://b/my_tasks.py"])


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"gone.py: no such file"):
        imports.describe([str(tmp_path / "gone.py")])


def test_a_file_that_changed_since_it_ran_is_not_run_again(tmp_path):
    file = module(tmp_path, "")
    user_tasks.load([file])
    user_tasks.load([file])
    Path(file).write_text("x = 2\n")
    with pytest.raises(ValueError, match="changed since this process ran it"):
        user_tasks.load([file])


def test_a_name_that_is_not_registered_is_told_with_its_neighbours(tmp_path):
    file = module(tmp_path, TASK.format("ASK", "FEATURES").replace("mine", "my_wiki"))
    with pytest.raises(ValueError, match=r"no seqio Task 'my_wikis' .*nearest are my_wiki"):
        imports.describe([file], [("my_wikis", "train")])
    with pytest.raises(ValueError, match=r"no seqio Mixture 'all'"):
        imports.describe([file], [], ["all"])
    with pytest.raises(ValueError, match=r"has no split 'test'; it has train, dev"):
        imports.describe([file], [("my_wiki", "test")])


# ---------------------------------------------------------------------------- recipes
RECIPE = """
name: r
base: {{model: base}}
vocab: {{method: keep}}
data:
  sequence_length: 64
  imports: [{file}]
  datasets: {{own: {{kind: task, task: second, language: kor_Hang, max_epochs: 2}}}}
  mixtures: {{all: {{seqio: both, language: jpn_Jpan}}}}
train:
  batch_size: 8
  stages:
    - name: a
      steps: 4
      mixture: {{all: 1}}
      learn: [{{match: ".*", schedule: {{peak: 1.0e-2}}}}]
"""
MIXTURES = (
    TASK.format("ASK", "FEATURES").replace("mine", "first")
    + TASK.format("ASK", "FEATURES").replace("mine", "second")
    + TASK.format("ASK", "FEATURES").replace("mine", "v1.x:third_one")
    + 'seqio.MixtureRegistry.add("pair", [("first", 3), ("second", 1)])\n'
    + 'seqio.MixtureRegistry.add("both", [("pair", 2), ("v1.x:third_one", lambda task: 0.5)])\n'
)


def test_a_seqio_mixture_becomes_datasets_and_weights(tmp_path):
    recipe = recipe_file.parse(_tree(module(tmp_path, MIXTURES)))
    got = imports.resolved(recipe).data
    assert got.mixtures["all"].of == {"first": 1.5, "own": 0.5, "v1.x-third_one": 0.5}
    assert got.mixtures["all"].seqio == ""
    assert got.datasets["own"] == recipe.data.datasets["own"]
    first = got.datasets["first"]
    assert (first.task, first.language, first.imports) == (
        "first",
        "jpn_Jpan",
        recipe.data.imports,
    )


@pytest.mark.parametrize(
    "line", ["from lrl_jax.data.sources import Vocabulary", "from lrl_jax.data import sources"]
)
def test_a_file_that_imports_a_module_that_moved_is_told_where_it_is(tmp_path, line):
    path = tmp_path / "old.py"
    path.write_text(f"{line}\n")
    want = r"old.py:1: (?s:.*)lrl_jax.data.sources has moved; import lrl_jax.data.seqio.vocabulary"
    with pytest.raises(ValueError, match=want):
        user_tasks.load([str(path)])


def test_a_name_that_is_taken_is_not_given_to_a_task(tmp_path):
    tree = _tree(module(tmp_path, MIXTURES))
    tree["data"]["datasets"]["first"] = {"kind": "text", "path": ["x"], "language": "kor_Hang"}
    with pytest.raises(ValueError, match="'first', a name that is taken; give it yours"):
        imports.resolved(recipe_file.parse(tree))


def test_an_import_on_the_command_line_adds_to_those_of_the_recipe(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE.format(file="a.py"))
    got = recipe_file.load(str(path), imports=["b.py"]).data
    assert got.imports == got.datasets["own"].imports == ("a.py", "b.py")


def test_a_recipe_is_resolved_without_tensorflow_in_its_own_process(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE.format(file=module(tmp_path, MIXTURES)))
    code = (
        "import sys\n"
        "from lrl_jax.recipe import file as recipe_file\n"
        "from lrl_jax.data.seqio import imports\n"
        "if __name__ == '__main__':\n"
        f"    recipe = imports.resolved(recipe_file.load({str(path)!r}))\n"
        "    print(len(imports.shards(recipe.data.datasets['first'])))\n"
        "    print([name for name in ('tensorflow', 'seqio') if name in sys.modules])\n"
    )
    (tmp_path / "main.py").write_text(code)
    got = subprocess.run(
        [sys.executable, str(tmp_path / "main.py")],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    assert got.stdout.split("\n")[:2] == ["2", "[]"]


def _tree(file: str) -> dict:
    return recipe_file.YAML(typ="safe", pure=True).load(RECIPE.format(file=file))
