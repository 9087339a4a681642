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
import difflib
import types
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, get_args

import pydantic
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic_core import core_schema

from lrl_jax.recipe.vocab import Language, Part, Share

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"

Name = Annotated[str, Field(pattern=NAME)]


# ---------------------------------------------------------------------------- where rows lie
class Tfds(Part):
    """A TensorFlow Datasets builder, written as tfrecord or array_record; your own too.

    Attributes:
      builder: `name`, `name/config` or `name/config:version`, as `tfds.builder` takes it.
      data_dir: where it was written; TFDS's own folder when empty.
    """

    builder: str
    data_dir: str = ""
    split: str = "train"

    @property
    def place(self) -> str:
        """Returns what a recipe calls it by."""
        return self.builder


class Hub(Part):
    """A dataset of the Hugging Face hub, or a local folder of one (needs the extra `hub`).

    Dataset scripts are never run; only data files are read.
    """

    dataset: str
    config: str = ""
    split: str = "train"
    revision: str = "main"

    @property
    def place(self) -> str:
        """Returns what a recipe calls it by."""
        return self.dataset


# ---------------------------------------------------------------------------- what is left out
class Filters(Part):
    """Which records are left out; every reason is counted and shown with examples. 0: no bound.

    Attributes:
      bad: what a record does that cannot be read (bytes that are not UTF-8, a NUL, no JSON, a
        missing field): `refuse` stops with file and line, `drop` counts it.
      min_chars, max_chars: of the text that is learnt.
      scripts: writing systems (ISO 15924) of the text that is learnt; at least `script_share` of
        its letters must be in one of them. Empty: any.
      length_ratio: of a pair, the longer half in characters over the shorter.
      duplicates: `exact` leaves out later copies of a text; `near` also those whose shingles
        overlap by `similarity` (Jaccard, estimated by MinHash).
    """

    bad: Literal["refuse", "drop"] = "refuse"
    min_chars: NonNegativeInt = 0
    max_chars: NonNegativeInt = 0
    scripts: tuple[str, ...] = ()
    script_share: Share = 0.5
    length_ratio: NonNegativeFloat = 0.0
    duplicates: Literal["keep", "exact", "near"] = "keep"
    similarity: Share = 0.8


# ---------------------------------------------------------------------------- datasets
KINDS: dict[str, type["Dataset"]] = {}  # by the `kind` that a recipe says


class Written(NamedTuple):
    """Says how the files of a dataset are written, as far as the recipe says it."""

    format: str = "auto"
    columns: Mapping[str, str] = types.MappingProxyType({})
    header: bool = True
    documents: str = "lines"


class Dataset(Part):
    """Holds what every dataset has; a subclass with a literal `kind` is a kind of datasets.

    Defining the subclass is enough for a recipe to take the kind. `data.read.kinds` has the row
    that says what its records are.

    Attributes:
      take: the first so many records that pass the filters; 0: all.
      max_epochs: its share shrinks in favour of the others so that the run reads it no more often;
        0: as often as the weights say.
      order: how rows are read: `shuffled` anew every epoch, `file` as they lie, `length` shorter
        documents first.
    """

    take: NonNegativeInt = 0
    max_epochs: NonNegativeFloat = 0.0
    order: Literal["shuffled", "file", "length"] = "shuffled"
    filters: Filters = Filters()

    brings_tensorflow: ClassVar[bool] = False  # where its records are read

    if TYPE_CHECKING:  # of every kind: a field, or a property where it follows from the others

        @property
        def kind(self) -> str: ...
        @property
        def language(self) -> str: ...
        @property
        def template(self) -> str: ...

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        field = cls.__pydantic_fields__.get("kind")
        for kind in get_args(field.annotation) if field else ():
            KINDS[kind] = cls

    def aligned(self) -> tuple[str, str] | None:
        """Returns the two files of a dataset whose records stand in both of them."""
        return None

    def files(self) -> tuple[str, ...]:
        """Returns every file a dataset names; of aligned files, the source first."""
        return ()

    def catalogue(self) -> "Tfds | Hub | None":
        """Returns where rows lie that are in no file of the recipe's."""
        return None

    def written(self) -> Written:
        """Returns how its files are written."""
        return Written()

    def places(self) -> tuple[str, ...]:
        """Returns what a user may have to supply: files, a builder or a hub id."""
        catalogue = self.catalogue()
        return (*self.files(), *([catalogue.place] if catalogue else ()))

    def template_options(self) -> dict[str, Any]:
        """Returns what its template is told beside the record."""
        return {}


def _validated(value: Any) -> Dataset:
    """Returns a dataset of the kind that it says it is."""
    if isinstance(value, Dataset):
        return value
    if not isinstance(value, Mapping):
        raise ValueError(f"want a mapping with a `kind`; got {str(value)[:80]!r}")
    kind = value.get("kind")
    if kind not in KINDS:
        given = f"no kind of datasets {kind!r}" if "kind" in value else "kind: missing"
        near = difflib.get_close_matches(str(kind), KINDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{given}; there are {', '.join(KINDS)}{hint}")
    return KINDS[kind].model_validate(value)


class _OfAnyKind:
    """Tells pydantic to take a dataset of any kind there is by then."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(_validated)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        kinds = {kind: dataset.__pydantic_core_schema__ for kind, dataset in KINDS.items()}
        return handler(core_schema.tagged_union_schema(kinds, "kind"))


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


class SectionWeights(Part):
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
class Mixture(Part):
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


class Data(Part):
    """Named datasets, packed into rows of `sequence_length` tokens.

    Attributes:
      packing: `best_fit` fills rows with whole documents, `concatenate` with the stream of them,
        `none` puts one document in a row. Documents never attend to each other.
      long_documents: what becomes of documents longer than a row; whatever is cut is counted.
      workers: processes; 0: one for every core.
      imports: Python files that register seqio Tasks; they are run as programs are.
    """

    sequence_length: PositiveInt
    datasets: dict[Name, Annotated[Dataset, _OfAnyKind]] = Field(min_length=1)
    mixtures: dict[Name, Mixture] = Field(default_factory=dict)
    backend: Literal["packed", "seqio"] = "packed"
    packing: Literal["best_fit", "concatenate", "none"] = "best_fit"
    pack_window: PositiveInt = 8192
    long_documents: Literal["split", "truncate", "drop"] = "split"
    workers: NonNegativeInt = 0
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
