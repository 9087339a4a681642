"""Reads conversations of every published shape into a single shape: a list of {role, content}.

turns(["Hi", "Hello"])    [{"role": "user", "content": "Hi"}, {"role": "assistant", ...}]
"""

import functools
import json
from typing import Any

from lrl_jax.data.read.columns import UnusableError

COLUMNS = ("messages", "conversations")  # of conversations, where a recipe names no column
ROLES = {
    "system": "system",
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "model": "assistant",
    "chatgpt": "assistant",
}  # fmt: skip
KEYS = (("role", "content"), ("from", "value"))

_unusable = functools.partial(UnusableError, reason="not a conversation")


def turns(value: Any) -> list[dict[str, str]]:
    """Returns the turns of a conversation: `messages`, ShareGPT's `conversations`, LIMA's strings.

    A system turn may come first; then user and assistant alternate, and the assistant is last.
    Raises UnusableError for any other shape or order.
    """
    said = [_turn(turn, number) for number, turn in enumerate(_listed(value))]
    roles = [turn["role"] for turn in said]
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    if not spoken or spoken != ["user", "assistant"] * (len(spoken) // 2):
        raise _unusable(
            f"turns are by {', '.join(roles) or 'no one'}; want user and assistant by turns, "
            "after at most one system turn, and the assistant last"
        )
    return said


def _listed(value: Any) -> list:
    """Returns the turns as a list, from a list, JSON text or columns of turns."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as e:
            raise _unusable(f"not JSON ({e}); got {value[:60]!r}") from None
    if isinstance(value, dict):  # {"role": [...], "content": [...]}, as TFDS and Arrow have it
        columns = [column for column in value.values() if isinstance(column, list)]
        if len({len(column) for column in columns}) == 1 and len(columns) == len(value):
            value = [dict(zip(value, turn, strict=True)) for turn in zip(*columns, strict=True)]
    if not isinstance(value, list):
        raise _unusable(f"want a list of turns; got {str(value)[:60]!r}")
    return value


def _turn(turn: Any, number: int) -> dict[str, str]:
    if isinstance(turn, str):
        return {"role": ("user", "assistant")[number % 2], "content": turn}
    for role, content in KEYS:
        if isinstance(turn, dict) and role in turn and content in turn:
            name = ROLES.get(str(turn[role]).lower(), "")
            if not name:
                roles = ", ".join(ROLES)
                raise _unusable(f"turn {number + 1} is by {turn[role]!r}; want one of {roles}")
            return {"role": name, "content": _content(turn[content], number)}
    raise _unusable(
        f"turn {number + 1}: want role and content, or from and value; got {str(turn)[:60]!r}"
    )


def _content(value: Any, number: int) -> str:
    """Returns the text of a turn, which is a string or a list of items that are all text."""
    if isinstance(value, list) and all(
        isinstance(item, dict) and item.get("type") == "text" for item in value
    ):
        value = "".join(str(item.get("text", "")) for item in value)
    if not isinstance(value, str):
        raise _unusable(f"turn {number + 1} is no text; got {str(value)[:60]!r}")
    return value
