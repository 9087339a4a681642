"""Holds the fields that every dataset of a recipe has, and the registry of kinds of datasets.

    class Riddles(Dataset):
        kind: Literal["riddles"]          # now a recipe may say `kind: riddles`
        language: Language
        template: str = "completion"

`recipe.data` has the kinds that ship; `data.read.kinds` says what their records are.
"""

from collections.abc import Iterator, Mapping
import types
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, get_args

from pydantic import Field
from pydantic_core import core_schema

from lrl_jax.recipe.scripts import Script
from lrl_jax.recipe.vocab import (
    Language,
    Names,
    NonNegativeFloat,
    NonNegativeInt,
    Section,
    Share,
    did_you_mean,
    is_default,
    is_keep,
)


# ---------------------------------------------------------------------------- where rows lie
class Tfds(Section):
    """Names a TensorFlow Datasets builder, prepared as tfrecord or array_record; your own too."""

    builder: str
    """`name`, `name/config` or `name/config:version`, as `tfds.builder` takes it."""
    data_dir: str = ""
    """The folder where it was prepared; TFDS's own folder if empty."""
    split: str = "train"


class Hub(Section):
    """Names a dataset of the Hugging Face hub, or a local folder of one (needs the extra `hub`).

    Dataset scripts are never run; only data files are read.
    """

    dataset: str
    config: str = ""
    split: str = "train"
    files: str = Field(default="", exclude_if=is_default)
    """Its data files to read, as a pattern such as data/ne/*.jsonl.gz; those of `config` and
    `split` if empty."""
    revision: str = "main"

    def _misfits(self) -> Iterator[str]:
        if self.files and self.config:
            yield "give config and split, or files; got both"


# ---------------------------------------------------------------------------- what is left out
class LanguageFilter(Section):
    """Leaves out records whose text is in another language, or has no letters.

    Of pairs, both halves are judged. Without a model the script alone tells, so that in a script
    of many languages, such as Latn, other languages pass.
    """

    model: str = ""
    """A fastText model that names languages, such as GlotLID's model.bin or lid.176.bin."""
    code: Language | Literal[""] = ""
    """The language; that of the dataset if empty."""
    least: Share = 0.8
    """Least probability of the language; without a model, least share of letters in its script."""


class Filters(Section):
    """Says which records are left out; every reason is counted and shown with examples.

    A bound of 0 is no bound.
    """

    bad: Literal["refuse", "drop"] = "refuse"
    """What happens at a record that cannot be read (bytes that are not UTF-8, a NUL, no JSON, a
    missing field): `refuse` stops and names file and line, `drop` leaves it out."""
    min_chars: NonNegativeInt = 0
    """Least characters of the text that is learnt."""
    max_chars: NonNegativeInt = 0
    """Most characters of the text that is learnt."""
    scripts: tuple[Script, ...] = ()
    """Writing systems (ISO 15924) of the text that is learnt; at least `script_share` of its
    letters must be in one of them. Empty allows every script."""
    script_share: Share = 0.5
    length_ratio: NonNegativeFloat = 0.0
    """For pairs, how many times as long as the shorter half the longer may be."""
    duplicates: Literal["keep", "exact", "near"] = "keep"
    """`exact` leaves out later copies of a text; `near` also texts whose shingles overlap with
    those of an earlier text by `similarity` (Jaccard, estimated by MinHash)."""
    similarity: Share = 0.8
    language: LanguageFilter | None = Field(default=None, exclude_if=is_default)
    """Leaves out text in another language than the dataset's; {} goes by its script alone."""


# ---------------------------------------------------------------------------- datasets
KINDS: dict[str, type["Dataset"]] = {}  # by the `kind` that a recipe says


class Written(NamedTuple):
    """Says how the files of a dataset are written, as far as the recipe says it."""

    format: str = "auto"
    columns: Mapping[str, str] = types.MappingProxyType({})
    header: bool = True
    documents: str = "lines"
    delimiter: str = ""


class Dataset(Section):
    """Holds the fields that every dataset has; a subclass with a literal `kind` is a new kind.

    Once the subclass is defined, recipes may use the kind. `data.read.kinds` has the row that says
    what its records are.
    """

    take: NonNegativeInt = 0
    """How many records to use, the first that pass the filters; 0 is all of them."""
    max_epochs: NonNegativeFloat = 0.0
    """How often the run reads the dataset at most; where the weights would read it more often, its
    share shrinks in favour of the others. 0 is no limit."""
    order: Literal["shuffled", "file", "length"] = "shuffled"
    """How rows are read: `shuffled` in a new order every epoch, `file` in the order of the files,
    `length` with shorter documents first."""
    filters: Filters = Filters()
    normalize: Literal["keep", "nfc"] = Field(default="keep", exclude_if=is_keep)
    """`nfc` composes letters and marks of every record (Unicode's NFC), before filters see it."""
    language_names: Names = Field(default_factory=dict, exclude_if=is_default)
    """English names of its languages, for prompts; those of the recipe's `languages` if empty."""
    license: str = Field(default="", exclude_if=is_default)
    """Under which it may be used, such as cc-by-sa-4.0, for the card of the export."""
    origin: str = Field(default="", exclude_if=is_default)
    """Where it comes from, for the card; the name of its catalogue or files if empty."""

    brings_tensorflow: ClassVar[bool] = False  # whether reading its records imports TensorFlow

    if TYPE_CHECKING:  # every kind has these: as fields, ClassVars or properties

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
        """Returns the two aligned files in which each record is written; None if there are none."""
        return None

    def files(self) -> tuple[str, ...]:
        """Returns the aligned files, the source first, or else those of its field `path`."""
        return self.aligned() or getattr(self, "path", ())

    def catalogue(self) -> Tfds | Hub | None:
        """Returns the catalogue that rows are read from; None where they are read from files."""
        return None

    def written(self) -> Written:
        """Returns how the files of the dataset are written."""
        return Written()

    def places(self) -> tuple[str, ...]:
        """Returns what a user may have to supply: files, the name of a builder, a hub id, a model
        that tells languages.
        """
        catalogue, asked = self.catalogue(), self.filters.language
        models = (asked.model,) if asked and asked.model else ()
        if isinstance(catalogue, Tfds):
            return (*self.files(), catalogue.builder, *models)
        return (*self.files(), *((catalogue.dataset,) if catalogue else ()), *models)

    def template_options(self) -> dict[str, Any]:
        """Returns the settings that its template takes beside the record."""
        return {}


def _validated(value: Any) -> Dataset:
    """Returns a dataset of the kind that its entry names."""
    if isinstance(value, Dataset):
        return value
    if not isinstance(value, Mapping):
        raise ValueError(f"want a mapping with a `kind`; got {str(value)[:80]!r}")
    kind = value.get("kind")
    if kind not in KINDS:
        given = f"no kind of datasets {kind!r}" if "kind" in value else "kind: missing"
        near = did_you_mean(str(kind), KINDS)
        raise ValueError(f"{given}; there are {', '.join(KINDS)}{near}")
    return KINDS[kind].model_validate(value)


class OfAnyKind:
    """Tells pydantic to take a dataset of every kind that is registered when it validates."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(_validated)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        kinds = {kind: dataset.__pydantic_core_schema__ for kind, dataset in KINDS.items()}
        return handler(core_schema.tagged_union_schema(kinds, "kind"))
