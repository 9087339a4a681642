"""Writes a recipe that ships for another language: the same steps, with the language exchanged.

    exchanged("taco", "pes_Arab", "taco_persian.yaml").text

Only what names the language is exchanged, in place, so that comments and layout stay. Lines that
differ are marked by a comment with the new code; what a person has to decide is said there too.
"""

import dataclasses
import json
import re
import shlex
from typing import Any

from etils import epath

from lrl_jax.cli.recipes import places, tasks
from lrl_jax.cli.recipes.marks import Marked
from lrl_jax.cli.recipes.new import MARKED, name_of_run
from lrl_jax.cli.recipes.spellings import Spellings, exchange, spellings
from lrl_jax.recipe import file as recipe_file
from lrl_jax.recipe import languages, plain_yaml, scripts, supply
from lrl_jax.recipe.plain_yaml import Scalar
from lrl_jax.text import SAMPLE
from lrl_jax.vocab import scripts as writing

ENGLISH = "eng_Latn"
CODES = re.compile(r"(?<![A-Za-z0-9])[a-z]{3}_[A-Z][a-z]{3}(?![A-Za-z0-9])")
NO_LANGUAGE = ("und", "zxx", "mul", "mis")  # how codes of no language begin
CHOSEN = ("pieces", "size", "min_count", "character_coverage")  # settings of `vocab`, by its text
SUPPLIED = "corpora/"  # where text is looked for in place of the sample's


@dataclasses.dataclass(frozen=True)
class Exchanged:
    """Holds a recipe for another language.

    Attributes:
      old, new: the languages.
      changed: how many lines differ.
      looks: what to look at, a line for each: the number of the line, and why.
    """

    text: str
    old: Spellings
    new: Spellings
    changed: int
    looks: tuple[str, ...]


def exchanged(
    source: str, language: str, path: str, *, which: str = "", name: str = ""
) -> Exchanged:
    """Returns a recipe with a language in place of its own.

    Args:
      source: a recipe that ships, or the path of one.
      language: code, ISO 639 code or name of the new language.
      path: of the new recipe, which gives its name.
      which: the language to exchange, for recipes of several.
      name: English name of the new language, for a code in no table.
    """
    place = epath.Path(recipe_file.located(source))
    text, tree = recipe_file.read_source(place), recipe_file.read_tree(place)
    code = language if name and re.fullmatch(languages.CODE, language) else _resolved(language)
    old = spellings(_exchanged_code(source, tree, code, which))
    new = spellings(code, name)
    work = _Exchange(text, tree, old, new, path)
    command = shlex.join(
        ["lrl", "new", path, "--from", source, "--language", code]
        + (["--exchange", old.code] if which else [])
        + (["--language-name", name] if name else [])
    )
    head = _head(source, command, path, old, new)
    lines, looks = [*head], []
    for line, why in work.marked.lines():
        lines.append(line)
        if why:
            looks.append(f"line {len(lines)}, {line.strip('# -').partition(':')[0]}: {why}")
    changed = sum(why is not None for _, why in work.marked.lines())
    return Exchanged("\n".join(lines) + "\n", old, new, changed, tuple(looks))


def _head(source: str, command: str, path: str, old: Spellings, new: Spellings) -> list[str]:
    """Returns the comment that says what the recipe was made of."""
    if not path.isprintable():
        raise ValueError(
            f"{path!r}: a comment of the recipe is to name it; use printable characters"
        )
    return [
        f"# Made of the recipe {source}, with {new.name} ({new.code}) in place of {old.name} "
        f"({old.code}):",
        "#",
        f"#   {command}",
        f"#   {shlex.join(['lrl', 'check', path])}",
        "#",
        f'# Lines that differ end in "# {new.code}"; where "look" follows, decide yourself.',
        f"# All other comments are those of the original; figures in them are not of {new.name}.",
        "",
    ]


def _resolved(language: str) -> str:
    try:
        return languages.resolve(language)
    except ValueError as e:
        raise ValueError(f"--language {language}: {e}") from None


def _exchanged_code(source: str, tree: Any, new: str, which: str) -> str:
    """Returns the code of the language to exchange; ValueError where that cannot be done."""
    written = (code for text in places.texts(tree) for code in CODES.findall(text))
    own = [
        code
        for code in dict.fromkeys(written)
        if code != ENGLISH and code[:3] not in NO_LANGUAGE and code[4:] in _script_codes()
    ]
    listed = ", ".join(own) or "no language but English"
    if new == ENGLISH:
        raise ValueError(
            "--language eng_Latn: English is what the base is proved and replayed on; name the "
            "language that it is to learn"
        )
    if new in own:
        raise ValueError(f"--language {new}: {source} is of {listed} already; name another one")
    if which:
        old = _resolved(which)
        if old not in own:
            raise ValueError(f"--exchange {which}: {source} is of {listed}; name one of these")
        return old
    if len(own) != 1:
        raise ValueError(
            f"{source} is of {listed}; "
            + ("say which one to exchange: --exchange " + own[0] if own else "take another recipe")
        )
    return own[0]


def _script_codes() -> set[str]:
    return {*scripts.SCRIPTS, *scripts.UNIONS}


class _Exchange:
    """Exchanges the language of one recipe; `marked` holds the text with all changes."""

    def __init__(self, text: str, tree: Any, old: Spellings, new: Spellings, path: str):
        self.marked = Marked(text, new.code)
        self._text, self._tree, self._old, self._new = text, tree, old, new
        self._scalars = plain_yaml.scalars(text)
        self._moved = places.moved_samples(tree, old)
        self._renamed: dict[str, str] = {}  # place that was read -> what is read now
        for scalar in self._scalars:
            if scalar.path[0] == "base":
                continue
            if scalar.path == ("name",) and not scalar.is_key:
                self._write(scalar, name_of_run(path))
            elif scalar.path[:2] == ("evaluate", "tasks") and not scalar.is_key:
                continue  # below
            elif scalar.path[0] == "vocab" and self._of_vocab(scalar):
                continue
            else:
                self._plain(scalar)
        self._tasks()
        self._additions()

    # ------------------------------------------------------------------------ one scalar
    def _plain(self, scalar: Scalar) -> None:
        """Exchanges the language in a key or a value."""
        value = exchange(scalar.value, self._old, self._new)
        if scalar.value in self._moved:
            value = SUPPLIED + value.removeprefix(SAMPLE)
        elif value == scalar.value and not scalar.is_key and self._in_old(scalar):
            value = self._unnamed(scalar)
        if value != scalar.value:
            self._renamed.setdefault(scalar.value, value)
            self._write(scalar, value)
        elif self._is_written_in_old(scalar.value):
            self.marked.look(self._line(scalar), f"this is in {self._old.name}")
        if scalar.path[0] == "supply" and not scalar.is_key and value == scalar.value:
            self._look_at_advice(scalar)

    def _unnamed(self, scalar: Scalar) -> str:
        """Returns what stands in place of text of the language that does not name it."""
        line, value = self._line(scalar), scalar.value
        if "{code}" in value or "{name}" in value:
            return value
        if places.is_place(scalar):
            self.marked.look(line, f"name a text in {self._new.name}")
            return places.beside(value, self._new.code)
        if scalar.path[-1] == "dataset":
            self._look_at_hub(scalar)
        elif scalar.path[-1] == "text":
            self.marked.look(line, f"write it in {self._new.name}")
        return value

    def _look_at_advice(self, scalar: Scalar) -> None:
        """Marks advice on how to get text of the language that does not name it."""
        key = str(scalar.path[-1])
        if exchange(key, self._old, self._new) != key or self._is_read_for_old(key):
            self.marked.look(self._line(scalar), f"how to get it in {self._new.name}")

    def _look_at_hub(self, scalar: Scalar) -> None:
        """Marks a dataset of a hub where none of its settings names the language."""
        beside = [
            s.value for s in self._scalars if s.path[:-1] == scalar.path[:-1] and not s.is_key
        ]
        if all(exchange(value, self._old, self._new) == value for value in beside):
            self.marked.look(self._line(scalar), f"name a dataset in {self._new.name}")

    def _of_vocab(self, scalar: Scalar) -> bool:
        """Exchanges a setting of the vocabulary; tells whether there was one to exchange."""
        key, line = scalar.path[1] if len(scalar.path) > 1 else "", self._line(scalar)
        if scalar.is_key:
            return False
        if key in CHOSEN:
            self.marked.look(line, f"chosen for {self._old.name}")
        elif key == "donor":
            self.marked.look(line, f"a tokenizer of {self._old.name}; name one of {self._new.name}")
        elif key == "scripts":
            of_old = {*_parts(scalar.value)} <= {*_parts(self._old.script)}
            if of_old and self._old.script != self._new.script:
                self._write(scalar, self._new.script)
        elif key == "pretokenizer":
            wanted = "mark_aware" if self._new.script in MARKED else "keep"
            if scalar.value != wanted:
                self._write(scalar, wanted)
        else:
            return False
        return True

    def _write(self, scalar: Scalar, value: str) -> None:
        """Writes a value in place of a scalar, in its own style where that can hold it."""
        raw = self._text[scalar.start : scalar.end]
        if "\n" in raw.rstrip("\n"):  # line by line
            place, marked = scalar.start, self._line(scalar)
            for line in raw.splitlines(keepends=True):
                bare = line.rstrip("\n")
                if (text := exchange(bare, self._old, self._new)) != bare:
                    self.marked.replace(place, place + len(bare), text, marked)
                place += len(line)
            return
        quote = scalar.style or ""
        text = f"{quote}{value}{quote}"
        if not _means(text, value, in_flow=not re.search(r"[,\[\]{}]", raw)):
            text = json.dumps(value, ensure_ascii=False)
        self.marked.replace(scalar.start, scalar.end, text)

    def _line(self, scalar: Scalar) -> int:
        """Returns the line that can have a comment: the head of a block, else the last line."""
        block = scalar.style in (">", "|")
        return self.marked.line_at(scalar.start if block else max(scalar.end - 1, scalar.start))

    # ------------------------------------------------------------------------ what it is of
    def _in_old(self, scalar: Scalar) -> bool:
        """Tells whether a value is text, or a place of text, in the language exchanged."""
        above = list(scalar.path[:-1])
        if self._old.code in map(str, above):
            return True
        if above[:1] == ["vocab"] and "text" in above:
            return self._tree["vocab"].get("method") == "extend"
        if above == ["init", "text"]:
            return True
        node = self._tree
        for key in scalar.path:
            if isinstance(node, dict) and places.is_of(node, key, self._old.code):
                return True
            node = node[key]
        return False

    def _is_read_for_old(self, pattern: str) -> bool:
        """Tells whether text in the language exchanged is among what an entry of supply names."""
        return any(
            self._in_old(scalar)
            and places.is_place(scalar)
            and supply.matches(pattern, scalar.value)
            for scalar in self._scalars
            if not scalar.is_key
        )

    def _is_written_in_old(self, text: str) -> bool:
        """Tells whether a text has letters of the old script, which the new one has not."""
        old, new = _parts(self._old.script), _parts(self._new.script)
        return old != new and "Latn" not in old and writing.own(old).search(text) is not None

    # ------------------------------------------------------------------------ tasks, additions
    def _tasks(self) -> None:
        """Exchanges benchmark tasks, and turns those into comments that the language lacks."""
        entries = ((self._tree.get("evaluate") or {}).get("tasks")) or {}
        left_out = []
        for entry in entries:
            of_entry = [s for s in self._scalars if s.path[:3] == ("evaluate", "tasks", entry)]
            values = [s for s in of_entry if not s.is_key]
            named = next((s for s in values if len(s.path) == 3 or s.path[3] == "task"), None)
            if named is None or not tasks.concerns(named.value, self._old.code):
                continue
            if task := tasks.in_language(named.value, self._old.code, self._new.code):
                self._write(named, task)
                continue
            why = f"{named.value} is not in {self._new.name}"
            first, last = (self.marked.line_at(s.start) for s in (of_entry[0], of_entry[-1]))
            if self._is_flow(first, entry):
                self.marked.look(first, f"{why}; leave it out")
                continue
            self.marked.comment_out(first, last, f"left out, as {why}")
            left_out.append(entry)
        if not left_out:
            return
        if len(left_out) == len(entries):
            key = next(s for s in self._scalars if s.path == ("evaluate", "tasks"))
            line = self.marked.line_at(key.start)
            self.marked.comment_out(line, line, "no task is left")
        for scalar in self._scalars:
            data = self._tree["evaluate"].get("task_data")
            if scalar.path == ("supply", data) and not scalar.is_key:
                self.marked.look(self._line(scalar), "of these, tasks that were left out need none")

    def _is_flow(self, line: int, entry: str) -> bool:
        """Tells whether an entry shares its line with others."""
        source = self._text.splitlines()[line]
        return re.match(rf"\s*[\"']?{re.escape(entry)}[\"']?\s*:", source) is None

    def _additions(self) -> None:
        """Adds what the new language needs and the old one did not."""
        vocab = self._tree.get("vocab") or {}
        marks = self._new.script in MARKED and vocab.get("method") == "extend"
        if marks and "pretokenizer" not in vocab:
            last = [s for s in self._scalars if s.path[:2] == ("vocab", "scripts")][-1]
            key = next(s for s in self._scalars if s.path == ("vocab", "scripts"))
            indent = " " * (key.start - self._text.rfind("\n", 0, key.start) - 1)
            self.marked.add_below(
                self.marked.line_at(last.end - 1), f"{indent}pretokenizer: mark_aware"
            )
        names = {} if self._new.code in languages.NAMES else {self._new.code: self._new.name}
        if names and "languages" not in self._tree:
            name = next(s for s in self._scalars if s.path == ("name",) and not s.is_key)
            self.marked.add_below(
                self.marked.line_at(name.start),
                f"languages: {json.dumps(names, ensure_ascii=False)}",
            )
        self._supply()

    def _supply(self) -> None:
        """Adds how to get what the sample gave, and other places that no entry of supply names."""
        patterns = [
            exchange(str(key), self._old, self._new) for key in self._tree.get("supply") or ()
        ]
        lacking = [
            (before, place)
            for before, place in self._renamed.items()
            if before.startswith(SAMPLE) and not any(supply.matches(p, place) for p in patterns)
        ]
        if not lacking:
            return
        keys = [s for s in self._scalars if s.path == ("supply",)]
        line = self.marked.line_at(keys[0].start if keys else len(self._text) - 1)
        if not keys:
            self.marked.add_below(line, "supply:")
        for before, place in lacking:
            named = (
                self._new.name if exchange(before, self._old, self._new) != before else "English"
            )
            what = (
                f"in {named}, what {before} is for {self._old.name}; where lines align, they must"
            )
            self.marked.add_below(line, f"  {place}: {json.dumps(what, ensure_ascii=False)}")


def _means(text: str, value: str, in_flow: bool) -> bool:
    """Tells whether YAML reads a text as this value, inside of brackets too if `in_flow`."""
    try:
        return plain_yaml.parse(f"[{text}]" if in_flow else f"- {text}") == [value]
    except ValueError:
        return False


def _parts(script: str) -> tuple[str, ...]:
    return scripts.parts((script,)) if script in _script_codes() else (script,)
