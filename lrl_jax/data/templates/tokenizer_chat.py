"""Makes a chat format of a tokenizer's own Jinja template.

    write = own(tokenizer)
    write([Turn("user", "Hi"), Turn("assistant", "Hello", weight=1)])

Control tokens that a message spells out are broken up before it is rendered. Those in the rendering
were therefore written by the template, and become ids. The model learns what the template encloses
in {% generation %}; in a template without it, what an answer adds to the rendering of the turns
before it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import functools
import itertools
import json
import re

from lrl_jax import storage
from lrl_jax.data.templates import documents, renderer, sandbox
from lrl_jax.data.templates.chat import FORMATS, Format, Turn
from lrl_jax.data.templates.parts import TextPart, joined
from lrl_jax.vocab.tokenizer import own_form
from lrl_jax.vocab.tokenizer.types import Tokenizer, chat_template_of, config_of

JINJA = "chat_template.jinja"
GUARD = "\ufdd0"  # breaks up control tokens that messages spell out, until they are rendered
MARKS = GUARD + renderer.OPEN + renderer.CLOSE
SPARE = "".join(map(chr, range(0xFDD3, 0xFDF0)))  # noncharacters that replace MARKS in messages
GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
AROUND = "put {% generation %} and {% endgeneration %} around each answer and its end of turn in "
AROUND += JINJA


def own(tokenizer: Tokenizer) -> Format:
    """Returns the format of the tokenizer's own chat template.

    Raises:
      ValueError: the tokenizer has no template, or one that is refused or does not show where
        answers begin and end. The format raises it for a conversation the template refuses.
    """
    source = template(tokenizer)
    compiled = sandbox.compiled(source)
    names, (controls, heads) = special_names(tokenizer), _controls(tokenizer)
    goes_on = own_form.beside(tokenizer) is not None
    spans = _marked if GENERATION.search(source) else _added
    check_system = functools.cache(functools.partial(_check_system, compiled, names))

    def write(turns: Sequence[Turn]) -> list[TextPart]:
        if turns[0].role == "system":
            check_system()
        replaced, restored = _mark_tables(turns)
        messages = [_guarded(turn, replaced, controls, heads) for turn in turns]
        whole, learnt = spans(functools.partial(compiled.prefixes, messages, names=names), turns)
        parts = _cut(whole, learnt, controls, restored)
        has_bos = parts[0].control and tokenizer.control(parts[0].text) == tokenizer.bos_id
        if has_bos and goes_on:
            return [documents.AFTER_BOS, *parts[1:]]
        return parts[1:] if has_bos else parts

    _check_answers(write)
    return write


def template(tokenizer: Tokenizer) -> str:
    """Returns the source of the tokenizer's own chat template; ValueError if it has none."""
    if JINJA in tokenizer.files:
        if storage.is_web_page(tokenizer.files[JINJA]):
            raise ValueError(f"{JINJA}: {storage.WEB_PAGE}")
        try:
            return tokenizer.files[JINJA].decode()
        except UnicodeDecodeError as e:
            raise ValueError(f"{JINJA}: not UTF-8 at byte {e.start}; fetch it again") from None
    source = chat_template_of(config_of(tokenizer.files))
    if source is None:
        raise ValueError(
            f"the tokenizer has no chat template; put its {JINJA} beside its files, or set the "
            f"template of the dataset to one of {', '.join(FORMATS)}"
        )
    return source


def with_system(source: str, system: str) -> str:
    """Returns a chat template that begins conversations without a system prompt with `system`."""
    if not system:
        return source
    turn = f"{{'role': 'system', 'content': {json.dumps(system, ensure_ascii=False)}}}"
    return (
        "{%- if not messages or messages[0]['role'] != 'system' -%}\n"
        f"{{%- set messages = [{turn}] + messages -%}}\n"
        "{%- endif %}\n" + source  # the line's end goes with the block, that of the base's stays
    )


def begins_with_bos(tokenizer: Tokenizer) -> bool:
    """Tells whether a conversation in the tokenizer's own chat template begins with bos.

    Phi-3's and Qwen's does not, and transformers puts none in front of a rendered conversation.
    """
    question = [{"role": "user", "content": "q1"}]
    text = sandbox.compiled(template(tokenizer)).render(question, True, special_names(tokenizer))
    names = (name for name, i in tokenizer.controls.items() if i == tokenizer.bos_id)
    return text.startswith(tuple(names))


def special_names(tokenizer: Tokenizer) -> dict[str, str]:
    """Returns the variables of templates that hold special tokens: bos_token, eos_token and so on.

    A config that says null for one means that there is none.
    """
    by_id = {i: name for name, i in tokenizer.controls.items()}
    config = config_of(tokenizer.files)
    configured = {
        key: value.get("content", "") if isinstance(value, dict) else value
        for key, value in config.items()
        if key.endswith("_token") and isinstance(value, str | dict)
    }
    ends = {"eos_token": tokenizer.eos_id}
    if "bos_token" not in config:
        ends["bos_token"] = tokenizer.bos_id
    return {key: by_id[i] for key, i in ends.items() if i in by_id} | configured


def _controls(tokenizer: Tokenizer) -> tuple[re.Pattern[str], tuple[str, ...]]:
    """Returns a pattern of the control tokens that text never becomes by itself, and their heads.

    The pattern matches the longest that fits. Heads are beginnings, shorter than the whole.
    """
    names = [*tokenizer.controls]
    ids = tokenizer.encode_batch(names)
    never = [name for name, own in zip(names, ids, strict=True) if own != [tokenizer.control(name)]]
    either = "|".join(map(re.escape, sorted(never, key=len, reverse=True)))
    heads = {name[:n] for name in never for n in range(1, len(name))}
    return re.compile(either or "(?!)"), tuple(heads)


# ---------------------------------------------------------------------------- guarding messages
def _mark_tables(turns: Iterable[Turn]) -> tuple[Mapping[int, str], Mapping[int, str | None]]:
    """Returns two tables for str.translate, for our MARKS that stand in messages.

    The first replaces them by other characters before rendering; the second restores them in the
    rendering, and removes the marks that we put there.
    """
    text = "".join(turn.content for turn in turns)
    used = [mark for mark in MARKS if mark in text]
    free = [char for char in SPARE if char not in text] if used else []
    if len(free) < len(used):
        raise ValueError("a message holds every Unicode noncharacter; leave it out")
    removed: dict[int, str | None] = {ord(mark): None for mark in MARKS}
    pairs = list(zip(used, free, strict=False))
    return {ord(a): b for a, b in pairs}, removed | {ord(b): a for a, b in pairs}


def _guarded(
    turn: Turn, replaced: Mapping[int, str], controls: re.Pattern[str], heads: tuple[str, ...]
) -> dict[str, str]:
    """Returns a message that has no control token in it, and none that begins at its end."""
    text = turn.content.translate(replaced)
    text = controls.sub(lambda match: match[0][0] + GUARD + match[0][1:], text)
    stripped = text.rstrip()
    if stripped.endswith(heads):
        text = stripped + GUARD + text[len(stripped) :]
    return {"role": turn.role, "content": text}


# ---------------------------------------------------------------------------- what is learnt
Render = Callable[[Sequence[sandbox.Prefix]], list[str]]
Spans = list[tuple[int, int, float]]  # from, to, weight


def _marked(render: Render, turns: Sequence[Turn]) -> tuple[str, Spans]:
    """Returns the rendering of a conversation, and the spans that {% generation %} encloses."""
    weights = [turn.weight for turn in turns if turn.role == "assistant"]
    pieces = re.split(f"[{renderer.OPEN}{renderer.CLOSE}]", render([(len(turns), False)])[0])
    if len(pieces) != 2 * len(weights) + 1:
        raise ValueError(
            f"the chat template has {len(pieces) // 2} {{% generation %}} blocks for "
            f"{len(weights)} answers; {AROUND}"
        )
    ends = [0, *itertools.accumulate(map(len, pieces))]
    spans = [(ends[2 * n + 1], ends[2 * n + 2], weight) for n, weight in enumerate(weights)]
    return "".join(pieces), spans


def _added(render: Render, turns: Sequence[Turn]) -> tuple[str, Spans]:
    """Returns the rendering of a conversation, and the spans that learnt answers add to it."""
    end = (len(turns), False)
    learnt = [number for number, turn in enumerate(turns) if turn.weight]
    wanted = [*dict.fromkeys((end, *(p for n in learnt for p in ((n, True), (n + 1, False)))))]
    texts = dict(zip(wanted, render(wanted), strict=True))
    whole = texts[end]
    spans: Spans = []
    for number in learnt:
        before, after = texts[number, True], texts[number + 1, False]
        if not (whole.startswith(after) and after.startswith(before)):
            raise ValueError(
                f"the chat template renders turn {number + 1} in another way once others follow, "
                f"so what is its answer cannot be told; {AROUND}, or set learn: last_answer"
            )
        spans.append((len(before), len(after), turns[number].weight))
    return whole, spans


def _cut(
    whole: str, spans: Spans, controls: re.Pattern[str], restored: Mapping[int, str | None]
) -> list[TextPart]:
    """Cuts a rendering into parts, where weights change and at control tokens."""
    ends = [0, *itertools.chain.from_iterable((a, b) for a, b, _ in spans), len(whole)]
    weights = [0.0, *itertools.chain.from_iterable((weight, 0.0) for _, _, weight in spans)]
    parts: list[TextPart] = []
    for (start, end), weight in zip(itertools.pairwise(ends), weights, strict=True):
        parts += _texts_and_controls(whole[start:end], weight, controls, restored)
    return joined(parts)


def _texts_and_controls(
    text: str, weight: float, controls: re.Pattern[str], restored: Mapping[int, str | None]
) -> Iterator[TextPart]:
    """Cuts a text at its control tokens; white space after the last of them is not learnt."""
    at = 0
    for match in controls.finditer(text):
        if match.start() > at:
            yield TextPart(text[at : match.start()].translate(restored), weight)
        yield TextPart(match[0], weight, control=True)
        at = match.end()
    if at < len(text):
        after_turn = at > 0 and text[at:].isspace()
        yield TextPart(text[at:].translate(restored), 0 if after_turn else weight)


# ---------------------------------------------------------------------------- trying a template
def _check_system(template: sandbox.Template, names: Mapping[str, str]) -> None:
    """Refuses a template that refuses a system prompt, or leaves it out."""
    contents = [("system", "s0"), ("user", "q1"), ("assistant", "a1")]
    messages = [{"role": role, "content": text} for role, text in contents]
    try:
        why = "" if "s0" in template.render(messages, False, names) else "it leaves it out"
    except ValueError as e:
        why = str(e)
    if why:
        raise ValueError(
            f"the chat template takes no system prompt ({why}); leave `system` of the dataset "
            "empty and conversations without one, or name another template"
        )


def _check_answers(write: Format) -> None:
    """Refuses a format by which something other than an answer and its end would be learnt."""
    contents = [("user", "q1"), ("assistant", "a1"), ("user", "q2"), ("assistant", "a2")]
    parts = write([Turn(role, text, float(text == "a2")) for role, text in contents])
    learnt = [n for n, text_part in enumerate(parts) if text_part.trained]
    got = "".join(parts[n].text for n in learnt if not parts[n].control)
    if not got.rstrip().endswith("a2") or {"q1", "q2", "a1"} & {*got.split()}:
        raise ValueError(
            f"of the answer 'a2' the chat template makes {got!r}, so what is learnt would be "
            f"wrong; {AROUND}"
        )
    if any(text_part.control for text_part in parts[learnt[-1] + 1 : learnt[-1] + 2]):
        raise ValueError(
            f"the chat template leaves {parts[learnt[-1] + 1].text!r}, the end of a turn, out of "
            f"what is learnt, and the model would never stop; {AROUND}"
        )
