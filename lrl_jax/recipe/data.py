"""The parts of a recipe that say what is read: datasets, what is left out of them, mixtures.

data:
  sequence_length: 2048
  datasets:
    web:   {kind: text, path: ["web/*.parquet"], columns: {text: body}, language: kor_Hang}
    pairs: {kind: parallel, source: a.en, target: a.ko, source_language: eng_Latn,
            target_language: kor_Hang, direction: both}
  mixtures:
    all: {of: {web: 1, pairs: 1}, by: size, temperature: 3.3}
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import pydantic
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from lrl_jax.recipe.dataset import KINDS, Dataset, Filters, Hub, OfAnyKind, Tfds, Written
from lrl_jax.recipe.vocab import Language, Section, Share

__all__ = (
    "KINDS", "Chat", "Completion", "Data", "Dataset", "Filters", "Hub", "Instructions", "Mixture",
    "Name", "Parallel", "Rows", "SectionWeights", "Taco", "Task", "Text", "Tfds",
)  # fmt: skip

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"

Name = Annotated[str, Field(pattern=NAME)]


# ---------------------------------------------------------------------------- kinds of datasets
class Rows(Dataset):
    """Records from files, a TFDS builder or the hub: exactly one of `path`, `tfds`, `hub`.

    Attributes:
      path: files or globs, local or gs://; .gz, .bz2, .xz and .zst are unpacked on the way.
      format: `auto` goes by the suffix (.txt .jsonl .json .csv .tsv .parquet .tmx); anything else
        is text. `squad` is JSON of articles, paragraphs and questions (SQuAD, XQuAD, KorQuAD).
      columns: field -> column, where they differ; `a.b` is b inside of a; of .csv and .tsv
        without a header, places from 0.
      header: whether .csv and .tsv begin with names of columns.
    """

    path: tuple[str, ...] = ()
    tfds: Tfds | None = None
    hub: Hub | None = None
    format: Literal["auto", "text", "jsonl", "json", "csv", "tsv", "parquet", "tmx", "squad"] = (
        "auto"
    )
    columns: dict[str, str] = Field(default_factory=dict)
    header: bool = True

    @pydantic.model_validator(mode="after")
    def _one_place(self) -> "Rows":
        given = [name for name in self._places() if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(
                f"give exactly one of {', '.join(self._places())}; got {' and '.join(given) or 0}"
            )
        return self

    def _places(self) -> tuple[str, ...]:
        return ("path", "tfds", "hub")

    def files(self) -> tuple[str, ...]:
        return self.aligned() or self.path

    def catalogue(self) -> Tfds | Hub | None:
        return self.tfds or self.hub

    def written(self) -> Written:
        return Written(self.format, self.columns, self.header)


class Text(Rows):
    """Plain text, field `text`; of .txt files a document is a line, a paragraph or a file."""

    kind: Literal["text"]
    language: Language
    documents: Literal["lines", "paragraphs", "files"] = "lines"

    @property
    def template(self) -> str:
        return "plain"

    def written(self) -> Written:
        return super().written()._replace(documents=self.documents)


class Parallel(Rows):
    """Translation pairs: two text files aligned by line, or rows with fields source and target.

    Of .tmx files, source and target are `xml:lang` codes, given in `columns`.

    Attributes:
      direction: which way a pair is learnt; `both` makes two examples of each, `either` one,
        chosen by the pair itself.
      template: `translation` asks in one fixed way, `translation_varied` in one of many ways
        chosen by the pair (arXiv 2308.04948), `pair` writes both after one another as plain text.
    """

    kind: Literal["parallel"]
    source: str = ""
    target: str = ""
    source_language: Language
    target_language: Language
    direction: Literal["forward", "backward", "both", "either"] = "forward"
    template: str = "translation"

    @pydantic.model_validator(mode="after")
    def _two_files(self) -> "Parallel":
        if bool(self.source) != bool(self.target):
            raise ValueError("source and target go together; got only one of them")
        return self

    def _places(self) -> tuple[str, ...]:
        return ("source", "path", "tfds", "hub")

    def aligned(self) -> tuple[str, str] | None:
        return (self.source, self.target) if self.source else None

    @property
    def language(self) -> str:
        return f"{self.source_language}-{self.target_language}"


class Instructions(Rows):
    """Rows {instruction, input, output}, as Alpaca and MITS have; of `squad` files, questions."""

    kind: Literal["instructions"]
    language: Language
    template: str = "alpaca"


class Completion(Rows):
    """Rows {prompt, completion}; the completion is learnt."""

    kind: Literal["completion"]
    language: Language
    template: str = "completion"


class Chat(Rows):
    """Conversations: `messages` of {role, content}, ShareGPT's `conversations` of {from, value},
    or LIMA's list of turns.

    Attributes:
      template: a chat format of `data.templates`, or `tokenizer`: the base tokenizer's own.
      system: what the system says where a conversation does not begin with it; '' : nothing.
      learn: every answer, or only the last of a conversation.
    """

    kind: Literal["chat"]
    language: Language
    template: str = "tokenizer"
    system: str = ""
    learn: Literal["answers", "last_answer"] = "answers"

    def template_options(self) -> dict[str, Any]:
        return {"system": self.system, "learn": self.learn}


class SectionWeights(Section):
    """Loss weights of the three sections of a TaCo chain."""

    english_instruction: NonNegativeFloat = 1.0
    english_answer: NonNegativeFloat = 1.0
    answer: NonNegativeFloat = 1.0


class Taco(Dataset):
    """TaCo's chain (arXiv 2311.10797): translate the instruction, answer in English, translate
    the answer back. Either Alpaca rows in English and their translation, aligned by row, or rows
    whose `output` has the scaffold already (`path`), as the released data.

    Rows whose translated output is the English one are left out and counted; so are rows of
    `path` without the scaffold, of which at most 1 - `coverage` may be.

    Attributes:
      template: `taco_legacy` writes the scaffold of the released data to the character.
      prompt: how the request is written: Alpaca's prompt or Guanaco's turns.
    """

    kind: Literal["taco"]
    english: str = ""
    translated: str = ""
    path: tuple[str, ...] = ()
    language: Language
    template: Literal["taco", "taco_legacy"] = "taco"
    prompt: Literal["alpaca", "guanaco"] = "alpaca"
    weights: SectionWeights = SectionWeights()
    coverage: Share = 1.0

    @pydantic.model_validator(mode="after")
    def _joined_or_written(self) -> "Taco":
        if bool(self.english) != bool(self.translated) or bool(self.english) == bool(self.path):
            raise ValueError("give english and translated, or path; not both, not half of it")
        return self

    def aligned(self) -> tuple[str, str] | None:
        return (self.english, self.translated) if self.english else None

    def files(self) -> tuple[str, ...]:
        return self.aligned() or self.path

    def template_options(self) -> dict[str, Any]:
        return {"prompt": self.prompt, "weights": self.weights}


class Task(Dataset):
    """A seqio Task of data.imports: its text preprocessors run, its tokenizer does not.

    Features `inputs` (optional) and `targets` of strings become prompt and learnt text.

    Attributes:
      imports: files that register it; data.imports where none are given.
    """

    brings_tensorflow: ClassVar[bool] = True

    kind: Literal["task"]
    task: str
    language: Language
    split: str = "train"
    imports: tuple[str, ...] = ()

    @property
    def template(self) -> str:
        return "task"


# ---------------------------------------------------------------------------- mixtures
class Mixture(Section):
    """Datasets, or other mixtures, under one name; or a seqio Mixture of data.imports.

    Attributes:
      of: name -> weight. Weights of members; with `by: size` they multiply its size.
      seqio: its tasks become datasets and its rates their weights, when the recipe is read.
      language: of those tasks of `seqio` that are no datasets of the recipe yet.
      by: `size` gives every member a share in proportion to its size to the power of
        1 / temperature: 1 is proportional, large values are even.
    """

    of: dict[Name, NonNegativeFloat] = Field(default_factory=dict)
    by: Literal["weight", "size"] = "weight"
    temperature: PositiveFloat = 1.0
    seqio: str = ""
    language: Language = "und_Zyyy"

    @pydantic.model_validator(mode="after")
    def _ours_or_seqios(self) -> "Mixture":
        if bool(self.of) == bool(self.seqio):
            raise ValueError(f"give one of `of` and `seqio`; got {'both' if self.of else 'none'}")
        if self.seqio and (self.by != "weight" or self.temperature != 1.0):
            raise ValueError("by and temperature are of `of`; a seqio mixture has its own rates")
        return self


def _imports(entry: Mapping[str, Any]) -> bool:
    """Returns whether a dataset is of a kind that Python files register."""
    kind = KINDS.get(entry.get("kind", ""))
    return kind is not None and "imports" in kind.model_fields


class Data(Section):
    """Named datasets, packed into rows of `sequence_length` tokens.

    Attributes:
      packing: `best_fit` fills rows with whole documents, `concatenate` with the stream of them,
        `none` puts one document in a row. Documents never attend to each other.
      long_documents: what becomes of documents longer than a row; whatever is cut is counted.
      workers: processes; 0: one for every core.
      cache_gib: most GiB that copies of rows on an object store take on a machine, those of all
        runs together; what no run uses goes first, the least used before.
      imports: Python files that register seqio Tasks; they are run as programs are.
    """

    sequence_length: PositiveInt
    datasets: dict[Name, Annotated[Dataset, OfAnyKind]] = Field(min_length=1)
    mixtures: dict[Name, Mixture] = Field(default_factory=dict)
    backend: Literal["packed", "seqio"] = "packed"
    packing: Literal["best_fit", "concatenate", "none"] = "best_fit"
    pack_window: PositiveInt = 8192
    long_documents: Literal["split", "truncate", "drop"] = "split"
    workers: NonNegativeInt = 0
    cache_gib: PositiveFloat = 100.0
    imports: tuple[str, ...] = ()

    @pydantic.model_validator(mode="before")
    @classmethod
    def _tasks_know_their_files(cls, value: Any) -> Any:
        """Gives each Task the files that register it, so that it can be read in any process."""
        if not isinstance(value, dict) or not isinstance(value.get("datasets"), dict):
            return value
        imports = value.get("imports", ())
        datasets = {
            name: entry | {"imports": imports}
            if isinstance(entry, dict) and _imports(entry) and not entry.get("imports")
            else entry
            for name, entry in value["datasets"].items()
        }
        return value | {"datasets": datasets}

    @pydantic.model_validator(mode="after")
    def _mixtures_are_sound(self) -> "Data":
        if both := set(self.datasets) & set(self.mixtures):
            raise ValueError(f"{', '.join(sorted(both))}: names both a dataset and a mixture")
        return self
