"""Describes the section of a recipe that says what is read: datasets and mixtures of them.

data:
  sequence_length: 2048
  datasets:
    web:   {kind: text, path: ["web/*.parquet"], columns: {text: body}, language: kor_Hang}
    pairs: {kind: parallel, source: a.en, target: a.ko, source_language: eng_Latn,
            target_language: kor_Hang, direction: both}
  mixtures:
    all: {of: {web: 1, pairs: 1}, by: size, temperature: 3.3}
"""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

import pydantic
from pydantic import Field

from lrl_jax.recipe import corpora
from lrl_jax.recipe.corpora import HubOrCorpus
from lrl_jax.recipe.dataset import Dataset, Hub, OfAnyKind, Tfds, Written
from lrl_jax.recipe.vocab import (
    Language,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Section,
    Share,
    is_default,
)

# Names are those of files too, of which no disk takes more than 255 characters.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=200)]


# ---------------------------------------------------------------------------- kinds of datasets
class Rows(Dataset):
    """Reads records from files, a TFDS builder or the hub: exactly one of `path`, `tfds`, `hub`."""

    path: tuple[str, ...] = ()
    """Files or globs, local or gs://; .gz, .bz2, .xz and .zst are unpacked on the way."""
    tfds: Tfds | None = None
    hub: HubOrCorpus | None = None
    format: Literal[
        "auto", "text", "jsonl", "json", "csv", "tsv", "tsv_quoted", "tsv_raw", "parquet", "tmx",
        "squad",
    ] = "auto"  # fmt: skip
    """`auto` goes by the suffix (.txt .jsonl .json .csv .tsv .parquet .tmx; .ndjson and .jl are
    .jsonl); a file with another suffix is text; `squad` is JSON of articles, paragraphs, questions
    (SQuAD, XQuAD, KorQuAD). `tsv` tells by the file whether cells are quoted as in .csv
    (`tsv_quoted`) or quote marks are text (`tsv_raw`)."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Field -> column, where their names differ; `a.b` is b inside of a. Columns of .csv and .tsv
    files without a header are numbers from 0."""
    header: bool = True
    """Whether .csv and .tsv files begin with names of columns."""
    delimiter: str = Field(default="", exclude_if=is_default)
    """What stands between the cells of .csv files: one character, such as ";"; a comma if empty."""

    _places: ClassVar[tuple[str, ...]] = ("path", "tfds", "hub")  # fields of which one is given

    def _misfits(self) -> Iterator[str]:
        given = [name for name in self._places if getattr(self, name)]
        if len(given) != 1:
            yield f"give exactly one of {', '.join(self._places)}; got {' and '.join(given) or 0}"
        if self.delimiter and (len(self.delimiter) != 1 or self.delimiter in '"\r\n'):
            yield (
                "delimiter: want one character, which is no quote mark or newline; got "
                f"{self.delimiter!r}"
            )
        if self.delimiter and not self.path:
            yield "delimiter is of .csv files of `path`, and there are none; leave it out"
        if self.hub and self.hub.corpus:
            yield from corpora.misfits(self.hub, self.kind, self._spoken())

    def _spoken(self) -> tuple[str, ...]:
        """Returns the languages of its records, which say what is read of a corpus."""
        return (self.language,)

    def catalogue(self) -> Tfds | Hub | None:
        if self.hub and self.hub.corpus:
            return corpora.place(self.hub, self._spoken())
        return self.tfds or self.hub

    def written(self) -> Written:
        columns = self.columns
        if self.hub and self.hub.corpus:
            columns = corpora.columns(self.hub.corpus, self._spoken()) | columns
        return Written(self.format, columns, self.header, delimiter=self.delimiter)


class Text(Rows):
    """Reads plain text, field `text`; in .txt files a document is a line, a paragraph or a file."""

    kind: Literal["text"]
    language: Language
    documents: Literal["lines", "paragraphs", "files"] = "lines"

    @property
    def template(self) -> str:
        return "plain"

    def written(self) -> Written:
        return super().written()._replace(documents=self.documents)


class Parallel(Rows):
    """Reads translation pairs: two text files aligned by line, or rows with source and target.

    In .tmx files, source and target are `xml:lang` codes, given in `columns`.
    """

    kind: Literal["parallel"]
    source: str = ""
    target: str = ""
    source_language: Language
    target_language: Language
    direction: Literal["forward", "backward", "both", "either"] = "forward"
    """In which direction a pair is learnt; `both` makes two examples of each pair, `either` one,
    whose direction depends on the text of the pair."""
    template: str = "translation"
    """`translation` asks with one fixed sentence, `translation_varied` with one of many, which
    depends on the text of the pair (arXiv 2308.04948); `pair` writes source and target one after
    the other as plain text."""

    _places: ClassVar[tuple[str, ...]] = ("source", "path", "tfds", "hub")

    def _misfits(self) -> Iterator[str]:
        yield from super()._misfits()
        if bool(self.source) != bool(self.target):
            yield "source and target go together; got only one of them"

    def _spoken(self) -> tuple[str, ...]:
        return self.source_language, self.target_language

    def aligned(self) -> tuple[str, str] | None:
        return (self.source, self.target) if self.source else None

    @property
    def language(self) -> str:
        return f"{self.source_language}-{self.target_language}"


class Instructions(Rows):
    """Reads rows {instruction, input, output}, as Alpaca and MITS have, or questions of `squad`."""

    kind: Literal["instructions"]
    language: Language
    template: str = "alpaca"


class Completion(Rows):
    """Reads rows {prompt, completion}; the completion is learnt."""

    kind: Literal["completion"]
    language: Language
    template: str = "completion"


class Chat(Rows):
    """Reads conversations: `messages` of {role, content}, ShareGPT's `conversations` of
    {from, value}, or LIMA's list of turns.
    """

    kind: Literal["chat"]
    language: Language
    template: str = "tokenizer"
    """A chat format of `data.templates`, or `tokenizer` for the base tokenizer's own."""
    system: str = ""
    """The system turn of conversations that do not begin with one; '' adds none."""
    learn: Literal["answers", "last_answer"] = "answers"
    """Whether every answer is learnt, or only the last of a conversation."""

    def template_options(self) -> dict[str, Any]:
        return {"system": self.system, "learn": self.learn}


class SectionWeights(Section):
    """Holds the loss weights of the three sections of a TaCo chain."""

    english_instruction: NonNegativeFloat = 1.0
    english_answer: NonNegativeFloat = 1.0
    answer: NonNegativeFloat = 1.0


class Taco(Dataset):
    """Reads instructions for TaCo's chain (arXiv 2311.10797): translate the instruction, answer in
    English, translate the answer back.

    Give either Alpaca rows in English and their translation, aligned by row, or rows whose `output`
    has the scaffold already (`path`), as in the released data. Rows whose output is still the
    English one are left out and counted. So are rows of `path` without the scaffold.
    """

    kind: Literal["taco"]
    english: str = ""
    translated: str = ""
    path: tuple[str, ...] = ()
    language: Language
    template: Literal["taco", "taco_legacy"] = "taco"
    """`taco_legacy` writes the scaffold exactly as the released data has it."""
    prompt: Literal["alpaca", "guanaco"] = "alpaca"
    """How the request is written: Alpaca's prompt or Guanaco's turns."""
    weights: SectionWeights = SectionWeights()
    coverage: Share = 1.0
    """Least share of the rows of `path` that must have the scaffold."""

    def _misfits(self) -> Iterator[str]:
        if bool(self.english) != bool(self.translated) or bool(self.english) == bool(self.path):
            yield "give english and translated, or path; not both, not half of it"

    def aligned(self) -> tuple[str, str] | None:
        return (self.english, self.translated) if self.english else None

    def template_options(self) -> dict[str, Any]:
        return {"prompt": self.prompt, "weights": self.weights}


class Task(Dataset):
    """Reads a seqio Task that files of data.imports register, by its own text preprocessors.

    Its tokenizer is not used: the strings of its features `inputs` (optional) and `targets` become
    the prompt and the text that is learnt.
    """

    brings_tensorflow: ClassVar[bool] = True

    kind: Literal["task"]
    task: str
    language: Language
    split: str = "train"
    imports: tuple[str, ...] = ()
    """Files that register it; those of data.imports if empty."""

    @property
    def template(self) -> str:
        return "task"


# ---------------------------------------------------------------------------- mixtures
class Mixture(Section):
    """Puts datasets or other mixtures, or a seqio Mixture of data.imports, under a single name.

    `language` is that of tasks of `seqio` that are no datasets of the recipe yet.
    """

    of: dict[Name, NonNegativeFloat] = Field(default_factory=dict)
    """Name of a member -> its weight; with `by: size` the weight multiplies the member's size."""
    by: Literal["weight", "size"] = "weight"
    """`size` makes shares proportional to the members' sizes to the power of 1 / temperature."""
    temperature: PositiveFloat = 1.0
    """1 makes shares proportional to sizes; large values make them even."""
    seqio: str = ""
    """Name of a seqio Mixture; when the recipe is read, its tasks become datasets and its rates
    their weights."""
    language: Language = "und_Zyyy"

    def _misfits(self) -> Iterator[str]:
        if bool(self.of) == bool(self.seqio):
            yield f"give one of `of` and `seqio`; got {'both' if self.of else 'none'}"
        if self.seqio and (self.by != "weight" or self.temperature != 1.0):
            yield "by and temperature are of `of`; a seqio mixture has its own rates"


def _is_truncate(value: object) -> bool:
    """Tells pydantic to leave a field out of what is written, as recipes do that are older."""
    return value == "truncate"


class Data(Section):
    """Names the datasets, and says how they are packed into rows of `sequence_length` tokens."""

    sequence_length: Annotated[PositiveInt, Field(le=1 << 24)]
    datasets: dict[Name, Annotated[Dataset, OfAnyKind]] = Field(min_length=1)
    mixtures: dict[Name, Mixture] = Field(default_factory=dict)
    backend: Literal["packed", "seqio"] = "packed"
    packing: Literal["best_fit", "concatenate", "none"] = "best_fit"
    """`best_fit` fills rows with whole documents; `concatenate` joins all documents and cuts the
    result into rows; `none` puts one document in a row. Documents never attend to each other."""
    pack_window: PositiveInt = 8192
    long_documents: Literal["split", "truncate", "drop"] = "split"
    """What happens to documents longer than a row; what is cut off is counted."""
    long_answers: Literal["truncate", "drop", "split"] = Field(
        default="truncate", exclude_if=_is_truncate
    )
    """The same where `long_documents` is `split` and a document has a prompt: the rest of an answer
    is left out rather than learnt without its prompt, unless this says `split`."""
    workers: NonNegativeInt = 0
    """How many processes; 0 is one for every core."""
    cache_gib: PositiveFloat = 100.0
    """Most GiB that local copies of rows on an object store take on a machine, for all runs
    together. Copies that no run uses are removed first, the least recently used of them before the
    others."""
    imports: tuple[str, ...] = ()
    """Python files that register seqio Tasks; they are run like any program."""
    decontaminate: tuple[str, ...] = Field(default=(), exclude_if=is_default)
    """Test texts that no training text may share: files, tasks, entries of `evaluate` (NAME or
    KIND.NAME), or `evaluate` for all of them. Records with the same 13 words in a row are left
    out, or with 17 to 50 letters where no space splits words."""

    def _misfits(self) -> Iterator[str]:
        if both := set(self.datasets) & set(self.mixtures):
            yield f"{', '.join(sorted(both))}: names both a dataset and a mixture"
        if self.long_answers != "truncate" and self.long_documents != "split":
            yield (
                f"long_answers: {self.long_answers} goes with long_documents: split; "
                f"long_documents: {self.long_documents} holds for answers too"
            )

    @pydantic.model_validator(mode="after")
    def _tasks_know_their_files(self) -> "Data":
        """Gives each Task the files that register it, so that it can be read in any process."""
        for name, dataset in self.datasets.items():
            if isinstance(dataset, Task) and not dataset.imports:
                self.datasets[name] = dataset.model_copy(update={"imports": self.imports})
        return self
