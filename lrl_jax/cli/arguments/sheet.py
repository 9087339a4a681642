"""Declares the verbs of human sheets: sheet make and sheet read."""

from lrl_jax.cli.arguments import shared


def add(verbs) -> None:
    """Adds `lrl sheet make` and `lrl sheet read`."""
    what = "sheets on which people compare the answers of two models: CSV, HTML, Label Studio"
    make = shared.verb(verbs, "sheet make", what, module="sheet")
    what = "answers of model {}: FastChat's records, or JSON lines with prompt and output"
    make.add_argument("a", metavar="A", help=what.format("A"))
    make.add_argument("b", metavar="B", help=what.format("B"))
    what = "FastChat's file of questions, which its records of answers need"
    make.add_argument("--questions", default="", metavar="FILE", help=what)
    what = "questions to draw from those that both answer (default: 100)"
    make.add_argument("--items", type=shared.whole("number of items", 1), default=100, help=what)
    what = "how many people judge, each all questions (default: 3, or as many as names)"
    count = shared.whole("number of annotators", 1)
    make.add_argument("--annotators", type=count, default=None, help=what)
    what = "a name for each of them"
    make.add_argument("--names", nargs="+", default=[], metavar="NAME", help=what)
    make.add_argument("--seed", type=int, default=0, help="of what is drawn (default: 0)")
    what = "of the texts, a code or a name, for fonts and screen readers"
    make.add_argument("--language", default="", help=what)
    what = "a text for annotators, in place of ours in English"
    make.add_argument("--instructions", default="", metavar="FILE", help=what)
    what = "folder to write key.json and hand_out/ to (default: sheets)"
    make.add_argument("--out", default="sheets", metavar="FOLDER", help=what)

    what = "what people prefer: wins, agreement, whom to ask again; from sheets given back"
    read = shared.verb(verbs, "sheet read", what, module="sheet")
    what = "CSV, answers saved by pages, exports of Label Studio as JSON; globs too"
    read.add_argument("files", nargs="+", metavar="FILE", help=what)
    what = "key.json of lrl sheet make, or the folder that has it (default: sheets)"
    read.add_argument("--key", default="sheets", metavar="key.json", help=what)
    what = "folder to write human.json to (default: that of the key)"
    read.add_argument("--out", default="", metavar="FOLDER", help=what)
