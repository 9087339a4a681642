"""Writes the model card of an export: README.md with the metadata the Hugging Face hub reads."""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import itertools
import json
import re
from typing import Any

import jinja2

from lrl_jax import terminal
from lrl_jax.hf import licences
from lrl_jax.hf.load import HUB_ID
from lrl_jax.recipe import languages as language_names

CODE = re.compile("[a-z]{3}_[A-Z][a-z]{3}")  # of a language
UNDETERMINED = ("und", "mul", "zxx")  # what stands for no language of its own


@dataclasses.dataclass(frozen=True)
class TrainedPrompt:
    """Describes how a model was asked.

    Attributes:
      template: its name in recipes.
      text: what the model reads before it answers; braces hold names of what it is given.
      stop: the token that ends an answer.
      share: of the last stage of training.
      chat: whether it is the tokenizer's chat template.
    """

    template: str
    text: str
    stop: str
    share: float
    chat: bool


@dataclasses.dataclass(frozen=True)
class MergedPart:
    """Describes a model that went into a merge.

    Attributes:
      name: a hub id, or the end of a path.
      sha256: of its weights.
      hub: whether the name is a hub id, which the hub links.
    """

    name: str
    weight: float
    sha256: str
    hub: bool = False


@dataclasses.dataclass(frozen=True)
class CardScore:
    """Holds a score of the base and of this model, with its 95 % interval where there is one.

    Attributes:
      key: the kind and the score, such as translation.chrf.
      before: None where the base has none.
      digits: that are shown behind the point.
    """

    measure: str
    name: str
    key: str
    before: float | None
    after: float
    interval: tuple[float, float] | None = None
    digits: int = 3


@dataclasses.dataclass(frozen=True)
class CardDataset:
    """Describes a dataset that a model learnt from.

    Attributes:
      source: where it comes from, in words; no path of a machine.
      license: "" where the recipe does not say it.
      tokens: of it that were packed; 0 where that is not known.
      fingerprint: of its rows, which changes with every text and setting.
    """

    name: str
    language: str
    source: str
    license: str
    tokens: int = 0
    fingerprint: str = ""


@dataclasses.dataclass(frozen=True)
class CardFertility:
    """Holds how many tokens a word and a line of a language take with a tokenizer."""

    tokenizer: str
    language: str
    per_word: float
    per_line: float


def card(
    *,
    title: str,
    base_model: str,
    base_license: str,
    license: str,
    languages: Sequence[str],
    base_adapter: str = "",
    metrics: Sequence[CardScore] = (),
    new_pieces: int = 0,
    checkpoint: str = "",
    prompts: Sequence[TrainedPrompt] = (),
    adapter: bool = False,
    datasets: Sequence[CardDataset] = (),
    fertility: Sequence[CardFertility] = (),
    hashes: Mapping[str, str] | None = None,
    runtimes: Mapping[str, str] | None = None,
) -> str:
    """Returns a README.md: YAML front matter, lineage, data, numbers, duties, how to load it.

    Args:
      base_model, base_adapter: what recipe.base says; a hub id is linked, a path is left out.
      languages: FLORES codes, such as kor_Hang, or two of them joined by -.
      checkpoint: which of the training's it is.
      prompts: how the model was asked; that of the chat template, if any, first.
      adapter: whether the folder holds an adapter, in PEFT's format.
      hashes: what it was made from -> its digest.
      runtimes: name of a runtime -> "yes", or "no, because ...".
    """
    linked = [name for name in (base_model, base_adapter) if HUB_ID.fullmatch(name)]
    codes = list(dict.fromkeys(code for pair in languages for code in CODE.findall(pair)))
    license = licences.passed_on(license, base_license)
    front = {
        **licences.front(license),
        "language": iso_codes(codes),
        "base_model": linked[0] if len(linked) == 1 else linked,
        "base_model_relation": ("adapter" if adapter else "finetune") if linked else None,
        "datasets": [name for d in datasets if HUB_ID.fullmatch(name := d.source.split(" ")[0])],
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["lrl-jax"],
        "model-index": model_index(title, metrics),
    }
    return rendered(
        "card.md.j2",
        front=front, linked=linked, title=title, base_model=base_model, base_adapter=base_adapter,
        base_license=base_license, license=license, languages=codes, metrics=metrics,
        new_pieces=new_pieces, checkpoint=checkpoint, prompts=prompts, adapter=adapter,
        datasets=datasets, fertility=fertility, hashes=hashes or {}, runtimes=runtimes or {},
        duties=licences.duties(base_license),
    )  # fmt: skip


def iso_codes(codes: Sequence[str]) -> list[str]:
    """Returns languages as the hub lists them: the shortest ISO 639 code of each.

    >>> iso_codes(["npi_Deva", "kor_Hang", "und_Zyyy", "ace_Latn"])
    ['ace', 'ko', 'ne']
    """
    named = {language_names.iso_codes(code)[0] for code in codes}
    return sorted(named - {*UNDETERMINED})


def model_index(title: str, scores: Sequence[CardScore]) -> list[dict[str, Any]]:
    """Returns the scores as the hub reads them in a card's front matter; [] without any."""
    results = []
    for name, of_name in itertools.groupby(scores, lambda score: score.name):
        values = [
            {"type": s.key.rpartition(".")[2], "name": s.measure, "value": round(s.after, s.digits)}
            for s in of_name
        ]
        kind = re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII).strip("-") or "text"
        dataset = {"type": kind, "name": name or "text"}
        results.append({"task": {"type": "text-generation"}, "dataset": dataset, "metrics": values})
    return [{"name": title, "results": results}] if results else []


def merged(
    *, title: str, license: str, parts: Sequence[MergedPart], base: MergedPart | None = None
) -> str:
    """Returns the README.md of a merged model: what it is made of, by name, weight and digest."""
    linked = [part.name for part in parts if part.hub]
    front = {
        **licences.front(license),
        "base_model": linked,
        "base_model_relation": "merge" if linked else None,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["lrl-jax", "merge"],
    }
    return rendered(
        "merged.md.j2", front=front, title=title, license=license, parts=parts, base=base
    )


def rendered(template: str, **values: Any) -> str:
    """Returns a card from a template of this folder."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lrl_jax.hf", "."),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # Values of the front matter are JSON, which is YAML that needs no other quoting.
    environment.filters["json"] = functools.partial(json.dumps, ensure_ascii=False)
    environment.filters["plain"] = escape
    environment.filters["fenced"] = fenced
    environment.filters["labelled"] = language_names.labelled
    return environment.get_template(template).render(**values)


def escape(text: str) -> str:
    r"""Returns text that Markdown and HTML show as it is, on one line.

    >>> escape("a|b <script> [x](y)")
    'a\\|b &lt;script&gt; \\[x\\](y)'
    """
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", text)


def fenced(text: str) -> str:
    r"""Returns text between fences that nothing in it can close; control characters are shown.

    >>> print(fenced("a ```\x1b"))
    ````
    a ```\x1b
    ````
    """
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{terminal.visible(text)}\n{fence}"
