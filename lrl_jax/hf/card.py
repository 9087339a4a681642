"""Writes the model card of an export: README.md with the metadata the Hugging Face hub reads."""

from collections.abc import Sequence
import dataclasses
import functools
import json
import re
from typing import Any

import jinja2

from lrl_jax import terminal
from lrl_jax.hf.load import HUB_ID

# Licence ids that the hub lists; another one is written as `other` with its name beside it.
LICENSES = (
    "apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0",
    "gpl-3.0", "openrail", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "unknown",
    "other",
)  # fmt: skip


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


def card(
    *,
    title: str,
    base_model: str,
    base_license: str,
    license: str,
    languages: Sequence[str],
    base_adapter: str = "",
    metrics: Sequence[tuple[str, float | None, float]] = (),
    new_pieces: int = 0,
    checkpoint: str = "",
    prompts: Sequence[TrainedPrompt] = (),
    adapter: bool = False,
) -> str:
    """Returns a README.md: YAML front matter, lineage, numbers, how to load it.

    Args:
      base_model, base_adapter: what recipe.base says; a hub id is linked, a path is left out.
      languages: FLORES codes, such as kor_Hang.
      checkpoint: which of the training's it is.
      metrics: what was measured, the base model's number (None where it has none), and this one's.
      prompts: how the model was asked; that of the chat template, if any, first.
      adapter: whether the folder holds an adapter, in PEFT's format.
    """
    linked = [name for name in (base_model, base_adapter) if HUB_ID.fullmatch(name)]
    front = {
        "license": license if license in LICENSES else "other",
        "license_name": None if license in LICENSES else license,
        "language": sorted({code.partition("_")[0] for code in languages}),
        "base_model": linked[0] if len(linked) == 1 else linked,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["lrl-jax"],
    }
    return _rendered(
        "card.md.j2",
        front=front, linked=linked, title=title, base_model=base_model, base_adapter=base_adapter,
        base_license=base_license, license=license, languages=languages, metrics=metrics,
        new_pieces=new_pieces, checkpoint=checkpoint, prompts=prompts,
        adapter=adapter,
    )  # fmt: skip


def merged(
    *, title: str, license: str, parts: Sequence[MergedPart], base: MergedPart | None = None
) -> str:
    """Returns the README.md of a merged model: what it is made of, by name, weight and digest."""
    linked = [part.name for part in parts if part.hub]
    front = {
        "license": license if license in LICENSES else "other",
        "license_name": None if license in LICENSES else license,
        "base_model": linked,
        "base_model_relation": "merge" if linked else None,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["lrl-jax", "merge"],
    }
    return _rendered(
        "merged.md.j2", front=front, title=title, license=license, parts=parts, base=base
    )


def _rendered(template: str, **values: Any) -> str:
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
