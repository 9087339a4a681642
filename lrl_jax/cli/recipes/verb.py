"""Runs `lrl new`: writes a commented recipe, from the template or from a recipe that ships."""

import argparse
import shlex
from typing import Any

from etils import epath

from lrl_jax import terminal
from lrl_jax.cli.checks import sizes

USUAL: dict[str, Any] = {"text": "corpus/*.txt", "english": "english/*.txt", "epochs": sizes.EPOCHS}
SHOWN = 12  # tasks that are listed at most


def new(args: argparse.Namespace) -> None:
    """Writes a recipe and says what to look at; refuses to overwrite a file."""
    path = epath.Path(args.path)
    if path.exists():
        raise ValueError(f"{path}: exists already; name another file")
    if args.source:
        text, said = _exchanged(args)
    else:
        text, said = _from_template(args), []
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    command = shlex.join(["lrl", "check", args.path])
    for line in [*said, f"wrote {path}; read it, then: {command}"]:
        print(terminal.visible(line))


def _from_template(args: argparse.Namespace) -> str:
    from lrl_jax.cli.recipes.new import recipe_text

    if args.exchange:
        raise ValueError(f"--exchange {args.exchange}: says what of --from RECIPE to exchange")
    if not args.base:
        raise ValueError(
            "--base: name a Hugging Face folder or hub id, or --from a recipe that ships"
        )
    text, english, epochs = (getattr(args, key) or usual for key, usual in USUAL.items())
    return recipe_text(
        args.path,
        language=args.language, language_name=args.language_name, base=args.base,
        text=text, english=english, epochs=epochs,
        named=[name.strip() for name in (args.corpora or "").split(",") if name.strip()],
    )  # fmt: skip


def _exchanged(args: argparse.Namespace) -> tuple[str, list[str]]:
    """Returns the recipe, and what to print of it."""
    from lrl_jax.cli.recipes import other_language, tasks

    given = [key for key in ("base", "corpora", *USUAL) if getattr(args, key) is not None]
    if given:
        shown = ", ".join(f"--{key}" for key in given)
        raise ValueError(f"{shown}: --from keeps what its recipe has; leave that out")
    recipe = other_language.exchanged(
        args.source, args.language, args.path, which=args.exchange, name=args.language_name
    )
    of_language = tasks.of_language(recipe.new.code)
    said = [
        f"{recipe.changed} lines differ, all marked # {recipe.new.code}; look at:",
        *(f"  {look}" for look in recipe.looks),
    ]
    if of_language:
        more = ", ..." * (len(of_language) > SHOWN)
        shown = ", ".join(of_language[:SHOWN]) + more
        said.append(f"tasks in {recipe.new.name} that ship: {shown}")
    return recipe.text, said
