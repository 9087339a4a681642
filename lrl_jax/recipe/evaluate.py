"""Describes the section of a recipe that says what is measured.

    evaluate:
      translation: {en_ko: {source: en.txt, target: ko.txt, ...}}     # kind: {name: entry}
      batch_size: 8                                                   # a setting of every kind

Every kind of evaluation has a key under `evaluate` that holds its entries by name. An entry is a
section of its own class, or a string that names a file. The kinds below are fields, so that editors
and type checkers know them. Another kind is added by its own file, `lrl_jax/evaluate/<kind>.py`,
which registers the class of its entries (`lrl_jax.evaluate.kinds.register`).
"""

import abc
from collections.abc import Iterator, Mapping
import functools
import importlib
import importlib.util
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from lrl_jax.recipe.data import Name
from lrl_jax.recipe.vocab import (
    NUMBER,
    Language,
    Names,
    NonNegativeInt,
    PositiveInt,
    Section,
    did_you_mean,
    is_default,
)

ROOM = "lrl_jax.evaluate"  # the package whose module <kind> registers the kind of that name
SHARED = (
    "batch_size",
    "max_lines",
    "baseline_text",
    "task_data",
)  # keys that are settings, not kinds


class Evaluation(Section, abc.ABC):
    """Describes one thing to measure: an entry of a kind of evaluation."""

    language_names: Names = Field(default_factory=dict, exclude_if=is_default)
    """English names of its languages, for prompts; those of the recipe's `languages` if empty."""

    @abc.abstractmethod
    def files(self) -> tuple[str, ...]:
        """Returns the text files that the evaluation reads.

        The step runs again when one of them changes, `lrl check` reads how they begin, and the
        recipe's `supply` may say how to get them.
        """

    def test_files(self, settings: "Evaluate") -> tuple[str, ...]:
        """Returns the files whose texts training must not share: `data.decontaminate`.

        They are those of `files`, unless an entry finds its texts in another way.
        """
        del settings
        return self.files()


Entry = type[Evaluation] | type[str]
SECTIONS: dict[str, Entry] = {}  # name of a kind -> what its entries are; filled by `register`


class Translation(Evaluation):
    """Measures greedy translation of a held-out parallel file by chrF and BLEU (sacrebleu)."""

    source: str
    target: str
    source_language: Language
    target_language: Language
    template: str = "translation"
    limit: PositiveInt = 200
    max_new_tokens: PositiveInt = 128

    def files(self) -> tuple[str, ...]:
        return self.source, self.target


class Chains(Evaluation):
    """Answers held-out instructions greedily with TaCo's chain; measures whole chains and chrF.

    The files are written like those of a `taco` dataset.
    """

    english: str
    translated: str
    language: Language
    template: Literal["taco", "taco_legacy"] = "taco"
    prompt: Literal["alpaca", "guanaco"] = "alpaca"
    limit: PositiveInt = 100
    max_new_tokens: PositiveInt = 512

    def files(self) -> tuple[str, ...]:
        return self.english, self.translated


class Alignment(Evaluation):
    """Compares what the model makes, at every layer, of sentences and of their translations.

    Line n of one file is the translation of line n of the other.
    """

    source: str
    target: str
    source_language: Language
    target_language: Language
    limit: Annotated[int, Field(ge=3), NUMBER] = 100
    """How many pairs are compared, the first ones; MEXA's paper takes 100 (arXiv 2410.05873)."""

    def files(self) -> tuple[str, ...]:
        return self.source, self.target


class Benchmark(Evaluation):
    """Asks the questions of a benchmark task: one that ships, a task file of yours, or a group."""

    task: str
    """A task or group that ships (`lrl evaluate --list`), or the path of a task file (.yaml). Any
    other name is looked for in lm-evaluation-harness, where the extra `eval` is installed."""
    file: str = ""
    """The questions, in place of the files that the task names."""
    shots: NonNegativeInt | None = None
    """Examples in each prompt; as many as the task says if absent."""
    limit: NonNegativeInt = 0
    """How many questions are asked, the first ones; 0: all."""
    skip_bad: bool = False
    """Leaves out documents that cannot be used, and lists them; otherwise they are refused."""

    def files(self) -> tuple[str, ...]:
        own = (self.task,) if self.task.endswith((".yaml", ".yml")) else ()
        return (*own, *filter(None, (self.file,)))

    def test_files(self, settings: "Evaluate") -> tuple[str, ...]:
        """Returns the files with the task's questions; ValueError if they are only on the hub.

        The module that knows is imported only then, by name, as in `section`.
        """
        documents = importlib.import_module(f"{ROOM}.benchmark.documents")
        return tuple(documents.local_files(self.task, settings.task_data, self.file))


def _named(value: Any) -> Any:
    return {"task": value} if isinstance(value, str) else value


Task = Annotated[
    Benchmark, pydantic.BeforeValidator(_named, json_schema_input_type=Benchmark | str)
]


class Evaluate(Section):
    """Says what is measured, on the base model and on the trained model."""

    bits_per_byte: dict[Name, str] = Field(default_factory=dict)
    translation: dict[Name, Translation] = Field(default_factory=dict)
    chains: dict[Name, Chains] = Field(default_factory=dict)
    batch_size: PositiveInt = 8
    max_lines: PositiveInt = 2000
    baseline_text: dict[Name, tuple[str, ...]] = Field(default_factory=dict)
    """Name in bits_per_byte -> files of text on which smoothed character n-gram models are fitted,
    to be scored beside the model."""
    tasks: dict[Name, Task] = Field(default_factory=dict, exclude_if=is_default)
    """Benchmark tasks: a name, a task file, or {task, file, shots, limit, skip_bad}."""
    task_data: str = Field(default="", exclude_if=is_default)
    """The folder with local copies of the tasks' data, at any depth; else the hub is read."""
    alignment: dict[Name, Alignment] = Field(default_factory=dict, exclude_if=is_default)

    def _misfits(self) -> Iterator[str]:
        for name in self.baseline_text:
            if name not in self.bits_per_byte:
                yield (
                    f"baseline_text.{name}: is no name in bits_per_byte "
                    f"({', '.join(self.bits_per_byte) or 'which is empty'})"
                    f"{did_you_mean(name, self.bits_per_byte)}; a baseline is scored on such a text"
                )

    def kinds(self) -> dict[str, Mapping[str, Evaluation | str]]:
        """Returns the entries of every kind: kind -> name -> entry."""
        return {name: entries for name, entries in self if name not in SHARED}

    def files(self) -> list[tuple[str, str]]:
        """Returns the text files that entries read, each with the key of the recipe that names it.

        >>> Evaluate(bits_per_byte={"ko": "ko.txt"}).files()
        [('evaluate.bits_per_byte.ko', 'ko.txt')]
        """
        return [
            (f"evaluate.{kind}.{name}", uri)
            for kind, entries in self.kinds().items()
            for name, entry in entries.items()
            for uri in ((entry,) if isinstance(entry, str) else entry.files())
        ]


def test_files_of(name: str, settings: Evaluate) -> tuple[str, ...]:
    """Returns the files with the questions of a task: a name that ships, or a task file's path.

    It is () where there is no such task. ValueError if its questions are only on the hub.
    """
    task_files = importlib.import_module(f"{ROOM}.task_files")
    try:
        return Benchmark(task=name).test_files(settings)
    except task_files.UnknownTaskError:
        return ()


def section(kind: Any) -> Entry | None:
    """Returns the type of entries of `evaluate.<kind>`; None where there is no such kind.

    A kind that is not registered yet is looked for in `lrl_jax/evaluate/<kind>.py`. That file is
    imported only then, by name: it may import jax, and most recipes are read without it.
    """
    if not isinstance(kind, str) or not kind.isidentifier():
        return None
    if kind not in SECTIONS and importlib.util.find_spec(f"{ROOM}.{kind}"):
        importlib.import_module(f"{ROOM}.{kind}")
    return SECTIONS.get(kind)


def _accept_registered_kinds(
    value: Any, handler: pydantic.ValidatorFunctionWrapHandler
) -> Evaluate:
    """Validates entries of kinds that are no fields of `Evaluate` with their registered class."""
    keys = [k for k in value if k not in Evaluate.model_fields] if isinstance(value, dict) else []
    entries = tuple((key, entry) for key in keys if (entry := section(key)) is not None)
    return _with_kinds(entries).model_validate(value) if entries else handler(value)


@functools.cache
def _with_kinds(entries: tuple[tuple[str, Entry], ...]) -> type[Evaluate]:
    """Returns the class of an `evaluate` section that has further kinds, as fields."""
    fields: dict[str, Any] = {
        kind: (dict[Name, entry], Field(default_factory=dict)) for kind, entry in entries
    }
    return pydantic.create_model("Evaluate", __base__=Evaluate, **fields)


# The type of a recipe's `evaluate`: takes the kinds that the recipe names, and dumps them too.
EvaluateSection = Annotated[
    pydantic.SerializeAsAny[Evaluate], pydantic.WrapValidator(_accept_registered_kinds)
]
