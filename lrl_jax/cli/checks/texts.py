"""Looks at the texts of a recipe for `lrl check`: reads how they begin, and says what is odd.

    seen = look("target", dataset, recipe, measured, tokenizer)    # the first records of a dataset
    seen.tokens, seen.notes

What cannot be right is a ValueError, such as text in another script than its language has.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
import dataclasses
import itertools
import re

from lrl_jax import text
from lrl_jax.cli.checks import sizes
from lrl_jax.cli.checks.overlaps import Measured
from lrl_jax.data import dataset as datasets
from lrl_jax.data.feed import show
from lrl_jax.data.read import catalogues, kinds, language, plain
from lrl_jax.data.read.filters import Sieve
from lrl_jax.data.read.tally import Tally, refuse_absent
from lrl_jax.data.templates import documents
from lrl_jax.data.templates import table as templates
from lrl_jax.data.templates.documents import Document
from lrl_jax.evaluate import samples
from lrl_jax.recipe import evaluate as recipe_evaluate
from lrl_jax.recipe import languages
from lrl_jax.recipe import scripts as codes
from lrl_jax.recipe.data import Data, Dataset, Parallel
from lrl_jax.recipe.dataset import Filters
from lrl_jax.recipe.schema import Recipe
from lrl_jax.recipe.vocab import Extend, TrainVocab
from lrl_jax.vocab import scripts
from lrl_jax.vocab.pieces import balance
from lrl_jax.vocab.tokenizer.types import Tokenizer

LOOK = 200_000  # records of each dataset that are read at most
LOOK_FAR = 2_000  # the same of a dataset on the hub, which come over the network
FEW = 500  # records of each dataset that are tokenised, and lines of each text that are read
ENOUGH = 20  # records of which all are left out, so that a dataset is refused
LETTERS = 100  # so many tell in which script a text is
STRANGE = 0.05  # share of letters in the language's own script below which its code is refused
MIXED = 0.5  # the same of text that is all in the language, below which it is said
PROMPTED = ("translation", "translation_varied")  # templates that spell languages of a sample


@dataclasses.dataclass(frozen=True)
class Seen:
    """Holds what the first records of a dataset tell.

    Attributes:
      tokens: of one pass through the whole dataset, about; None where too little of it was read.
      notes: lines for the user, without the name of the dataset.
    """

    tokens: float | None
    notes: tuple[str, ...]


def look(
    name: str,
    dataset: Dataset,
    recipe: Recipe,
    measured: Measured,
    tokenizer: Tokenizer | None,
    own: bool = False,
) -> Seen:
    """Reads up to LOOK records of a dataset as `lrl data` will, which takes seconds.

    Args:
      measured: texts that the records are compared with.
      tokenizer: of the base, or None if it is not here.
      own: whether the vocabulary gets pieces that `tokenizer` does not have.
    """
    records, size, share = _read(name, dataset, measured)
    notes = [*_provenance(dataset), *_language(dataset, records), *_scripts(dataset, records)]
    notes += _left_out(dataset, records)
    written = _written(dataset, records, tokenizer)
    encoded = documents.encode(written, tokenizer) if tokenizer and written else []
    notes += _long(recipe.data, encoded, own)
    tokens = _tokens(dataset, recipe, written, encoded, own)
    if tokens is None or share is None:
        return Seen(None, tuple(notes))
    return Seen(tokens * size / share / sum(map(_size, records)), tuple(notes))


def _read(
    name: str, dataset: Dataset, measured: Measured
) -> tuple[list[datasets.Record], int, float | None]:
    """Returns the first records of a dataset, the bytes of all that were read, and their share.

    The share is that of the whole dataset, or None where it cannot be told.
    """
    tally, bad = Tally(), list[text.Bad]()
    every = (r for shard in datasets.shards(dataset) for r in datasets.read(dataset, shard, tally))
    records, count, size = [], 0, 0
    look = LOOK_FAR if catalogues.is_far(dataset.catalogue()) else LOOK
    usable = _usable(dataset, itertools.islice(every, look), bad)
    for record in measured.through(name, dataset, usable):
        if not count and dataset.template != templates.OWN:
            templates.parts(dataset.template, record)
        count += 1
        if not dataset.take or count <= dataset.take:
            size += _size(record)
        if count <= FEW:
            records.append(record)
    if not records:
        raise ValueError(f"holds no record{f'; {bad[0].where}: {bad[0].why}' if bad else ''}")
    if next(every, None) is None:  # all of it was read
        refuse_absent(dataset, name, tally)
        return records, size, 1.0
    if 0 < dataset.take <= count:
        return records, size, 1.0
    if dataset.kind == "text" and not dataset.catalogue():
        return records, size, sizes.share_read(dataset.files(), size + count)
    return records, size, None


def _provenance(dataset: Dataset) -> Iterator[str]:
    if provenance := catalogues.provenance(dataset.catalogue()):
        yield show.said_of(provenance)


def _language(dataset: Dataset, records: Sequence[datasets.Record]) -> Iterator[str]:
    """Yields how many of the first records the filter of languages leaves out, and how it tells."""
    if how := language.says(dataset):
        alone = Filters(language=dataset.filters.language)
        sieve = Sieve(dataset.model_copy(update={"take": 0, "filters": alone}))
        for _ in sieve.sift(records):
            pass
        why = [f"{count:,} {reason}" for reason, count in sieve.counts.most_common()]
        count, reasons = sieve.counts.total(), f" ({', '.join(why)})" if why else ""
        yield f"{how}; leaves out {count:,} of the first {len(records):,} records{reasons}"


def _left_out(dataset: Dataset, records: Sequence[datasets.Record]) -> Iterator[str]:
    """Yields a line if the filters leave out all of the first records; of ENOUGH, a ValueError."""
    others = dataset.filters.model_copy(update={"language": Filters().language})
    sieve = Sieve(dataset.model_copy(update={"take": 0, "filters": others}))
    if any(True for _ in sieve.sift(records)):
        return
    why = ", ".join(f"{count:,} {reason}" for reason, count in sieve.counts.most_common())
    says = f"filters leave out all of the first {len(records):,} records ({why})"
    if len(records) >= ENOUGH:
        raise ValueError(f"{says}; ask for less, or read another text")
    yield says


def _usable(
    dataset: Dataset, every: Iterable[datasets.Record | text.Bad], bad: list[text.Bad]
) -> Iterator[datasets.Record]:
    """Yields the records that can be used, and appends the others to `bad`."""
    for record in every:
        if not isinstance(record, text.Bad):
            yield record
            continue
        bad.append(record)
        if record.reason == "unreadable" and dataset.filters.bad == "refuse":
            raise text.DataError(f"{record.where}: {record.why}")


def _size(record: datasets.Record) -> int:
    return sum(len(value.encode()) for value in record.values())


def _written(
    dataset: Dataset, records: Sequence[datasets.Record], tokenizer: Tokenizer | None
) -> list[list[templates.TextPart]]:
    """Returns what the template writes of records; [] where only a tokenizer could tell."""
    if tokenizer is not None:
        return [*map(templates.writer(dataset, tokenizer), records)]
    if dataset.template == templates.OWN:
        return []
    return [templates.parts(dataset.template, record) for record in records]


def _tokens(
    dataset: Dataset,
    recipe: Recipe,
    written: Sequence[Sequence[templates.TextPart]],
    encoded: Sequence[Document],
    own: bool,
) -> float | None:
    """Returns the tokens of the records that were written, as the vocabulary will split them."""
    if not written:
        return None
    exact = sum(len(document.tokens) for document in encoded) if encoded else None
    script = _script(dataset.language)
    learnt = _learns(recipe, script)
    if exact is not None and not (own and learnt):
        return exact
    texts = ("".join(p.text for p in parts if not p.control) for parts in written)
    about = sizes.estimated(texts, script, learnt)
    return about if exact is None else min(about, exact)


def _learns(recipe: Recipe, script: str) -> bool:
    """Tells whether the vocabulary gets pieces in a script."""
    if isinstance(recipe.vocab, Extend):
        return not {*_parts(script)}.isdisjoint(codes.parts(recipe.vocab.scripts))
    return isinstance(recipe.vocab, TrainVocab)


def _script(language: str) -> str:
    return language[-4:]


def _parts(script: str) -> tuple[str, ...]:
    return codes.parts((script,)) if script not in languages.UNWRITTEN else ()


# ---------------------------------------------------------------------------- scripts
def misnamed(texts: Iterable[str], language: str, what: str) -> str:
    """Returns a line if hardly a letter is in the script that a language's code names; else ''.

    >>> misnamed(["Seoul is a city"] * 20, "kor_Hang", "lines")
    'the first 20 lines are in Latn (100% of their letters), and kor_Hang is written in Hang'
    """
    says = f"{language} is written in {_script(language)}"
    return _strange([*texts], _parts(_script(language)), says, what, STRANGE)


def _strange(texts: Sequence[str], own: Sequence[str], says: str, what: str, least: float) -> str:
    """Returns a line if less than `least` of the letters are in the scripts `own`; else ''.

    Texts with few letters tell nothing, and neither does a language without a script.
    """
    counts: Counter[str] = Counter()
    for each in texts:
        counts += scripts.letters(each)
    whole = counts.total()
    if whole < LETTERS or not own or sum(counts[code] for code in own) >= least * whole:
        return ""
    most, count = counts.most_common(1)[0]
    first = f"the first {len(texts):,} {what} are in {most} ({count / whole:.0%} of their letters)"
    return f"{first}, and {says}"


def _scripts(dataset: Dataset, records: Sequence[datasets.Record]) -> Iterator[str]:
    """Yields what is odd about the scripts of records; if hardly a letter fits, a ValueError."""
    learnt: list[str] = []
    if isinstance(dataset, Parallel):
        halves = {"sources": dataset.source_language, "targets": dataset.target_language}
        sides = [(_in_language(records, code), code, what) for what, code in halves.items()]
    else:
        kind = kinds.of(dataset)  # answers may be code, which a prompt in the language asks for
        whole = ["\n".join(kind.texts_compared(record)) for record in records]
        sides = [(whole, dataset.language, "records")]
        learnt = [kind.text_learnt(dataset, record) for record in records]
    for texts, code, what in sides:
        if problem := misnamed(texts, code, what):
            raise ValueError(f"{problem}; say what language it is, or und_Zyyy for none")
        if dataset.kind in ("text", "parallel"):  # others may answer in two languages
            says = f"{code} is written in {_script(code)}"
            if odd := _strange(texts, _parts(_script(code)), says, what, MIXED):
                yield odd
        elif odd := misnamed(learnt, code, "answers"):
            yield odd


def _in_language(records: Sequence[datasets.Record], language: str) -> list[str]:
    """Returns the texts of one language of pairs, on whichever side they are learnt.

    >>> pair = {"source": "b", "target": "a", "source_language": "Y", "target_language": "X"}
    >>> _in_language([pair], "X")
    ['a']
    """
    sides = ("source", "target")
    return [r[side] for r in records for side in sides if r[f"{side}_language"] == language]


def scripts_of_texts(recipe: Recipe, wanted: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yields (key of the recipe, problem) for each text that is not in its language's script.

    Texts in `wanted` are not here yet.
    """
    for key, uri, own, says in _named_texts(recipe):
        if uri in wanted:
            continue
        try:
            lines = [*itertools.islice(plain.lines(uri), FEW)]
        except (ValueError, OSError):  # said by the look that reads all texts
            continue
        if problem := _strange(lines, own, says, "lines", STRANGE):
            yield key, f"{uri}: {problem}; say what it is, or name another file"


def unaligned(recipe: Recipe, wanted: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yields (key of the recipe, problem) where lines of parallel text do not align.

    Texts in `wanted` are not here yet.
    """
    parallel = getattr(recipe.vocab, "parallel", {})
    if not set(wanted).isdisjoint(parallel.values()):
        return
    try:
        balance.refuse_unaligned({code: [*plain.lines(uri)] for code, uri in parallel.items()})
    except text.DataError as e:
        key, _, problem = str(e).partition(": ")
        if key.startswith("vocab."):  # others are said by the look that reads all texts
            yield key, problem
    except (ValueError, OSError):
        return


def _named_texts(recipe: Recipe) -> Iterator[tuple[str, str, Sequence[str], str]]:
    """Yields (key, uri, scripts, what says them) of the texts whose script the recipe says."""
    vocab, measured = recipe.vocab, recipe.evaluate
    named = [(f"vocab.report.texts.{code}", uri, code) for code, uri in vocab.report.texts.items()]
    for name, uri in measured.bits_per_byte.items():
        if re.fullmatch(languages.CODE, name):
            named.append((f"evaluate.bits_per_byte.{name}", uri, name))
    parallel = {f"evaluate.translation.{name}": e for name, e in measured.translation.items()}
    parallel |= {f"evaluate.alignment.{name}": e for name, e in measured.alignment.items()}
    for key, entry in parallel.items():
        named.append((f"{key}.source", entry.source, entry.source_language))
        named.append((f"{key}.target", entry.target, entry.target_language))
    if isinstance(vocab, Extend):
        named += [(f"vocab.parallel.{code}", uri, code) for code, uri in vocab.parallel.items()]
    for key, uri, code in named:
        yield key, uri, _parts(_script(code)), f"{code} is written in {_script(code)}"
    if isinstance(vocab, Extend):
        says = f"vocab.scripts has {', '.join(vocab.scripts)}"
        yield from (("vocab.text", uri, codes.parts(vocab.scripts), says) for uri in vocab.files)


# ---------------------------------------------------------------------------- long documents
def _long(data: Data, encoded: Sequence[Document], own: bool) -> Iterator[str]:
    """Yields what happens to documents that have a prompt and do not fit a row."""
    length = data.sequence_length
    prompted = [document for document in encoded if not document.weights.all()]
    if prompted and data.packing == "concatenate" and data.long_documents == "split":
        yield (
            "data.packing: concatenate cuts documents where a row ends, and answers from their "
            "prompts; best_fit keeps them together"
        )
    long = [document for document in prompted if len(document.tokens) > length]
    if not long:
        return
    idle = sum(not document.weights[:length].any() for document in long)
    rest = f"; {idle:,} of them have nothing to learn before that and are left out" * bool(idle)
    how = data.long_answers if data.long_documents == "split" else data.long_documents
    what = {
        "truncate": f"they end where the row does{rest}",
        "drop": "they are left out",
        "split": "their ends are trained without their prompt",
    }[how]
    by = " (as the base splits them, without new pieces)" * own
    yield (
        f"{len(long):,} of the first {len(encoded):,} documents are longer than a row of "
        f"{length:,} tokens{by}: {what}. A longer data.sequence_length keeps them whole"
    )


# ---------------------------------------------------------------------------- prompts
def prompts(recipe: Recipe, tokenizer: Tokenizer | None) -> Iterator[tuple[str, str]]:
    """Yields (key of the recipe, problem) for each prompt that cannot be written."""
    asked = [
        (f"train.samples.{i}", prompt.template, samples.record(prompt))
        for i, prompt in enumerate(recipe.train.samples)
    ]
    for name, entry in recipe.evaluate.translation.items():
        asked.append((f"evaluate.translation.{name}", entry.template, _specimen(entry)))
    for key, template, record in asked:
        if template == templates.OWN and tokenizer is None:
            continue
        try:
            templates.prompt_parts(template, record, tokenizer)
        except ValueError as e:
            yield key, str(e)


def odd_prompts(recipe: Recipe) -> Iterator[str]:
    """Yields a line for each prompt in a template that nothing teaches, or in another script."""
    taught = {dataset.template for dataset in recipe.data.datasets.values()}
    for i, prompt in enumerate(recipe.train.samples):
        there = prompt.template in (*templates.TEMPLATES, templates.OWN)
        if there and prompt.template not in (*taught, "plain"):
            yield (
                f"train.samples.{i}: no dataset is written in template {prompt.template!r} "
                f"(theirs: {', '.join(sorted(taught))}): its answers will say little"
            )
        repeated = [prompt.text] * LETTERS  # a prompt is short
        odd = misnamed(repeated, prompt.source_language, "copies")
        if prompt.template in PROMPTED and odd:
            yield (
                f"train.samples.{i}: its text is not in {_script(prompt.source_language)}, the "
                f"script of its source_language {prompt.source_language}"
            )


def _specimen(entry: recipe_evaluate.Translation) -> datasets.Record:
    named = dict(source_language=entry.source_language, target_language=entry.target_language)
    return {"source": "source", **languages.named(named, entry.language_names)}
