"""Conversations in the shapes they are published, read as one: a list of {role, content}.

turns(["Hi", "Hello"])    [{"role": "user", "content": "Hi"}, {"role": "assistant", ...}]
"""

import json
from typing import Any

COLUMNS = ("messages", "conversations")  # where one lies, unless a recipe says
ROLES = {
    "system": "system",
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "model": "assistant",
    "chatgpt": "assistant",
}  # fmt: skip
KEYS = (("role", "content"), ("from", "value"))


class NotAConversationError(ValueError):
    """What was found is no conversation that could be learnt; the message says why."""


def turns(value: Any) -> list[dict[str, str]]:
    """The turns of a conversation: `messages`, ShareGPT's `conversations` or LIMA's strings.

    They begin with what the system or the user says, and alternate until an assistant ends them.

    Raises:
      NotAConversationError: they are of no known form, or in another order.
    """
    found = [_turn(one, number) for number, one in enumerate(_listed(value))]
    _check([turn["role"] for turn in found])
    return found


def _listed(value: Any) -> list:
    """The turns as a list, from JSON text or from columns of turns."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as e:
            raise NotAConversationError(f"not JSON ({e}); got {value[:60]!r}") from None
    if isinstance(value, dict):  # {"role": [...], "content": [...]}, as TFDS and Arrow have it
        columns = [column for column in value.values() if isinstance(column, list)]
        if len({len(column) for column in columns}) != 1 or len(columns) != len(value):
            raise NotAConversationError(f"want a list of turns; got {str(value)[:60]!r}")
        value = [dict(zip(value, one, strict=True)) for one in zip(*columns, strict=True)]
    if not isinstance(value, list):
        raise NotAConversationError(f"want a list of turns; got {str(value)[:60]!r}")
    return value


def _turn(one: Any, number: int) -> dict[str, str]:
    if isinstance(one, str):
        return {"role": ("user", "assistant")[number % 2], "content": one}
    for role, content in KEYS:
        if isinstance(one, dict) and role in one and content in one:
            name = ROLES.get(str(one[role]).lower(), "")
            if not name:
                raise NotAConversationError(
                    f"turn {number + 1} is by {one[role]!r}; want one of {', '.join(ROLES)}"
                )
            return {"role": name, "content": _content(one[content], number)}
    raise NotAConversationError(
        f"turn {number + 1}: want role and content, or from and value; got {str(one)[:60]!r}"
    )


def _content(value: Any, number: int) -> str:
    """Text, or a list of parts that are all text."""
    if isinstance(value, list) and all(
        isinstance(part, dict) and part.get("type") == "text" for part in value
    ):
        value = "".join(str(part.get("text", "")) for part in value)
    if not isinstance(value, str):
        raise NotAConversationError(f"turn {number + 1} is no text; got {str(value)[:60]!r}")
    return value


def _check(roles: list[str]) -> None:
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    if not spoken or spoken != ["user", "assistant"] * (len(spoken) // 2):
        raise NotAConversationError(
            f"turns are by {', '.join(roles) or 'no one'}; want user and assistant by turns, after "
            "the system or none, and the assistant last"
        )
