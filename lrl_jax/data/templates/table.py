"""Writes records as the text a model reads, and says which of it is learnt: one table of templates.

    TEMPLATES["translation"](record) == [TextPart(prompt, weight=0), TextPart(target, weight=1)]
    write = writer(dataset, tokenizer)      the same with the options the recipe gives a dataset
    write(record)

Training and generation share the table: `prompt_parts` returns the document up to its answer. Each
part is tokenised by itself, so the ids of that prompt are exactly the ids after which the model
learnt to answer. With a SentencePiece dummy prefix the answer therefore starts with its own word
mark (`### Response:` then `_Paris`): a space in the running text, which `decode` of the answer
alone leaves out again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import dataclasses
import functools
import hashlib
import inspect
import itertools
import json
from typing import Any

from lrl_jax.data.read import kinds
from lrl_jax.data.templates import chat, taco, tokenizer_chat, translation
from lrl_jax.data.templates.parts import Record, TextPart, joined, opening
from lrl_jax.recipe import data as recipe_data
from lrl_jax.recipe.vocab import did_you_mean
from lrl_jax.vocab.tokenizer import piece_model
from lrl_jax.vocab.tokenizer.types import Tokenizer

OWN = "tokenizer"  # the name by which a recipe asks for the tokenizer's own chat template
EVEN = recipe_data.SectionWeights()
Template = Callable[[Record], list[TextPart]]


# ---------------------------------------------------------------------------- templates
def plain(record: Record) -> list[TextPart]:
    """Writes {text}, of which every token is learnt."""
    return [TextPart(record["text"], 1)]


def pair(record: Record) -> list[TextPart]:
    """Writes {source, target}, a sentence and its translation, as one text, all of it learnt."""
    return [TextPart(record["source"] + "\n", 1), TextPart(record["target"], 1)]


def completion(record: Record) -> list[TextPart]:
    """Writes {prompt, completion} with nothing added to either; the completion is learnt."""
    return [TextPart(record["prompt"], 0), TextPart(record["completion"], 1)]


def task(record: Record) -> list[TextPart]:
    """Writes {inputs, targets} of a seqio Task as they are; the targets are learnt."""
    return [TextPart(record.get("inputs", ""), 0), TextPart(record["targets"], 1)]


def translate(record: Record) -> list[TextPart]:
    """Writes a request to translate, and the translation, which is learnt.

    The fields are {source, target, source_language, target_language}.
    """
    request = translation.request(record, translation.FIXED)
    return [TextPart(f"{request}\n{record['source']}\n", 0), TextPart(record["target"], 1)]


def translate_varied(record: Record) -> list[TextPart]:
    """Writes a request to translate in Alpaca's prompt; its wording depends on the pair.

    Source: x-LLaMA (arXiv 2308.04948). The translation is learnt.
    """
    request = translation.request(record, translation.varied(record))
    return alpaca({"instruction": request, "input": record["source"], "output": record["target"]})


def alpaca(record: Record) -> list[TextPart]:
    """Writes {instruction, input, output} in Stanford Alpaca's exact prompt; the output is learnt.

    The output follows `### Response:` without a newline, as x-LLaMA trained it
    (arXiv 2308.04948).
    """
    about, block = "", ""
    if record["input"].strip():
        about = ", paired with an input that provides further context"
        block = f"### Input:\n{record['input']}\n\n"
    prompt = (
        f"Below is an instruction that describes a task{about}. "
        "Write a response that appropriately completes the request.\n\n"
        f"### Instruction:\n{record['instruction']}\n\n{block}### Response:"
    )
    return [TextPart(prompt, 0), TextPart(record["output"], 1)]


def chain(
    record: Record,
    legacy: bool = False,
    prompt: str = "alpaca",
    weights: recipe_data.SectionWeights = EVEN,
) -> list[TextPart]:
    """Writes TaCo's chain after Alpaca's prompt.

    Args:
      record: {language, instruction, input, output, english_...}.
      legacy: whether to write the chain as the released data has it.
      prompt: `guanaco` asks in Guanaco's turns instead; the chain follows `### Assistant:`.
      weights: of the three sections in the loss.
    """
    request = {"instruction": taco.request(record), "input": record["input"], "output": ""}
    before = alpaca(request)[0]
    if prompt == "guanaco":
        before = opening(chat.guanaco(chat.turns(request)))[0]
    section_weights = (weights.english_instruction, weights.english_answer, weights.answer)
    texts = taco.sections(record, legacy)
    return [before, *joined(map(TextPart, texts, section_weights))]


def _converse(
    write: chat.Format, record: Record, system: str = "", learn: str = "answers"
) -> list[TextPart]:
    return write(chat.turns(record, system, learn))


TEMPLATES: dict[str, Template] = {
    "plain": plain,
    "pair": pair,
    "completion": completion,
    "task": task,
    "translation": translate,
    "translation_varied": translate_varied,
    "alpaca": alpaca,
    "taco": chain,
    "taco_legacy": functools.partial(chain, legacy=True),
    **{name: functools.partial(_converse, write) for name, write in chat.FORMATS.items()},
}


def parts(name: str, record: Record) -> list[TextPart]:
    """Returns the parts that a template of the table writes of a record.

    ValueError if there is no such template, or the record lacks a field that it needs.
    """
    if name not in TEMPLATES:
        raise ValueError(_unknown(name))
    return _written(name, TEMPLATES[name], record)


def _unknown(name: str) -> str:
    names = (*TEMPLATES, OWN)
    return f"no template {name!r}; there are {', '.join(names)}{did_you_mean(name, names)}"


def _written(name: str, write: Template, record: Record) -> list[TextPart]:
    try:
        return write(record)
    except KeyError as e:
        raise ValueError(
            f"template {name!r} needs the field {e}; the record has {', '.join(record) or 'none'}"
        ) from None


# ---------------------------------------------------------------------------- for a dataset
def writer(dataset: recipe_data.Dataset, tokenizer: Tokenizer) -> Template:
    """Returns the template of a dataset, for a tokenizer and with the dataset's options.

    With a SentencePiece dummy prefix a chat format's space before an answer is left out: the
    answer, tokenised by itself, begins with that space already.

    Raises:
      ValueError: no such template, one that the dataset's records do not fit, or one that needs
        control tokens or a chat template the tokenizer does not have.
    """
    name = dataset.template
    if name not in (*TEMPLATES, OWN):
        raise ValueError(_unknown(name))
    if is_chat(name):
        template: Template = functools.partial(_converse, chat_format(name, tokenizer))
    else:
        template = TEMPLATES[name]
    arguments = inspect.signature(template).parameters
    options = dataset.template_options().items()
    template = functools.partial(template, **{k: v for k, v in options if k in arguments})
    write = functools.partial(_written, name, template)
    for record in kinds.of(dataset).specimens(dataset):
        for text_part in write(record):
            if text_part.control and text_part.text:  # AFTER_BOS names none
                tokenizer.control(text_part.text)  # an error if the tokenizer has no such token
    return write


def chat_format(template: str, tokenizer: Tokenizer) -> chat.Format:
    """Returns a chat format as documents of this tokenizer are written in it."""
    write = tokenizer_chat.own(tokenizer) if template == OWN else chat.FORMATS[template]
    if tokenizer.family != "sentencepiece":
        return write
    if not piece_model.proto_of(tokenizer).normalizer_spec.add_dummy_prefix:
        return write
    return lambda turns: [*_without_spaces(write(turns))]


def _without_spaces(parts: Sequence[TextPart]) -> Iterator[TextPart]:
    """Yields parts, of which those that follow a text have lost a space they begin with."""
    yield from parts[:1]
    for before, text_part in itertools.pairwise(parts):
        if before.control or text_part.control:
            yield text_part
        else:
            yield dataclasses.replace(text_part, text=text_part.text.removeprefix(" "))


# ---------------------------------------------------------------------------- fingerprints
def mark(dataset: recipe_data.Dataset, tokenizer: Tokenizer) -> str:
    """Returns a digest that changes when what is written of a dataset does; raises as `writer`."""
    write, kind = writer(dataset, tokenizer), kinds.of(dataset)
    specimens = kind.specimens(dataset)
    facts = {
        "template": dataset.template,
        "written": [[*map(dataclasses.astuple, write(record))] for record in specimens],
        "with_system": _with_system(write) if "messages" in kind.fields else "",
        "requests": translation.REQUESTS,
        "own": tokenizer_chat.template(tokenizer) if dataset.template == OWN else "",
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _with_system(write: Template) -> list[tuple]:
    """Returns what a template writes of a conversation with a system prompt; [] if it refuses."""
    messages = [{"role": role, "content": role} for role in ("system", "user", "assistant")]
    try:
        return [*map(dataclasses.astuple, write({"messages": json.dumps(messages)}))]
    except ValueError:
        return []


# ---------------------------------------------------------------------------- generation
def asked(messages: Any) -> Record:
    """Returns the record of a conversation that waits for an answer: the user spoke last.

    Args:
      messages: {role, content} of each turn, texts.

    Raises:
      ValueError: messages that are something else, or end with another turn.
    """
    want = "want turns of role and content, both text, of which the last is the user's"
    if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Iterable):
        raise ValueError(f"{messages!r:.60} is no conversation; {want}")
    turns = [*messages]
    for number, turn in enumerate(turns, start=1):
        says = turn if isinstance(turn, Mapping) else {}
        if not all(isinstance(says.get(key), str) for key in ("role", "content")):
            raise ValueError(f"turn {number} of the conversation is {turn!r:.60}; {want}")
    if not turns:
        raise ValueError(f"a conversation without a turn; {want}")
    if (role := turns[-1]["role"]) != "user":
        raise ValueError(f"the last turn of the conversation is that of {role!r:.60}; {want}")
    return {"messages": json.dumps([{key: t[key] for key in ("role", "content")} for t in turns])}


def prompt_parts(name: str, record: Record, tokenizer: Tokenizer | None = None) -> list[TextPart]:
    """Returns the parts of a document up to its answer, from which generation starts.

    Args:
      record: its answer is not used, and may be missing. With a template that learns all of its
        text, the parts are the document of the record without its answer.
      tokenizer: needed where `name` is `tokenizer`, for its own template.
    """
    record = {"input": "", **record, **dict.fromkeys(kinds.answers(), "")}
    if not is_chat(name):
        return [text_part for text_part in parts(name, record) if text_part.text]
    return opening(_conversation(name, record, tokenizer))


def ending(name: str, record: Record, tokenizer: Tokenizer) -> int:
    """Returns the id that ends an answer: eos, or the control token the template learns last."""
    if not is_chat(name):
        return tokenizer.eos_id
    record = {"input": "", **record, **dict.fromkeys(kinds.answers(), "a")}
    last = [p for p in _conversation(name, record, tokenizer) if p.trained][-1]
    return tokenizer.control(last.text) if last.control else tokenizer.eos_id


def begins_with_bos(name: str, tokenizer: Tokenizer) -> bool:
    """Tells whether a prompt is read after bos: unless the tokenizer's own template has none."""
    return name != OWN or tokenizer_chat.begins_with_bos(tokenizer)


def is_chat(name: str) -> bool:
    """Tells whether a template writes turns of a conversation."""
    return name == OWN or name in chat.FORMATS


def _conversation(name: str, record: Record, tokenizer: Tokenizer | None) -> list[TextPart]:
    if tokenizer is None and name == OWN:
        raise ValueError(f"template {OWN!r} needs a tokenizer")
    write = chat_format(name, tokenizer) if tokenizer else chat.FORMATS[name]
    if "messages" in record:
        messages = json.loads(record["messages"])
        if not messages or messages[-1].get("role") != "assistant":
            messages.append({"role": "assistant", "content": "a"})  # a prompt ends before it
        messages[-1] = messages[-1] | {"weight": 1}
        record = {"messages": json.dumps(messages)}
    return write(chat.turns(record, learn="last_answer"))
