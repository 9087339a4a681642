"""Reads the files that fits of laws leave, and refuses those that are none of theirs."""

from typing import TypeVar

import pydantic

from lrl_jax import storage, text
from lrl_jax.recipe.vocab import Section

Content = TypeVar("Content", bound=Section)


def read(path: str, content: type[Content], name: str, made_by: str) -> Content:
    """Returns what a file says; DataError if it is absent or of another form.

    Args:
      content: what the file holds.
      name: what it is called where a fit writes it.
      made_by: the command that does.
    """
    try:
        return content.model_validate_json(storage.read_bytes(path, storage.JSON_BYTES))
    except FileNotFoundError:
        raise text.DataError(f"{path}: no such file; make it: {made_by}") from None
    except pydantic.ValidationError as e:
        first = e.errors()[0]
        where = ".".join(str(key) for key in first["loc"])
        raise text.DataError(f"{path}: is no {name}: {where} {first['msg']}") from None
