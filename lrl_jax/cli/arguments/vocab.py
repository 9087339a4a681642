"""Declares the verbs that compare vocabularies: vocab probe and vocab fertility."""

from lrl_jax.cli.arguments import shared


def add_probe(verbs) -> None:
    """Adds `lrl vocab probe`."""
    what = "short trainings with several vocabulary sizes and starting rows, compared"
    probe = shared.with_recipe(shared.verb(verbs, "vocab probe", what, stoppable=True))
    probe.add_argument(
        "--pieces", type=shared.counts, default=(0, 1000, 4000), help="sizes, such as 0,1000,4000"
    )
    probe.add_argument(
        "--rows",
        type=lambda names: tuple(names.split(",")),
        default=("subword_mean", "mean", "random_normal"),
        help="starts, such as subword_mean,mean",
    )
    probe.add_argument("--steps", type=int, default=50, help="steps of the shortest training")
    shared.with_processes(probe)


def add_fertility(verbs) -> None:
    """Adds `lrl vocab fertility`."""
    what = "tokens every language of a folder costs, several tokenizers side by side"
    verb = shared.verb(verbs, "vocab fertility", what)
    verb.add_argument("tokenizers", nargs="+", help="tokenizer folders or files")
    verb.add_argument("--texts", required=True, help="folder with a text file a language")
    verb.add_argument("--reference", default="eng_Latn", help="language parity is relative to")
    verb.add_argument(
        "--parallel", action="store_true", help="texts say the same as wholes, not line by line"
    )
    verb.add_argument("--context", type=int, default=4096, help="tokens a model reads at most")
    verb.add_argument("--out", default="fertility", help="folder to write the report to")
