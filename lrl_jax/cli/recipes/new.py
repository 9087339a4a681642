"""Makes the text of `lrl new`: a commented recipe for your language, to be read and changed.

The recipe itself is templates/recipe.yaml.j2.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import re

from etils import epath
import jinja2

from lrl_jax import storage
from lrl_jax.cli.checks import sizes
from lrl_jax.recipe import corpora, languages, scripts, supply

# Scripts that write vowels and conjuncts as marks; Llama 3's pre-tokenizer cuts words at them.
MARKED = {
    "Bali", "Beng", "Cakm", "Deva", "Gran", "Gujr", "Guru", "Java", "Khmr", "Knda", "Lana", "Laoo",
    "Mlym", "Mtei", "Mymr", "Orya", "Sinh", "Sund", "Taml", "Telu", "Thaa", "Thai", "Tibt",
}  # fmt: skip
# Scripts with more characters than a vocabulary has room for; of others every letter gets a piece.
MANY = {"Bopo", "Hang", "Hani", "Hans", "Hant", "Hanb", "Jpan", "Kore", "Nshu", "Tang", "Yiii"}
WEIGHTS = "Weights are shares of tokens. A quarter of English keeps English (arXiv 2403.08763)."
LENGTH, BATCH, SMALLEST = 2048, 32, 8  # tokens of a row, rows of a step, fewest rows of a step
ALIGN, STEPS = 200, 6000  # steps of the two stages for a corpus of hundreds of millions of tokens
MANY_STEPS = 1000  # a batch is not made smaller for the sake of more of them
INDENT = " " * 6  # of the fields of a dataset in the template
TAKEN = 200_000  # documents of each corpus in a new recipe, some 100 to 200 million tokens
SHARES = {"target": 0.75, "english": 0.25}  # dataset -> its share of tokens in the template


@dataclasses.dataclass(frozen=True)
class Lengths:
    """Holds how long a new recipe trains on what, and the lines that say why."""

    length: int
    batch: int
    align: int
    steps: int
    why: str
    why_length: str = ""


def recipe_text(
    path: str,
    *,
    language: str,
    base: str,
    text: str,
    english: str,
    language_name: str = "",
    epochs: float = sizes.EPOCHS,
    named: Sequence[str] = (),
) -> str:
    """Returns the text of a recipe that can be loaded unchanged.

    Args:
      language: a code, or an ISO 639 code or name that means one; a code that is in no table needs
        its `language_name`.
      epochs: how often the texts are read at most; steps are planned by it where they are here.
      named: corpora of the hub that are read in place of `text`, which the vocabulary still learns.
    """
    try:
        given = language_name and re.fullmatch(languages.CODE, language)
        code = language if given else languages.resolve(language)
        short, script = code.split("_")
        name = language_name or languages.english_name(code)
        scripts.parts((script,))
    except ValueError as e:
        raise ValueError(f"--language {language}: {e}") from None
    entries = [_entry(corpus, code) for corpus in dict.fromkeys(named)]
    tokens = {
        "target": None if entries else sizes.corpus(text, script, own=True),
        "english": sizes.corpus(english, "Latn", own=False),
    }
    advice = {
        text: f"raw text in {name}, a document a line{_from_corpus(entries, code, text)}",
        english: "raw English text, a document a line, for replay and proof"
        + (_written("wikipedia", corpora.ENGLISH, english) if entries else ""),
    }
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("lrl_jax.cli"),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    return templates.get_template("recipe.yaml.j2").render(
        path=path,
        name=name_of_run(path),
        language=code, language_name=name, given_name=language_name,
        short=short, script=script, base=base, text=text, english=english,
        whole_alphabet=script not in MANY,
        pretokenizer="mark_aware" if script in MARKED else "keep",
        plan=planned(tokens, _positions(base), epochs),
        corpora=entries, taken=TAKEN,
        absent={place: how for place, how in advice.items() if not supply.is_here(place)},
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Entry:
    """Describes a corpus of the hub as a dataset of a new recipe.

    Attributes:
      spoken: the fields that say its languages.
      words: what it is and what it asks.
    """

    name: str
    kind: str
    revision: str
    spoken: str
    words: str


def _entry(name: str, code: str) -> Entry:
    """Returns how a corpus is read in a language; a ValueError where that cannot be."""
    try:
        corpus = corpora.of(name)
        pair = corpus.kind == "parallel"
        languages_read = (corpora.ENGLISH, code) if pair else (code,)
        corpora.place(corpora.NamedHub(corpus=name), languages_read)
    except ValueError as e:
        raise ValueError(f"--corpora {name}: {e}") from None
    spoken = f"language: {code}"
    if pair:
        spoken = f"source_language: eng_Latn\n{INDENT}target_language: {code}"
        spoken += f"\n{INDENT}direction: both"
    words = f"{corpus.title}. Licence {corpus.license}: {corpus.asks}."
    return Entry(name, corpus.kind, corpus.revision, spoken, words)


def _from_corpus(entries: Sequence[Entry], code: str, text: str) -> str:
    """Returns how to get text for the vocabulary out of the first corpus; '' where none has it."""
    names = [entry.name for entry in entries if entry.kind == "text"]
    return _written(names[0], code, text) if names else ""


def _written(corpus: str, code: str, text: str) -> str:
    return f", such as: lrl corpora {corpus} --language {code} --to {re.sub('[*]+', code, text)}"


def name_of_run(path: str) -> str:
    """Returns the name of the run of a new recipe.

    >>> name_of_run("recipes/my tamil.yaml")
    'my-tamil'
    """
    return re.sub(r"[^A-Za-z0-9._-]", "-", path.rsplit("/", 1)[-1].removesuffix(".yaml"))


def planned(
    tokens: Mapping[str, float | None], positions: int = LENGTH, epochs: float = sizes.EPOCHS
) -> Lengths:
    """Plans as many steps as read no text more than `epochs` times.

    Args:
      tokens: of each of SHARES, None where it is not known.
      positions: that the base has learnt.

    >>> planned({"target": 40e6, "english": 1e9}).steps
    3150
    """
    length = min(LENGTH, positions)
    why_length = "  # the base's max_position_embeddings" if length < LENGTH else ""
    sized = {name: count for name, count in tokens.items() if count is not None}
    most = {name: epochs * count / SHARES[name] for name, count in sized.items()}
    if not most:
        why = (
            "The texts are not here yet, so that steps are those of a corpus of some 100 million "
            "tokens; lrl check says how often they read yours."
        )
        return Lengths(length, BATCH, ALIGN, STEPS, f"{WEIGHTS} {why}", why_length)
    least = min(most, key=lambda name: most[name])
    batch = BATCH
    while batch > SMALLEST and most[least] / (batch * length) < MANY_STEPS:
        batch //= 2
    whole = max(2, min(ALIGN + STEPS, int(most[least] / (batch * length))))
    align = max(1, whole * ALIGN // (ALIGN + STEPS))
    times = whole * batch * length / most[least] * epochs
    why = (
        f"Steps are planned so that no text is read more than {epochs:g} times (arXiv 2305.16264 "
        f"says 4): {least} has about {sized[least]:,.0f} tokens, read {times:.1f} times."
    )
    return Lengths(length, batch, align, whole - align, f"{WEIGHTS} {why}", why_length)


def _positions(base: str) -> int:
    """Returns the context of a base that is a folder here; LENGTH if that is not known."""
    config = epath.Path(base) / "config.json"
    if "://" in base or not config.exists():
        return LENGTH
    try:
        positions = storage.read_json(config).get("max_position_embeddings")
    except (ValueError, AttributeError):  # lrl check says so
        return LENGTH
    return positions if isinstance(positions, int) and positions > 0 else LENGTH
