"""Declares the verbs of scaling laws: laws fit and laws allocate."""

from lrl_jax.cli.arguments import shared


def add(verbs) -> None:
    """Adds `lrl laws fit` and `lrl laws allocate`."""
    fit = shared.verb(
        verbs, "laws fit", "how scores rise with pairs of translation data, by language"
    )
    fit.add_argument("points", help="CSV of language,pairs,score, scores up to 100")
    fit.add_argument(
        "--shared", action="store_true", help="one law for all, by a column similarity to English"
    )
    fit.add_argument("--out", default="laws", help="folder to write laws.json and the page to")

    allocate = shared.verb(verbs, "laws allocate", "share a budget of pairs among languages")
    allocate.add_argument("laws", help="laws.json of `lrl laws fit`")
    allocate.add_argument("--budget", type=int, required=True, help="pairs of all languages")
    allocate.add_argument("--write", default="", help="YAML of the part of a recipe to write")
    for option, kind, what in (
        ("cap", int, "pairs there are of a language"),
        ("weight", float, "how much a language counts (default: 1)"),
        ("dataset", str, "its name in data.datasets (default: the language)"),
    ):
        allocate.add_argument(
            f"--{option}", type=shared.named(kind), action="append", default=[],
            metavar="LANGUAGE=" + ("NAME" if kind is str else "NUMBER"), help=what,
        )  # fmt: skip
