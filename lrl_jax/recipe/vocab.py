"""Describes the section of a recipe that says what the vocabulary becomes."""

from collections.abc import Iterable, Iterator
import difflib
import re
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from lrl_jax.recipe import languages
from lrl_jax.recipe.scripts import Script


def _code(value: str) -> str:
    """Returns the code of a language; whether a code exists is checked with the whole recipe,
    which may name languages of its own."""
    return value if re.fullmatch(languages.CODE, value) else languages.resolve(value)


def _number(value: Any) -> Any:
    """Refuses true and false, which pydantic reads as 1 and 0."""
    if isinstance(value, bool):
        raise ValueError(f"want a number; got {str(value).lower()}")
    return value


NUMBER = pydantic.BeforeValidator(_number)
PositiveInt = Annotated[pydantic.PositiveInt, NUMBER]
NonNegativeInt = Annotated[pydantic.NonNegativeInt, NUMBER]
PositiveFloat = Annotated[pydantic.PositiveFloat, NUMBER]
NonNegativeFloat = Annotated[pydantic.NonNegativeFloat, NUMBER]
Language = Annotated[
    str,
    pydantic.AfterValidator(_code),
    Field(
        description="FLORES code, such as kor_Hang; an ISO 639 code (ko, kor) or an English name "
        "that means one of them"
    ),
]
Code = Annotated[str, Field(pattern=languages.CODE)]
EnglishName = Annotated[str, Field(pattern=r"^[^\s{}]([^\n{}]*[^\s{}])?$")]  # {} stand in templates
Names = dict[Code, EnglishName]
Share = Annotated[float, Field(ge=0, le=1), NUMBER]
Paths = Annotated[tuple[str, ...], Field(min_length=1)]
SHAPES = ("list of paths", "paths by language")  # how errors of pydantic call what stands below
PathsByLanguage = Annotated[
    Annotated[Paths, pydantic.Tag(SHAPES[0])]
    | Annotated[dict[Language, Paths], Field(min_length=1), pydantic.Tag(SHAPES[1])],
    pydantic.Discriminator(lambda given: SHAPES[isinstance(given, dict)]),
]


def is_default(value: object) -> bool:
    """Tells pydantic to leave a field out of what is written where it is 0 or empty.

    So are fields that older recipes do not have: what was made by those stays what it was.
    """
    return not value


class Section(pydantic.BaseModel):
    """Holds a section of a recipe; it is frozen, and unknown keys are refused."""

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    def _misfits(self) -> Iterator[str]:
        """Yields what is wrong with fields that are right each by itself."""
        yield from ()

    def model_post_init(self, context: Any) -> None:
        """Refuses fields that do not fit together (pydantic calls it at the end of validation)."""
        for misfit in self._misfits():
            raise ValueError(misfit)


def is_keep(value: object) -> bool:
    """Tells pydantic to leave a field out of what is written where it is `keep`, its default."""
    return value == "keep"


def is_none(value: object) -> bool:
    """Tells pydantic to leave a field out of what is written where it is `none`, its default."""
    return value == "none"


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Returns a hint to append to an error: the name nearest to `name`, or '' if none is near.

    >>> did_you_mean("batchsize", ["batch_size", "seed"])
    "; did you mean 'batch_size'?"
    """
    near = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


class FertilityReport(Section):
    """Holds the texts that the fertility report reads: the same content in several languages."""

    texts: dict[Language, str] = {}


class Keep(Section):
    """Keeps the base tokenizer as it is."""

    method: Literal["keep"]
    report: FertilityReport = FertilityReport()


class TrainVocab(Section):
    """Trains a SentencePiece BPE tokenizer with byte fallback on raw text, for scratch bases."""

    method: Literal["train"]
    text: tuple[str, ...] = Field(min_length=1)
    size: PositiveInt
    character_coverage: Share = 0.9995
    normalize: Literal["keep", "nfc"] = Field(default="keep", exclude_if=is_keep)
    """`nfc` composes letters and marks of `text` (Unicode's NFC) before pieces are learnt."""
    report: FertilityReport = FertilityReport()

    @property
    def files(self) -> tuple[str, ...]:
        """All paths of `text`."""
        return self.text


class Parity(Section):
    """Sets a limit on the fertility of `language`: its tokens relative to those of `reference`.

    Both languages have text in `vocab.report.texts`, with the same content.
    """

    language: Language
    at_most: PositiveFloat
    reference: Language = "eng_Latn"


class Extend(Section):
    """Finds pieces of the new language and splices them into the base tokenizer."""

    method: Literal["extend"]
    text: PathsByLanguage
    """Raw text of the new language, from which the pieces are learnt; of several languages also as
    language: paths, which `balance: parity` needs."""
    pieces: PositiveInt
    """Most new pieces."""
    scripts: tuple[Script, ...] = Field(min_length=1)
    """The scripts (ISO 15924, such as Hang) that pieces may be written in; others are dropped."""
    choose: Literal["continue", "append", "frequency", "donor"] = "continue"
    """`continue` goes on with BPE where the base's merges end (arXiv 2512.03989); `append` learns a
    vocabulary of its own and appends it (arXiv 2406.14670); `frequency` takes the pieces that a
    large vocabulary emits at least min_count times, and every character that is as frequent (arXiv
    2402.14714); `donor` takes the pieces of another tokenizer, in its order."""
    donor: str = ""
    """A SentencePiece model, a tokenizer.json, or a folder, for `choose: donor`."""
    pretokenizer: Literal["keep", "mark_aware"] = "keep"
    """For byte-level bases; `mark_aware` keeps combining marks with their letters, without which
    abugidas gain little."""
    parity: Parity | None = None
    """A limit of fertility; only as many pieces are taken as reach it."""
    balance: Literal["none", "parity"] = Field(default="none", exclude_if=is_none)
    """How several languages share `pieces`: `none` by how often their text has them, `parity` so
    that lines of `parallel` take as many tokens in each, the next piece going to the language that
    costs most (arXiv 2508.04796)."""
    parallel: dict[Language, str] = Field(default={}, exclude_if=is_default)
    """Lines that say the same in every language of `text`, a file each, for `balance: parity`;
    other ones than those of `report.texts`, which are to tell how well it does."""
    min_count: PositiveInt = 2
    """Pieces that the spliced tokenizer emits less often than this on `text` are dropped."""
    character_coverage: Share = 0.9995
    prove_on: tuple[str, ...] = Field(min_length=1)
    """Text of the base language whose ids must not change, beyond `drift`."""
    drift: Annotated[float, Field(ge=0, le=10_000), NUMBER] = Field(
        default=0.0, exclude_if=is_default
    )
    """Most tokens of `prove_on` that may change, out of 10,000 as the base splits it. 0 leaves out
    every piece that `prove_on` has once, letters of the language among them."""
    normalize: Literal["keep", "nfc"] = Field(default="keep", exclude_if=is_keep)
    """`nfc` composes letters and marks of `text` and `report.texts` (Unicode's NFC) before pieces
    are learnt and proved; compose the datasets too (`normalize: nfc`)."""
    report: FertilityReport = FertilityReport()

    def _misfits(self) -> Iterator[str]:
        if (self.choose == "donor") != bool(self.donor):
            yield "choose: donor and donor: PATH go together; got only one of them"
        for code in (self.parity.language, self.parity.reference) if self.parity else ():
            if code not in self.report.texts:
                yield f"parity needs text of {code} in report.texts"
        if self.balance == "parity":
            yield from self._unbalanced()
        elif self.parallel:
            yield "parallel is read by balance: parity alone; set that, or leave parallel out"

    def _unbalanced(self) -> Iterator[str]:
        """Yields what `balance: parity` lacks."""
        if not isinstance(self.text, dict):
            yield "balance: parity needs text by language: text: {kor_Hang: [...], npi_Deva: [...]}"
            return
        if len(self.text) < 2:
            yield (
                f"balance: parity is for several languages; text has {next(iter(self.text))} alone"
            )
        for code in self.text:
            if code not in self.parallel:
                yield f"balance: parity needs lines of {code} in parallel, as of every language"
        for code in self.parallel:
            if code not in self.text:
                yield f"parallel has {code}, of which text has no file; add one, or leave it out"
        if self.choose == "donor":
            yield "balance: parity learns pieces of each language; choose: donor takes those given"
        if self.parity:
            yield "balance: parity and parity: {...} both decide how many pieces; keep one of them"

    @property
    def files(self) -> tuple[str, ...]:
        """All paths of `text`, of all languages."""
        if not isinstance(self.text, dict):
            return self.text
        return tuple(dict.fromkeys(path for paths in self.text.values() for path in paths))


Vocab = Annotated[Keep | TrainVocab | Extend, Field(discriminator="method")]
