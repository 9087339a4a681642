"""Writes a sheet as CSV and for Label Studio, and the key that tells what was left and right.

    sheet_csv(handout)             for a spreadsheet, safe to open
    label_studio_tasks(handout)    tasks.json, beside `label_studio_config`

Nothing that annotators are given says which model is which, or which rows are shown twice: that
stands in the key alone.
"""

from collections.abc import Mapping, Sequence
import csv
import hashlib
import io
import json
import re
from typing import Literal
from xml.sax import saxutils

from etils import epath
import pydantic

from lrl_jax import storage, text
from lrl_jax.evaluate.sheets.draw import Handout, Side
from lrl_jax.evaluate.sheets.pairs import SheetItem, digest

KEY_FORM = "lrl_jax.sheet.key.1"
ANSWERS_FORM = "lrl_jax.sheet.answers.1"  # of the file that the page saves
CHOICES = ("left", "right", "tie")
CELL = 32_767  # characters that a cell of Excel holds at most
COLUMNS = (
    "number", "prompt", "left", "right", "choice (left, right or tie)", "comment", "annotator",
    "sheet", "row",
)  # fmt: skip
# What a spreadsheet takes for a formula: these signs, also in full width, at the beginning of a
# cell. A program that splits cells at semicolons or tabs sees such a beginning within a text too.
_SIGNS = "=+\\-@\uff1d\uff0b\uff0d\uff20"
_AT_START = re.compile(rf"\A([\s\"]*)('*)(?=[{_SIGNS}])")
_WITHIN = re.compile(rf"([;\t\r\n][\s\"]*)('*)(?=([{_SIGNS}])([^\r\n]*))")
_LIST_SIGNS = "+-\uff0b\uff0d"  # which often begin a line of a list, and no formula
_NO_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_CALLS = re.compile(r"[(|!]")  # which a formula that does harm has


# ---------------------------------------------------------------------------- CSV
def sheet_csv(handout: Handout) -> bytes:
    """Returns a sheet as CSV that Excel opens as UTF-8: a row a judgement, all cells quoted."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for number, row in enumerate(handout.rows, start=1):
        cells = [*row.texts(), "", "", handout.annotator, handout.sheet, row.id]
        writer.writerow([str(number), *map(guarded, cells)])
    return text.BOM + out.getvalue().encode()


def guarded(cell: str) -> str:
    r"""Returns a cell that no spreadsheet runs as a formula: with an apostrophe before its sign.

    >>> guarded("=1+1"), guarded("a\n- b"), guarded("a;=b"), guarded("'=b")
    ("'=1+1", 'a\n- b', "a;'=b", "''=b")
    """
    cell = _AT_START.sub(r"\1'\2", cell)
    return _WITHIN.sub(_guard, cell)


def unguarded(cell: str) -> str:
    """Returns the text of which `guarded` made a cell, exactly.

    >>> unguarded("'=1+1"), unguarded("''=1"), unguarded("'tis")
    ('=1+1', "'=1", "'tis")
    """
    cell = _AT_START.sub(lambda match: match[1] + match[2][1:], cell)
    return _WITHIN.sub(lambda match: match[1] + match[2][1:], cell)


def _guard(match: re.Match[str]) -> str:
    harmless = match[3] in _LIST_SIGNS and not _CALLS.search(match[4])
    return match[0] if harmless and not match[2] else f"{match[1]}'{match[2]}"


# ---------------------------------------------------------------------------- Label Studio
def label_studio_tasks(handout: Handout) -> str:
    """Returns a sheet as the list of tasks that Label Studio imports."""
    tasks = []
    for number, row in enumerate(handout.rows, start=1):
        prompt, left, right = row.texts()
        data = {"sheet": handout.sheet, "annotator": handout.annotator, "number": number,
                "row": row.id, "prompt": prompt, "left": left, "right": right}  # fmt: skip
        tasks.append({"data": data})
    return json.dumps(tasks, indent=1, ensure_ascii=False) + "\n"


def label_studio_config(instructions: str, rtl: bool = False) -> str:
    """Returns the labelling interface of the tasks, with the keys 1, 2 and 3.

    A choice and not the tag Pairwise, which knows no tie.

    Args:
      rtl: whether texts are read from right to left.
    """
    style = f"direction: {'rtl' if rtl else 'ltr'}; white-space: pre-wrap"
    choices = "\n".join(
        f'    <Choice value="{choice}" hotkey="{key}"/>' for key, choice in enumerate(CHOICES, 1)
    )
    return f"""<View>
  <Header value={_attribute(instructions)} size="5"/>
  <Header value="Question" size="4"/>
  <View style="{style}"><Text name="prompt" value="$prompt" valueType="text"/></View>
  <View style="display: flex; direction: ltr">
    <View style="flex: 1; padding: 0 1em">
      <Header value="Left" size="4"/>
      <View style="{style}"><Text name="left" value="$left" valueType="text"/></View>
    </View>
    <View style="flex: 1; padding: 0 1em">
      <Header value="Right" size="4"/>
      <View style="{style}"><Text name="right" value="$right" valueType="text"/></View>
    </View>
  </View>
  <Choices name="choice" toName="prompt" choice="single-radio" showInline="true" required="true">
{choices}
  </Choices>
  <TextArea name="comment" toName="prompt" placeholder="Comment" rows="2" maxSubmissions="1"/>
</View>
"""


def _attribute(words: str) -> str:
    return saxutils.quoteattr(_NO_XML.sub(" ", words))


# ---------------------------------------------------------------------------- the key
class _Frozen(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


class KeyRow(_Frozen):
    """Says what a row was: its question, the model on its left, and a digest of its texts."""

    row: str
    item: str
    left: Side
    repeat: bool
    texts: str


class KeyAnnotator(_Frozen):
    """Says what an annotator was given: rows in their order, and the SHA-256 of each file."""

    rows: tuple[KeyRow, ...]
    files: dict[str, str]


class SheetKey(_Frozen):
    """Holds all that annotators may not know; `key.json`.

    Attributes:
      models: names of A and B.
      sources: SHA-256 of each file that the sheets were made of.
      items: the category of each question by its id, in order; "" for none.
    """

    form: Literal["lrl_jax.sheet.key.1"] = KEY_FORM
    sheet: str
    models: tuple[str, str]
    seed: int
    sources: dict[str, str]
    items: dict[str, str]
    annotators: dict[str, KeyAnnotator]


def key_of(
    handouts: Sequence[Handout],
    items: Sequence[SheetItem],
    models: tuple[str, str],
    seed: int,
    sources: Mapping[str, str],
    files: Mapping[str, Mapping[str, bytes]],
) -> SheetKey:
    """Returns the key of sheets; `files` has the content of each annotator's files by name."""
    return SheetKey(
        sheet=handouts[0].sheet,
        models=models,
        seed=seed,
        sources=dict(sources),
        items={item.id: item.category for item in items},
        annotators={
            handout.annotator: KeyAnnotator(
                rows=tuple(
                    KeyRow(row=row.id, item=row.item.id, left=row.left, repeat=row.repeat,
                           texts=texts_digest(row.texts()))
                    for row in handout.rows
                ),
                files={
                    name: hashlib.sha256(content).hexdigest()
                    for name, content in files[handout.annotator].items()
                },
            )
            for handout in handouts
        },
    )  # fmt: skip


def key_of_folder(path: epath.PathLike) -> epath.Path:
    """Returns the path of a key, which may be named by the folder that has it."""
    path = epath.Path(path)
    return path / "key.json" if path.is_dir() else path


def read_key(path: epath.PathLike) -> SheetKey:
    """Reads `key.json`, or that of a folder of sheets; another file is a DataError."""
    path = key_of_folder(path)
    try:
        return SheetKey.model_validate(storage.read_json(path))
    except FileNotFoundError:
        raise text.DataError(
            f"{path}: no such file; want the key.json that lrl sheet make wrote"
        ) from None
    except pydantic.ValidationError as e:
        first = e.errors()[0]
        field = ".".join(map(str, first["loc"])) or "it"
        raise text.DataError(
            f"{path}: is not the key of sheets ({field}: {first['msg']}); want the key.json that "
            "lrl sheet make wrote, as it was written"
        ) from None
    except ValueError as e:
        raise text.DataError(str(e)) from None


def texts_digest(texts: Sequence[str]) -> str:
    r"""Returns a digest of texts that does not depend on how their lines end.

    >>> texts_digest(["a\r\nb "]) == texts_digest(["a\nb"])
    True
    """
    return digest(["\n".join(piece.splitlines()).strip() for piece in texts])[:16]
