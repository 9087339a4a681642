"""Describes the form of a task file: the keys of the harness that we read, and our `metadata`.

`lrl_jax.evaluate.task_files` shows a whole file, and reads it.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from lrl_jax.recipe.vocab import Language, Section, did_you_mean

CHOICE_METRICS = ("acc", "acc_norm", "acc_bytes", "f1")
ANSWER_METRICS = (
    "squad_f1", "squad_em", "containment", "exact_match", "number", "letter", "chrf", "chrf++",
    "bleu", "spbleu", "rougeL",
)  # fmt: skip
ANSWERS = ("strip", "first_line")  # what may be done to an answer before scoring
ALWAYS = ("acc", "acc_norm", "acc_bytes")  # of every task with choices

Texts = tuple[str, ...]


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


OneOrMore = Annotated[Texts, pydantic.BeforeValidator(_listed)]
Places = OneOrMore | dict[str, OneOrMore]  # of files of rows, or field -> of files aligned by line


class MetricEntry(Section):
    """Names a metric of a task."""

    metric: str
    aggregation: str = "mean"
    """As in the harness; every metric here has a single one, which is used whatever this says."""
    higher_is_better: bool = True


class FewshotSettings(Section):
    """Says how examples are chosen: at random with a seed, or the first ones of their split."""

    sampler: Literal["default", "first_n"] = "default"
    split: str = ""
    samples: tuple[dict[str, Any], ...] = ()
    """The examples themselves, as documents, in place of those of a split."""


class GenerationSettings(Section):
    """Says how an answer is generated and where it ends, with the names of the harness."""

    until: OneOrMore = ()
    """Texts at which an answer ends; the fewshot delimiter if none is named, as in the harness."""
    max_gen_toks: PositiveInt = 256
    do_sample: bool = False
    temperature: NonNegativeFloat = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0


class DatasetSettings(Section):
    """Says which files a dataset of the form json, csv or text is: split -> files."""

    data_files: OneOrMore | dict[str, OneOrMore] = ()
    delimiter: str = ","
    """Of csv: one character."""
    quoting: Literal[0, 3] = 0
    """Of csv; 3: quote marks are text."""
    trust_remote_code: bool = False
    """Has no effect: code of a dataset is never run."""


class TaskFacts(pydantic.BaseModel):
    """Holds what a task file says under `metadata`: what the harness has no key for.

    Keys that are none of these are left alone, unless they look like one.
    """

    model_config = pydantic.ConfigDict(
        frozen=True, extra="ignore", use_attribute_docstrings=True, allow_inf_nan=False
    )

    version: str | float | int = 0
    language: Language
    """Of the prompts and the answers: its row of words, and the script that answers are in."""
    source_language: Language | None = None
    """Of what is translated from, or of a context in another language."""
    paper: str = ""
    prompt: str = ""
    """Where the prompt comes from."""
    differs: str = ""
    """What differs from the paper."""
    files: dict[str, Places] = Field(default_factory=dict)
    """Split -> names or globs of its local copy, below the data folder; the first that is there."""
    format: str = "auto"
    header: bool = True
    columns: dict[str, str] = Field(default_factory=dict)
    """Field -> column of the local file, where their names differ."""
    values: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Field -> what its values, as text, stand for; any other value is wrong."""
    answer: OneOrMore = ()
    answer_in: str = ""
    """Field in which every right answer has to stand, such as the context of a question."""
    rules: Literal["", "squad", "mlqa", "korquad"] = ""
    """Whose script compares short answers (`evaluate.benchmark.squad`); by language if empty."""
    spbleu: Literal["flores101", "flores200"] = "flores200"
    """The tokenizer of spBLEU; numbers of the two cannot be compared."""
    chance: float | None = None
    """Score of guessing, from 0 to 100; that of the number of choices if absent."""
    languages: dict[str, Any] | tuple[str, ...] = Field(default_factory=dict)
    """Makes a family of tasks: FLORES codes, or key -> FLORES code or keys that differ."""


class TaskSettings(Section):
    """Holds the keys of a task file, with those of the files that it includes."""

    task: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
    task_alias: str = ""
    tag: OneOrMore = ()
    group: OneOrMore = ()
    dataset_path: str = ""
    dataset_name: str = ""
    dataset_kwargs: DatasetSettings = DatasetSettings()
    training_split: str = ""
    validation_split: str = ""
    test_split: str = ""
    fewshot_split: str = ""
    output_type: Literal["multiple_choice", "generate_until"] = "generate_until"
    description: str = ""
    doc_to_text: str
    doc_to_target: int | str | tuple[str, ...]
    doc_to_choice: str | tuple[str, ...] | dict[str, str] = ""
    target_delimiter: str = " "
    fewshot_delimiter: str = "\n\n"
    num_fewshot: NonNegativeInt = 0
    fewshot_config: FewshotSettings = FewshotSettings()
    generation_kwargs: GenerationSettings = GenerationSettings()
    gen_prefix: str = ""
    metric_list: tuple[MetricEntry, ...] = Field(min_length=1)
    metadata: TaskFacts

    def _misfits(self) -> Iterator[str]:
        choices = self.output_type == "multiple_choice"
        if choices and not self.doc_to_choice:
            yield "doc_to_choice: missing; a multiple_choice task has choices"
        if not choices and self.doc_to_choice:
            yield "doc_to_choice: a generate_until task has none; want output_type: multiple_choice"
        allowed = CHOICE_METRICS if choices else ANSWER_METRICS
        for name in (entry.metric for entry in self.metric_list):
            if name not in allowed:
                yield (
                    f"metric_list: no metric {name!r} of {self.output_type}"
                    f"{did_you_mean(name, allowed)}; there are {', '.join(allowed)}"
                )
        for name in self.metadata.answer:
            if name not in ANSWERS:
                yield f"metadata.answer: {name!r} is none of {', '.join(ANSWERS)}"
        table = self.dataset_kwargs
        if self.dataset_path != "csv" and (table.delimiter != "," or table.quoting):
            yield (
                "dataset_kwargs: delimiter and quoting are of dataset_path: csv; "
                f"got {self.dataset_path!r}; want `format` and `files` under metadata"
            )
        elif len(table.delimiter) != 1 or table.delimiter in '"\r\n':
            yield (
                "dataset_kwargs.delimiter: want one character, which is no quote mark or newline; "
                f"got {table.delimiter!r}"
            )
        if not (self.test_split or self.validation_split):
            yield "test_split: missing; name it, or validation_split: where the questions are"

    @property
    def groups(self) -> Texts:
        """Returns the names under which the task is run together with others."""
        return (*self.tag, *self.group)

    @property
    def metrics(self) -> Texts:
        """Returns the metrics to measure, the first of which is shown first."""
        named = [entry.metric for entry in self.metric_list]
        return (*dict.fromkeys([*named, *(ALWAYS if self.has_choices else ())]),)

    @property
    def has_choices(self) -> bool:
        """Tells whether the answer is one of several choices, and not generated."""
        return self.output_type == "multiple_choice"

    @property
    def stops(self) -> Texts:
        """Returns the texts at which a generated answer ends."""
        return self.generation_kwargs.until or (self.fewshot_delimiter,)
