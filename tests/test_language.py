"""The code speaks plainly: docstrings open with a verb, names say what they hold."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
import re

ROOT = Path(__file__).parents[1] / "lrl_jax"
TREES = {path: ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py"))}
STAND_INS = {"found", "part", "one", "known", "mine", "held", "told", "kin"}
MOST_STAND_INS = 20  # where the word is the thing
LEAST_VERBS = 0.9

# What docstrings open with. A noun in the plural looks like a verb, so each verb is listed.
VERBS = {
    "Accepts", "Adapts", "Adds", "Adopts", "Allocates", "Answers", "Appends", "Applies", "Asks",
    "Assembles", "Averages", "Begins", "Binds", "Brings", "Builds", "Calls", "Caps", "Casts",
    "Changes", "Checks", "Chooses", "Claims", "Closes", "Collects", "Combines", "Compares",
    "Compiles", "Computes", "Constrains", "Continues", "Converts", "Copies", "Counts", "Cuts",
    "Decides", "Decodes", "Describes", "Divides", "Does", "Draws", "Drops", "Encodes", "Ends",
    "Estimates", "Evaluates", "Exports", "Extends", "Fails", "Fetches", "Fills", "Finds",
    "Fits", "Fixes", "Forgets", "Formats", "Freezes", "Gathers", "Generates", "Gives", "Groups",
    "Grows", "Guards", "Hands", "Hashes", "Holds", "Imports", "Initialises", "Initializes",
    "Inspects", "Iterates", "Joins", "Keeps", "Knows", "Lays", "Learns", "Leaves", "Limits",
    "Lists", "Loads", "Locks", "Logs", "Looks", "Makes", "Maps", "Marks", "Matches", "Measures",
    "Merges", "Mixes", "Moves", "Multiplies", "Names", "Notes", "Offers", "Opens", "Orders",
    "Packs", "Parses", "Picks", "Plans", "Prepares", "Prints", "Proves", "Provides", "Puts",
    "Quantises", "Raises", "Reads", "Records", "Refuses", "Registers", "Releases", "Removes",
    "Renames", "Renders", "Renews", "Repeats", "Replaces", "Reports", "Reserves", "Resolves",
    "Restores", "Returns", "Rotates", "Rounds", "Runs", "Samples", "Saves", "Says", "Scales",
    "Scores", "Searches", "Sends", "Sets", "Shards", "Shares", "Shows", "Shuffles", "Sifts",
    "Skips", "Slows", "Sorts", "Spells", "Splices", "Splits", "Starts", "States", "Stops",
    "Stores", "Streams", "Sums", "Takes", "Tells", "Tests", "Times", "Tokenises", "Traces",
    "Trains", "Translates", "Turns", "Undoes", "Unpacks", "Updates", "Uses", "Validates",
    "Waits", "Walks", "Warns", "Watches", "Weighs", "Wraps", "Writes", "Yields",
}  # fmt: skip


def documented(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The public classes, functions and methods that have a docstring, with it."""
    for node in ast.walk(tree):
        kinds = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        public = isinstance(node, kinds) and not node.name.startswith("_")
        if public and (text := ast.get_docstring(node)):
            yield node.name, text


def opens_with_a_verb(docstring: str) -> bool:
    first = re.match(r"[A-Za-z]+", docstring)
    return bool(first) and first[0] in VERBS


def bindings(tree: ast.Module) -> Iterator[str]:
    """Every name that a file gives to something: variables, arguments, attributes of classes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg


def test_a_docstring_opens_with_a_verb():
    assert opens_with_a_verb("Returns the rows.")
    assert not opens_with_a_verb("Rows of a dataset.")
    assert not opens_with_a_verb("`read` of every file.")


def test_nine_of_ten_public_docstrings_open_with_a_verb():
    every = [
        (str(path.relative_to(ROOT)), name, text)
        for path, tree in TREES.items()
        for name, text in documented(tree)
    ]
    others = [entry for entry in every if not opens_with_a_verb(entry[2])]
    share = 1 - len(others) / len(every)
    assert share >= LEAST_VERBS, f"{share:.1%}: {others[:20]}"


def test_a_module_says_what_it_does():
    for path, tree in TREES.items():
        if path.name != "__init__.py":
            assert ast.get_docstring(tree), path


def test_no_two_public_classes_share_a_name():
    classes = Counter(
        node.name
        for tree in TREES.values()
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, count in classes.items() if count > 1] == []


def test_names_say_what_they_hold():
    counts = Counter(
        f"{path.relative_to(ROOT)}: {name}"
        for path, tree in TREES.items()
        for name in bindings(tree)
        if name in STAND_INS
    )
    assert counts.total() < MOST_STAND_INS, counts.most_common(30)
