"""Reads a recipe from YAML, with typed overrides, and writes it back.

    recipe = load("configs/quickstart.yaml", ["train.batch_size=8"])

YAML is read as 1.2 (ruamel), where the Norwegian code `no` is a string and `1e-4` a number.
"""

from collections.abc import Mapping, Sequence
import importlib.resources
import io
import json
import types
from typing import Any, get_args

from etils import epath
import pydantic
from ruamel.yaml import YAML

from lrl_jax import storage
from lrl_jax.recipe import held_out, languages, plain_yaml, supply
from lrl_jax.recipe.dataset import KINDS, Dataset
from lrl_jax.recipe.evaluate import SECTIONS, Evaluate
from lrl_jax.recipe.extras import CHECKOUT
from lrl_jax.recipe.overrides import merge, put, said
from lrl_jax.recipe.schema import LANGUAGE_FIELDS, Recipe
from lrl_jax.recipe.vocab import SHAPES, Section, did_you_mean

MAX_BYTES = 1 << 20  # a recipe is a page or two; anything larger is not a recipe
TAGGED = ("base", "vocab")  # sections that are one of several kinds
FEW_KEYS = 12  # of a section, so many are listed


def _shipped() -> dict[str, Any]:
    """Returns the recipes that ship, by name: of the installed package, or of the checkout."""
    installed = importlib.resources.files("lrl_jax") / "configs"
    files = [*(installed if installed.is_dir() else CHECKOUT / "configs").iterdir()]
    return {path.name.removesuffix(".yaml"): path for path in files if path.name.endswith(".yaml")}


def load(
    path: str,
    overrides: Sequence[str] = (),
    imports: Sequence[str] = (),
    sections: Mapping[str, Any] = types.MappingProxyType({}),
) -> Recipe:
    """Reads a recipe, applies `a.b=c` overrides and adds files to data.imports.

    `path` is a YAML file, or the name of a recipe that ships. A wrong recipe is a ValueError whose
    message has a line for each problem, with its key.

    Args:
      sections: plain data that goes into the recipe before the overrides, as by `merge`.
    """
    storage.refuse_odd(path)
    path = located(path)
    tree = read_tree(epath.Path(path))
    for key, value in sections.items():
        merge(tree, key, value)
    for override in overrides:
        put(tree, *said(override))
    if imports and isinstance(tree.get("data"), dict):
        tree["data"]["imports"] = [*(tree["data"].get("imports") or ()), *imports]
    return parse(tree, path)


def located(name: str, beside: epath.Path | None = None) -> str:
    """Returns the path of a recipe: as it is given, or of the recipe that ships under this name.

    A folder of this name, such as that of a run, does not hide the recipe that ships.

    Args:
      beside: a folder; a path is relative to it.
    """
    path = epath.Path(name) if beside is None else beside / name
    if "/" not in name and (path.is_dir() or not path.exists()):
        return str(_shipped().get(name, path))
    return str(path)


def parse(tree: dict, where: str = "recipe") -> Recipe:
    """Validates a recipe given as plain data.

    >>> parse({"nmae": "x"}, "a.yaml")
    Traceback (most recent call last):
        ...
    ValueError: a.yaml: 6 problems
      nmae: unknown key; did you mean 'name'?
      name: missing
      base: missing
      vocab: missing
      data: missing
      train: missing
    """
    try:
        recipe = held_out.resolved(Recipe.model_validate(_with_names(per_language(tree))))
        if odd := [*supply.odd_addresses(recipe)]:
            raise ValueError("\n  ".join(odd))
        return recipe
    except pydantic.ValidationError as e:
        errors = e.errors()
        inner = [error["loc"] for error in errors if error["type"] != "too_short"]
        lines = [line for error in errors if (line := _explain(error, inner))]
        lines.sort(key=lambda line: "unknown key" not in line)
        head = f"{where}: {len(lines)} problem{'s' * (len(lines) != 1)}"
        raise ValueError("\n  ".join([head, *lines])) from None
    except ValueError as e:  # of per_language, of codes in _with_names and of addresses
        raise ValueError(f"{where}: {e}") from None


def per_language(tree: dict) -> dict:
    """Replaces every entry with `languages` by a dataset for each language and a mixture of them.

    `languages` is a list of FLORES codes, or code: name. These replace `{code}` and `{name}` in
    every string of the entry; without a name, the English one is taken. The dataset of a language
    is called ENTRY_CODE. An entry of that name changes settings for this language alone. The
    recipe's own `languages` go before English names.

    >>> web = {"kind": "text", "path": ["{name}.txt"], "languages": ["kor_Hang", "npi_Deva"]}
    >>> data = per_language({"data": {"datasets": {"web": web}}})["data"]
    >>> data["datasets"]["web_npi_Deva"]
    {'kind': 'text', 'path': ['Nepali.txt'], 'language': 'npi_Deva'}
    >>> data["mixtures"]
    {'web': {'of': {'web_kor_Hang': 1, 'web_npi_Deva': 1}}}

    Raises:
      ValueError: a code has no name, or an entry would be the same for every language.
    """
    data = tree.get("data")
    if not isinstance(data, dict):
        return tree
    entries, given = data.get("datasets"), data.get("mixtures") or {}
    if not isinstance(entries, dict) or not isinstance(given, dict):
        return tree  # no recipe; validating it says so
    datasets: dict[str, Any] = {}
    mixtures = dict(given)
    for entry, settings in entries.items():
        if not isinstance(settings, dict):
            datasets[entry] = settings
        elif "languages" not in settings:
            datasets[entry] = datasets.get(entry, {}) | settings
        else:
            members = _members(entry, settings, tree.get("languages"))
            datasets |= {name: member | datasets.get(name, {}) for name, member in members.items()}
            mixtures.setdefault(entry, {"of": dict.fromkeys(members, 1)})
    expanded = {"datasets": datasets} | ({"mixtures": mixtures} if mixtures else {})
    return tree | {"data": data | expanded}


def _members(name: str, entry: dict, given_names: Any) -> dict[str, dict]:
    """Returns the datasets of an entry with `languages`, by name."""
    where, given = f"data.datasets.{name}.languages", entry["languages"]
    names = dict.fromkeys(given) if isinstance(given, list) else given
    if not isinstance(names, dict) or not names or len(names) != len(given):
        raise ValueError(f"{where}: want FLORES codes, each once, or code: name; got {given!r}")
    shared = {key: value for key, value in entry.items() if key != "languages"}
    if shared == plain_yaml.filled(shared, {"code": "", "name": ""}):
        raise ValueError(
            f"{where}: every language would be the same; write {{code}} or {{name}} "
            "where they differ, such as path: ['{name}.txt']"
        )
    kind = KINDS.get(entry.get("kind", ""))
    fields = kind.model_fields if kind else ()
    learnt = "target_language" if "target_language" in fields else "language"
    own_names = given_names if isinstance(given_names, dict) else {}
    members = {}
    for code, spelled in names.items():
        code = str(code)
        try:
            code = code if code in own_names else languages.resolve(code)
            spelled = spelled or own_names.get(code) or languages.english_name(code)
        except ValueError as e:
            raise ValueError(f"{where}: {e}") from None
        member = plain_yaml.filled(shared, {"code": code, "name": str(spelled)})
        member.setdefault(learnt, code)
        members[f"{name}_{code}"] = member
    return members


def _with_names(tree: dict) -> dict:
    """Returns the tree with the names of `languages` beside every entry that has their codes."""
    given = tree.get("languages")
    if not isinstance(given, dict) or not given:
        return tree
    names: dict = given

    def named(node: Any) -> Any:
        if isinstance(node, list):
            return [named(item) for item in node]
        if not isinstance(node, dict):
            return node
        node = {key: named(value) for key, value in node.items()}
        codes = [node[key] for key in LANGUAGE_FIELDS if isinstance(node.get(key), str)]
        used = {code: names[code] for code in codes if code in names}
        return {"language_names": used, **node} if used else node

    tree = tree | {key: named(tree[key]) for key in ("evaluate", "train") if key in tree}
    data = tree.get("data")
    if isinstance(data, dict) and "datasets" in data:
        tree["data"] = data | {"datasets": named(data["datasets"])}
    return tree


def dump(recipe: Recipe) -> str:
    """Returns the resolved recipe as YAML; `load` of it gives an equal recipe.

    Mappings keep their order: which row is next depends on that of a mixture.
    """
    out = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    yaml.dump(json.loads(recipe.model_dump_json()), out)
    return out.getvalue()


def schema() -> str:
    """Returns the JSON Schema of a recipe, for editors; docs/recipe.schema.json holds it."""
    tree = Recipe.model_json_schema()
    for kind in KINDS.values():
        _allow_languages(tree["$defs"][kind.__name__])
    return json.dumps(tree, indent=1, sort_keys=True) + "\n"


def _allow_languages(kind: dict) -> None:
    """Extends the schema of a kind: an entry may have `languages` instead of its language."""
    learnt = "target_language" if "target_language" in kind["properties"] else "language"
    kind["required"].remove(learnt)
    kind["anyOf"] = [{"required": [learnt]}, {"required": ["languages"]}]
    languages = pydantic.TypeAdapter(list[str] | dict[str, str]).json_schema()
    kind["properties"]["languages"] = languages | {
        "title": "Languages",
        "description": "One dataset a language: FLORES codes, or code: name.",
    }


def read_source(path: epath.Path, what: str = "recipe") -> str:
    """Reads the text of a recipe file; raises as `load`.

    Args:
      what: what the file is, for messages.
    """
    if path.is_dir():
        of_run = path / "recipe.yaml"
        hint = f"; that of this run is {of_run}" if what == "recipe" and of_run.exists() else ""
        raise ValueError(f"{path}: is a folder; want the file of a {what}{hint}")
    try:
        return storage.read_bytes(path, MAX_BYTES).decode("utf-8")
    except FileNotFoundError:
        if what != "recipe":
            raise ValueError(f"{path}: no such {what}; give a YAML file") from None
        names = sorted(_shipped())
        raise ValueError(
            f"{path}: no such recipe; give a YAML file, or a recipe that ships: {', '.join(names)}"
            f"{did_you_mean(str(path), names)}"
        ) from None
    except UnicodeDecodeError as e:
        raise ValueError(f"{path}: not UTF-8 at byte {e.start}") from None


def read_tree(path: epath.Path, what: str = "recipe") -> dict[str, Any]:
    """Reads a recipe file as plain data, which is not validated; raises as `load`."""
    source = read_source(path, what)
    try:
        tree = plain_yaml.parse(source, what)
    except ValueError as e:
        raise ValueError(f"{path}: {e}") from None
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: a {what} is a mapping; got {type(tree).__name__}")
    return tree


def _explain(error: Any, inner: list[tuple]) -> str:
    """Returns a line about an error of pydantic; '' if another error says it already."""
    loc, kind = error["loc"], error["type"]
    if kind == "too_short" and any(other[: len(loc)] == loc for other in inner):
        return ""  # pydantic counts the items that failed as absent
    if kind == "literal_error" and not isinstance(error["input"], str | bool | int):
        return ""  # of `Schedule | "frozen"`; the error about Schedule has its own line
    path = [str(key) for key in loc]
    where = ".".join(_without_tags(path)) or "recipe"
    if kind == "extra_forbidden":
        return f"{where}: unknown key{_other_key(loc)}"
    if kind == "value_error":
        return f"{where}: {error['ctx']['error']}" if path else str(error["ctx"]["error"])
    if kind == "missing":
        return f"{where}: missing"
    if kind == "tuple_type" and isinstance(error["input"], str):
        return f"{where}: want a list: [{error['input'][:80]}]"
    return f"{where}: {error['msg']}; got {str(error['input'])[:80]!r}"


def _without_tags(path: list[str]) -> list[str]:
    """Drops the keys that pydantic adds to a path to name the chosen member of a union."""
    if path and path[0] in TAGGED:  # their tag is the second key
        path = [path[0], *path[2:]]
    return [key for key in path if key not in ("Schedule", "Mesh", "literal", *SHAPES)]


def _other_key(loc: Sequence[str | int]) -> str:
    """Returns which key may be meant by one that its section does not have: of that section, or
    the section that has it."""
    sections, name = _sections_at(loc[:-1]), str(loc[-1])
    tagged = len(loc) == 3 and loc[0] in TAGGED
    if tagged:  # of the section that was chosen
        sections = [s for s in sections if s.__name__.lower().startswith(str(loc[1]))]
    own = {key for section in sections for key in section.model_fields} - {"language_names"}
    own = sorted(own | {*SECTIONS} if Evaluate in sections else own)
    homes = [
        key
        for key, field in Recipe.model_fields.items()
        if any(name in section.model_fields for section in _sections_in(field.annotation))
        and not (tagged and key == loc[0])
    ]
    if name in Recipe.model_fields:
        homes = ["the recipe itself"]
    if homes:
        return f"; it is a key of {' and of '.join(homes)}"
    listed = f"; there are {', '.join(own)}" if len(own) <= FEW_KEYS else ""
    return did_you_mean(name, own) or listed


def _sections_at(loc: Sequence[str | int]) -> list[type[Section]]:
    """Returns the sections that may stand at a place of a recipe."""
    sections: list[type[Section]] = [Recipe]
    for key in loc:
        kind = SECTIONS.get(str(key)) if Evaluate in sections else None
        if kind is not None:  # of a kind of evaluation that is no field
            sections = _sections_in(kind)
            continue
        fields = [s.model_fields[str(key)] for s in sections if str(key) in s.model_fields]
        if fields:  # any other key is a name, an index, or a tag of pydantic's
            sections = [inner for field in fields for inner in _sections_in(field.annotation)]
    return sections


def _sections_in(annotation: Any) -> list[type[Section]]:
    """Returns the sections in the type of a field: of its items, values and alternatives too."""
    if annotation is Dataset:
        return list(KINDS.values())
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for inner in get_args(annotation) for section in _sections_in(inner)]
