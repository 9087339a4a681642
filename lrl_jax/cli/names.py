"""Names places in tables by as much of their paths as tells them apart."""

from collections import Counter
from collections.abc import Collection, Sequence

from etils import epath


def apart(paths: Sequence[str], plain: Collection[str], what: str) -> dict[str, str]:
    """Returns the places by name; two that are one place are a ValueError.

    >>> apart(["x/base", "y/base", "runs/ko/vocab"], ["vocab"], "tokenizer")
    {'x/base': 'x/base', 'y/base': 'y/base', 'ko': 'runs/ko/vocab'}

    Args:
      plain: names of files and folders that tell nothing.
      what: what an error calls one of them.
    """
    resolved = [str(epath.Path(path).resolve()) for path in paths]
    if twice := [path for path, n in Counter(resolved).items() if n > 1]:
        raise ValueError(f"{twice[0]}: given twice; name each {what} once")
    parts = [epath.Path(path).parts for path in resolved]
    short = [(*p[:-1],) if p[-1] in plain and len(p) > 1 else p for p in parts]
    if len(set(short)) < len(short):  # a folder, and its file of that name
        short = parts
    shown = {}
    for path, own in zip(paths, short, strict=True):
        lengths = range(1, len(own) + 1)
        alike = [other for other in short if other != own]
        n = next((n for n in lengths if all(own[-n:] != o[-n:] for o in alike)), len(own))
        shown["/".join(own[-n:])] = path
    return shown
