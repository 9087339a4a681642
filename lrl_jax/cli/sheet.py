"""Runs `lrl sheet make` and `lrl sheet read`: sheets for people, and what they say."""

import argparse
from collections.abc import Mapping, Sequence

from etils import epath

from lrl_jax import storage, terminal, text
from lrl_jax.cli import begin
from lrl_jax.evaluate.sheets import draw, forms, pairs, returned, verdicts
from lrl_jax.recipe import languages
from lrl_jax.report import pages
from lrl_jax.report import sheet as sheet_report

HAND_OUT = "hand_out"
INSTRUCTIONS_BYTES = 1 << 16
DATA = 3  # exit code


def sheet_make(args: argparse.Namespace) -> None:
    """Writes the sheets of all annotators, and the key; the same arguments give the same files."""
    count = args.annotators or len(args.names) or 3
    if args.names and count != len(args.names):
        raise ValueError(
            f"--annotators {count}, and {len(args.names)} names; leave out one of them"
        )
    annotators = draw.names(args.names, count)
    language = languages.resolve(args.language) if args.language else ""
    instructions = _instructions(args.instructions)
    both = pairs.paired(args.a, args.b, args.questions)
    items = draw.chosen(both.items, args.items, args.seed)
    handouts = draw.handouts(items, both.models, annotators, args.seed)
    files = {handout.annotator: _files(handout, instructions, language) for handout in handouts}
    sources = {name: text.fingerprint(name) for name in (args.a, args.b, args.questions) if name}
    key = forms.key_of(handouts, items, both.models, args.seed, sources, files)
    _write(epath.Path(args.out), key, files, instructions, items)
    for note in both.notes:
        begin.say(f"sheet: {note}")
    texts = (words for item in items for words in (item.prompt, *item.answers))
    if long := sum(len(words) > forms.CELL for words in texts):
        begin.say(
            f"sheet: {long} texts are longer than the {forms.CELL:,} characters that a cell of "
            "Excel holds; have them judged on the page"
        )
    if same := sum(item.answers[0].strip() == item.answers[1].strip() for item in items):
        begin.say(f"sheet: {same} questions have the same answer from both, and can only be ties")
    if len(items) < args.items:
        begin.say(f"sheet: {len(items)} questions are answered in both files, all of them are in")
    begin.say(
        f"sheet: {len(handouts[0].rows)} rows for each of {', '.join(annotators)}, in "
        f"{args.out}/{HAND_OUT}; keep {args.out}/key.json to yourself. Then: lrl sheet read FILES "
        f"--key {args.out}/key.json"
    )


def sheet_read(args: argparse.Namespace) -> int:
    """Reads sheets that came back, writes human.json, prints tables; 3 if answers are unusable."""
    place = forms.key_of_folder(args.key)
    key = forms.read_key(place)
    back = returned.read(args.files, key)
    results = verdicts.results(key, back)
    results["sources"] = {
        file: text.digest(file) for name in args.files for file in _readable(name)
    } | {str(place): storage.sha256(place)}
    folder = epath.Path(args.out) if args.out else place.parent
    folder.mkdir(parents=True, exist_ok=True)
    storage.write_json(folder / "human.json", results)
    for table in sheet_report.tables(results):
        terminal.console().print(table)
    for note in back.notes:
        begin.say(f"sheet: {note}")
    for problem in back.problems:
        begin.say(f"sheet: {problem}")
    begin.say(f"sheet: {folder / 'human.json'}, which lrl judge compares with")
    return DATA if back.problems else 0


def _readable(name: str) -> list[str]:
    try:
        return text.files(name, only_text=False)
    except text.DataError:
        return []  # is named among the problems


def _files(handout: draw.Handout, instructions: str, language: str) -> dict[str, bytes]:
    """Returns the files of an annotator by name."""
    stem = draw.file_stem(handout.annotator)
    return {
        f"{stem}.csv": forms.sheet_csv(handout),
        f"{stem}.html": sheet_report.page(handout, instructions, language).encode(),
        f"{stem}.tasks.json": forms.label_studio_tasks(handout).encode(),
    }


def _write(
    folder: epath.Path,
    key: forms.SheetKey,
    files: Mapping[str, Mapping[str, bytes]],
    instructions: str,
    items: Sequence[pairs.SheetItem],
) -> None:
    """Writes all files, the key last; refuses a folder with the key of other sheets."""
    place = folder / "key.json"
    if place.exists() and forms.read_key(place).sheet != key.sheet:
        raise ValueError(
            f"{place}: is the key of other sheets, which could not be read without it; name "
            "another folder with --out"
        )
    hand_out = folder / HAND_OUT
    hand_out.mkdir(parents=True, exist_ok=True)
    for own in files.values():
        for name, content in own.items():
            storage.write(hand_out / name, content)
    shown = "\n".join(answer for item in items for answer in item.answers)
    config = forms.label_studio_config(instructions, rtl=pages.direction(shown) == "rtl")
    storage.write(hand_out / "config.xml", config)
    storage.write_json(place, key.model_dump(mode="json"))


def _instructions(file: str) -> str:
    """Returns what annotators are told."""
    if not file:
        return sheet_report.INSTRUCTIONS
    path = epath.Path(*text.files(file))
    try:
        content = storage.read_bytes(path, INSTRUCTIONS_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise text.DataError(f"{path}: is not UTF-8; save it as UTF-8") from None
    if not content.strip():
        raise text.DataError(f"{path}: is empty")
    return content.strip()
