"""Finds the benchmark task that asks in one language what another asks in a second one."""

from collections.abc import Sequence
import functools

from lrl_jax.evaluate import task_files
from lrl_jax.evaluate.task_files import BenchmarkTask


def concerns(name: str, code: str) -> bool:
    """Tells whether a task or group that ships is in a language, translation from it included."""
    return any(code in _languages(task) for task in _of(name))


def in_language(name: str, old: str, new: str) -> str:
    """Returns the task of the same family in another language; "" where there is none."""
    members = _of(name)
    if len(members) != 1:
        return ""
    (task,) = members
    wanted = [new if code == old else code for code in _languages(task)]
    same = [
        other.name
        for other in _shipped()
        if other.settings.groups[-1:] == task.settings.groups[-1:] and _languages(other) == wanted
    ]
    return same[0] if len(same) == 1 and task.settings.groups else ""


def of_language(code: str) -> tuple[str, ...]:
    """Returns the names of the tasks in a language that ship."""
    return tuple(task.name for task in _shipped() if code in _languages(task))


@functools.cache
def _shipped() -> Sequence[BenchmarkTask]:
    return task_files.shipped()


def _of(name: str) -> list[BenchmarkTask]:
    """Returns the tasks of a name or a group; none where only lm-evaluation-harness may know it."""
    return [task for task in _shipped() if name == task.name or name in task.settings.groups]


def _languages(task: BenchmarkTask) -> list[str]:
    facts = task.facts
    return [facts.language, facts.source_language or ""]
