"""Writes docs/troubleshooting.md: every message of an error, by step, with its code and what to do.

    python -m scripts.site.troubleshooting            # after a message has changed
    python -m scripts.site.troubleshooting --check    # ends with 1 where the page is stale

Most messages say what to do themselves. For others it stands in advice.yaml beside this file.
"""

import argparse
from collections.abc import Mapping, Sequence
import dataclasses
from pathlib import Path
import sys

from ruamel.yaml import YAML

from lrl_jax.cli.codes import CODES
from scripts.site import errors

PAGE = Path(__file__).parents[2] / "docs/troubleshooting.md"
ADVICE = Path(__file__).with_name("advice.yaml")
# Where a reader meets the messages of a module: the longest beginning of its name that stands here.
SECTIONS: dict[str, tuple[str, ...]] = {
    "The command line": ("cli", "devices/jobs", "terminal"),
    "The recipe": ("recipe", "cli/recipes", "cli/checks"),
    "Files and addresses": ("storage", "text"),
    "vocab": ("vocab", "pipeline/vocab", "cli/studies/probe"),
    "init": ("embeddings", "hf", "pipeline/init", "pipeline/weights"),
    "data": ("data", "pipeline/data"),
    "train": ("train", "model", "devices"),
    "evaluate": ("evaluate", "pipeline/evaluate", "cli/models/benchmark", "cli/studies/models"),
    "export": ("hf/gate", "hf/save", "hf/card", "hf/peft_write", "hf/vector", "hf/gguf", "hf/hub",
               "pipeline/export"),
    "The run and its folder": ("pipeline", "devices/lease", "devices/peers", "report/pieces"),
    "report and runs": ("report", "cli/report", "cli/runs"),
    "generate, chat, align and merge": ("cli/models", "hf/merge", "pipeline/models", "pipeline/api",
                                        "evaluate/alignment", "evaluate/decoding"),
    "judge": ("evaluate/judge", "cli/judge", "cli/judged"),
    "sheet": ("evaluate/sheets", "cli/sheet"),
    "laws": ("laws", "cli/studies/ladder", "cli/studies/laws", "cli/studies/mixture",
             "cli/studies/mixture_law", "cli/studies/mixture_stage"),
    "study, and clusters": ("pipeline/study", "cli/studies", "devices/cluster", "devices/slices",
                            "devices/on_ray"),
    "fit": ("fit", "cli/fit", "devices/presets"),
    "launch and doctor": ("cli/machines",),
}  # fmt: skip

OPENING = """\
<!-- Written by `python -m scripts.site.troubleshooting`; advice is in scripts/site/advice.yaml. -->

# Troubleshooting by error message

For whoever has an error on the screen: every message that ends a command of lrl_jax, by the step
that says it, with the exit code and what to do.

Search this page for words of your message that are no names or numbers of yours; those stand here
as `<path>`, `<step>` and so on. Most messages say what to do after the last semicolon; where more
is to be known, it follows the message. A message may be a part of another one, behind the name of a
file, a key or a dataset; then the exit code is that of the other. `--debug` after any verb prints
the traceback as well.

What each exit code means stands in [tour.md](tour.md#when-a-command-ends). An error with code 1 is
one of lrl_jax: report it, with the traceback.
"""


@dataclasses.dataclass(frozen=True)
class Advice:
    """Holds what to do about messages that contain some words, or that other programs print."""

    words: str
    do: str
    code: str = ""  # of a message that is not raised by a line of the package


def main() -> int:
    """Writes the page, or tells whether it is as the source says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    text = page(errors.messages(), *advice())
    if parser.parse_args().check:
        return int(text != PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(text, encoding="utf-8")
    return 0


def advice(path: Path = ADVICE) -> tuple[list[Advice], list[Advice]]:
    """Returns what to do about our own messages, and about those that no line here raises."""
    said = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    ours = [Advice(words, do) for words, do in said["ours"].items()]
    others = [Advice(words, row["do"], str(row["code"])) for words, row in said["others"].items()]
    return ours, others


def page(
    messages: Sequence[errors.Message], ours: Sequence[Advice], others: Sequence[Advice]
) -> str:
    """Returns the whole page.

    Raises:
      ValueError: advice on words that no message has.
    """
    forms = [message.form for message in messages]
    stale = [entry.words for entry in ours if not any(entry.words in form for form in forms)]
    if stale:
        raise ValueError(f"{ADVICE.name}: no message has the words {stale}; change or remove them")
    lines = [OPENING, "## Out of memory, disk full, and other programs", ""]
    lines += [
        line for entry in others for line in _entry(entry.words, entry.do, f" ({entry.code})")
    ]
    for title, group in by_section(messages).items():
        lines += ["", f"## {title}"]
        for code in sorted({message.code for message in group}):
            lines += ["", f"**{_code(code)}**", ""]
            for form in sorted({message.form for message in group if message.code == code}):
                lines += _entry(form, " ".join(e.do for e in ours if e.words in form))
    return "\n".join(lines).rstrip() + "\n"


def by_section(messages: Sequence[errors.Message]) -> Mapping[str, list[errors.Message]]:
    """Returns the messages of each section, in the order of SECTIONS."""
    sections: dict[str, list[errors.Message]] = {title: [] for title in SECTIONS}
    for message in messages:
        sections[section(message.module)].append(message)
    return {title: group for title, group in sections.items() if group}


def section(module: str) -> str:
    """Returns the section of a module's messages.

    >>> section("evaluate/judge/records"), section("evaluate/tasks"), section("hf/load")
    ('judge', 'evaluate', 'init')
    """
    fitting = [
        (len(beginning), title)
        for title, beginnings in SECTIONS.items()
        for beginning in beginnings
        if module == beginning or module.startswith(beginning + "/")
    ]
    if not fitting:
        raise ValueError(f"{module}: in no section of the page; add it to SECTIONS")
    return max(fitting)[1]


def _entry(form: str, do: str, after: str = "") -> list[str]:
    fence = "``" if "`" in form else "`"
    pad = " " if form[0] == "`" or form[-1] == "`" else ""
    return [f"- {fence}{pad}{form}{pad}{fence}{after}"] + (["", f"  {do}", ""] if do else [])


def _code(code: int) -> str:
    if code == errors.AS_IT_SAYS:
        return "The exit code of the process that ended first"
    return f"Exit code {code}: {CODES[code].partition(' (')[0]}"


if __name__ == "__main__":
    sys.exit(main())
