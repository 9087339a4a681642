"""Knows corpora of the Hugging Face hub by a short name, and how each of them names languages.

    hub: fineweb2                                 # in a dataset of a recipe, beside its language
    hub: {corpus: wikipedia, revision: main}      # another revision than the one pinned here
    hub: {corpus: hplt2, dataset: /data/hplt2}    # a copy of it in a folder

CORPORA is the table. A row says where the files of a language lie, so that no script of a dataset
is run and a folder that holds only one language is read like the whole. Every revision stands in
public code or documents that read the corpus at it; a row without one reads the newest, and the
record of a packed dataset says which commit that was.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import difflib
import re
from typing import Annotated, Any

import langcodes
import pydantic
from pydantic import Field

from lrl_jax.recipe import languages, scripts
from lrl_jax.recipe.dataset import Hub
from lrl_jax.recipe.vocab import did_you_mean, is_default

ENGLISH = "eng_Latn"
NEAR = 5  # codes that an error names at most


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Describes a corpus that has a part for every language.

    Attributes:
      title: its name for people, with what the text is.
      dataset: its id on the hub.
      files: the data files of a language: `{code}` is the corpus's own code of it, or of the pair.
      codes: how the corpus writes codes: `flores` as recipes do, `hyphen` npi-Deva, `iso` the
        shortest ISO 639 code, without a script.
      columns: field of a record -> column; `{source}` and `{target}` are codes of a pair.
      license: of the collection, as its card says; ids of the hub's list of licences.
      asks: what it asks of those who use it.
      revision: the commit that is read; `main` where none is known.
      others: FLORES code -> the corpus's own, where that is not what `codes` says.
      has: its codes where they are known; of other corpora the hub is asked.
      kind: of the datasets that can be read from it.
    """

    title: str
    dataset: str
    files: str
    codes: str
    columns: Mapping[str, str]
    license: str
    asks: str
    revision: str = "main"
    others: Mapping[str, str] = dataclasses.field(default_factory=dict)
    has: frozenset[str] = frozenset()
    kind: str = "text"


# Codes of GlotLID v3 (github.com/cisnlp/GlotLID), by which both corpora are sorted, where FLORES
# has others: the files configs/*.yml of github.com/huggingface/fineweb-2 bear these names.
_GLOTLID = {
    "est_Latn": "ekk_Latn", "grn_Latn": "gug_Latn", "pes_Arab": "fas_Arab",
    "tgl_Latn": "fil_Latn", "yue_Hant": "yue_Hani", "zho_Hans": "cmn_Hani",
}  # fmt: skip
# Pairs with English: the list of datasets/opus100/opus100.py, github.com/huggingface/datasets
# 0ea53c1.
_OPUS_100 = (
    "af am an ar as az be bg bn br bs ca cs cy da de dz el eo es et eu fa fi fr fy ga gd gl gu ha "
    "he hi hr hu hy id ig is it ja ka kk km ko kn ku ky li lt lv mg mk ml mn mr ms mt my nb ne nl "
    "nn no oc or pa pl ps pt ro ru rw se sh si sk sl sq sr sv ta te tg th tk tr tt ug uk ur uz vi "
    "wa xh yi yo zh zu"
)

CORPORA: dict[str, Corpus] = {
    # arXiv 2506.20920; layout and revision: many, such as hf download of
    # data/deu_Latn/train/000_0000[0-9].parquet at this commit.
    "fineweb2": Corpus(
        "FineWeb-2: web text of Common Crawl, filtered and deduplicated",
        "HuggingFaceFW/fineweb-2", "data/{code}/train/*.parquet", "flores", {"text": "text"},
        "odc-by", "name the source; Common Crawl's terms of use hold for the text",
        "af9c13333eb981300149d5ca60a8e9d659b276b9", _GLOTLID,
    ),
    # arXiv 2503.10267; terms: the project's page of version 2.0.
    "hplt2": Corpus(
        "HPLT v2, cleaned: web text of the Internet Archive and Common Crawl",
        "HPLT/HPLT2.0_cleaned", "{code}/*.parquet", "flores", {"text": "text"},
        "cc0-1.0", "CC0 is of the collection; the rights in the text are with its authors",
        "d1324a5283f762ee62c2a5c81de08fc6450ea540",
    ),
    # arXiv 2410.23825
    "glotcc": Corpus(
        "GlotCC v1: web text of Common Crawl in over 1,000 languages",
        "cis-lmu/GlotCC-V1", "v1.0/{code}/*.parquet", "hyphen", {"text": "content"},
        "cc0-1.0", "CC0 is of the collection; Common Crawl's terms of use hold for the text",
        others=_GLOTLID,
    ),
    # arXiv 2309.04662; layout and revision: the loader sea_madlad of SEACrowd.
    "madlad400": Corpus(
        "MADLAD-400, clean: web text of Common Crawl, audited by its authors",
        "allenai/MADLAD-400", "data/{code}/{code}_clean_*.jsonl.gz", "iso", {"text": "text"},
        "odc-by", "name the source; Common Crawl's terms of use hold for the text",
        "ecd71297d60c1eb996cd3d7c44c60ad5b55adfc6",
        {"azb_Arab": "azb", "heb_Hebr": "iw", "nob_Latn": "no", "pbt_Arab": "ps"},
    ),
    "wikipedia": Corpus(
        "Wikipedia: articles without markup, as of 2023-11-01",
        "wikimedia/wikipedia", "20231101.{code}/*.parquet", "iso", {"text": "text"},
        "cc-by-sa-3.0, gfdl", "name the source, and share what you make of the text alike",
        "b04c8d1ceb2f5cd4588862100d08de323dccfbaa",
        {
            "azb_Arab": "azb", "bho_Deva": "bh", "dik_Latn": "din", "fuv_Latn": "ff",
            "nob_Latn": "no", "pbt_Arab": "ps", "quy_Latn": "qu", "tgl_Latn": "tl",
            "twi_Latn": "tw", "yue_Hant": "zh-yue",
        },
    ),
    # arXiv 2004.11867
    "opus100": Corpus(
        "OPUS-100: sentences with their English translation, of many collections of OPUS",
        "Helsinki-NLP/opus-100", "{code}/train-*.parquet", "iso",
        {"source": "translation.{source}", "target": "translation.{target}"},
        "unknown", "each collection of OPUS has a licence of its own; see opus.nlpl.eu",
        "805090dc28bf78897da9641cdf08b61287580df9",
        {"pbt_Arab": "ps"}, frozenset(_OPUS_100.split()), "parallel",
    ),
}  # fmt: skip


def of(name: str) -> Corpus:
    """Returns the row of a corpus; a ValueError names the nearest where there is none."""
    if name not in CORPORA:
        near = did_you_mean(name, CORPORA)
        raise ValueError(f"no corpus {name!r}; there are {', '.join(CORPORA)}{near}")
    return CORPORA[name]


def own_code(name: str, language: str) -> str:
    """Returns how a corpus names a language.

    >>> [own_code(name, "npi_Deva") for name in ("fineweb2", "glotcc", "madlad400")]
    ['npi_Deva', 'npi-Deva', 'ne']
    >>> own_code("fineweb2", "pes_Arab"), own_code("wikipedia", "yue_Hant")
    ('fas_Arab', 'zh-yue')

    Raises:
      ValueError: the corpus names languages without a script, and this one is in another script
        than is usual for it.
    """
    corpus = of(name)
    code = corpus.others.get(language, language)
    if corpus.codes == "flores":
        return code
    if corpus.codes == "hyphen":
        return code.replace("_", "-")
    if code != language:
        return code
    # one of no table is not taken for the larger language that ISO counts it to
    own = langcodes.standardize_tag(language[:3])
    short = languages.iso_codes(language)[0] if language in languages.NAMES else own
    if not _in_usual_script(language):
        raise ValueError(
            f"corpus {name} names languages without a script, and its {short!r} is not in "
            f"{language[-4:]}; take a corpus that says the script, such as fineweb2"
        )
    return short


def _in_usual_script(language: str) -> bool:
    """Tells whether a language is mostly written in the script of its code."""
    if "(" not in languages.NAMES.get(language, "("):
        return True
    usual = str(langcodes.Language.get(language[:3]).maximize().script)
    return not {*_parts(usual)}.isdisjoint(_parts(language[-4:]))


class NamedHub(Hub):
    """Names a dataset of the Hugging Face hub, or a corpus that lrl_jax knows by a short name.

    A corpus is read in the dataset's own language. Dataset scripts are never run; only data files
    are read.
    """

    dataset: str = ""
    """Its id on the hub, or a local folder of it."""
    corpus: str = Field(default="", exclude_if=is_default)
    """One of lrl_jax.recipe.corpora.CORPORA, such as fineweb2; `hub: fineweb2` says the same."""
    revision: str = "main"
    """A branch, a tag or a commit; of a corpus, the commit that lrl_jax knows if it is left out."""

    def _misfits(self) -> Iterator[str]:
        yield from super()._misfits()
        if not self.dataset and not self.corpus:
            yield "name a dataset of the hub or a folder as `dataset`, or one of `corpus`: " + (
                ", ".join(CORPORA)
            )
        if self.corpus and self.config:
            yield "a corpus is read by its files; leave config out, or give files"


def _named(given: Any) -> Any:
    """Returns what a recipe says of a hub as a mapping, with the commit at which a corpus is read.

    A run keeps that commit, also where a later version of this table has another one.
    """
    fields = {"corpus": given} if isinstance(given, str) else given
    if isinstance(fields, Mapping) and fields.get("corpus") in CORPORA:
        return {"revision": CORPORA[fields["corpus"]].revision, **fields}
    return fields


HubOrCorpus = Annotated[
    NamedHub, pydantic.BeforeValidator(_named, json_schema_input_type=str | NamedHub)
]


def misfits(hub: NamedHub, kind: str, spoken: Sequence[str]) -> Iterator[str]:
    """Yields what is wrong with reading a corpus as a dataset of a kind in these languages."""
    try:
        corpus = of(hub.corpus)
        if kind != corpus.kind:
            yield f"corpus {hub.corpus} is read with kind: {corpus.kind}; got {kind}"
        else:
            place(hub, spoken)
    except ValueError as e:
        yield str(e)


def place(hub: NamedHub, spoken: Sequence[str]) -> NamedHub:
    """Returns where the files of a corpus are for a language, or for a pair of languages.

    Args:
      hub: what the recipe says; its dataset, files and revision win over those of the corpus.
      spoken: FLORES codes: of a text, or of the source and the target.

    Raises:
      ValueError: the corpus does not have the language.
    """
    name, corpus = hub.corpus, of(hub.corpus)
    code = _pair(name, spoken) if corpus.kind == "parallel" else own_code(name, spoken[0])
    files = hub.files or corpus.files.format(code=code)
    return hub.model_copy(update={"dataset": hub.dataset or corpus.dataset, "files": files})


def columns(name: str, spoken: Sequence[str]) -> dict[str, str]:
    """Returns the column of each field that is read from a corpus."""
    corpus = of(name)
    if corpus.kind != "parallel":
        return dict(corpus.columns)
    source, target = (own_code(name, language) for language in spoken)
    return {
        field: column.format(source=source, target=target)
        for field, column in corpus.columns.items()
    }


def _pair(name: str, spoken: Sequence[str]) -> str:
    """Returns the code of a pair with English, whichever of the two is the source."""
    others = [language for language in spoken if language != ENGLISH]
    if len(others) != 1:
        raise ValueError(
            f"corpus {name} has pairs with English ({ENGLISH}) alone; got {' and '.join(spoken)}"
        )
    code, has = own_code(name, others[0]), sorted(of(name).has)
    if code not in has:
        raise ValueError(f"{missing(name, code, has)} ({others[0]} is {code!r} there)")
    return "-".join(sorted((code, "en")))


# ---------------------------------------------------------------------------- what a corpus has
def folder(name: str) -> str:
    """Returns the folder of a corpus in which the files or folders of its languages lie.

    >>> folder("fineweb2"), folder("wikipedia")
    ('data', '')
    """
    return of(name).files.partition("{code}")[0].rpartition("/")[0]


def codes(name: str, paths: Iterable[str]) -> list[str]:
    """Returns the corpus's codes of the languages that lie at these paths.

    >>> codes("wikipedia", ["README.md", "20231101.ne", "20231101.new"])
    ['ne', 'new']
    """
    pattern = of(name).files
    own = re.escape(pattern[: pattern.index("/", pattern.index("{code}"))])
    matches = (re.match(own.replace(r"\{code\}", "([^/]+)") + "(/|$)", path) for path in paths)
    return sorted({match[1] for match in matches if match})


def missing(name: str, code: str, has: Sequence[str]) -> str:
    """Returns what to tell someone who asks a corpus for a language that it has not."""
    if not has:
        return f"corpus {name} has no {code!r}, nor any other language"
    near = nearest(code, has)
    listed = f"; the nearest: {', '.join(near)}" if near else f"; such as {has[0]}"
    return (
        f"corpus {name} has no {code!r} among its {len(has):,} languages{listed}. Name a language "
        "that it has, or its data files as hub.files"
    )


def nearest(code: str, has: Sequence[str]) -> list[str]:
    """Returns codes that look like `code`, those of the same language first.

    >>> nearest("npi_Latn", ["eng_Latn", "npi_Deva", "kor_Hang"])
    ['npi_Deva', 'eng_Latn']
    """
    language = re.split("[_-]", code)[0]
    same = [other for other in has if re.split("[_-]", other)[0] == language]
    near = difflib.get_close_matches(code, has, n=NEAR, cutoff=0.5)
    return [*dict.fromkeys([*same, *near])][:NEAR]


def _parts(script: str) -> tuple[str, ...]:
    there_is = script in scripts.SCRIPTS or script in scripts.UNIONS
    return scripts.parts((script,)) if there_is else (script,)
