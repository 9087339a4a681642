"""Writes the model card of an export: README.md with the metadata the Hugging Face hub reads."""

from collections.abc import Sequence
import dataclasses
import json
import re

from lrl_jax.hf.load import HUB_ID

# Licence ids that the hub lists; another one is written as `other` with its name beside it.
LICENSES = (
    "apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0",
    "gpl-3.0", "openrail", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "unknown",
    "other",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Metric:
    """Holds a row of the card's table; `before` is the base model's, None where it has none."""

    name: str
    before: float | None
    after: float


def card(
    *,
    title: str,
    base_model: str,
    base_license: str,
    license: str,
    languages: Sequence[str],
    base_adapter: str = "",
    metrics: Sequence[Metric] = (),
    new_pieces: int = 0,
    tags: Sequence[str] = (),
) -> str:
    """Returns a README.md: YAML front matter, lineage, numbers, how to load it.

    Args:
      base_model, base_adapter: what recipe.base says; a hub id is linked, a path is left out.
      languages: FLORES codes, such as kor_Hang.
    """
    linked = [name for name in (base_model, base_adapter) if HUB_ID.fullmatch(name)]
    front = {
        "license": license if license in LICENSES else "other",
        "license_name": None if license in LICENSES else license,
        "language": sorted({code.partition("_")[0] for code in languages}),
        "base_model": linked[0] if len(linked) == 1 else linked,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["lrl-jax", *tags],
    }
    base = escape(base_model) if base_model in linked else "a model kept in a local folder"
    if base_adapter:
        adapter = escape(base_adapter) if base_adapter in linked else "kept in a local folder"
        base += f", with the adapter {adapter}"
    if not base_model:
        base = "nothing: trained from random weights"
    lines = [
        *_front_matter(front),
        f"# {escape(title)}",
        "",
        f"- Base: {base} (license: {escape(base_license)})",
        f"- License: {escape(license)}",
        f"- Languages: {', '.join(map(escape, languages))}",
        f"- Pieces added to the vocabulary: {new_pieces}",
        "",
        *_table(metrics),
        "## Use",
        "",
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'tokenizer = AutoTokenizer.from_pretrained("path/of/this/folder")',
        'model = AutoModelForCausalLM.from_pretrained("path/of/this/folder")',
        "```",
        "",
        "Made with lrl_jax. `manifest.json` holds the SHA-256 of every file.",
        "",
    ]
    return "\n".join(lines)


def escape(text: str) -> str:
    r"""Returns text that Markdown and HTML show as it is, on one line.

    >>> escape("a|b <script> [x](y)")
    'a\\|b &lt;script&gt; \\[x\\](y)'
    """
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", text)


def _front_matter(values: dict[str, str | list[str] | None]) -> list[str]:
    """Returns YAML; values are written as JSON, which is YAML that needs no other quoting."""
    filled = {key: value for key, value in values.items() if value}
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in filled.items()]
    return ["---", *lines, "---", ""]


def _table(metrics: Sequence[Metric]) -> list[str]:
    if not metrics:
        return []
    rows = ["| measure | base | this model |", "|---|---|---|"]
    for m in metrics:
        before = "" if m.before is None else f"{m.before:.3f}"
        rows.append(f"| {escape(m.name)} | {before} | {m.after:.3f} |")
    return ["## Measured", "", *rows, ""]
