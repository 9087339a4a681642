"""Reads every error of the package out of its source: the form of its message, and its exit code.

Where a message holds a value, its form has the value's name: `<path>: is a git-lfs pointer`.
"""

import ast
from collections.abc import Iterator, Mapping
import dataclasses
from pathlib import Path
import re

PACKAGE = Path(__file__).parents[2] / "lrl_jax"
# Of Python's own: what a user can cause ends with 2 (lrl_jax.cli.codes), anything else with 1.
BUILT_IN = {
    "ValueError": 2, "OSError": 2, "FileNotFoundError": 2, "FileExistsError": 2, "TimeoutError": 2,
    "ConnectionError": 2, "ArgumentTypeError": 2, "RuntimeError": 1, "TypeError": 1,
    "NotImplementedError": 1, "Exception": 1, "BaseException": 1,
}  # fmt: skip
# Errors that end no command by themselves; the code is that of the error whose text they become.
CARRIED = {
    "UnusableError": "DataError", "BadDocumentError": "DataError", "_UnfitError": "ValueError",
    "_DamagedError": "VerificationError",
}  # fmt: skip
AS_IT_SAYS = -1  # an error whose exit code is that of another process
SHORTEST = 12  # letters of a message without its values; a shorter one says nothing by itself
RENAMED = {"e": "reason", "error": "reason", "i": "number", "n": "number"}

Texts = Mapping[str, ast.expr]  # an expression, as source -> the text that it stands for


@dataclasses.dataclass(frozen=True, order=True)
class Message:
    """Holds a message: the module that raises it, its form, and the exit code of its error."""

    module: str
    form: str
    code: int


def messages(package: Path = PACKAGE) -> list[Message]:
    """Returns the messages of every module of a package, each form once a module."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in package.rglob("*.py")}
    codes = exit_codes(trees)
    constants = {
        f"{path.stem}.{name}": value
        for path, tree in trees.items()
        for name, value in _constants(tree)
    }
    every = {
        Message(path.relative_to(package).with_suffix("").as_posix(), form, code)
        for path, tree in trees.items()
        for form, code in raised(tree, codes, constants)
    }
    return sorted(every)


def exit_codes(trees: Mapping[Path, ast.Module]) -> dict[str, int]:
    """Returns the exit code of every class of error: its own, else that of what it derives from."""
    numbers = {
        f"{path.stem}.{name}": value.value
        for path, tree in trees.items()
        for name, value in _constants(tree)
        if isinstance(value, ast.Constant) and isinstance(value.value, int)
    }
    classes = {
        node.name: (path.stem, node)
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    codes = {name: _code_of_class(name, classes, numbers) for name in classes}
    return BUILT_IN | {name: code for name, code in codes.items() if code is not None}


def raised(
    tree: ast.Module, codes: Mapping[str, int], constants: Texts | None = None
) -> Iterator[tuple[str, int]]:
    """Yields form and exit code of every error that is made in a module.

    Args:
      codes: class of error -> exit code.
      constants: texts of other modules, as `module.NAME`.
    """
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    texts = {**(constants or {}), **_imported(tree, constants or {}), **dict(_constants(tree))}
    texts |= {f"{f.name}()": text for f in functions if (text := _returned(f)) is not None}
    owners = {
        method: node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for method in node.body
    }
    for scope in (tree, *functions):
        own = texts | _assigned(scope)
        for node in _inside(scope):
            code = _code_of_call(node, codes, owners.get(scope, ""))
            form = formed(node.args[0], own) if code is not None else ""
            if len(re.sub(r"<\w*>|\W", "", form)) >= SHORTEST:
                yield " ".join(form.split()), code


def formed(node: ast.expr, texts: Texts | None = None, depth: int = 4) -> str:
    """Returns the form of a message, an expression of strings.

    >>> formed(ast.parse('f"{path}: {len(rows)} rows, " + "want 2"', mode="eval").body)
    '<path>: <rows> rows, want 2'
    """
    texts = texts or {}
    match node:
        case ast.Constant(value=value):
            return str(value)
        case ast.JoinedStr(values=values):
            return "".join(formed(value, texts, depth) for value in values)
        case ast.FormattedValue(value=value):
            return formed(value, texts, depth)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return formed(left, texts, depth) + formed(right, texts, depth)
        case ast.IfExp(body=body, orelse=orelse):
            return formed(body, texts, depth) or formed(orelse, texts, depth)
        case ast.Call(func=func):
            name = ast.unparse(func).removeprefix("self.") + "()"
        case _:
            name = ast.unparse(node)
    if name in texts and depth:
        return formed(texts[name], texts, depth - 1)
    return f"<{_named(node)}>"


def _named(node: ast.expr) -> str:
    """Returns what a value may be called: the last name in its expression."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return RENAMED.get(name, name.strip("_"))
        case ast.Call(args=[first, *_]) | ast.Subscript(value=first) | ast.Starred(value=first):
            return _named(first)
        case ast.Call(func=ast.Attribute(value=first)) | ast.Call(func=ast.Name() as first):
            return _named(first)
        case ast.GeneratorExp(generators=[first, *_]) | ast.ListComp(generators=[first, *_]):
            return _named(first.iter)
    return "..."


def _code_of_call(node: ast.AST, codes: Mapping[str, int], owner: str) -> int | None:
    """Returns the exit code of an error that a node makes; None where it makes none with a text."""
    match node:
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id="commands"), attr="error"), args=[_, *_]
        ):
            return 2  # argparse's
        case ast.Call(func=ast.Attribute(value=ast.Call(), attr="__init__"), args=[_, *_]):
            return codes.get(owner)
        case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name), args=[_, *_]):
            return codes.get(CARRIED.get(name, name))
    return None


def _code_of_class(name: str, classes: Mapping, numbers: Mapping[str, int]) -> int | None:
    if name in BUILT_IN or name not in classes:
        return BUILT_IN.get(name)
    stem, node = classes[name]
    if any(isinstance(line, ast.Attribute) and line.attr == "exit_code" for line in ast.walk(node)):
        return AS_IT_SAYS
    for line in node.body:
        match line:
            case ast.Assign(
                targets=[ast.Name(id="exit_code")], value=ast.Constant(value=int(code))
            ):
                return code
            case ast.Assign(targets=[ast.Name(id="exit_code")], value=ast.Name(id=number)):
                return numbers[f"{stem}.{number}"]
            case ast.Assign(targets=[ast.Name(id="exit_code")], value=ast.Attribute() as value):
                return numbers[ast.unparse(value)]
    bases = [getattr(base, "attr", None) or getattr(base, "id", "") for base in node.bases]
    return _code_of_class(bases[0], classes, numbers) if bases and bases[0] != name else None


def _constants(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Yields the texts and numbers that a module names on its top floor."""
    for line in tree.body:
        match line:
            case ast.Assign(
                targets=[ast.Name(id=name)], value=ast.Constant() | ast.JoinedStr() as value
            ):
                yield name, value
            case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)):
                for target, value in zip(names, values, strict=False):
                    if isinstance(target, ast.Name) and isinstance(value, ast.Constant):
                        yield target.id, value


def _imported(tree: ast.Module, constants: Texts) -> dict[str, ast.expr]:
    """Returns the texts of other modules that a module imports by name."""
    names = [
        (line.module.rpartition(".")[2], alias)
        for line in tree.body
        if isinstance(line, ast.ImportFrom) and line.module
        for alias in line.names
    ]
    return {
        alias.asname or alias.name: constants[f"{module}.{alias.name}"]
        for module, alias in names
        if f"{module}.{alias.name}" in constants
    }


def _returned(function: ast.FunctionDef) -> ast.expr | None:
    """Returns the text that a function gives back, the last where there are several."""
    values = [node.value for node in _inside(function) if isinstance(node, ast.Return)]
    texts = [value for value in values if isinstance(value, ast.JoinedStr | ast.BinOp)]
    return texts[-1] if texts else None


def _assigned(scope: ast.AST) -> dict[str, ast.expr]:
    """Returns the names to which a function gives a text, which it may raise later."""
    values: dict[str, ast.expr] = {}
    for node in _inside(scope):
        match node:
            case ast.Assign(
                targets=[ast.Name(id=name)], value=ast.JoinedStr() | ast.BinOp() as value
            ):
                values.setdefault(name, value)
    return values


def _inside(scope: ast.AST) -> Iterator[ast.AST]:
    """Yields the nodes of a function or module that are in no function inside of it."""
    for child in ast.iter_child_nodes(scope):
        if not isinstance(child, ast.FunctionDef):
            yield child
            yield from _inside(child)
