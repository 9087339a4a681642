"""Declares the verbs about any model: generate, chat, align and merge."""

import argparse

from lrl_jax.cli.arguments import shared

MODEL = "a run's folder, a Hugging Face folder, or a hub id"
BESIDE = "beside it the base of the run, or another model"


def add_generate(verbs) -> None:
    """Adds `lrl generate`."""
    what = "continue prompts with any model: a run, a folder, a hub id"
    verb = shared.verb(verbs, "generate", what, module="models.generate")
    asked = verb.add_mutually_exclusive_group(required=True)
    asked.add_argument("--prompt", metavar="TEXT", help="one prompt; its continuation is printed")
    what = (
        'lines such as {"prompt": "..."} or {"messages": [...]}, or - for standard input; a line '
    )
    what += (
        "of JSON is printed for each as soon as it is answered, with its other fields as they were"
    )
    asked.add_argument("--file", metavar="PROMPTS.jsonl", help=what)
    _with_model(verb, temperature=0.0, top_p=1.0, new=128)
    what = "asks by this template of the recipe's, or by `tokenizer`, the tokenizer's own"
    verb.add_argument("--template", default="", help=f"{what} (default: continues the text)")
    what = "prompts answered together"
    verb.add_argument("--batch-size", type=shared.whole("batch size", 1), default=16, help=what)
    shared.with_processes(verb)


def add_chat(verbs) -> None:
    """Adds `lrl chat`."""
    what = "talk to any model in the terminal: a run, a folder, a hub id"
    verb = shared.verb(verbs, "chat", what, module="models.generate")
    _with_model(verb, temperature=0.7, top_p=0.95, new=256)
    what = "the template to ask by (default: the tokenizer's own, or that of the run's last stage)"
    verb.add_argument("--template", default="", help=what)
    verb.add_argument("--system", default="", metavar="TEXT", help="instructs the model")
    verb.add_argument("--base", nargs="?", const="", metavar="MODEL", help=BESIDE)


def add_align(verbs) -> None:
    """Adds `lrl align`."""
    what = "how alike sentences and their translations are at every layer of any model"
    verb = shared.verb(verbs, "align", what, module="models.align")
    verb.add_argument("model", help=MODEL)
    what = "a text and its translation, line by line"
    verb.add_argument("--texts", nargs=2, required=True, metavar=("A", "B"), help=what)
    verb.add_argument("--base", nargs="?", const="", metavar="MODEL", help=BESIDE)
    what = "folder for alignment.json and the page (default: alignment)"
    verb.add_argument("--out", default="alignment", help=what)
    what = "pairs that are compared, the first ones (default: 100)"
    verb.add_argument("--limit", type=shared.whole("limit", 3), default=100, help=what)
    what = "how the states of tokens become one in the table that is printed (default: weighted)"
    poolings = ("weighted", "mean", "last")
    verb.add_argument("--pooling", choices=poolings, default="weighted", help=what)
    _with_dtype(verb)
    shared.with_processes(verb)


def add_merge(verbs) -> None:
    """Adds `lrl merge`."""
    what = "one model of several with one tokenizer: their mean, or a base and their differences"
    verb = shared.verb(verbs, "merge", what, module="models.merge")
    verb.add_argument(
        "models", nargs="+", help="runs with an export, Hugging Face folders, hub ids"
    )
    what = "mean: a weighted mean; task: base + sum of weight * (model - base) (default: mean)"
    verb.add_argument("--method", choices=("mean", "task"), default="mean", help=what)
    what = "such as 0.3,0.7, one for each model; of a mean 0 or more, together 1 (default: equal)"
    verb.add_argument("--weights", type=shared.numbers, default=(), metavar="W,W", help=what)
    what = "what the models were trained from, with the same tokenizer (--method task)"
    verb.add_argument("--base", default="", metavar="MODEL", help=what)
    verb.add_argument("--out", required=True, metavar="FOLDER", help="folder to write; a new one")
    what = "texts on which tokens and logits are compared (default: sentences of the sample)"
    sample = ["sample:test.eng", "sample:test.kor"]
    verb.add_argument("--texts", nargs="+", default=sample, metavar="FILE", help=what)
    verb.add_argument("--title", default="", help="of the model card (default: the folder's name)")
    verb.add_argument("--license", default="other", help="of the merged model (default: other)")


def _with_model(verb: argparse.ArgumentParser, temperature: float, top_p: float, new: int) -> None:
    """Adds the model and how its answers are generated."""
    verb.add_argument("model", help=MODEL)
    for option, kind, value, what in (
        ("max-new-tokens", int, new, "tokens of an answer at most"),
        ("temperature", float, temperature, "0 takes the most probable token every time"),
        ("top-p", float, top_p, "draws from the likeliest tokens that are so probable together"),
        ("min-p", float, 0.0, "draws tokens so probable, relative to the likeliest"),
        ("repetition-penalty", float, 1.0, "above 1, tokens seen before count for less"),
        ("seed", int, 0, "of what is drawn"),
    ):
        verb.add_argument(f"--{option}", type=kind, default=value, help=f"{what} ({value})")
    what = "a text that ends an answer; may be given several times"
    verb.add_argument("--stop", action="append", default=[], metavar="TEXT", help=what)
    _with_dtype(verb)


def _with_dtype(verb: argparse.ArgumentParser) -> None:
    what = "of weights and arithmetic (default: float32 on a CPU, else bfloat16)"
    verb.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto", help=what)
