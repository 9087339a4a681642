"""Declares the verb `lrl corpora`."""

from lrl_jax.cli.arguments import shared


def add(verbs) -> None:
    """Adds `lrl corpora`."""
    what = "corpora of the hub by name: what there is; or the first text of one, as lines"
    verb = shared.verb(verbs, "corpora", what, module="recipes.corpora")
    verb.add_argument("name", nargs="?", default="", help="which one, such as fineweb2")
    verb.add_argument("--language", default="", help="code such as npi_Deva, or a name")
    verb.add_argument("--to", default="", metavar="FILE", help="the text file to write")
    what = "how many documents to write (default: 50000)"
    count = shared.whole("number of documents", 1)
    verb.add_argument("--documents", type=count, default=50_000, metavar="N", help=what)
    what = "how many documents to leave out before them (default: 0)"
    verb.add_argument("--skip", type=shared.whole("number of documents", 0), default=0, help=what)
    verb.add_argument("--revision", default="", help="the commit to read (default: as listed)")
    verb.add_argument("--copy", default="", metavar="FOLDER", help="read a copy of it instead")
