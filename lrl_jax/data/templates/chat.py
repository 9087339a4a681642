"""Chat formats: the turns of a conversation as parts, of which the assistant's are learnt.

    FORMATS["llama3_chat"]([Turn("user", "Hi"), Turn("assistant", "Hello", weight=1)])

What a format writes is what `transformers` renders for models of that kind, but control tokens
are ids of their own: a literal <|eot_id|> in a message stays text. A format leaves out the bos a
conversation begins with, for every document begins with it already.
"""

from collections.abc import Callable, Sequence
import dataclasses
import itertools
import json

from lrl_jax.data.templates.parts import Record, TextPart, joined
from lrl_jax.data.templates.translation import FIXED, request


@dataclasses.dataclass(frozen=True)
class Turn:
    """What one side says; `weight` is that of an answer in the loss."""

    role: str
    content: str
    weight: float = 0


Format = Callable[[Sequence[Turn]], list[TextPart]]


# ---------------------------------------------------------------------------- turns
def turns(record: Record, system: str = "", learn: str = "answers") -> list[Turn]:
    """The turns of a conversation, or of any record that asks and answers.

    Args:
      record: {messages} as JSON, or the fields of instructions, completions, pairs or tasks.
      system: what the system says where the conversation does not begin with it.
      learn: `answers`, or `last_answer`.

    Raises:
      ValueError: messages that are no conversation.
    """
    said = _said(record)
    if system and said[0][0] != "system":
        said = [("system", system), *said]
    answers = [i for i, (role, _) in enumerate(said) if role == "assistant"]
    learnt = answers[-1:] if learn == "last_answer" else answers
    return [Turn(role, text, float(i in learnt)) for i, (role, text) in enumerate(said)]


def _said(record: Record) -> list[tuple[str, str]]:
    if "messages" in record:
        return _messages(record["messages"])
    if "instruction" in record:
        asked = [record["instruction"], record.get("input", "")]
        question, answer = "\n\n".join(filter(None, asked)), record["output"]
    elif "source" in record:
        question, answer = f"{request(record, FIXED)}\n{record['source']}", record["target"]
    elif "prompt" in record:
        question, answer = record["prompt"], record["completion"]
    else:
        question, answer = record["inputs"], record["targets"]
    return [("user", question), ("assistant", answer)]


def _messages(data: str) -> list[tuple[str, str]]:
    found = json.loads(data)
    try:
        said = [(one["role"], one["content"]) for one in found]
    except (KeyError, TypeError):
        raise ValueError(f"want turns of role and content; got {data[:80]!r}") from None
    if not said or not all(isinstance(text, str) for _, text in said):
        raise ValueError(f"want turns of role and content, both text; got {data[:80]!r}")
    return said


def _system(turns: Sequence[Turn]) -> tuple[str | None, Sequence[Turn]]:
    if turns and turns[0].role == "system":
        return turns[0].content, turns[1:]
    return None, turns


def _by_turns(name: str, turns: Sequence[Turn]) -> None:
    roles = [turn.role for turn in turns]
    want = [*itertools.islice(itertools.cycle(("user", "assistant")), len(roles))]
    if roles != want or not roles:
        raise ValueError(
            f"{name} wants user and assistant by turns, after a system prompt or none; "
            f"got {', '.join(roles) or 'no turn'}"
        )


def _control(name: str, weight: float = 0) -> TextPart:
    return TextPart(name, weight, control=True)


# ---------------------------------------------------------------------------- formats
def llama2(turns: Sequence[Turn]) -> list[TextPart]:
    """[INST] <<SYS>>..<</SYS>> user [/INST] answer </s><s>[INST] .., as Llama 2 was trained."""
    system, said = _system(turns)
    _by_turns("llama2_chat", said)
    parts: list[TextPart] = []
    for number, turn in enumerate(said):
        if turn.role == "assistant":
            parts += [
                TextPart(f" {turn.content.strip()} ", turn.weight),
                _control("</s>", turn.weight),
            ]
            continue
        content = turn.content
        if number:
            parts.append(_control("<s>"))
        elif system is not None:
            content = f"<<SYS>>\n{system}\n<</SYS>>\n\n{content}"
        parts.append(TextPart(f"[INST] {content.strip()} [/INST]", 0))
    return parts


def llama3(turns: Sequence[Turn]) -> list[TextPart]:
    """<|start_header_id|>role<|end_header_id|>, two newlines, content<|eot_id|>, as Llama 3."""
    _by_turns("llama3_chat", _system(turns)[1])
    parts: list[TextPart] = []
    for turn in turns:
        parts += [_control("<|start_header_id|>"), TextPart(turn.role, 0)]
        parts += [_control("<|end_header_id|>"), TextPart("\n\n", 0)]
        parts += [TextPart(turn.content.strip(), turn.weight), _control("<|eot_id|>", turn.weight)]
    return joined(parts)


def chatml(turns: Sequence[Turn]) -> list[TextPart]:
    """<|im_start|>role, newline, content<|im_end|>, newline: Qwen's and many others'."""
    _by_turns("chatml", _system(turns)[1])
    parts: list[TextPart] = []
    for turn in turns:
        parts += [_control("<|im_start|>"), TextPart(f"{turn.role}\n", 0)]
        parts += [TextPart(turn.content, turn.weight), _control("<|im_end|>", turn.weight)]
        parts.append(TextPart("\n", 0))
    return joined(parts)


def guanaco(turns: Sequence[Turn]) -> list[TextPart]:
    """### Human: user### Assistant: answer, as the data of Guanaco (arXiv 2305.14314).

    It has no token for the end of a turn: only the last answer of a conversation ends, with eos.
    """
    system, said = _system(turns)
    _by_turns("guanaco", said)
    parts = [TextPart(f"{system}\n", 0)] if system else []
    for turn in said:
        if turn.role == "user":
            parts.append(TextPart(f"### Human: {turn.content}### Assistant:", 0))
        else:
            parts.append(TextPart(f" {turn.content}", turn.weight))
    return joined(parts)


FORMATS: dict[str, Format] = {
    "llama2_chat": llama2,
    "llama3_chat": llama3,
    "chatml": chatml,
    "guanaco": guanaco,
}
