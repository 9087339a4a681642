"""Compares what a user gets from this working tree with what BASE gives.

    scripts/same_as.sh BASE                                # a revision, or the path of a checkout
    scripts/same_as.sh main --only refusals,lowered        # some of the checks
    scripts/same_as.sh main --expect refusals --keep DIR   # texts were reworded; leave all in DIR

One line a check: equal, DIFFERENT with the first difference, or expected where the difference was
asked for. Exit codes: 0 nothing differs but what was expected, 1 something does, 2 a wrong command
line. Both sides run by turns on the CPU, in some ten minutes on two cores, and share nothing but
the interpreter and its libraries.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
from pathlib import Path
import sys
import tempfile

from scripts.same_as import makers, readers, trees
from scripts.same_as.compare import Result, first_difference
from scripts.same_as.trees import Side, SideFailedError


@dataclasses.dataclass(frozen=True)
class Check:
    """Describes one comparison.

    Attributes:
      makers: what has to be made first, in this order.
      read: gives what is compared, of a folder.
      what: the kind of thing that is counted.
      below: the folder that is read, below that of each side.
      resumed: BASE is compared with the resumed run, not with a run made here.
    """

    makers: tuple[Callable[[Side, Side, Path], None], ...]
    read: Callable[[Path], readers.Table]
    what: str
    below: str = ""
    resumed: bool = False


RUN = (makers.quickstart,)
CHECKS = {
    "losses": Check(RUN, readers.losses, "steps of quickstart, every bit"),
    "rows": Check(RUN, readers.rows, "files of packed rows and their manifests, every byte"),
    "tokenizers": Check(RUN, readers.tokenizers, "files of tokenizers, every byte"),
    "checkpoints": Check(RUN, readers.checkpoints, "digests of the leaves of checkpoints"),
    "tensors": Check(RUN, readers.tensors, "types and contents of exported tensors"),
    "evaluation": Check(RUN, readers.evaluation, "results of evaluations (facts are left out)"),
    "refusals": Check(
        (makers.refusals,), readers.texts, "exit codes and messages on bad inputs", "refusals"
    ),
    "lowered": Check((makers.lowered,), readers.texts, "lowered steps of all recipes", "lowered"),
    "resume": Check(
        (*RUN, makers.resumption),
        readers.resumed,
        "losses, digests and tensors of a run that BASE began",
        resumed=True,
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Compares; returns the exit code."""
    options = _options(arguments)
    with _folder(options.keep) as folder:
        try:
            base, work = _sides(options.base, options.python, folder)
        except ValueError as e:
            print(f"same_as: {e}", file=sys.stderr)
            return 2
        failed = False
        for result in results(options.only, options.expect, base, work, folder / "resumed"):
            print(result.line(), flush=True)
            failed |= result.failed
    return int(failed)


def results(
    only: Sequence[str], expect: Sequence[str], base: Side, work: Side, resumed: Path
) -> Iterator[Result]:
    """Makes what the checks need and compares it; a check's result comes as soon as it is known."""
    made: dict[Callable, str] = {}  # maker -> what went wrong
    for name in only:
        check = CHECKS[name]
        for maker in check.makers:
            if maker not in made:
                print(f"same_as: {maker.__name__} of {base.name} and here", file=sys.stderr)
                made[maker] = _attempt(maker, base, work, resumed)
        problem = next((made[maker] for maker in check.makers if made[maker]), "")
        yield outcome(name, check, problem, base, work, resumed, name in expect)


def outcome(
    name: str, check: Check, problem: str, base: Side, work: Side, resumed: Path, expected: bool
) -> Result:
    """Returns what a check says; a side that could not make what is compared is a difference."""
    if problem:
        return Result(name, "", problem, expected)
    of_base = check.read(base.folder / check.below)
    of_work = check.read(resumed if check.resumed else work.folder / check.below)
    difference = first_difference(of_base, of_work)
    return Result(name, f"{len(of_base):,} {check.what}", difference, expected)


def _attempt(maker: Callable[[Side, Side, Path], None], *where: object) -> str:
    """Makes, and returns what went wrong."""
    try:
        maker(*where)
    except SideFailedError as e:
        return str(e)
    return ""


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    head, _, text = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="same_as", description=head, epilog=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("base", metavar="BASE", help="a revision, or the path of a checkout")
    parser.add_argument(
        "--only", type=_names, default=tuple(CHECKS), metavar="NAME[,NAME]",
        help=f"checks to make, of {', '.join(CHECKS)}",
    )  # fmt: skip
    parser.add_argument(
        "--expect", type=_names, default=(), metavar="NAME[,NAME]",
        help="checks that may differ, as the change was asked for",
    )  # fmt: skip
    parser.add_argument("--keep", default="", metavar="DIR", help="a new folder to leave all in")
    parser.add_argument("--python", default=sys.executable, help="the interpreter of both sides")
    return parser.parse_args(arguments)


def _names(text: str) -> tuple[str, ...]:
    """Returns the names in the order in which they are checked."""
    names = text.split(",")
    if unknown := [name for name in names if name not in CHECKS]:
        raise argparse.ArgumentTypeError(
            f"no check {', '.join(unknown)}; there are {', '.join(CHECKS)}"
        )
    return tuple(name for name in CHECKS if name in names)


@contextlib.contextmanager
def _folder(keep: str) -> Iterator[Path]:
    """Yields the folder to work in: one to keep, or one that is removed at the end."""
    if keep:
        folder = Path(keep).resolve()
        if folder.exists():
            raise SystemExit(f"same_as: --keep {keep}: exists already; name a new folder")
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="same_as-") as temporary:
        yield Path(temporary).resolve()


def _sides(base: str, python: str, folder: Path) -> tuple[Side, Side]:
    """Copies both checkouts below the folder."""
    sides = []
    for name, place, source in (("BASE", "base", base), ("here", "here", str(trees.ROOT))):
        side = Side(name, folder / place / "checkout", folder / place, python)
        trees.copy(source, side.checkout)
        sides.append(side)
    return sides[0], sides[1]


if __name__ == "__main__":
    sys.exit(main())
