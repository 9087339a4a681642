"""Shows packed rows as the model sees them, what was packed, and what a plan will read of it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
import itertools

from etils import epath
import numpy as np
from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from lrl_jax import terminal
from lrl_jax.data.feed.plan import Plan, PlanStage
from lrl_jax.data.feed.stream import Files
from lrl_jax.data.pack import rows
from lrl_jax.data.read import tally as tallies
from lrl_jax.data.read.filters import IN_TEST
from lrl_jax.data.read.tally import Tally
from lrl_jax.laws import repeats
from lrl_jax.recipe import languages
from lrl_jax.recipe.train import RAMP_STEP
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.types import Tokenizer

MASKED = "dim"
LEARNT = "bold"
WEIGHED = "bold yellow"  # counts in the loss, but not as 1
MARK = "cyan"
UNHEARD = "dim cyan"  # a control token the loss does not count
MUCH = 1 / 20  # of the records; what leaves out more of them is said in a line of its own
SCRIPTS = 2  # most scripts shown in a cell
TESTS = 6  # most test files named in a line
REPEATED = 4  # most datasets of which it is said what repetition is worth


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

    Tokens that the loss does not count are dim, the others bold. Where a weight is neither 0 nor 1,
    it follows its tokens in brackets. Control tokens are shown by their names.

    Args:
      tokens: print a table of ids, pieces and weights instead.
    """
    manifest = _manifest(folder, tokenizer)
    if not 0 <= start < manifest.rows:
        raise ValueError(f"{folder}: has rows 0 to {manifest.rows - 1}; got {start}")
    files = Files(folder, manifest)
    for index in range(start, min(start + count, manifest.rows)):
        title = f"{manifest.name} row {index}"
        _print(title, files, index, tokenizer, console or terminal.console(), tokens)


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
    """Prints rows `start` to `start + count` of a stage, in the order training reads them.

    Args:
      stage: a stage of the recipe, or one of the stages of a ramp.
    """
    of_recipe = {name: (first, last) for name, first, last, _ in spans(plan)}
    of_plan = {plan_stage.name: (first, last) for plan_stage, first, last in plan.spans}
    if stage not in of_recipe and stage not in of_plan:
        raise ValueError(f"no stage {stage!r}; there are {', '.join(of_recipe)}")
    first, last = (of_recipe | of_plan)[stage]
    if not 0 <= start < last - first:
        raise ValueError(f"stage {stage!r} has rows 0 to {last - first - 1}; got {start}")
    wanted = np.arange(first + start, min(first + start + count, last))
    for g, dataset, place in zip(wanted.tolist(), *plan(wanted), strict=True):
        name = plan.names[dataset]
        files = Files(folders[name], _manifest(folders[name], tokenizer))
        (index,) = files.ids(np.array([place]))
        title = f"{stage} row {g - first} (row {g} of training): {name} row {index}"
        _print(title, files, index, tokenizer, console or terminal.console(), tokens)


def documents(row: rows.PackedRow, tokenizer: Tokenizer) -> list[Text]:
    """Returns each document of a row as styled text."""
    names = {i: name for name, i in tokenizer.controls.items()}
    return [_document(tokens, weights, tokenizer, names) for tokens, weights in _cut(row)]


def token_table(row: rows.PackedRow, tokenizer: Tokenizer) -> Table:
    """Returns a table of a row's tokens: the input, the target, and its weight in the loss."""
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("document", "position", "input", "target", "piece", "weight"):
        table.add_column(name, justify="left" if name == "piece" else "right")
    pieces = tokenizers.family(tokenizer).pieces(tokenizer)
    for number, (tokens, weights) in enumerate(_cut(row), start=1):
        inputs = [tokenizer.bos_id, *tokens[:-1].tolist()]
        every = zip(inputs, tokens.tolist(), weights.tolist(), strict=True)
        for position, (input_id, target, weight) in enumerate(every):
            style = MASKED if not weight else LEARNT if weight == 1 else WEIGHED
            cells = f"{number}", f"{position}", f"{input_id}", f"{target}"
            piece = Text(terminal.visible(pieces[target]))
            table.add_row(*cells, piece, f"{weight:g}", style=style)
    return table


def _print(
    title: str, files: Files, index: int, tokenizer: Tokenizer, console: Console, tokens: bool
) -> None:
    (row,) = files.read(np.array([index]))
    count, filled, length = len(row.lengths), len(row.tokens), files.manifest.sequence_length
    console.rule(Text(terminal.visible(title)))
    console.print(
        f"{count} document{'s' * (count != 1)}, {filled} of {length} tokens "
        f"({filled / length:.1%}), {np.count_nonzero(row.weights)} trained on",
        highlight=False,
    )
    if tokens:
        console.print(token_table(row, tokenizer))
        return
    for number, document in enumerate(documents(row, tokenizer), start=1):
        console.print(Text(f"{number:3} ", style=MARK) + document, soft_wrap=True)


def _manifest(folder: epath.PathLike, tokenizer: Tokenizer) -> rows.Manifest:
    manifest = rows.read_manifest(folder)
    if manifest.tokenizer != tokenizer.fingerprint:
        raise ValueError(f"{folder}: was packed with another tokenizer; run `lrl data` again")
    return manifest


def _cut(row: rows.PackedRow) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Returns the tokens and the loss weights of each document of a row."""
    ends = np.cumsum(row.lengths)[:-1]
    return zip(np.split(row.tokens, ends), np.split(row.weights, ends), strict=True)


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
            # decoded after what precedes it, so that a mark of a word's start becomes a space
            before = tokenizer.decode(tokens[:start])
            body = tokenizer.decode(tokens[:end])[len(before) :]
            style = LEARNT if weight else MASKED
        text.append(terminal.visible(body), style=style if weight in (0, 1) else WEIGHED)
        if weight not in (0, 1):
            text.append(f"[{weight:g}]", style=MARK)
    return text


# ---------------------------------------------------------------------------- tables
def datasets(manifests: Mapping[str, rows.Manifest]) -> Group:
    """Returns tables of what each packed dataset holds, and of the records left out and why."""
    table = Table(title="Packed data", box=box.SIMPLE_HEAD, padding=0)
    table.add_column("dataset", overflow="fold")
    table.add_column("language,\nscripts", no_wrap=True)
    for name in ("documents", "dis- tinct", "tokens", "in loss", "bytes/ token", "rows", "fill"):
        table.add_column(name.replace(" ", "\n"), justify="right", no_wrap=True)
    for name, m in manifests.items():
        table.add_row(
            name,
            "\n".join([*_languages(m), *_scripts(m)]),
            f"{m.docs:,}",
            _percent(m.distinct / m.docs),
            f"{m.tokens:,}",
            _percent(m.loss_tokens / m.tokens),
            f"{m.bytes / m.loss_tokens:.2f}",
            f"{m.rows:,}",
            f"{m.fill:.1%}",
        )
    left_out = Table(title="Left out", box=box.SIMPLE_HEAD, padding=0)
    left_out.add_column("dataset", overflow="fold")
    for name in ("records", "left out"):
        left_out.add_column(name, justify="right", no_wrap=True)
    left_out.add_column("why (samples.json beside the rows has some)")
    for name, m in manifests.items():
        most_first = Counter(m.left_out).most_common()
        why = [f"{count:,} {reason}" for reason, count in most_first if count]
        if m.cut:
            why.append(f"{m.cut:,} tokens cut from long documents")
        if why:
            records = f"{m.records:,}", f"{sum(m.left_out.values()):,}"
            left_out.add_row(name, *records, ", ".join(why))
    return Group(table, left_out) if left_out.row_count else Group(table)


def remarks(manifests: Mapping[str, rows.Manifest]) -> Iterator[str]:
    """Yields a line on everything about the packed datasets that is worth a second look."""
    for name, m in manifests.items():
        if m.provenance:
            yield f"{name}: {said_of(m.provenance)}"
        for reason, count in Counter(m.left_out).most_common():
            if count > MUCH * m.records:
                yield (
                    f"{name}: {count:,} of {m.records:,} records are left out: {reason} "
                    "(samples.json beside the rows has some)"
                )
        if m.in_tests:
            yield f"{name}: {_in_tests(m)}"
        tally = Tally(m.source_rows, Counter(m.unread), Counter(m.absent))
        yield from (f"{name}: {remark}" for remark in tallies.remarks(tally))
        if m.beyond:
            yield (
                f"{name}: {m.beyond:,} of {m.records:,} documents have something to learn beyond "
                f"the first row of {m.sequence_length:,} tokens, which is left out (or has no "
                "prompt, with long_answers: split); raise data.sequence_length, or set "
                "data.long_answers: drop"
            )


def said_of(provenance: Mapping[str, str]) -> str:
    """Returns where text comes from, for people.

    >>> said_of({"dataset": "a/b", "revision": "0123456789abcdef", "license": "cc0-1.0"})
    'from a/b at 0123456789ab, licence cc0-1.0'
    """
    at = f" at {provenance['revision'][:12]}" if "revision" in provenance else ""
    licence = f", licence {provenance['license']}" if "license" in provenance else ""
    asks = f": {provenance['asks']}" if "asks" in provenance else ""
    return f"from {provenance['dataset']}{at}{licence}{asks}"


def _in_tests(m: rows.Manifest) -> str:
    """Says how many records share text with test texts, and with which."""
    left_out = m.left_out.get(IN_TEST, 0)
    says = f"{left_out:,} of {m.records:,} records share text with"
    if not left_out:
        return f"{says} {_some([*m.in_tests])}"
    counts = [f"{count:,} with {test}" for test, count in m.in_tests.items() if count]
    return f"{says} test texts and are left out: {_some(counts)}"


def _some(names: Sequence[str]) -> str:
    more = [f"{len(names) - TESTS:,} more"] if len(names) > TESTS else []
    return ", ".join([*names[:TESTS], *more])


def _languages(m: rows.Manifest) -> Iterator[str]:
    """Yields the code of each language of a dataset, and its name where it has one."""
    for code in m.language.split("-"):
        yield from filter(None, (code, languages.name_of(code)))


def _scripts(m: rows.Manifest) -> Iterator[str]:
    """Yields the commonest scripts of a dataset; none if its language's own is the only one."""
    letters = Counter(m.scripts)
    if len(letters) > 1 or not m.language.endswith(tuple(letters)):
        for code, count in letters.most_common(SCRIPTS):
            yield f"{code} {_percent(count / letters.total())}"


def _percent(share: float) -> str:
    """Formats a share as whole percents; only all is "100%", and only nothing "0%".

    >>> _percent(1), _percent(0.999), _percent(0.5), _percent(0.001)
    ('100%', '>99%', '50%', '<1%')
    """
    if 0 < share < 0.005:
        return "<1%"
    return ">99%" if 0.995 <= share < 1 else f"{share:.0%}"


def plan_table(plan: Plan, manifests: Mapping[str, rows.Manifest]) -> Table:
    """Returns a table of what each stage, and the whole plan, reads of each dataset.

    The column `new` is the share of the rows with text that was not read before. The caption says
    what data is worth that is read more than once.
    """
    numbers = ("share", "rows", "tokens", "trained\nbytes", "epochs", "new")
    columns = ("stage", "dataset", *numbers)
    style = {"box": box.SIMPLE_HEAD, "padding": 0}
    table = terminal.FittedTable(*columns, numbers=numbers, title="Plan", **style)
    stretches = [*spans(plan)]
    if len(stretches) > 1:
        stretches.append(("all", 0, plan.total, []))
    row_tokens = {name: m.tokens / m.rows for name, m in manifests.items()}
    for label, first, last, stages in stretches:
        before, after = plan.consumed(first), plan.consumed(last)
        read = {name: after[name] - before[name] for name in plan.names}
        tokens = sum(count * row_tokens[name] for name, count in read.items())
        for name, count in read.items():
            if not count and not any(stage.weights.get(name) for stage in stages):
                continue
            share = f"{count * row_tokens[name] / tokens:.1%}"
            if len(stages) > 1:
                share = _ramp(name, stages, row_tokens)
            fresh = min(after[name], plan.sizes[name]) - min(before[name], plan.sizes[name])
            table.add_row(label, name, share, *_reading(count, fresh, manifests[name]))
        table.add_section()
    table.caption = _repeated(plan)
    return table


def _repeated(plan: Plan) -> str | None:
    """Says how many epochs of new data repeated data is worth, the most read first."""
    epochs = Counter({name: n for name, n in plan.epochs(plan.total).items() if n > 1})
    if not epochs:
        return None
    each = [
        f"{name} {n:.2f} epochs as {repeats.effective_epochs(n):.2f}"
        for name, n in epochs.most_common(REPEATED)
    ]
    more = [f"and {len(epochs) - REPEATED} more"] if len(epochs) > REPEATED else []
    return f"Read again, and worth new data of (arXiv 2305.16264): {', '.join([*each, *more])}"


def spans(plan: Plan) -> Iterator[tuple[str, int, int, Sequence[PlanStage]]]:
    """Yields the stages of the recipe; those that a ramp became are one again.

    Each is its name, its first global row, the one after its last, and its stages of the plan.
    """
    for label, group in itertools.groupby(plan.spans, lambda span: RAMP_STEP.sub("", span[0].name)):
        stages, starts, ends = zip(*group, strict=True)
        yield label, starts[0], ends[-1], stages


def _reading(count: int, fresh: int, manifest: rows.Manifest) -> Iterator[str]:
    """Yields the cells of a dataset: rows, tokens, bytes and epochs, and how much of it is new."""
    epochs = count / manifest.rows
    for number in (count, round(epochs * manifest.tokens), round(epochs * manifest.bytes)):
        yield f"{number:,}"
    yield f"{epochs:.2f}"
    yield _percent(fresh * manifest.distinct / manifest.docs / count if count else 0)


def _ramp(name: str, stages: Sequence[PlanStage], row_tokens: Mapping[str, float]) -> str:
    """Formats a dataset's share of tokens at the beginning and at the end of a ramp."""
    ends = []
    for stage in (stages[0], stages[-1]):
        tokens = sum(weight * row_tokens[other] for other, weight in stage.weights.items())
        ends.append(stage.weights.get(name, 0) * row_tokens[name] / tokens)
    return f"{ends[0]:.0%} to {ends[1]:.0%}"
