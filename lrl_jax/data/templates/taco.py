"""TaCo: translate the instruction to English, answer it there, translate the answer back.

    sections(record, legacy=False)    what the model learns to write (arXiv 2311.10797)
    parse(generated).answer           the last section of what it wrote; None when it is cut short

A generation may be opened with PREFIX, the first words of every chain. `legacy` is the scaffold of
the released data to the character: a full stop and a space after the English sections, lines that
begin with 24 spaces.
"""

from collections.abc import Mapping
import dataclasses
import re

from lrl_jax.recipe.languages import english_name

REQUEST = (
    "Translate the following instructions from {language} to English, formulate a response in "
    "English, and then translate that response back into {language}."
)
PREFIX = "Instruction in English:"
INDENT = " " * 24
STOP = rf"(?:\. (?=\n{INDENT}Response))?"  # of the released scaffold, not of the text before it
SECTIONS = re.compile(
    rf"\s*{PREFIX}(.*?){STOP}\n\s*Response in English:(.*?){STOP}\n"
    r"\s*Response in ([^\n:]+):(.*)",
    re.DOTALL,
)


@dataclasses.dataclass(frozen=True)
class Sections:
    """What a model wrote, section by section, without the space around them."""

    english_instruction: str
    english_answer: str
    language: str
    answer: str


def request(record: Mapping[str, str]) -> str:
    """The instruction as the model is given it."""
    language = english_name(record["language"])
    return f"{REQUEST.format(language=language)}\n{record['instruction']}"


def sections(record: Mapping[str, str], legacy: bool) -> tuple[str, str, str]:
    """The three sections of a chain, one after another; empty where the answer is still open."""
    if not record["output"]:
        return "", "", ""
    language = english_name(record["language"])
    asked = (record["english_instruction"], record.get("english_input", ""))
    instruction = "\n".join(part for part in asked if part)
    end, indent, last = (". ", INDENT, " ") if legacy else ("", "", "")
    return (
        f"{PREFIX} {instruction}{end}\n",
        f"{indent}Response in English: {record['english_output']}{end}\n",
        f"{indent}Response in {language}: {record['output']}{last}",
    )


def answer(record: Mapping[str, str], legacy: bool) -> str:
    """The whole chain."""
    return "".join(sections(record, legacy))


def parse(generated: str) -> Sections | None:
    """The sections of a generated text; None where one is missing, which is a failed generation.

    >>> chain = "Instruction in English: Add.\\nResponse in English: 3\\nResponse in Korean: 셋"
    >>> parse(chain).answer
    '셋'
    >>> parse("Instruction in English: Add.\\nResponse in English: 3") is None
    True
    """
    found = SECTIONS.match(generated)
    if found is None:
        return None
    return Sections(*(section.strip() for section in found.groups()))
