"""Shows packed data as the model sees it, and a plan as what will be read."""

from collections.abc import Mapping
import itertools

from etils import epath
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lrl_jax.data import rows
from lrl_jax.data.plan import Plan
from lrl_jax.data.stream import Files
from lrl_jax.vocab.tokenizer import Tokenizer

MASKED = "dim"
LEARNT = "bold"
MARK = "cyan"


def show(
    folder: epath.PathLike,
    tokenizer: Tokenizer,
    count: int = 3,
    start: int = 0,
    console: Console | None = None,
) -> None:
    """Prints rows `start` to `start + count` of a packed dataset.

    Tokens the loss does not count are dim, the others bold; control tokens are <bos>, <eos>.
    """
    console = console or Console()
    manifest = rows.read_manifest(folder)
    if manifest.tokenizer != tokenizer.fingerprint:
        raise ValueError(f"{folder}: was packed with another tokenizer; run `lrl data` again")
    if not 0 <= start < manifest.rows:
        raise ValueError(f"{folder}: has rows 0 to {manifest.rows - 1}; got {start}")
    wanted = np.arange(start, min(start + count, manifest.rows))
    for index, row in zip(wanted, Files(folder, manifest).read(wanted), strict=True):
        share = len(row.tokens) / manifest.sequence_length
        console.rule(
            f"{manifest.name} row {index}: {len(row.lengths)} documents, {len(row.tokens)} of "
            f"{manifest.sequence_length} tokens ({share:.1%}), {row.trained.sum()} trained on"
        )
        for number, document in enumerate(documents(row, tokenizer), start=1):
            console.print(Text(f"{number:3} ", style=MARK) + document, soft_wrap=True)


def documents(row: rows.Row, tokenizer: Tokenizer) -> list[Text]:
    """Each document of a row as styled text."""
    ends = np.cumsum(row.lengths)
    return [
        _document(row.tokens[end - length : end], row.trained[end - length : end], tokenizer)
        for end, length in zip(ends, row.lengths, strict=True)
    ]


def datasets(manifests: Mapping[str, rows.Manifest]) -> Table:
    """What each packed dataset holds; `left out` are records with an empty half."""
    table = Table(title="Packed data", box=box.SIMPLE_HEAD)
    table.add_column("dataset", overflow="fold")
    table.add_column("language", overflow="fold", max_width=9)
    for name in ("documents", "left out", "tokens", "in loss", "bytes/token", "rows", "fill"):
        table.add_column(name.replace(" ", "\n").replace("/", "/\n"), justify="right", no_wrap=True)
    for name, m in manifests.items():
        table.add_row(
            name,
            m.language.replace("-", " "),
            f"{m.docs:,}",
            f"{sum(m.left_out.values()):,}",
            f"{m.tokens:,}",
            f"{m.loss_tokens / m.tokens:.0%}",
            f"{m.bytes / m.loss_tokens:.2f}",
            f"{m.rows:,}",
            f"{m.fill:.1%}",
        )
    return table


def plan_table(plan: Plan, manifests: Mapping[str, rows.Manifest]) -> Table:
    """What each stage reads of each dataset: share, tokens, bytes, epochs; and all of it."""
    table = Table(title="Plan", box=box.SIMPLE_HEAD)
    table.add_column("stage", overflow="fold")
    table.add_column("dataset", overflow="fold")
    for name in ("share", "rows", "tokens", "trained bytes", "epochs"):
        table.add_column(name, justify="right")
    start = 0
    spans = []
    for stage in plan.stages:
        spans.append((stage.name, start, start + stage.rows))
        start += stage.rows
    if len(spans) > 1:
        spans.append(("all", 0, start))
    for label, first, last in spans:
        before, after = plan.consumed(first), plan.consumed(last)
        for name in plan.names:
            count = after[name] - before[name]
            if count:
                table.add_row(label, name, *_reading(count, last - first, manifests[name]))
        table.add_section()
    return table


def _reading(count: int, total: int, manifest: rows.Manifest) -> list[str]:
    epochs = count / manifest.rows
    return [
        f"{count / total:.1%}",
        f"{count:,}",
        f"{round(epochs * manifest.tokens):,}",
        f"{round(epochs * manifest.bytes):,}",
        f"{epochs:.2f}",
    ]


def _document(tokens: np.ndarray, trained: np.ndarray, tokenizer: Tokenizer) -> Text:
    text = Text("<bos>", style=MARK)
    cuts = np.flatnonzero(np.diff(trained)) + 1
    for start, end in itertools.pairwise([0, *cuts, len(tokens)]):
        before = tokenizer.decode(tokens[:start])  # in context, a word mark shows as its space
        body = tokenizer.decode(tokens[:end])[len(before) :]
        text.append(body, style=LEARNT if trained[start] else MASKED)
    if tokens[-1] == tokenizer.eos_id:
        text.append("<eos>", style=MARK)
    return text
