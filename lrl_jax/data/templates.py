"""Templates: one table from a record to the text a model reads, and which of it is learnt.

    TEMPLATES["translation"](record) == [Part(prompt, weight=0), Part(target, weight=1)]

Training and generation share the table: `prompt(name, record)` is the document with its answer
still open. Each part is tokenised by itself, so the ids of that prompt are exactly the ids the
model was trained to answer after. With a SentencePiece dummy prefix the answer therefore starts
with its own word mark (`### Response:` then `_Paris`): a space in the running text, which
`decode` of the answer alone leaves out again.
"""

from collections.abc import Callable
import dataclasses
import hashlib
import json

from lrl_jax.data import taco
from lrl_jax.languages import english_name

Record = dict[str, str]


@dataclasses.dataclass(frozen=True)
class Part:
    """A stretch of a document.

    Attributes:
      weight: of its tokens in the loss; 0 for what is only read.
      control: the text names one control token, such as <|eot_id|>, and is not text itself.
    """

    text: str
    weight: float
    control: bool = False

    @property
    def trained(self) -> bool:
        """Whether the loss counts it."""
        return self.weight > 0


def plain(record: Record) -> list[Part]:
    """{text}: every token is learnt."""
    return [Part(record["text"], 1)]


def pair(record: Record) -> list[Part]:
    """{source, target}: a sentence and its translation as one text, all of it learnt."""
    return [Part(record["source"] + "\n", 1), Part(record["target"], 1)]


def translation(record: Record) -> list[Part]:
    """{source, target, source_language, target_language}: asks for the target, which is learnt."""
    source = english_name(record["source_language"])
    target = english_name(record["target_language"])
    request = f"Translate the following sentence from {source} to {target}."
    return [Part(f"{request}\n{record['source']}\n", 0), Part(record["target"], 1)]


def alpaca(record: Record) -> list[Part]:
    """{instruction, input, output}: Stanford Alpaca's prompt, word for word; the output is learnt.

    The output follows `### Response:` without a newline, as x-LLaMA trained it
    (arXiv 2308.04948).
    """
    about, block = "", ""
    if record["input"]:
        about = ", paired with an input that provides further context"
        block = f"### Input:\n{record['input']}\n\n"
    prompt = (
        f"Below is an instruction that describes a task{about}. "
        "Write a response that appropriately completes the request.\n\n"
        f"### Instruction:\n{record['instruction']}\n\n{block}### Response:"
    )
    return [Part(prompt, 0), Part(record["output"], 1)]


def taco_clean(record: Record) -> list[Part]:
    """{language, instruction, input, output, english_...}: TaCo's chain in Alpaca's prompt."""
    return _taco(record, legacy=False)


def taco_legacy(record: Record) -> list[Part]:
    """The same with the scaffold of the released data."""
    return _taco(record, legacy=True)


def _taco(record: Record, legacy: bool) -> list[Part]:
    asked = {"instruction": taco.request(record), "input": record["input"], "output": ""}
    answer = taco.answer(record, legacy)
    return [alpaca(asked)[0], Part(answer, 1)]


Template = Callable[[Record], list[Part]]
TEMPLATES: dict[str, Template] = {
    "plain": plain,
    "pair": pair,
    "translation": translation,
    "alpaca": alpaca,
    "taco": taco_clean,
    "taco_legacy": taco_legacy,
}
ANSWERS = {"target": "", "output": ""}  # the fields a model is to produce, still open


def parts(name: str, record: Record) -> list[Part]:
    """The parts of `record` by the template `name`.

    Raises:
      ValueError: no such template, or a field it needs is missing.
    """
    if name not in TEMPLATES:
        raise ValueError(f"no template {name!r}; there are {', '.join(TEMPLATES)}")
    try:
        return TEMPLATES[name](record)
    except KeyError as e:
        raise ValueError(
            f"template {name!r} needs the field {e}; the record has {', '.join(record) or 'none'}"
        ) from None


def prompt(name: str, record: Record) -> str:
    """What generation starts from: the document of `record` up to where its answer begins.

    >>> prompt("pair", {"source": "Good morning.", "target": "..."})
    'Good morning.\\n'
    """
    return "".join(part.text for part in parts(name, {"input": "", **record, **ANSWERS}))


def fingerprint(name: str, record: Record) -> str:
    """Changes when what the template writes does: a digest of it on `record`, any fixed one.

    Raises:
      ValueError: as `parts`, for a template that does not fit such records.
    """
    forms = [record | {"input": ""}, record] if "input" in record else [record]
    written = [[dataclasses.astuple(part) for part in parts(name, form)] for form in forms]
    return hashlib.sha256(json.dumps(written).encode()).hexdigest()
