"""Tells whether text is in a language: by a fastText model of the user's, or by its script alone.

    judge = judge_of(LanguageFilter(model="lid.176.bin"), "npi_Deva")
    judge("The weather is nice.")        Judgement("other language", "en 0.99")

Labels are those of GlotLID and its like (`__label__npi_Deva`), or of lid.176 (`__label__ne`, the
codes of Wikipedia). Nothing is drawn by chance, and a process loads a model once.
"""

from collections.abc import Callable, Mapping, Sequence
import functools
import tempfile
from typing import Any, NamedTuple

from etils import epath

from lrl_jax import text
from lrl_jax.data.read import fasttext_files
from lrl_jax.recipe import corpora, languages
from lrl_jax.recipe import scripts as codes
from lrl_jax.recipe.data import Dataset
from lrl_jax.recipe.dataset import LanguageFilter
from lrl_jax.recipe.extras import how_to_install
from lrl_jax.vocab import scripts

OTHER, BY_SCRIPT, NO_LETTERS = "other language", "other language, by script alone", "no letters"
LONG = 8000  # characters: of longer text, WINDOWS parts of it are judged, spread over the whole
WINDOWS = 4
LABEL = "__label__"
MOST = 5  # labels that a model is asked for; the rest have hardly a probability left
HALF = 0.5  # share of letters in the language's script without which no label is believed


class Judgement(NamedTuple):
    """Says why a text is left out ('': it is not), and what it was taken for."""

    reason: str
    seen: str


Judge = Callable[[str], Judgement]


def judge_of(settings: LanguageFilter, code: str) -> Judge:
    """Returns the function that judges texts which should be in a language.

    Raises:
      DataError: the model cannot be read, or has no such label.
    """
    if not settings.model:
        return functools.partial(_by_script, _parts(code), settings.least)
    identity = text.identity(settings.model) if epath.Path(settings.model).exists() else ()
    model = _model(settings.model, identity)
    accepted = _accepted(settings.model, model.labels, code)
    return functools.partial(_by_model, model, accepted, _parts(code), settings.least)


def code_of(dataset: Dataset) -> str:
    """Returns the language that text of a dataset should be in; ValueError where it says none."""
    settings = dataset.filters.language
    code = (settings.code if settings else "") or dataset.language
    if code.endswith(languages.UNWRITTEN):
        raise ValueError(
            f"filters.language: the dataset's language is {code}, which is none; say which one the "
            "text should be in, such as filters.language.code: npi_Deva"
        )
    return code


def says(dataset: Dataset) -> str:
    """Returns how a dataset's language is told, for people; '' where it is not asked for."""
    settings = dataset.filters.language
    if settings is None:
        return ""
    least = f"at least {settings.least:g}"
    if settings.model:
        return (
            f"language is told by the model {settings.model} ({least} of its probability), and "
            "half of the letters in the language's script"
        )
    spoken = dataset.language.split("-") if not settings.code else [settings.code]
    own = [*dict.fromkeys(part for code in spoken for part in _parts(code))]
    alone = "; other languages that are written in Latn pass" if "Latn" in own else ""
    return (
        f"language is told by script alone ({', '.join(own)}, {least} of the letters), as "
        f"filters.language.model names no model{alone}"
    )


# ---------------------------------------------------------------------------- by script
def _by_script(own: Sequence[str], least: float, words: str) -> Judgement:
    shares = _shares(words)
    if not shares:
        return Judgement(NO_LETTERS, "")
    kept = sum(shares.get(code, 0.0) for code in own) >= least
    most = max(shares, key=lambda code: shares[code])
    return Judgement("" if kept else BY_SCRIPT, f"{most} {shares[most]:.2f}")


def _shares(words: str) -> Mapping[str, float]:
    """Returns the share of letters in each script; none where there are no letters."""
    counts = scripts.letters(words)
    return {code: count / counts.total() for code, count in counts.items()}


def _parts(code: str) -> tuple[str, ...]:
    return codes.parts((code[-4:],))


# ---------------------------------------------------------------------------- by a model
class _Model(NamedTuple):
    """Holds a model, and its labels without what all of them begin with."""

    predict: Callable[..., tuple[Sequence[str], Sequence[float]]]
    labels: tuple[str, ...]


def _by_model(
    model: _Model, accepted: frozenset[str], own: Sequence[str], least: float, words: str
) -> Judgement:
    shares = _shares(words)
    if not shares:
        return Judgement(NO_LETTERS, "")
    labels, probabilities = model.predict(line_of(words), k=MOST)
    names = [label.removeprefix(LABEL) for label in labels]
    seen = f"{names[0]} {min(1.0, probabilities[0]):.2f}" if names else "nothing"
    sure = sum(p for name, p in zip(names, probabilities, strict=True) if name in accepted)
    # a label such as sr does not say in which script, and models are sure of what they never saw
    written = sum(shares.get(code, 0.0) for code in own) >= HALF
    if sure >= least and not written:
        seen = f"{seen}, in {max(shares, key=lambda code: shares[code])}"
    return Judgement("" if sure >= least and written else OTHER, seen)


def line_of(words: str) -> str:
    """Returns text as one line, as models read it; of long text, parts spread over the whole.

    >>> line_of("one\\ntwo  three\\n")
    'one two three'
    """
    if len(words) > LONG:
        size, last = LONG // WINDOWS, len(words) - LONG // WINDOWS
        starts = [last * i // (WINDOWS - 1) for i in range(WINDOWS)]
        words = " ".join(words[start : start + size] for start in starts)
    # half of a surrogate pair, which JSON can hold, is no text
    return " ".join(words.encode("utf-8", "replace").decode().split())


def _accepted(path: str, labels: Sequence[str], code: str) -> frozenset[str]:
    """Returns the labels that mean a language: its own, or else those of the same language."""
    spelled = {label.replace("-", "_"): label for label in labels}
    for name in (code, corpora.own_code("fineweb2", code)):  # FLORES, GlotLID
        if name in spelled:
            return frozenset([spelled[name]])
    short = languages.iso_codes(code)[0]
    if scripted := [*filter(_names_script, spelled)]:
        same = [name for name in scripted if _means(name, short, _parts(code))]
    else:
        of_wikipedia = corpora.of("wikipedia").others.get(code, short)
        same = [name for name in spelled if name in (short, of_wikipedia)]
    if not same:
        wanted = code if scripted else short
        near = corpora.nearest(wanted, [*spelled])
        listed = f"; the nearest: {', '.join(near)}" if near else ""
        raise text.DataError(
            f"{path}: none of its {len(labels):,} labels means {code} ({LABEL}{wanted}){listed}. "
            "Name another model, or a language that it has as filters.language.code"
        )
    return frozenset(spelled[name] for name in same)


def _names_script(label: str) -> bool:
    return len(label) > 4 and label[-5] == "_" and label[-4].isupper()


def _means(label: str, short: str, own: Sequence[str]) -> bool:
    """Tells whether a label with a script is of this ISO 639 code, in one of the scripts."""
    script = label[-4:]
    if script not in codes.SCRIPTS and script not in codes.UNIONS:
        return False
    same = not set(_parts(label)).isdisjoint(own)
    return same and languages.iso_codes(label.partition("_")[0])[0] == short


@functools.lru_cache(maxsize=2)
def _model(path: str, identity: object) -> _Model:
    """Loads a model once in a process; a remote one is copied to this machine for that."""
    try:
        import fasttext
    except ImportError:
        raise text.DataError(
            f"{path}: reading it needs the extra `langid`: {how_to_install('langid')}"
        ) from None
    with tempfile.TemporaryDirectory() as scratch:
        local = path
        if "://" in path:
            local = f"{scratch}/model.bin"
            epath.Path(path).copy(local)
        labels = fasttext_files.labels(local)
        try:
            loaded: Any = fasttext.load_model(local)
        except (ValueError, RuntimeError, MemoryError) as e:
            raise text.DataError(f"{path}: fastText cannot load it ({e})") from None
    return _Model(loaded.predict, tuple(label.removeprefix(LABEL) for label in labels))
