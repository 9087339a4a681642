"""Finds the files of the test texts that `data.decontaminate` names.

decontaminate: [evaluate]                            all that the recipe measures
decontaminate: [kor_Hang, translation.eng_kor]       entries of `evaluate`
decontaminate: [kobest, ./my_task.yaml]              tasks: the files with their questions
decontaminate: ["flores/*.devtest", xquad.hi.json]   files
"""

from collections.abc import Iterator, Mapping, Sequence

from lrl_jax.recipe.evaluate import Evaluate, Evaluation, test_files_of
from lrl_jax.recipe.schema import Recipe
from lrl_jax.recipe.vocab import did_you_mean

ALL = "evaluate"
TASK_FILES = (".yaml", ".yml")
PATH_MARKS = "/.:*?["  # a name with one of these is a file


def resolved(recipe: Recipe) -> Recipe:
    """Returns a recipe whose `data.decontaminate` has files in place of names.

    Raises:
      ValueError: a name that is no entry of `evaluate` and no path; says the nearest.
    """
    data = recipe.data
    files = [uri for name in data.decontaminate for uri in _files(name, recipe.evaluate)]
    unique = tuple(dict.fromkeys(files))
    if unique == data.decontaminate:
        return recipe
    return recipe.model_copy(update={"data": data.model_copy(update={"decontaminate": unique})})


def _files(name: str, evaluate: Evaluate) -> Iterator[str]:
    named = _entries(evaluate)
    if name == ALL:
        if not named:
            raise ValueError(
                "data.decontaminate: evaluate is empty, so no text is compared; name files"
            )
        for entry in named:
            yield from _texts(entry, named, evaluate)
    elif name in named:
        yield from _texts(name, named, evaluate)
    elif name.endswith(TASK_FILES):
        yield from map(_as_path, test_files_of(name, evaluate))
    elif name.partition(".")[0] not in evaluate.kinds() and set(name) & set(PATH_MARKS):
        yield name
    elif files := test_files_of(name, evaluate):
        yield from map(_as_path, files)
    else:
        have = ", ".join(entry for entry in named if "." not in entry) or "none"
        raise ValueError(
            f"data.decontaminate: {name!r} is no entry of evaluate (there are {have}), no task "
            f"and no file; a file in this folder is ./{name}{did_you_mean(name, [*named, ALL])}"
        )


def _entries(evaluate: Evaluate) -> dict[str, list[Evaluation | str]]:
    """Returns the entries that are meant by a name, or by KIND.NAME."""
    named: dict[str, list[Evaluation | str]] = {}
    for kind, entries in evaluate.kinds().items():
        for name, entry in entries.items():
            named[f"{kind}.{name}"] = [entry]
            named[name] = [*named.get(name, []), entry]
    return named


def _texts(
    name: str, named: Mapping[str, Sequence[Evaluation | str]], evaluate: Evaluate
) -> Iterator[str]:
    """Yields the files with the texts of the entries that a name means."""
    for entry in named[name]:
        files = [entry] if isinstance(entry, str) else entry.test_files(evaluate)
        if not files:
            raise ValueError(
                f"data.decontaminate: evaluate names no file for {name!r}, so its texts cannot be "
                "compared; name the files themselves"
            )
        yield from map(_as_path, files)


def _as_path(uri: str) -> str:
    """Returns a path that is no name of an entry, when a recipe that was written is read again."""
    return uri if set(uri) & set(PATH_MARKS) else f"./{uri}"
