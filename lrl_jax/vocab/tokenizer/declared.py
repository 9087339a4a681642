"""Reads what a base says of its tokens beside its vocabulary: added ones, their flags, its ends.

It stands in up to four files. As in transformers, tokenizer.json goes first, then
`added_tokens_decoder` of tokenizer_config.json, then added_tokens.json; special_tokens_map.json
counts before tokenizer_config.json where that has no `added_tokens_decoder`.
"""

from collections.abc import Collection, Iterator, Mapping
import json
from typing import Any

from lrl_jax import storage
from lrl_jax.vocab.tokenizer.types import ADDED, CONFIG, JSON, MAX_VALUES, SPECIAL_MAP

DECODER = "added_tokens_decoder"
FLAGS = ("single_word", "lstrip", "rstrip", "normalized")
STRIPS = FLAGS[:3]
NAMED = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "pad", "sep", "cls", "mask"))
LENGTH = "model_max_length"
LISTS = ("additional_special_tokens", "extra_special_tokens")
ANEW = ("Qwen2Tokenizer", "Qwen2TokenizerFast")  # classes that add all of LISTS once more


def config(files: Mapping[str, bytes], where: str) -> dict[str, Any] | None:
    """Returns tokenizer_config.json and special_tokens_map.json as one; None without either."""
    there = [name for name in (SPECIAL_MAP, CONFIG) if name in files]
    trees = {name: _object(files, name, where) for name in there}
    for name, tree in trees.items():
        _refuse_types(tree, f"{where}/{name}")
    order = there if DECODER in trees.get(CONFIG, {}) else there[::-1]
    merged: dict[str, Any] = {}
    for name in order:
        merged |= {key: value for key, value in trees[name].items() if value is not None}
    return merged if there else None


def _refuse_types(tree: Mapping[str, Any], where: str) -> None:
    """Raises ValueError for a token that is no text, and for a length that is no number."""
    for key in NAMED:
        if tree.get(key) and not isinstance(tree[key], str | dict):
            raise ValueError(f"{where}: {key}={tree[key]!r:.60}; want the text of a token")
    most = tree.get(LENGTH)
    if most is not None and (not isinstance(most, int | float) or isinstance(most, bool)):
        raise ValueError(
            f"{where}: {LENGTH}={most!r:.60}; want a number of tokens, or leave it out"
        )


def content(value: Any) -> str | None:
    """Returns the text of a token that is written as text, or as an object with flags."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) and text else None


def special(settings: Mapping[str, Any]) -> set[str]:
    """Returns the tokens that a config names; transformers makes each of them special."""
    named = [value for key, value in settings.items() if key.endswith("_token")]
    for key in LISTS:
        value = settings.get(key)
        value = [*value.values()] if isinstance(value, dict) else value
        named += value if isinstance(value, list) else []
    return {text for text in map(content, named) if text}


def loaded_special(files: Mapping[str, bytes], where: str) -> set[str]:
    """Returns the tokens that transformers makes special beside a byte-level tokenizer.json.

    All that a key ending in `_token` names, those of a table of further ones, and those that
    `added_tokens_decoder` calls special; beside that, special_tokens_map.json is not read. A list
    of further ones adds tokens that are not there yet, and changes the others with Qwen's class
    alone, which adds them all anew.
    """
    alone = {name: data for name, data in files.items() if name != SPECIAL_MAP}
    settings = config(alone, where) or {}
    if DECODER not in settings:
        settings = config(files, where) or {}
    if settings.get("tokenizer_class") not in ANEW:
        lists = [key for key in LISTS if isinstance(settings.get(key), list)]
        settings = {key: value for key, value in settings.items() if key not in lists}
    decoder = (settings.get(DECODER) or {}).values()
    flagged = (content(t) for t in decoder if isinstance(t, dict) and t.get("special") is True)
    return special(settings) | {text for text in flagged if text}


def of_added_json(files: Mapping[str, bytes], where: str) -> dict[str, str]:
    """Returns the tokens that added_tokens.json puts beside a tokenizer.json, by id as text.

    transformers heeds it where the config has no `added_tokens_decoder`.
    """
    if ADDED not in files or DECODER in (config(files, where) or {}):
        return {}
    return {str(i): text for text, i in _object(files, ADDED, where).items()}


def others(settings: Mapping[str, Any], pieces: Collection[str]) -> dict[str, Any]:
    """Returns the tokens that a config names, by their keys, as text: those that are pieces.

    Such as mask_token, sep_token and the lists of further special tokens.
    """
    named: dict[str, Any] = {}
    for key, value in settings.items():
        if key.endswith("_token"):
            named[key] = content(value)
        elif key in LISTS and isinstance(value, dict):
            named[key] = {n: content(token) for n, token in value.items()}
        elif key in LISTS and isinstance(value, list):
            named[key] = [content(token) for token in value]
    return {key: value for key, value in named.items() if _all_in(value, pieces)}


def _all_in(value: Any, pieces: Collection[str]) -> bool:
    """Tells whether a name, or every name of a list, is a piece."""
    names = [*value.values()] if isinstance(value, dict) else value
    names = names if isinstance(names, list) else [names]
    return bool(names) and all(name in pieces for name in names)


def added(
    files: Mapping[str, bytes], settings: Mapping[str, Any], where: str
) -> dict[int, dict[str, Any]]:
    """Returns the added tokens by id: `content`, `special` and FLAGS of each.

    Raises:
      ValueError: two files give one id to two tokens, or a file is not what it should be.
    """
    named, tokens = special(settings), {}
    for name, i, token in _listed(files, settings, where):
        text = content(token)
        if type(i) is not int or i < 0 or text is None:
            raise ValueError(f"{where}: {name} has {token!r:.80} with id {i!r}; fetch it again")
        entry = {"id": i, "content": text, **{flag: bool(token.get(flag)) for flag in FLAGS}}
        entry["special"] = bool(token.get("special")) or text in named
        if name == JSON:
            tokens[i] = entry
        elif tokens.setdefault(i, entry)["content"] != text:
            raise ValueError(
                f"{where}: {name} has {text!r} with id {i}, which is {tokens[i]['content']!r} "
                "elsewhere; save the tokenizer once more with transformers (`save_pretrained`)"
            )
    return tokens


def special_map(data: bytes, settings: Mapping[str, Any]) -> bytes:
    """Returns special_tokens_map.json as it still holds beside a tokenizer_config.json of ours.

    Lists of objects, which transformers 5 reads only beside the old config, become lists of names;
    a name that the base's config overrules is the config's. What holds already stays as it is.
    """
    tree = json.loads(data)
    fixed = dict(tree)
    for key, value in tree.items():
        if isinstance(value, list):
            fixed[key] = [content(token) if isinstance(token, dict) else token for token in value]
        elif settings.get(key) is not None and content(value) != content(settings[key]):
            fixed[key] = content(settings[key])
    return data if fixed == tree else (json.dumps(fixed, indent=2, ensure_ascii=False)).encode()


def _listed(
    files: Mapping[str, bytes], settings: Mapping[str, Any], where: str
) -> Iterator[tuple[str, Any, Any]]:
    """Yields file, id and token of every added token, the file that counts first before others."""
    if JSON in files:
        for token in _object(files, JSON, where).get("added_tokens") or ():
            yield JSON, token["id"], token
    decoder = settings.get(DECODER) or {}
    if not isinstance(decoder, dict):
        raise ValueError(f"{where}: {CONFIG} has {decoder!r:.80} as its {DECODER}")
    for i, token in decoder.items():
        yield CONFIG, int(i) if str(i).isdecimal() else i, token
    if ADDED in files and JSON not in files:  # which has all of them
        for text, i in _object(files, ADDED, where).items():
            yield ADDED, i, {"content": text}


def _object(files: Mapping[str, bytes], name: str, where: str) -> dict[str, Any]:
    most = MAX_VALUES if name == JSON else storage.JSON_VALUES
    try:
        tree = storage.parse_json(files[name], f"{where}/{name}", most)
    except ValueError as e:
        raise ValueError(f"{e}; fetch it again") from None
    if not isinstance(tree, dict):
        raise ValueError(f"{where}/{name}: holds no JSON object; fetch it again")
    return tree
