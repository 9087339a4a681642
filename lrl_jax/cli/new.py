"""Makes the text of `lrl new`: a commented recipe for your language, to be read and changed.

The recipe itself is templates/recipe.yaml.j2.
"""

import re

import jinja2

from lrl_jax.recipe import languages, scripts

# Scripts that write vowels and conjuncts as marks; Llama 3's pre-tokenizer cuts words at them.
MARKED = {
    "Bali", "Beng", "Cakm", "Deva", "Gran", "Gujr", "Guru", "Java", "Khmr", "Knda", "Lana", "Laoo",
    "Mlym", "Mtei", "Mymr", "Orya", "Sinh", "Sund", "Taml", "Telu", "Thaa", "Thai", "Tibt",
}  # fmt: skip
# Scripts with more characters than a vocabulary has room for; of others every letter gets a piece.
MANY = {"Bopo", "Hang", "Hani", "Hans", "Hant", "Hanb", "Jpan", "Kore", "Nshu", "Tang", "Yiii"}


def recipe_text(
    path: str, *, language: str, base: str, text: str, english: str, language_name: str = ""
) -> str:
    """Returns the text of a recipe that can be loaded unchanged.

    `language` is a code, or an ISO 639 code or name that means one; a code that is in no table
    needs its `language_name`.
    """
    try:
        named = language_name and re.fullmatch(languages.CODE, language)
        code = language if named else languages.resolve(language)
        short, script = code.split("_")
        name = language_name or languages.english_name(code)
        scripts.parts((script,))
    except ValueError as e:
        raise ValueError(f"--language {language}: {e}") from None
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("lrl_jax.cli"),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    return templates.get_template("recipe.yaml.j2").render(
        path=path,
        name=re.sub(r"[^A-Za-z0-9._-]", "-", path.rsplit("/", 1)[-1].removesuffix(".yaml")),
        language=code, language_name=name, given_name=language_name,
        short=short, script=script, base=base, text=text, english=english,
        whole_alphabet=script not in MANY,
        pretokenizer="mark_aware" if script in MARKED else "keep",
    )  # fmt: skip
