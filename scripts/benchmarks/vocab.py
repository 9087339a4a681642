"""The vocabulary room beside its peers: learning, splicing, proving, reporting, starting rows.

    python scripts/benchmarks/vocab.py [--megabytes 100] [--only learn,splice,prove,report,rows]

Text is made here: words of random Hangul syllables (or letters), as frequent as Zipf's law says.
Every figure is wall time of this machine, and the peak memory of the process that did the work;
contestants run one after the other, each in a process of its own. A peer that is not installed is
named as not measured. mergekit (for `rows`) wants an environment of its own: give its
mergekit-tokensurgeon with --tokensurgeon.
"""

import argparse
from collections.abc import Callable, Iterator
import json
import multiprocessing
from pathlib import Path
import resource
import subprocess
import tempfile
import time

import numpy as np

LINE_WORDS = 12
WORDS = 400_000  # distinct words of a language: what 100 MB of a real one has, more or less


def main() -> None:
    """Prints a table a section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--only", default="learn,splice,prove,report,rows")
    parser.add_argument("--tokensurgeon", default="", help="mergekit's program, for rows")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        args.folder = Path(folder)
        share = max(1, args.megabytes // 10)
        measured(Job(write_text, args.folder / "korean.txt", args.megabytes, "hangul", 1))
        measured(Job(write_text, args.folder / "english.txt", share, "latin", 2))
        for name in args.only.split(","):
            print(f"\n{SECTIONS[name].__doc__.splitlines()[0]}")
            for label, work in SECTIONS[name](args):
                print(f"  {label:<58} {measured(work)}", flush=True)


def measured(work: Callable[[], str]) -> str:
    """Seconds, peak memory and what `work` says, run in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        try:
            seconds, peak, said = pool.apply(timed, (work,))
        except ImportError as e:
            return f"not measured ({e})"
    return f"{seconds:8.1f} s  {peak:6.0f} MB  {said}"


def timed(work) -> tuple[float, float, str]:
    start = time.perf_counter()
    said = work()
    peak = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return time.perf_counter() - start, peak / 1024, said


# ---------------------------------------------------------------------------- text
def write_text(path: Path, megabytes: int, script: str, seed: int) -> str:
    """Lines of words whose frequency falls as 1 / rank."""
    rng = np.random.default_rng(seed)
    words = np.array(lexicon(rng, script), object)
    share = 1 / np.arange(1, len(words) + 1)
    chances = np.cumsum(share / share.sum())
    size = 0
    with path.open("w", encoding="utf-8") as f:
        while size < megabytes * 1_000_000:
            picked = np.searchsorted(chances, rng.random((10_000, LINE_WORDS)))
            block = "".join(" ".join(words[line]) + "\n" for line in picked)
            size += len(block.encode())
            f.write(block)
    return f"{size:,} bytes"


def lexicon(rng: np.random.Generator, script: str, count: int = WORDS) -> list[str]:
    """Distinct words of one to five syllables; syllables are as skewed as words."""
    if script == "hangul":
        syllables = [chr(c) for c in rng.permutation(np.arange(0xAC00, 0xD7A4))[:2000]]
    else:
        syllables = [c + v for c in "bcdfghjklmnprstvwyz" for v in "aeiou"]
    weight = 1 / np.arange(1, len(syllables) + 1)
    weight /= weight.sum()
    words: dict[str, None] = {}
    while len(words) < count:
        lengths = rng.integers(1, 6, 10_000)
        picked = rng.choice(len(syllables), (10_000, 5), p=weight)
        for row, n in zip(picked, lengths, strict=True):
            words["".join(syllables[i] for i in row[:n])] = None
    return list(words)[:count]


def lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as f:
        for line in f:
            yield line.rstrip("\n")


# ---------------------------------------------------------------------------- bases
def sentencepiece_base(folder: Path):
    """A base of 32,000 pieces, English only, made once."""
    from lrl_jax.vocab.pieces import learn
    from lrl_jax.vocab.tokenizer import load as tokenizers
    from lrl_jax.vocab.tokenizer import sentencepieces

    if not (folder / "base").exists():
        sample = (
            line for _, line in zip(range(100_000), lines(folder / "english.txt"), strict=False)
        )
        sentencepieces.write(learn.train(sample, 32_000, 1.0), folder / "base")
    return tokenizers.load(folder / "base")


def byte_level_base(folder: Path):
    """A byte-level base of 32,000 pieces with Llama 3's way to cut text, made once."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    from lrl_jax.vocab.tokenizer import load as tokenizers
    from lrl_jax.vocab.tokenizer import patterns

    path = folder / "byte_level"
    if not path.exists():
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(patterns.PATTERNS["llama3"]), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        made.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=32_000,
            special_tokens=["<|begin_of_text|>", "<|end_of_text|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        sample = (
            line for _, line in zip(range(100_000), lines(folder / "english.txt"), strict=False)
        )
        made.train_from_iterator(sample, trainer)
        path.mkdir()
        made.save(str(path / "tokenizer.json"))
        config = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}
        (path / "tokenizer_config.json").write_text(json.dumps(config))
    return tokenizers.load(path)


def make_bases(folder: Path) -> str:
    sentencepiece_base(folder), byte_level_base(folder)
    return ""


class Job:
    """A function and its arguments, which a process can be sent."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __call__(self) -> str:
        return self.function(*self.arguments)


# ---------------------------------------------------------------------------- learning
def learn(args):
    """Learning 10,000 pieces"""
    measured(Job(make_bases, args.folder))  # apart: a child's peak memory counts its parent's
    path = args.folder / "korean.txt"
    return [
        ("lrl_jax append, SentencePiece base", Job(learn_ours, args.folder, "base", "append")),
        ("lrl_jax continue, SentencePiece base", Job(learn_ours, args.folder, "base", "continue")),
        ("lrl_jax append, byte-level base", Job(learn_ours, args.folder, "byte_level", "append")),
        (
            "lrl_jax continue, byte-level base",
            Job(learn_ours, args.folder, "byte_level", "continue"),
        ),
        ("sentencepiece trainer (BPE, no base, all threads)", Job(learn_sentencepiece, path)),
        ("tokenizers BpeTrainer (byte level, no base)", Job(learn_tokenizers, path)),
    ]


def learn_ours(folder: Path, base: str, how: str) -> str:
    from lrl_jax.vocab.pieces import choose, learn
    from lrl_jax.vocab.tokenizer import load as tokenizers

    known = tokenizers.load(folder / base)
    find = choose.continued if how == "continue" else learn.pieces
    found = find(lines(folder / "korean.txt"), 10_000, ("Hang",), 0.9995, known)
    return f"{len(found):,} pieces"


def learn_sentencepiece(path: Path) -> str:
    import io

    import sentencepiece

    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=lines(path), model_writer=out, model_type="bpe", vocab_size=10_000,
        byte_fallback=True, normalization_rule_name="identity", minloglevel=2,
    )  # fmt: skip
    return "10,000 pieces"


def learn_tokenizers(path: Path) -> str:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=10_256, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    made.train_from_iterator(lines(path), trainer)
    return f"{made.get_vocab_size():,} pieces"


# ---------------------------------------------------------------------------- splicing
def splice(args):
    """Splicing 20,000 pieces into 32,000, and writing every form"""
    measured(Job(find_candidates, args.folder))
    return [
        ("lrl_jax, SentencePiece base", Job(splice_ours, args.folder, "base", "sentencepiece")),
        ("lrl_jax, byte-level base", Job(splice_ours, args.folder, "byte_level", "byte_level")),
        ("Chinese-LLaMA's recipe (append at score 0)", Job(splice_at_zero, args.folder)),
        ("transformers add_tokens", Job(splice_added, args.folder)),
    ]


def find_candidates(folder: Path) -> str:
    for base in (sentencepiece_base(folder), byte_level_base(folder)):
        found = candidates(folder, base)
        (folder / f"pieces.{base.family}.json").write_text(json.dumps(found[:20_000]))
    return ""


def candidates(folder: Path, base) -> list[str]:
    from lrl_jax.vocab.pieces import choose

    sample = (line for _, line in zip(range(100_000), lines(folder / "korean.txt"), strict=False))
    return choose.continued(sample, 20_000, ("Hang",), 1.0, base)


def splice_ours(folder: Path, base: str, kind: str) -> str:
    from lrl_jax.vocab.pieces import splice
    from lrl_jax.vocab.tokenizer import load as tokenizers

    known = tokenizers.load(folder / base)
    found = json.loads((folder / f"pieces.{kind}.json").read_text())
    new, plan = splice.splice(known, found)
    tokenizers.family(new).write(new, folder / f"spliced.{kind}")
    return f"{len(plan.added):,} added, {moved(folder, known, new)}"


def moved(folder: Path, known, new) -> str:
    """How many of 20,000 English lines changed their ids."""
    english = [line for _, line in zip(range(20_000), lines(folder / "english.txt"), strict=False)]
    pairs = zip(known.encode_batch(english), new.encode_batch(english), strict=True)
    return f"{sum(a != b for a, b in pairs)} English lines moved"


def splice_at_zero(folder: Path) -> str:
    from lrl_jax.vocab.tokenizer import load as tokenizers
    from lrl_jax.vocab.tokenizer import piece_model, sentencepieces

    known = tokenizers.load(folder / "base")
    proto = piece_model.proto_of(known)
    have = {piece.piece for piece in proto.pieces}
    for piece in json.loads((folder / "pieces.sentencepiece.json").read_text()):
        if piece not in have:
            proto.pieces.add(piece=piece, score=0.0)
    new = tokenizers.from_bytes(proto.SerializeToString())
    sentencepieces.write(new, folder / "at_zero")
    korean = [line for _, line in zip(range(5000), lines(folder / "korean.txt"), strict=False)]
    ours = tokenizers.load(folder / "spliced.sentencepiece")
    counts = [sum(map(len, one.encode_batch(korean))) for one in (new, ours)]
    differ = sum(
        a != b
        for a, b in zip(
            new.encode_batch(korean),
            sentencepieces.forms(folder / "at_zero")["tokenizer.json"].encode_batch(korean),
            strict=True,
        )
    )
    return (
        f"{moved(folder, known, new)}; forms differ on {differ} of 5,000 Korean lines; "
        f"{counts[0]:,} tokens there (ours {counts[1]:,})"
    )


def splice_added(folder: Path) -> str:
    import transformers

    auto = transformers.AutoTokenizer.from_pretrained(str(folder / "base"))
    pieces = json.loads((folder / "pieces.sentencepiece.json").read_text())
    count = auto.add_tokens([piece.replace("▁", " ").strip() for piece in pieces])
    auto.save_pretrained(str(folder / "added"))
    return f"{count:,} added"


# ---------------------------------------------------------------------------- proving
def prove(args):
    """Proving a tokenizer on the whole text"""
    if not (args.folder / "spliced.sentencepiece").exists():
        for _, work in splice(args)[:2]:
            measured(work)
    return [
        ("lrl_jax, SentencePiece", Job(prove_ours, args.folder, "base", "sentencepiece")),
        ("lrl_jax, byte level", Job(prove_ours, args.folder, "byte_level", "byte_level")),
    ]


def prove_ours(folder: Path, base: str, kind: str) -> str:
    from lrl_jax.vocab.pieces import prove
    from lrl_jax.vocab.tokenizer import load as tokenizers

    found = prove.prove(
        folder / f"spliced.{kind}",
        tokenizers.load(folder / base),
        lines(folder / "english.txt"),
        lines(folder / "korean.txt"),
    )
    return found.summary.split("\n")[0]


# ---------------------------------------------------------------------------- reporting
def report(args):
    """Fertility of 200 languages under three tokenizers, with the HTML page"""
    measured(Job(make_bases, args.folder))  # apart: a child's peak memory counts its parent's
    return [("lrl_jax, 200 x 100 lines", Job(report_ours, args.folder))]


def report_ours(folder: Path) -> str:
    from lrl_jax.report import fertility as fertility_report
    from lrl_jax.vocab.fertility import LanguageText
    from lrl_jax.vocab.tokenizer import load as tokenizers

    korean, english = (
        [line for _, line in zip(range(20_000), lines(folder / f"{name}.txt"), strict=False)]
        for name in ("korean", "english")
    )
    texts = {"english": LanguageText(english[:100])}
    for i in range(199):
        source = korean if i % 2 else english
        texts[f"language {i:03}"] = LanguageText(source[100 * i : 100 * (i + 1)])
    named = {name: tokenizers.load(folder / name) for name in ("base", "byte_level")}
    named["base again"] = named["base"]
    fertility_report.write_report(named, texts, folder / "fertility", reference="english")
    return f"{len(texts)} languages, {len(named)} tokenizers"


# ---------------------------------------------------------------------------- rows
WIDTH = 1024
OURS = ("subword_mean", "mean", "hewitt", "length_weighted", "focus", "clp")
SOME = 1000  # tokens that omp is timed on: it takes minutes for all of them


def rows(args):
    """Rows of 20,000 new tokens beside 32,000 old ones, width 1,024, float32"""
    if not (args.folder / "spliced.sentencepiece").exists():
        measured(splice(args)[0][1])
    jobs = [(f"lrl_jax {name}", Job(rows_ours, args.folder, name, 20_000)) for name in OURS]
    some = f"omp, {SOME:,} tokens"
    return [
        *jobs,
        ("mergekit-tokensurgeon subword", Job(rows_mergekit, args, "subword", 20_000)),
        (f"lrl_jax {some}", Job(rows_ours, args.folder, "omp", SOME)),
        (f"mergekit-tokensurgeon {some}", Job(rows_mergekit, args, "omp", SOME)),
    ]


def rows_ours(folder: Path, name: str, count: int) -> str:
    from lrl_jax.embeddings import strategies
    from lrl_jax.embeddings.moments import Clues, Space
    from lrl_jax.vocab.pieces import splice
    from lrl_jax.vocab.tokenizer import load as tokenizers

    base = tokenizers.load(folder / "base")
    found = json.loads((folder / "pieces.sentencepiece.json").read_text())
    new, plan = splice.splice(base, found[:count])
    rng = np.random.default_rng(0)
    old_VD = rng.standard_normal((base.size, WIDTH), np.float32)
    space = Space(
        np.arange(base.size),
        rng.standard_normal((base.size, WIDTH), np.float32),
        np.arange(base.size, new.size),
        rng.standard_normal((new.size - base.size, WIDTH), np.float32),
    )
    sizes = np.array([len(piece.encode()) for piece in tokenizers.family(base).pieces(base)])
    clues = Clues(plan, bytes_V=sizes, tokens=space, helper=space)
    start = time.perf_counter()
    strategies.grow(name, old_VD, clues, rng)
    return f"the rows alone {time.perf_counter() - start:.1f} s"


def rows_mergekit(args, method: str, count: int) -> str:
    from lrl_jax.vocab.pieces import splice
    from lrl_jax.vocab.tokenizer import load as tokenizers
    from lrl_jax.vocab.tokenizer import sentencepieces

    if not args.tokensurgeon:
        raise ImportError("give --tokensurgeon")
    donor, out = args.folder / f"donor.{count}", args.folder / f"surgeon.{method}"
    found = json.loads((args.folder / "pieces.sentencepiece.json").read_text())
    new, _ = splice.splice(tokenizers.load(args.folder / "base"), found[:count])
    sentencepieces.write(new, donor)
    model_folder(args.folder / "base")
    model_folder(donor)
    subprocess.run(
        [args.tokensurgeon, str(args.folder / "base"), str(donor), str(out),
         "--approximation-method", method, "--quiet"],
        check=True, capture_output=True,
    )  # fmt: skip
    return "with reading and writing the model"


def model_folder(folder: Path) -> None:
    """A Llama of one layer and random weights around the tokenizer in `folder`."""
    if (folder / "model.safetensors").exists():
        return
    from safetensors.numpy import save_file

    from lrl_jax.vocab.tokenizer import load as tokenizers

    rows = tokenizers.load(folder).size
    rng = np.random.default_rng(0)
    shapes = {
        "model.embed_tokens.weight": (rows, WIDTH), "lm_head.weight": (rows, WIDTH),
        "model.norm.weight": (WIDTH,),
        **{f"model.layers.0.self_attn.{x}_proj.weight": (WIDTH, WIDTH) for x in "qkvo"},
        **{f"model.layers.0.mlp.{x}_proj.weight": (256, WIDTH) for x in ("gate", "up")},
        "model.layers.0.mlp.down_proj.weight": (WIDTH, 256),
        "model.layers.0.input_layernorm.weight": (WIDTH,),
        "model.layers.0.post_attention_layernorm.weight": (WIDTH,),
    }  # fmt: skip
    tensors = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": rows,
        "hidden_size": WIDTH, "intermediate_size": 256, "num_hidden_layers": 1,
        "num_attention_heads": 8, "num_key_value_heads": 8, "tie_word_embeddings": False,
        "rms_norm_eps": 1e-5, "max_position_embeddings": 512, "torch_dtype": "float32",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))


SECTIONS = {"learn": learn, "splice": splice, "prove": prove, "report": report, "rows": rows}

if __name__ == "__main__":
    main()
