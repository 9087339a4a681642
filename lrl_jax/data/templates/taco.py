"""Writes and parses TaCo's chains: an instruction in English, its answer, and that translated.

    sections(record, legacy=False)    what the model learns to write (arXiv 2311.10797)
    parse(generated)                  the sections of what it wrote; None when it is cut short

A generation may be opened with PREFIX, the first words of every chain. `legacy` writes the chain as
the released data has it, to the character: a full stop and a space after the English sections,
lines that begin with 24 spaces.
"""

from collections.abc import Mapping
import re
from typing import NamedTuple

from lrl_jax.recipe.languages import name_in

REQUEST = (
    "Translate the following instructions from {language} to English, formulate a response in "
    "English, and then translate that response back into {language}."
)
PREFIX = "Instruction in English:"
INDENT = " " * 24
STOP = rf"(?:\. (?=\n{INDENT}Response))?"  # what `legacy` adds; no full stop of the text itself
SECTIONS = re.compile(
    rf"\s*{PREFIX}(.*?){STOP}\n\s*Response in English:(.*?){STOP}\n"
    r"\s*Response in ([^\n:]+):(.*)",
    re.DOTALL,
)


class Sections(NamedTuple):
    """Holds the sections of a chain that a model wrote, without the space around them."""

    english_instruction: str
    english_answer: str
    language: str
    answer: str


def request(record: Mapping[str, str]) -> str:
    """Returns the instruction of a record, asked as TaCo does."""
    language = name_in(record, "language")
    return f"{REQUEST.format(language=language)}\n{record['instruction']}"


def sections(record: Mapping[str, str], legacy: bool) -> tuple[str, str, str]:
    """Returns the three sections of a chain; all empty where the record has no answer yet."""
    if not record["output"]:
        return "", "", ""
    language = name_in(record, "language")
    texts = (record["english_instruction"], record.get("english_input", ""))
    instruction = "\n".join(text for text in texts if text)
    end, indent, last = (". ", INDENT, " ") if legacy else ("", "", "")
    return (
        f"{PREFIX} {instruction}{end}\n",
        f"{indent}Response in English: {record['english_output']}{end}\n",
        f"{indent}Response in {language}: {record['output']}{last}",
    )


def parse(generated: str) -> Sections | None:
    """Returns the sections of a generated text; None where one of the three is missing.

    >>> chain = "Instruction in English: Add.\\nResponse in English: 3\\nResponse in Korean: 셋"
    >>> parse(chain).answer
    '셋'
    >>> parse("Instruction in English: Add.\\nResponse in English: 3") is None
    True
    """
    match = SECTIONS.match(generated)
    if match is None:
        return None
    return Sections(*(section.strip() for section in match.groups()))
