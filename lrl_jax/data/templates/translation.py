"""Writes the request to translate a text: in a fixed wording, or in one of many.

    request(record, varied(record))  for training; the first of REQUESTS for tests

x-LLaMA (arXiv 2308.04948) has 33 wordings and tests with its first, which is REQUESTS[0]. The
others are our own. The wording depends on the pair alone, not on its place in the data.
"""

from collections.abc import Mapping
import hashlib

from lrl_jax.recipe.languages import name_in

REQUESTS = (
    "Translate the following sentences from {source} to {target}.",
    "Please translate this {source} text into {target}.",
    "What is the {target} translation of the following {source} sentence?",
    "Turn the {source} sentence below into {target}.",
    "How would you say this in {target}? The original is in {source}.",
    "Render the given {source} passage in {target}.",
    "Below is a sentence in {source}. Write it in {target}.",
    "Give the {target} equivalent of this {source} text.",
    "Convert the input from {source} to {target}.",
    "I need the following {source} text in {target}.",
    "Can you translate this from {source} to {target} for me?",
    "Rewrite the {source} input so that a speaker of {target} can read it.",
    "Translate from {source} into natural {target}.",
    "Express the meaning of this {source} sentence in {target}.",
    "Provide a translation into {target} of the {source} sentence given below.",
    "The input is written in {source}; your answer should be its translation in {target}.",
    "Put this {source} sentence into {target}.",
    "Act as a translator from {source} to {target} and translate the input.",
    "Help me understand this {source} text by translating it into {target}.",
    "Write the {target} version of the following {source} text.",
    "Produce a faithful {target} translation of the {source} text that follows.",
    "Someone wrote this in {source}. Say the same thing in {target}.",
    "Your task is to translate {source} into {target}. Here is the text.",
    "Please give me the following in {target} instead of {source}.",
    "Read the {source} sentence and restate it in {target}.",
    "Translate the given text, which is in {source}, into fluent {target}.",
    "What does this {source} sentence say? Answer with its {target} translation.",
    "Could you put the {source} text below into {target}?",
    "From {source} to {target}: translate the input.",
    "A reader who knows only {target} should understand this {source} text. Translate it.",
    "Carry the following {source} sentence over into {target} without changing its meaning.",
    "Supply the {target} translation for this piece of {source} text.",
    "Here is some {source}. Translate it to {target}, leaving nothing out.",
    "Into {target}, please: the following {source} text.",
    "Change the language of the input from {source} to {target} and keep what it says.",
    "For the {source} text given as input, answer with the corresponding {target} text.",
)
# The wording of the template `translation`.
FIXED = "Translate the following sentence from {source} to {target}."


def request(record: Mapping[str, str], wording: str) -> str:
    """Returns a request in this wording, with the English names of the record's languages."""
    source, target = name_in(record, "source_language"), name_in(record, "target_language")
    return wording.format(source=source, target=target)


def varied(record: Mapping[str, str]) -> str:
    """Returns the wording for this pair: the first of REQUESTS while it has no translation."""
    if not record["target"]:
        return REQUESTS[0]
    pair = "\0".join(record[n] for n in ("source_language", "target_language", "source", "target"))
    digest = hashlib.sha256(pair.encode()).digest()
    return REQUESTS[int.from_bytes(digest[:8], "big") % len(REQUESTS)]
