"""Makes the text of `lrl new`: a commented recipe for your language, to be read and changed.

The recipe itself is templates/recipe.yaml.j2.
"""

import re

import jinja2

from lrl_jax.recipe.vocab import LANGUAGE

# Scripts that write vowels and conjuncts as marks; Llama 3's pre-tokenizer cuts words at them.
MARKED = {
    "Bali", "Beng", "Cakm", "Deva", "Gran", "Gujr", "Guru", "Java", "Khmr", "Knda", "Lana", "Laoo",
    "Mlym", "Mtei", "Mymr", "Orya", "Sinh", "Sund", "Taml", "Telu", "Thaa", "Thai", "Tibt",
}  # fmt: skip


def recipe_text(path: str, *, language: str, base: str, text: str, english: str) -> str:
    """Returns the text of a recipe that can be loaded unchanged."""
    if not re.match(LANGUAGE, language):
        raise ValueError(
            f"--language {language!r}: want a FLORES code, three letters for the language and "
            "four for the script, such as kor_Hang or tam_Taml"
        )
    short, script = language.split("_")
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("lrl_jax.cli"),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    return templates.get_template("recipe.yaml.j2").render(
        path=path,
        name=re.sub(r"[^A-Za-z0-9._-]", "-", path.rsplit("/", 1)[-1].removesuffix(".yaml")),
        language=language, short=short, script=script, base=base, text=text, english=english,
        pretokenizer="mark_aware" if script in MARKED else "keep",
    )  # fmt: skip
