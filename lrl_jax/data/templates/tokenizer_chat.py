"""The chat format of a tokenizer's own Jinja template.

    write = own(tokenizer)
    write([Turn("user", "Hi"), Turn("assistant", "Hello", weight=1)])

Messages are guarded before they are rendered, so that a control token in the rendering is one the
template wrote; there it is cut out as an id. What is learnt is what the template encloses in
{% generation %}, or else what an answer adds to the rendering of the turns before it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import dataclasses
import functools
import itertools
import json
import re

from lrl_jax.data.templates import renderer, sandbox
from lrl_jax.data.templates.chat import FORMATS, Format, Turn
from lrl_jax.data.templates.parts import TextPart, joined
from lrl_jax.vocab.tokenizer.types import CONFIG, Tokenizer

JINJA = "chat_template.jinja"
GUARD = "\ufdd0"  # inside of control tokens that messages spell out, while a template is at work
MARKS = GUARD + renderer.OPEN + renderer.CLOSE
SPARE = "".join(map(chr, range(0xFDD3, 0xFDF0)))  # noncharacters too: no text should have them
GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
AROUND = "put {% generation %} and {% endgeneration %} around each answer and its end of turn in "
AROUND += JINJA


@dataclasses.dataclass(frozen=True)
class Controls:
    """Control tokens as they would stand in text.

    Attributes:
      whole: finds them, the longest first.
      heads: what they begin with, of every length.
    """

    whole: re.Pattern[str]
    heads: frozenset[str]


def own(tokenizer: Tokenizer) -> Format:
    """The format of the tokenizer's own chat template.

    Raises:
      ValueError: it has none, or one that is refused or does not show where answers begin and end;
        so does the format, for a conversation the template does not take.
    """
    source = template(tokenizer)
    rendering = sandbox.compiled(source)
    names, controls = _named(tokenizer), _controls(tokenizer)
    spans = _marked if GENERATION.search(source) else _added

    def write(turns: Sequence[Turn]) -> list[TextPart]:
        if turns[0].role == "system":
            takes_system()
        there, back = _moved(turns)
        messages = [_guarded(turn, there, controls) for turn in turns]

        def rendered(wanted: Sequence[sandbox.Prefix]) -> list[str]:
            return rendering.prefixes(messages, wanted, names)

        whole, learnt = spans(rendered, turns)
        parts = [*_cut(whole, learnt, controls, back)]
        return parts[1:] if _is_bos(parts[0], tokenizer) else parts

    @functools.cache
    def takes_system() -> None:
        _takes_system(rendering, names)

    _shows_answers(write)
    return write


def template(tokenizer: Tokenizer) -> str:
    """The source of the tokenizer's chat template: a file of its own, or in its config.

    Raises:
      ValueError: it has none.
    """
    if JINJA in tokenizer.files:
        return tokenizer.files[JINJA].decode()
    found = _config(tokenizer).get("chat_template")
    if isinstance(found, list):  # several by name
        by_name = {one.get("name"): one.get("template") for one in found if isinstance(one, dict)}
        found = by_name.get("default")
    if not isinstance(found, str):
        raise ValueError(
            f"the tokenizer has no chat template; put its {JINJA} beside its files, or set the "
            f"template of the dataset to one of {', '.join(FORMATS)}"
        )
    return found


def _config(tokenizer: Tokenizer) -> dict:
    found = json.loads(tokenizer.files.get(CONFIG, b"{}"))
    return found if isinstance(found, dict) else {}


def _named(tokenizer: Tokenizer) -> dict[str, str]:
    """bos_token, eos_token and so on, as templates call them."""
    by_id = {i: name for name, i in tokenizer.controls.items()}
    config = _config(tokenizer)
    named = {
        key: value.get("content", "") if isinstance(value, dict) else value
        for key, value in config.items()
        if key.endswith("_token") and isinstance(value, str | dict)
    }
    ends = {"eos_token": tokenizer.eos_id}
    if "bos_token" not in config:  # null says that there is none
        ends["bos_token"] = tokenizer.bos_id
    return {key: by_id[i] for key, i in ends.items() if i in by_id} | named


def _controls(tokenizer: Tokenizer) -> Controls:
    """Those that text never becomes by itself."""
    names = [*tokenizer.controls]
    ids = tokenizer.encode_batch(names)
    never = [name for name, own in zip(names, ids, strict=True) if own != [tokenizer.control(name)]]
    either = "|".join(map(re.escape, sorted(never, key=len, reverse=True)))
    heads = frozenset(name[:n] for name in never for n in range(1, len(name)))
    return Controls(re.compile(either or "(?!)"), heads)


def _is_bos(part: TextPart, tokenizer: Tokenizer) -> bool:
    return part.control and tokenizer.control(part.text) == tokenizer.bos_id


# ---------------------------------------------------------------------------- guarding messages
def _moved(turns: Iterable[Turn]) -> tuple[Mapping[int, str], Mapping[int, str | None]]:
    """Tables for str.translate: our marks in messages to other characters, and back."""
    text = "".join(turn.content for turn in turns)
    used = [mark for mark in MARKS if mark in text]
    free = [char for char in SPARE if char not in text] if used else []
    if len(free) < len(used):
        raise ValueError("a message holds every Unicode noncharacter; leave it out")
    back: dict[int, str | None] = {ord(mark): None for mark in MARKS}
    moved = list(zip(used, free, strict=False))
    return {ord(a): b for a, b in moved}, back | {ord(b): a for a, b in moved}


def _guarded(turn: Turn, there: Mapping[int, str], controls: Controls) -> dict[str, str]:
    """A message in which no control token stands, nor begins at its end."""
    text = turn.content.translate(there)
    text = controls.whole.sub(lambda found: found[0][0] + GUARD + found[0][1:], text)
    end = len(text.rstrip())
    longest = max(map(len, controls.heads), default=0)
    if any(text[end - n : end] in controls.heads for n in range(1, min(longest, end) + 1)):
        text = text[:end] + GUARD + text[end:]
    return {"role": turn.role, "content": text}


# ---------------------------------------------------------------------------- what is learnt
Rendered = Callable[[Sequence[sandbox.Prefix]], list[str]]
Spans = list[tuple[int, int, float]]  # from, to, weight


def _marked(rendered: Rendered, turns: Sequence[Turn]) -> tuple[str, Spans]:
    """What {% generation %} encloses."""
    weights = [turn.weight for turn in turns if turn.role == "assistant"]
    pieces = re.split(f"[{renderer.OPEN}{renderer.CLOSE}]", rendered([(len(turns), False)])[0])
    if len(pieces) != 2 * len(weights) + 1:
        raise ValueError(
            f"the chat template has {len(pieces) // 2} {{% generation %}} blocks for "
            f"{len(weights)} answers; {AROUND}"
        )
    ends = [0, *itertools.accumulate(map(len, pieces))]
    spans = [(ends[2 * n + 1], ends[2 * n + 2], weight) for n, weight in enumerate(weights)]
    return "".join(pieces), spans


def _added(rendered: Rendered, turns: Sequence[Turn]) -> tuple[str, Spans]:
    """What each answer adds to what stands before it."""
    end = (len(turns), False)
    learnt = [number for number, turn in enumerate(turns) if turn.weight]
    wanted = [*dict.fromkeys((end, *(p for n in learnt for p in ((n, True), (n + 1, False)))))]
    texts = dict(zip(wanted, rendered(wanted), strict=True))
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
    whole: str, spans: Spans, controls: Controls, back: Mapping[int, str | None]
) -> Iterator[TextPart]:
    """The rendering as parts: cut where weights change, and at control tokens."""
    ends = [0, *itertools.chain.from_iterable((a, b) for a, b, _ in spans), len(whole)]
    weights = [0.0, *itertools.chain.from_iterable((weight, 0.0) for _, _, weight in spans)]
    parts: list[TextPart] = []
    for (start, end), weight in zip(itertools.pairwise(ends), weights, strict=True):
        parts += _texts_and_controls(whole[start:end], weight, controls, back)
    yield from joined(parts)


def _texts_and_controls(
    text: str, weight: float, controls: Controls, back: Mapping[int, str | None]
) -> Iterator[TextPart]:
    at = 0
    for found in controls.whole.finditer(text):
        if found.start() > at:
            yield TextPart(text[at : found.start()].translate(back), weight)
        yield TextPart(found[0], weight, control=True)
        at = found.end()
    if at < len(text):  # space after the end of a turn is not learnt
        after = at > 0 and text[at:].isspace()
        yield TextPart(text[at:].translate(back), 0 if after else weight)


# ---------------------------------------------------------------------------- trying a template
def _takes_system(template: sandbox.Template, names: Mapping[str, str]) -> None:
    said = [("system", "s0"), ("user", "q1"), ("assistant", "a1")]
    messages = [{"role": role, "content": text} for role, text in said]
    try:
        why = "" if "s0" in template.render(messages, False, names) else "it leaves it out"
    except ValueError as e:
        why = str(e)
    if why:
        raise ValueError(
            f"the chat template takes no system prompt ({why}); leave `system` of the dataset "
            "empty and conversations without one, or name another template"
        )


def _shows_answers(write: Format) -> None:
    """Tries a format on a conversation of two answers.

    Raises:
      ValueError: something else than an answer and its end would be learnt.
    """
    said = [("user", "q1"), ("assistant", "a1"), ("user", "q2"), ("assistant", "a2")]
    parts = write([Turn(role, text, float(text == "a2")) for role, text in said])
    learnt = [n for n, part in enumerate(parts) if part.trained]
    got = "".join(parts[n].text for n in learnt if not parts[n].control)
    if not got.rstrip().endswith("a2") or {"q1", "q2", "a1"} & {*got.split()}:
        raise ValueError(
            f"of the answer 'a2' the chat template makes {got!r}, so what is learnt would be "
            f"wrong; {AROUND}"
        )
    if any(part.control for part in parts[learnt[-1] + 1 : learnt[-1] + 2]):
        raise ValueError(
            f"the chat template leaves {parts[learnt[-1] + 1].text!r}, the end of a turn, out of "
            f"what is learnt, and the model would never stop; {AROUND}"
        )
