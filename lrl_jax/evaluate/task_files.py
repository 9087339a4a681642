"""Reads task files: what a benchmark task asks, with which words, and which answers are right.

A task file has the YAML form of EleutherAI/lm-evaluation-harness (a subset of its keys). What that
form has no key for stands under `metadata`. A whole file, `tasks/xcopa_ta.yaml`:

    task: xcopa_ta                          # the name of the file
    tag: xcopa                              # the group; `--tasks xcopa` means all tasks of it
    dataset_path: cambridgeltl/xcopa        # on the hub; local copies come first (metadata.files)
    dataset_name: ta
    validation_split: validation            # questions are those of test_split, or of this one
    test_split: test
    fewshot_split: validation               # examples; never the question itself
    num_fewshot: 0
    output_type: multiple_choice            # or generate_until
    description: ""                         # text before everything else
    doc_to_text: "{{premise[:-1]}} {{words.because if question == 'cause' else words.therefore}}"
    doc_to_choice: "{{[choice1[0]|lower ~ choice1[1:], choice2[0]|lower ~ choice2[1:]]}}"
    doc_to_target: label                    # a field, or Jinja; an index from 0, or a choice's text
    target_delimiter: " "                   # between the prompt and a choice
    fewshot_delimiter: "\\n\\n"
    metric_list:                            # the first is the score that reports show first
      - metric: acc                         # acc, acc_norm and acc_bytes are always measured
    metadata:
      version: 1.0
      language: tam_Taml                    # FLORES code: of `words`, and of what answers are in
      paper: XCOPA (arXiv 2005.00333)
      prompt: lm-evaluation-harness 0.4.13, xcopa
      differs: ""                           # what differs from the paper, for the report
      files:                                # local copies, by split: names or globs, below --data
        validation: [val.ta.jsonl, xcopa/val.ta.jsonl]     # the first that is there is read
      columns: {}                           # field -> column of the local file, where they differ
      values: {label: {"0": 0, "1": 1}}     # field -> what its values mean; others are refused

A task that generates has, in place of choices:

    output_type: generate_until
    doc_to_target: "{{answers.text}}"       # a text, or a list of right answers
    generation_kwargs: {until: ["\\n"], max_gen_toks: 64}
    gen_prefix: "Answer:"                   # the answer is forced to begin with it
    metric_list: [{metric: squad_f1}, {metric: squad_em}, {metric: containment}]
    metadata:
      answer: [first_line]                  # what is done to an answer before scoring
      answer_in: context                    # the field in which every right answer has to stand
      rules: mlqa                           # of squad_f1 and squad_em: squad, mlqa or korquad

`include: _xcopa.yaml` takes the keys of another file of the folder first; keys of `metadata` are
merged one by one. Files whose names begin with `_` are no tasks. A file can also be a family:

    task: xcopa
    dataset_name: "{key}"                   # also in dataset_path, splits, files and data_files
    metadata:
      languages: {ta: tam_Taml, th: {language: tha_Thai, dataset_name: th}}    # tasks xcopa_ta, ...
      files: {validation: ["val.{key}.jsonl"]}                  # {key}, or {code}, the FLORES code

A list of FLORES codes in place of a mapping makes them the keys. A code is that of
`source_language` where the tasks have a `language` in common, as those of translation into English.

`words` is the row of the task's language in `languages.yaml` beside the tasks, and `source_words`
that of `metadata.source_language`; each has `code` and `name` too, the English name. A task that
asks for a word its language does not have is refused.

Other facts of local files: `format` (squad, tsv_raw, ... as datasets of a recipe have it; by suffix
if absent) and `header: false`, where columns are "0", "1", ... Texts that are aligned by line are a
mapping: `files: {test: {source: ["flores.en"], target: ["flores.ta"]}}`. Rows of `squad` have the
fields of the hub: id, context, question, and answers with text and answer_start.

Metrics of choices: acc, acc_norm (by characters), acc_bytes, f1 (macro). Metrics of answers:
squad_f1, squad_em, containment, exact_match, number (the last one), letter (A, B, ...), chrf,
chrf++, bleu, spbleu (`spbleu: flores101` under metadata, or flores200), rougeL.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import functools
import hashlib
import json
from pathlib import Path
import re
from typing import Any

from etils import epath
import pydantic

from lrl_jax import storage
from lrl_jax.evaluate.benchmark.form import TaskFacts, TaskSettings
from lrl_jax.recipe import languages, plain_yaml
from lrl_jax.recipe.vocab import did_you_mean

SHIPPED = Path(__file__).with_name("tasks")  # the task files of the package
WORDS = "languages.yaml"  # FLORES code -> the words of its prompts
MAX_BYTES = 1 << 20
MAX_INCLUDES = 8  # files that include one another
# Keys of the harness that we do not read: they hold code, or change what is computed.
OF_THE_HARNESS = (
    "process_docs", "process_results", "filter_list", "repeats", "use_prompt", "custom_dataset",
    "doc_to_image", "doc_to_audio", "unsafe_code", "should_decontaminate",
    "doc_to_decontamination_query", "task_list", "aggregate_metric_list",
)  # fmt: skip
HARNESS_DOOR = (
    "lm-evaluation-harness itself runs such a task (extra `eval`), by its name in the harness; "
    "a file of yours with code needs --import FILE as well"
)
FILLED = (
    "dataset_path", "dataset_name", "dataset_kwargs", "training_split", "validation_split",
    "test_split", "fewshot_split",
)  # fmt: skip
WANTED = {  # first word of a type of pydantic's errors -> what is wanted
    "tuple": "want a list", "dict": "want a mapping", "model": "want a mapping",
    "string": "want a text", "int": "want a whole number", "float": "want a number",
    "bool": "want true or false",
}  # fmt: skip
WORD = re.compile(r"\b(source_words|words)\.(\w+)")  # in a template


@dataclasses.dataclass(frozen=True)
class BenchmarkTask:
    """Holds a task as its file says it, with the words of its language.

    Attributes:
      file: where it is defined, for messages; local files of dataset_kwargs may lie beside it.
      words: of the task's language, `source_words` of its source language; see the module.
    """

    name: str
    file: str
    settings: TaskSettings
    words: Mapping[str, str]
    source_words: Mapping[str, str]

    @property
    def facts(self) -> TaskFacts:
        """Returns what the file says under `metadata`."""
        return self.settings.metadata

    @functools.cached_property
    def fingerprint(self) -> str:
        """Returns a digest of everything that decides what the task asks and how it is scored."""
        said = [self.settings.model_dump(mode="json"), dict(self.words), dict(self.source_words)]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


# ---------------------------------------------------------------------------- which tasks there are
def resolve(name: str, folder: epath.PathLike = SHIPPED) -> list[BenchmarkTask]:
    """Returns the task of this name or of this file, or the tasks of this group.

    Args:
      name: a task or group that ships, or the path of a task file of yours (.yaml).
      folder: where tasks are looked for by name.

    Raises:
      ValueError: there is no such task, or its file is wrong; the message names file and key.
    """
    if is_file(name):
        return _tasks_of(epath.Path(name))
    for stem in _stems(name):
        if (path := epath.Path(folder) / f"{stem}.yaml").exists():
            for task in _tasks_of(path):
                if task.name == name:
                    return [task]
    every = shipped(folder)
    if members := [task for task in every if name in task.settings.groups]:
        return members
    names = {task.name for task in every} | {g for task in every for g in task.settings.groups}
    raise UnknownTaskError(
        f"no task {name!r}{did_you_mean(name, sorted(names))}; `lrl evaluate --list` prints the "
        "tasks, and a file of yours is named by its path, such as ./mine.yaml"
    )


def is_file(name: str) -> bool:
    """Tells whether a task is named by the path of its file."""
    return name.endswith((".yaml", ".yml")) or "/" in name


class UnknownTaskError(ValueError):
    """Says that no task file has a name; lm-evaluation-harness may have such a task."""


def shipped(folder: epath.PathLike = SHIPPED) -> list[BenchmarkTask]:
    """Returns every task of a folder, sorted by name."""
    files = [path for path in epath.Path(folder).glob("*.yaml") if _is_task_file(path)]
    return sorted((task for path in files for task in _tasks_of(path)), key=lambda task: task.name)


def _is_task_file(path: epath.Path) -> bool:
    return not path.name.startswith("_") and path.name != WORDS


def _stems(name: str) -> Iterator[str]:
    """Yields the names of files that may define a task: its own, then those of families.

    >>> list(_stems("flores_en_ta"))
    ['flores_en_ta', 'flores_en', 'flores']
    """
    while name:
        yield name
        name = name.rpartition("_")[0]


# ---------------------------------------------------------------------------- reading
def _tasks_of(path: epath.Path) -> list[BenchmarkTask]:
    """Returns the task of a file, or the tasks of the family that it defines."""
    keys = _with_includes(path)
    metadata = keys.get("metadata")
    family = metadata.get("languages") if isinstance(metadata, dict) else None
    if not family:
        return [_task(path, keys)]
    if isinstance(family, list):
        family = {code: code for code in family if isinstance(code, str)}
    if not isinstance(family, dict):
        raise ValueError(
            f"{path}: metadata.languages: want FLORES codes, or key: FLORES code; got {family!r}"
        )
    return [_task(path, _member(path, keys, str(key), row)) for key, row in family.items()]


def _with_includes(path: epath.Path, depth: int = 0) -> dict[str, Any]:
    """Returns the keys of a file over those of the files that it includes."""
    keys = _read(path)
    included = keys.pop("include", ())
    merged: dict[str, Any] = {}
    if included and depth == MAX_INCLUDES:
        raise ValueError(f"{path}: files that include one another more than {MAX_INCLUDES} deep")
    for name in [included] if isinstance(included, str) else included:
        merged = _merged(merged, _with_includes(path.parent / str(name), depth + 1))
    return _merged(merged, keys)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the keys of `above`, and those of `below` that it has not; so those of metadata."""
    facts = [keys.get("metadata") for keys in (below, above)]
    metadata = {k: v for each in facts if isinstance(each, dict) for k, v in each.items()}
    return {**below, **above, **({"metadata": metadata} if metadata else {})}


def _member(path: epath.Path, keys: Mapping[str, Any], key: str, row: Any) -> dict[str, Any]:
    """Returns the keys of one task of a family; `row` says what differs from the others."""
    if isinstance(row, str):
        row = {"source_language" if "language" in keys["metadata"] else "language": row}
    metadata = row.get("metadata", {}) if isinstance(row, dict) else None
    if not isinstance(row, dict) or not isinstance(metadata, dict):
        raise ValueError(
            f"{path}: metadata.languages.{key}: want a FLORES code, or keys of the task such as "
            f"{{language: tam_Taml, dataset_name: ta}}; got {row!r}"
        )
    facts = {name: row[name] for name in row if name in TaskFacts.model_fields}
    own = {name: value for name, value in row.items() if name not in facts}
    own["metadata"] = {**facts, **metadata, "languages": {}}
    member = _merged(keys, own)
    member["task"] = own.get("task") or f"{keys.get('task')}_{key}"
    member["tag"] = [*_names(keys.get("tag")), str(keys.get("task"))]
    code = str(member["metadata"].get("language", ""))
    names = {"key": key, "code": code}
    for name in [name for name in FILLED if name in member]:
        member[name] = plain_yaml.filled(member[name], names)
    if "files" in member["metadata"]:
        member["metadata"]["files"] = plain_yaml.filled(member["metadata"]["files"], names)
    return member


def _names(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [*map(str, value or ())]


def _read(path: epath.Path) -> dict[str, Any]:
    """Returns the keys of one file; a key without a value counts as absent."""
    try:
        source = storage.read_bytes(path, MAX_BYTES).decode("utf-8")
        if "!function" in source:
            raise ValueError(
                f"`!function` names Python code, which is not run here; {HARNESS_DOOR}"
            )
        keys = plain_yaml.parse(source, "task file")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such task file") from None
    except UnicodeDecodeError as e:
        raise ValueError(f"{path}: not UTF-8 at byte {e.start}") from None
    except ValueError as e:
        raise ValueError(f"{path}: {e}" if str(path) not in str(e) else str(e)) from None
    if not isinstance(keys, dict):
        raise ValueError(f"{path}: a task file is a mapping; got {type(keys).__name__}")
    return {str(key): value for key, value in keys.items() if value is not None}


def _task(path: epath.Path, keys: Mapping[str, Any]) -> BenchmarkTask:
    """Validates the keys of a task and finds the words of its language."""
    try:
        settings = TaskSettings.model_validate(keys)
    except pydantic.ValidationError as e:
        raise ValueError("\n  ".join(_problems(str(path), keys, e))) from None
    if odd := [*_odd_facts(keys)]:
        raise ValueError("\n  ".join([f"{path}: {len(odd)} problem{'s' * (len(odd) != 1)}", *odd]))
    table, facts = _words_table(path.parent), settings.metadata
    for code in filter(None, (facts.language, facts.source_language)):
        if problem := languages.unknown(code):
            raise ValueError(f"{path}: metadata.language: {problem}")
    words = _row(table, facts.language)
    source = _row(table, facts.source_language) if facts.source_language else {}
    task = BenchmarkTask(settings.task, str(path), settings, words, source)
    if problem := next(_missing_words(task), ""):
        raise ValueError(f"{path}: {problem}")
    return task


def _words_table(folder: epath.Path) -> dict[str, dict[str, str]]:
    """Returns the words of every language: those that ship, and those of the file's own folder."""
    table: dict[str, dict[str, str]] = {}
    for path in dict.fromkeys([epath.Path(SHIPPED) / WORDS, folder / WORDS]):
        if path.exists():
            table |= _table(str(path))
    return table


@functools.lru_cache(maxsize=8)
def _table(path: str) -> dict[str, dict[str, str]]:
    table = _read(epath.Path(path))
    for code, row in table.items():
        if not (isinstance(row, dict) and all(isinstance(w, str) for w in row.values())):
            raise ValueError(f"{path}: {code}: want word: text in this language; got {row!r}")
        if not re.fullmatch(languages.CODE, code):
            raise ValueError(f"{path}: {code}: want a FLORES code, such as kor_Hang")
    return table


def _row(table: Mapping[str, Mapping[str, str]], code: str) -> dict[str, str]:
    """Returns the words of a language, with its code and its English name."""
    return {"code": code, "name": languages.name_of(code), **table.get(code, {})}


def _missing_words(task: BenchmarkTask) -> Iterator[str]:
    """Yields the words that templates ask for and the task's languages do not have."""
    settings, facts = task.settings, task.facts
    templates = [settings.doc_to_text, settings.doc_to_target, settings.doc_to_choice]
    templates += [settings.description, settings.gen_prefix]
    rows = {"words": (facts.language, task.words),
            "source_words": (facts.source_language or "none", task.source_words)}  # fmt: skip
    for which, word in WORD.findall(" ".join(map(str, templates))):
        code, row = rows[which]
        if word not in row and word not in dir(dict):
            yield (
                f"the language {code} has no prompt: its row in {WORDS} lacks {word!r}; add it "
                f"there, or beside the task file, as {code}: {{{word}: ...}}"
            )


# ---------------------------------------------------------------------------- what is wrong
def _problems(path: str, keys: Mapping[str, Any], error: pydantic.ValidationError) -> list[str]:
    """Returns what is wrong with a task file, a line each after the first."""
    lines = [*map(_explained, error.errors()), *_odd_facts(keys)]
    unread = [key for key in keys if key in OF_THE_HARNESS]
    if unread:
        lines = [line for line in lines if line.partition(":")[0] not in unread]
        lines.insert(0, f"{', '.join(unread)}: not read here; {HARNESS_DOOR}")
    return [f"{path}: {len(lines)} problem{'s' * (len(lines) != 1)}", *dict.fromkeys(lines)]


def _explained(error: Any) -> str:
    where = ".".join(map(str, error["loc"])) or "task"
    if error["type"] == "extra_forbidden":
        section = TaskSettings.model_fields
        for key in error["loc"][:-1]:
            field = section.get(str(key))
            section = getattr(field.annotation, "model_fields", {}) if field else {}
        names = sorted(section or TaskSettings.model_fields)
        return f"{where}: unknown key{did_you_mean(str(error['loc'][-1]), names)}"
    if error["type"] == "missing":
        return f"{where}: missing"
    if error["type"] == "value_error":
        return f"{where}: {error['ctx']['error']}" if error["loc"] else str(error["ctx"]["error"])
    kind, _, rest = error["type"].partition("_")
    wanted = WANTED.get(kind) if rest in ("type", "parsing", "from_float") else None
    return f"{where}: {wanted or error['msg']}; got {str(error['input'])[:80]!r}"


def _odd_facts(keys: Mapping[str, Any]) -> Iterator[str]:
    """Yields keys of `metadata` that are none of ours, and look like one."""
    names, facts = [*TaskFacts.model_fields], keys.get("metadata")
    for key in facts if isinstance(facts, dict) else ():
        if key not in names and (hint := did_you_mean(str(key), names)):
            yield f"metadata.{key}: unknown key{hint}"
