"""Chat formats: write the turns of a conversation as text parts, of which answers are learnt.

    FORMATS["llama3_chat"]([Turn("user", "Hi"), Turn("assistant", "Hello", weight=1)])

A format writes what `transformers` renders for models of that kind, except that control tokens
have ids of their own: a literal <|eot_id|> in a message stays text. A format leaves out the bos at
the start of a conversation, because every document begins with it already.

Records that are no conversations become one question and its answer: EXCHANGES says how, one row
for each field by which such records are recognised.
"""

from collections.abc import Callable, Sequence
import dataclasses
import json

from lrl_jax.data.templates.parts import Record, TextPart, joined
from lrl_jax.data.templates.translation import FIXED, request


@dataclasses.dataclass(frozen=True)
class Turn:
    """Holds what one side says: `system`, `user` or `assistant`.

    `weight` is that of the message in the loss; 0 for what is only read.
    """

    role: str
    content: str
    weight: float = 0


Format = Callable[[Sequence[Turn]], list[TextPart]]
Exchange = Callable[[Record], tuple[str, str]]  # a record's question and answer
Message = tuple[str, str, float]  # role, content and weight if it is an answer


# ---------------------------------------------------------------------------- turns
def _instruction(record: Record) -> tuple[str, str]:
    texts = [record["instruction"], record.get("input", "")]
    return "\n\n".join(filter(None, texts)), record["output"]


def _translation(record: Record) -> tuple[str, str]:
    return f"{request(record, FIXED)}\n{record['source']}", record["target"]


# The first of these fields that a record has decides.
EXCHANGES: dict[str, Exchange] = {
    "instruction": _instruction,
    "source": _translation,
    "prompt": lambda record: (record["prompt"], record["completion"]),
    "inputs": lambda record: (record["inputs"], record["targets"]),
}


def turns(record: Record, system: str = "", learn: str = "answers") -> list[Turn]:
    """Returns the turns of a conversation, or of any record with a question and an answer.

    Args:
      record: {messages} as JSON, or the fields of instructions, completions, pairs or tasks. A
        message may have a `weight`; 0 is that of an answer which is not learnt.
      system: the system prompt of conversations that do not begin with one.
      learn: `answers`, or `last_answer`.

    Raises:
      ValueError: messages that are no conversation, or a record with no field of EXCHANGES.
    """
    messages = _messages(record)
    if system and messages[0][0] != "system":
        messages = [("system", system, 1.0), *messages]
    answers = [i for i, (role, _, _) in enumerate(messages) if role == "assistant"]
    learnt = answers[-1:] if learn == "last_answer" else answers
    return [
        Turn(role, text, weight if i in learnt else 0.0)
        for i, (role, text, weight) in enumerate(messages)
    ]


def _messages(record: Record) -> list[Message]:
    """Returns the messages of a record: its own, or its question and answer."""
    if "messages" in record:
        return _parsed(record["messages"])
    field = next((field for field in EXCHANGES if field in record), None)
    if field is None:
        raise ValueError(
            f"a chat template needs a record with messages, {', '.join(EXCHANGES)}; "
            f"the record has {', '.join(record) or 'none'}"
        )
    question, answer = EXCHANGES[field](record)
    return [("user", question, 1.0), ("assistant", answer, 1.0)]


def _parsed(data: str) -> list[Message]:
    tree = json.loads(data)
    try:
        messages = [(m["role"], m["content"], float(m.get("weight", 1))) for m in tree]
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f"want turns of role and content; got {data[:80]!r}") from None
    if not messages or not all(isinstance(text, str) for _, text, _ in messages):
        raise ValueError(f"want turns of role and content, both text; got {data[:80]!r}")
    return messages


def _split_system(name: str, turns: Sequence[Turn]) -> tuple[str | None, Sequence[Turn]]:
    """Returns the system prompt, None if there is none, and the turns after it.

    Refuses those that are not user, assistant, user and so on; `name` is the format's.
    """
    system = turns[0].content if turns and turns[0].role == "system" else None
    dialogue = turns if system is None else turns[1:]
    roles = [turn.role for turn in dialogue]
    if not roles or roles != (["user", "assistant"] * len(roles))[: len(roles)]:
        raise ValueError(
            f"{name} wants user and assistant by turns, after a system prompt or none; "
            f"got {', '.join(roles) or 'no turn'}"
        )
    return system, dialogue


def _control(name: str, weight: float = 0) -> TextPart:
    return TextPart(name, weight, control=True)


# ---------------------------------------------------------------------------- formats
def llama2(turns: Sequence[Turn]) -> list[TextPart]:
    """Writes Llama 2's format: [INST] <<SYS>>..<</SYS>> user [/INST] answer </s><s>[INST] .."""
    system, dialogue = _split_system("llama2_chat", turns)
    parts: list[TextPart] = []
    for number, turn in enumerate(dialogue):
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
    """Writes Llama 3's format.

    That is <|start_header_id|>role<|end_header_id|>, two newlines, content<|eot_id|> for each turn.
    """
    _split_system("llama3_chat", turns)  # refuses turns out of order
    parts: list[TextPart] = []
    for turn in turns:
        parts += [_control("<|start_header_id|>"), TextPart(turn.role, 0)]
        parts += [_control("<|end_header_id|>"), TextPart("\n\n", 0)]
        parts += [TextPart(turn.content.strip(), turn.weight), _control("<|eot_id|>", turn.weight)]
    return joined(parts)


def chatml(turns: Sequence[Turn]) -> list[TextPart]:
    """Writes ChatML, the format of Qwen and many others.

    That is <|im_start|>role, newline, content<|im_end|>, newline for each turn.
    """
    _split_system("chatml", turns)  # refuses turns out of order
    parts: list[TextPart] = []
    for turn in turns:
        parts += [_control("<|im_start|>"), TextPart(f"{turn.role}\n", 0)]
        parts += [TextPart(turn.content, turn.weight), _control("<|im_end|>", turn.weight)]
        parts.append(TextPart("\n", 0))
    return joined(parts)


def guanaco(turns: Sequence[Turn]) -> list[TextPart]:
    """Writes ### Human: user### Assistant: answer, as Guanaco's data has it (arXiv 2305.14314).

    The format has no token for the end of a turn: only the last answer of a conversation is
    followed by one, which is eos.
    """
    system, dialogue = _split_system("guanaco", turns)
    parts = [TextPart(f"{system}\n", 0)] if system else []
    for turn in dialogue:
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
