"""Shows packed rows as the model sees them, what was packed, and what a plan will read of it."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import itertools
import re

from etils import epath
import numpy as np
from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from lrl_jax.data.feed.plan import Plan, PlanStage
from lrl_jax.data.feed.stream import Files
from lrl_jax.data.pack import rows
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.types import Tokenizer

MASKED = "dim"
LEARNT = "bold"
WEIGHED = "bold yellow"  # counts in the loss, but not as 1
MARK = "cyan"
UNHEARD = "dim cyan"  # a control token the loss does not count
SCRIPTS = 2  # that a cell has room for
RAMP = re.compile(r"(.+)\.\d\d")  # a stage of a ramp


# ---------------------------------------------------------------------------- rows
def show(
    folder: epath.PathLike,
    tokenizer: Tokenizer,
    count: int = 3,
    start: int = 0,
    console: Console | None = None,
    tokens: bool = False,
) -> None:
    """Prints rows `start` to `start + count` of a packed dataset.

    Tokens the loss does not count are dim, the others bold, those of another weight than 1 follow
    it in brackets; control tokens stand by their names.

    Args:
      tokens: as a table of ids, pieces and weights instead.
    """
    manifest = rows.read_manifest(folder)
    _one_tokenizer(manifest, tokenizer, folder)
    if not 0 <= start < manifest.rows:
        raise ValueError(f"{folder}: has rows 0 to {manifest.rows - 1}; got {start}")
    wanted = np.arange(start, min(start + count, manifest.rows))
    found = Files(folder, manifest).read(wanted)
    page = _Page(console or Console(), tokenizer, tokens)
    for index, row in zip(wanted, found, strict=True):
        page.row(f"{manifest.name} row {index}", row, manifest.sequence_length)


def show_stage(
    folders: Mapping[str, epath.PathLike],
    plan: Plan,
    tokenizer: Tokenizer,
    stage: str,
    count: int = 3,
    start: int = 0,
    console: Console | None = None,
    tokens: bool = False,
) -> None:
    """Prints rows `start` to `start + count` of a stage, in the order training reads them."""
    whole = {name: (first, last) for name, first, last, _ in spans(plan)}
    parts = {one.name: (first, last) for one, first, last in plan.spans}
    if stage not in whole and stage not in parts:
        raise ValueError(f"no stage {stage!r}; there are {', '.join(whole)}")
    first, last = (whole | parts)[stage]
    if not 0 <= start < last - first:
        raise ValueError(f"stage {stage!r} has rows 0 to {last - first - 1}; got {start}")
    wanted = np.arange(first + start, min(first + start + count, last))
    page = _Page(console or Console(), tokenizer, tokens)
    for g, dataset, place in zip(wanted.tolist(), *plan(wanted), strict=True):
        name = plan.names[dataset]
        manifest = rows.read_manifest(folders[name])
        _one_tokenizer(manifest, tokenizer, folders[name])
        files = Files(folders[name], manifest)
        (index,) = files.ids(np.array([place]))
        title = f"{stage} row {g - first} (row {g} of training): {name} row {index}"
        page.row(title, files.read(np.array([index]))[0], manifest.sequence_length)


def documents(row: rows.PackedRow, tokenizer: Tokenizer) -> list[Text]:
    """Each document of a row as styled text."""
    names = {i: name for name, i in tokenizer.controls.items()}
    return [_document(*one, tokenizer, names) for one in _cut(row)]


def token_table(row: rows.PackedRow, tokenizer: Tokenizer) -> Table:
    """Every token of a row: what is read, what is to follow, and what that weighs in the loss."""
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("document", "position", "input", "target", "piece", "weight"):
        table.add_column(name, justify="left" if name == "piece" else "right")
    pieces = tokenizers.family(tokenizer).pieces(tokenizer)
    for number, (tokens, weights) in enumerate(_cut(row), start=1):
        inputs = [tokenizer.bos_id, *tokens[:-1].tolist()]
        every = zip(inputs, tokens.tolist(), weights.tolist(), strict=True)
        for position, (given, target, weight) in enumerate(every):
            style = MASKED if not weight else LEARNT if weight == 1 else WEIGHED
            cells = f"{number}", f"{position}", f"{given}", f"{target}"
            table.add_row(*cells, Text(pieces[target]), f"{weight:g}", style=style)
    return table


@dataclasses.dataclass(frozen=True)
class _Page:
    """Where rows are printed, and how."""

    console: Console
    tokenizer: Tokenizer
    tokens: bool

    def row(self, title: str, row: rows.PackedRow, length: int) -> None:
        count, tokens = len(row.lengths), len(row.tokens)
        self.console.rule(title)
        self.console.print(
            f"{count} document{'s' * (count != 1)}, {tokens} of {length} tokens "
            f"({tokens / length:.1%}), {row.trained.sum()} trained on",
            highlight=False,
        )
        if self.tokens:
            self.console.print(token_table(row, self.tokenizer))
            return
        for number, document in enumerate(documents(row, self.tokenizer), start=1):
            self.console.print(Text(f"{number:3} ", style=MARK) + document, soft_wrap=True)


def _one_tokenizer(manifest: rows.Manifest, tokenizer: Tokenizer, folder: epath.PathLike) -> None:
    if manifest.tokenizer != tokenizer.fingerprint:
        raise ValueError(f"{folder}: was packed with another tokenizer; run `lrl data` again")


def _cut(row: rows.PackedRow) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Tokens and weights of each document."""
    ends = np.cumsum(row.lengths)
    for end, length in zip(ends, row.lengths, strict=True):
        yield row.tokens[end - length : end], row.weights[end - length : end]


def _document(
    tokens: np.ndarray, weights: np.ndarray, tokenizer: Tokenizer, names: Mapping[int, str]
) -> Text:
    text = Text(names.get(tokenizer.bos_id, "<bos>"), style=MARK)
    is_control = np.isin(tokens, [*names])
    cuts = np.flatnonzero((np.diff(weights) != 0) | is_control[1:] | is_control[:-1]) + 1
    for start, end in itertools.pairwise([0, *cuts, len(tokens)]):
        weight = weights[start]
        if is_control[start]:
            body, style = names[int(tokens[start])], MARK if weight else UNHEARD
        else:
            before = tokenizer.decode(tokens[:start])  # in context, a word mark shows as its space
            body = tokenizer.decode(tokens[:end])[len(before) :]
            style = LEARNT if weight else MASKED
        text.append(body, style=style if weight in (0, 1) else WEIGHED)
        if weight not in (0, 1):
            text.append(f"[{weight:g}]", style=MARK)
    return text


# ---------------------------------------------------------------------------- tables
def datasets(manifests: Mapping[str, rows.Manifest]) -> Group:
    """What each packed dataset holds, then why something of it was left out."""
    table = Table(title="Packed data", box=box.SIMPLE_HEAD, padding=0)
    table.add_column("dataset", overflow="fold")
    table.add_column("language,\nscripts", no_wrap=True)
    for name in ("documents", "dis- tinct", "tokens", "in loss", "bytes/ token", "rows", "fill"):
        table.add_column(name.replace(" ", "\n"), justify="right", no_wrap=True)
    for name, m in manifests.items():
        table.add_row(
            name,
            "\n".join([*m.language.split("-"), *_scripts(m)]),
            f"{m.docs:,}",
            _percent(m.distinct / m.docs),
            f"{m.tokens:,}",
            _percent(m.loss_tokens / m.tokens),
            f"{m.bytes / m.loss_tokens:.2f}",
            f"{m.rows:,}",
            f"{m.fill:.1%}",
        )
    left = Table(title="Left out", box=box.SIMPLE_HEAD, padding=0)
    left.add_column("dataset", overflow="fold")
    left.add_column("records", justify="right", no_wrap=True)
    left.add_column("left out", justify="right", no_wrap=True)
    left.add_column("why (samples.json beside the rows has some)")
    for name, m in manifests.items():
        if why := ", ".join(_left_out(m)):
            left.add_row(name, f"{m.records:,}", f"{sum(m.left_out.values()):,}", why)
    return Group(table, left) if left.row_count else Group(table)


def _left_out(m: rows.Manifest) -> Iterator[str]:
    most_first = sorted(m.left_out.items(), key=lambda one: -one[1])
    yield from (f"{count:,} {reason}" for reason, count in most_first if count)
    if m.cut:
        yield f"{m.cut:,} tokens cut from long documents"


def _scripts(m: rows.Manifest) -> Iterator[str]:
    """The commonest, where they are not all the language is written in."""
    letters = sum(m.scripts.values())
    most_first = sorted(m.scripts.items(), key=lambda one: -one[1])
    if len(m.scripts) > 1 or not m.language.endswith(tuple(m.scripts)):
        yield from (f"{code} {_percent(n / letters)}" for code, n in most_first[:SCRIPTS])


def _percent(share: float) -> str:
    """Whole percents; 100% is all of it and 0% nothing.

    >>> _percent(1), _percent(0.999), _percent(0.5), _percent(0.001)
    ('100%', '>99%', '50%', '<1%')
    """
    if 0 < share < 0.005:
        return "<1%"
    return ">99%" if 0.995 <= share < 1 else f"{share:.0%}"


def plan_table(plan: Plan, manifests: Mapping[str, rows.Manifest]) -> Table:
    """What each stage reads of each dataset, and all of them; `new` is the share of it that is
    text no stage has read before."""
    table = Table(title="Plan", box=box.SIMPLE_HEAD, padding=0)
    table.add_column("stage", overflow="fold")
    table.add_column("dataset", overflow="fold")
    for name in ("share", "rows", "tokens", "trained bytes", "epochs", "new"):
        table.add_column(name, justify="right")
    parts = [*spans(plan)]
    if len(parts) > 1:
        parts.append(("all", 0, plan.total, []))
    for label, first, last, stages in parts:
        before, after = plan.consumed(first), plan.consumed(last)
        read = {name: after[name] - before[name] for name in plan.names}
        full = {name: one.tokens / one.rows for name, one in manifests.items()}
        whole = sum(count * full[name] for name, count in read.items())
        for name, count in read.items():
            if not count and not any(stage.weights.get(name) for stage in stages):
                continue
            share = f"{count * full[name] / whole:.1%}"
            if len(stages) > 1:
                share = _ramp(name, stages, full)
            fresh = min(after[name], plan.sizes[name]) - min(before[name], plan.sizes[name])
            cells = _reading(count, fresh, manifests[name])
            table.add_row(label, name, share, *cells)
        table.add_section()
    return table


def spans(plan: Plan) -> Iterator[tuple[str, int, int, list[PlanStage]]]:
    """Stages as the recipe names them, first row and the one after the last; a ramp is one."""

    def name(one: tuple[PlanStage, int, int]) -> str:
        ramp = RAMP.fullmatch(one[0].name)
        return ramp[1] if ramp else one[0].name

    for label, group in itertools.groupby(plan.spans, key=name):
        parts = [*group]
        yield label, parts[0][1], parts[-1][2], [stage for stage, _, _ in parts]


def _reading(count: int, fresh: int, manifest: rows.Manifest) -> list[str]:
    epochs = count / manifest.rows
    new = fresh * manifest.distinct / manifest.docs / count if count else 0
    return [
        f"{count:,}",
        f"{round(epochs * manifest.tokens):,}",
        f"{round(epochs * manifest.bytes):,}",
        f"{epochs:.2f}",
        _percent(new),
    ]


def _ramp(name: str, stages: Sequence[PlanStage], full: Mapping[str, float]) -> str:
    """A dataset's share of tokens at the beginning and at the end of a ramp."""
    ends = []
    for stage in (stages[0], stages[-1]):
        whole = sum(weight * full[other] for other, weight in stage.weights.items())
        ends.append(stage.weights.get(name, 0) * full[name] / whole)
    return f"{ends[0]:.0%} to {ends[1]:.0%}"
