"""Declares arguments that several verbs of `lrl` share, and reads values of a kind for argparse."""

import argparse
from collections.abc import Callable
from typing import Any


def verb(
    verbs,
    name: str,
    what: str,
    module: str = "verbs",
    stoppable: bool = False,
    hidden: bool = False,
) -> argparse.ArgumentParser:
    """Adds a verb, and returns its parser.

    Args:
      name: of one word or more; the function of that name, with _ for spaces, runs it.
      module: where that function stands, below `lrl_jax.cli`.
      stoppable: whether SIGTERM ends it soon and in order (exit code 75).
      hidden: whether `lrl --help` leaves it out: programs call it.
    """
    listed = {} if hidden else {"help": what}
    verb = verbs.add_parser(name, description=what, **listed)
    verb.set_defaults(module=module, stoppable=stoppable)
    verb.add_argument("--debug", action="store_true", help="print the traceback of an error")
    return verb


def with_recipe(verb: argparse.ArgumentParser, optional: bool = False) -> argparse.ArgumentParser:
    """Adds the recipe, overrides of it, and `--import`."""
    what = "a recipe file, or the name of one that ships (quickstart)"
    if optional:
        verb.add_argument("recipe", help=what, nargs="?", default="")
    else:
        verb.add_argument("recipe", help=what)
    verb.add_argument(
        "--import", dest="imports", action="append", default=[], metavar="FILE",
        help="a Python file of yours that registers seqio Tasks; adds to data.imports",
    )  # fmt: skip
    verb.epilog = "Typed overrides may follow the recipe: train.batch_size=8"
    return verb


def with_processes(verb: argparse.ArgumentParser) -> None:
    """Adds where the other processes are."""
    group = verb.add_argument_group("several hosts (found by themselves on TPU pods)")
    group.add_argument("--coordinator", default="", help="host:port of process 0")
    group.add_argument("--processes", type=int, default=0, help="how many processes")
    group.add_argument("--process-id", type=int, default=0, help="which of them this is")


def with_address(group) -> None:
    """Adds where a Ray cluster is."""
    what = "head of the Ray cluster (default: the cluster that this machine belongs to)"
    group.add_argument("--address", default="", metavar="HOST:PORT", help=what)


def with_cluster(group) -> None:
    """Adds which Ray cluster runs jobs, and what each takes of it."""
    with_address(group)
    what = "what a job takes of the cluster: v5litepod-16, GPU, or a name given to machines"
    group.add_argument("--slice", default="", metavar="NAME", help=what)


class ByName(argparse.Action):
    """Gathers what is given as NAME=VALUE, again and again; refuses a name that comes twice."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Adds a name with its value, for argparse."""
        name, value = values
        values_by_name = getattr(namespace, self.dest)
        if name in values_by_name:
            raise argparse.ArgumentError(self, f"{name} is given twice; leave one of them out")
        setattr(namespace, self.dest, {**values_by_name, name: value})


def whole(what: str, least: int) -> Callable[[str], int]:
    """Returns what reads a whole number of at least `least`, for argparse."""

    def number(argument: str) -> int:
        value = int(argument)
        if value < least:
            raise argparse.ArgumentTypeError(f"want a {what} of at least {least}; got {value}")
        return value

    number.__name__ = what  # what argparse calls a wrong one
    return number


def named(kind: type) -> Callable[[str], tuple[str, Any]]:
    """Returns what reads LANGUAGE=VALUE, for argparse."""

    def pair(argument: str) -> tuple[str, Any]:
        name, _, value = argument.partition("=")
        if not (name and value):
            raise ValueError(argument)
        return name, kind(value)

    pair.__name__ = f"LANGUAGE={kind.__name__}"  # what argparse calls a wrong one
    return pair


def counts(numbers: str) -> tuple[int, ...]:
    """Reads whole numbers with commas between them, for argparse."""
    return tuple(int(number) for number in numbers.split(","))


def numbers(listed: str) -> tuple[float, ...]:
    """Reads numbers with commas between them, for argparse."""
    return tuple(float(number) for number in listed.split(","))
