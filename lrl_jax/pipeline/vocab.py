"""Runs the step `vocab`: makes the vocabulary, proves it lossless and reports what it gains."""

from collections.abc import Callable, Iterable, Iterator, Sequence
import contextlib
import dataclasses
import itertools
import tempfile

from etils import epath

from lrl_jax import storage, text
from lrl_jax.data.feed import mixture
from lrl_jax.data.read import plain
from lrl_jax.data.templates import sandbox, tokenizer_chat
from lrl_jax.pipeline.console import display, progress, say
from lrl_jax.pipeline.run import Run
from lrl_jax.recipe.schema import Pretrained, Recipe
from lrl_jax.recipe.vocab import Extend
from lrl_jax.report import fertility as fertility_report
from lrl_jax.train.checkpoint import VerificationError
from lrl_jax.vocab import build, exposure, fertility
from lrl_jax.vocab.pieces import prove, splice
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.types import EXTRAS, Tokenizer

# Conversations on which a chat template is proved: the system turn, or "", then user and assistant.
CHATS = (
    ("", "Hello"),
    ("", "Hello", "Hi!"),
    ("", " a space first and last ", " so here "),
    ("", "two\nlines\n", "\n\nthree"),
    ("", "Who?", "A cat.", "Where?"),
    ("", "1 + 1 = ?", "2", "Why?", "Because."),
    ("", "caf\u00e9 cafe\u0301", "\u2581 mark"),
    ("Be brief.", "Hello"),
    ("Be brief.\n", "Hello", "Hi!", "Bye"),
    ("You are a cat", "  ", "Meow"),
)
TOLD = 1000  # lines after which progress is told
FURTHER = "additional_chat_templates/*.jinja"  # as transformers saves those that have a name
ENGLISH = "eng"  # the base language of every model of this family


def run(run: Run) -> None:
    """Makes the vocabulary, proves it and reports; writes every tokenizer form and splice.json."""
    out = run.at("vocab")
    with progress("vocab") as tell:
        built = build.build(run.recipe.vocab, base_tokenizer(run), lambda what: tell(what, 0, 0))
    for note in (*of_base(run, built.base), *built.notes):
        say(f"vocab: {note}")
    with tempfile.TemporaryDirectory() as local:  # transformers reads local folders only
        tokenizers.family(built.new).write(built.new, local)
        copy_tokenizer(epath.Path(local), out)
    built.splice.write(out / "splice.json")
    if built.costs:
        costs = [dataclasses.asdict(cost) for cost in built.costs]
        storage.write_json(out / "balance.json", costs)
    proof = prove_lossless(run, out, built.base)
    proof.write(out / "proof.json")
    _fertility(run, built)
    _exposure(run, built)
    say(f"vocab: {built.new.size:,} pieces, {len(built.splice.added):,} of them new")
    refuse_lossy(out, proof)


def of_base(run: Run, base: Tokenizer) -> Iterator[str]:
    """Says where transformers reads a base otherwise than the base's files say, and what is left.

    Looks at local folders only.
    """
    if not isinstance(run.recipe.base, Pretrained):
        return
    folder = run.base_tokenizer()
    if storage.is_remote(folder):
        return
    odd = prove.read_otherwise(folder, base, rendered(base))
    if odd.count:
        example = next(filter(str.strip, odd.examples), "")
        yield (
            f"{folder}: transformers reads {odd.count} of the texts tried, such as {example!r}, by "
            "a class of its own and not as tokenizer.json says; training and the export read as "
            "the file says. Save it with transformers to settle which"
        )
    further = sorted(path.stem for path in folder.glob(FURTHER))
    if further:
        yield (
            f"{folder}: its further chat templates ({', '.join(further)}) do not go into the "
            "export; copy those that still hold"
        )


def prove_again(run: Run) -> None:
    """Proves the vocabulary that `lrl vocab` has written once more."""
    out = run.at("vocab")
    proof = prove_lossless(run, out, base_tokenizer(run) or tokenizers.load(out))
    proof.write(out / "proof.json")
    refuse_lossy(out, proof)


def prove_lossless(
    run: Run, folder: epath.Path, base: Tokenizer, step: str = "vocab"
) -> prove.Proof:
    """Proves on the recipe's texts that all forms of the tokenizer in a folder are lossless.

    Ids of the tokenizer `base` must not change.

    Args:
      step: of which it is a part, as progress calls it.
    """
    vocab = run.recipe.vocab
    new_texts = getattr(vocab, "files", ())
    base_texts = getattr(vocab, "prove_on", new_texts)
    for uri in (*base_texts, *new_texts):
        plain.refuse_blank(uri)
    texts = plain.lines(*base_texts), build.lines(vocab, *new_texts)
    size = _size([*base_texts, *new_texts])
    with tempfile.TemporaryDirectory() as local, progress(step) as tell:
        tell("proving it lossless", 0, size)
        copy_tokenizer(folder, epath.Path(local))
        if isinstance(run.recipe.base, Pretrained):  # transformers chooses its class by config.json
            config = (run.base_folder() / "config.json").read_bytes()
            (epath.Path(local) / "config.json").write_bytes(config)
        start, chats = build.starting(vocab, base), rendered(base)
        drift = getattr(vocab, "drift", 0.0)
        told = _counted(texts, lambda done: tell("proving it lossless", done, size))
        return prove.prove(local, base, *told, start=start, chats=chats, drift=drift)


def _size(uris: Sequence[str]) -> int:
    """Returns the bytes of text files; 0 if that is not known."""
    names = [name for uri in uris for name in text.files(uri)]
    if any(text.is_packed(name) or name.startswith(text.SAMPLE) for name in names):
        return 0
    return sum(epath.Path(name).stat().length for name in names)


def _counted(texts: Iterable[Iterable[str]], tell: Callable[[int], None]) -> list[Iterator[str]]:
    """Returns the same lines, which tell how many bytes were read of them all together."""
    read = 0

    def counting(lines: Iterable[str]) -> Iterator[str]:
        nonlocal read
        for number, line in enumerate(lines):
            if not number % TOLD:
                tell(read)
            yield line
            read += len(line.encode()) + 1

    return [counting(lines) for lines in texts]


def rendered(tokenizer: Tokenizer) -> list[str]:
    """Returns CHATS as the tokenizer's own chat template writes them, those that it accepts."""
    try:
        template = sandbox.compiled(tokenizer_chat.template(tokenizer))
    except ValueError:  # it has none
        return []
    by_id = {i: name for name, i in tokenizer.controls.items()}
    names = {"bos_token": by_id.get(tokenizer.bos_id, ""), "eos_token": by_id[tokenizer.eos_id]}
    texts = []
    for contents in CHATS:
        roles = itertools.cycle(("user", "assistant"))
        system = [{"role": "system", "content": contents[0]}] if contents[0] else []
        turns = [
            {"role": role, "content": text} for role, text in zip(roles, contents[1:], strict=False)
        ]
        with contextlib.suppress(ValueError):  # many templates refuse a system turn
            texts.append(template.render([*system, *turns], len(turns) % 2 == 1, names))
    return texts


def copy_tokenizer(source: epath.Path, target: epath.Path) -> None:
    """Copies every form of a tokenizer, and the files that go with it."""
    family = tokenizers.family(tokenizers.load(source))
    for name in dict.fromkeys((*family.FORMS, *EXTRAS)):
        if (source / name).exists():
            (target / name).write_bytes((source / name).read_bytes())


def refuse_lossy(folder: epath.Path, proof: prove.Proof) -> None:
    """Prints what was proved; raises VerificationError for a tokenizer that is not lossless."""
    if not proof.ok:
        raise VerificationError(f"{folder}: the tokenizer is not lossless:\n{proof.summary}")
    say(f"vocab: {proof.summary}")


def _fertility(run: Run, built: build.Built) -> None:
    """Reports how many tokens the same content takes in each language, with base and new pieces."""
    vocab = run.recipe.vocab
    texts = {code: list(build.lines(vocab, uri)) for code, uri in vocab.report.texts.items()}
    if not texts:
        return
    base = {"base": built.base} if built.splice.added else {}
    with progress("vocab") as tell:
        tell("measuring fertility", 0, 0)
        rows = fertility.report({**base, "new": built.new}, texts)
    fertility_report.write(rows, run.at("vocab"))
    display(fertility.table(rows))


def _exposure(run: Run, built: build.Built) -> None:
    """Reports how often training will show each new token, with advice where that is too rare."""
    vocab, budget = run.recipe.vocab, _tokens_of_new_languages(run.recipe)
    if not isinstance(vocab, Extend) or not budget:
        return
    with progress("vocab") as tell:
        tell("counting how often training shows each piece", 0, 0)
        texts = build.lines(vocab, *vocab.files)
        exposed = exposure.expose(built.new, built.splice, texts, budget, vocab.min_count)
    exposed.write(run.at("vocab") / "exposure.json")
    for line in (exposed.summary, *exposed.advice):
        say(f"vocab: {line}")


def _tokens_of_new_languages(recipe: Recipe) -> int:
    """Returns how many tokens training reads from datasets in languages other than English.

    Stages whose length or mixture depends on the size of datasets are not counted, because sizes
    are not known before the datasets are packed.
    """
    others = {
        name
        for name, dataset in recipe.data.datasets.items()
        if not dataset.language.startswith(f"{ENGLISH}_")
    }
    step = recipe.train.rows_per_step * recipe.data.sequence_length
    total = 0.0
    for stage in recipe.train.stages:
        shares = mixture.unsized(recipe, stage) or {}
        total += stage.steps * sum(share for name, share in shares.items() if name in others)
    return round(step * total)


def base_tokenizer(run: Run) -> Tokenizer | None:
    """Returns the tokenizer of the base; None if the recipe trains one from scratch."""
    base = run.recipe.base
    if isinstance(base, Pretrained):
        return tokenizers.load(run.base_tokenizer())
    return tokenizers.load(base.tokenizer) if base.tokenizer else None


def new_pieces(run: Run) -> int:
    """Returns how many pieces of the vocabulary are new."""
    return len(splice.read(run.at("vocab") / "splice.json").added)
