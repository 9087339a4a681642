"""Text for the data benchmark: documents of sentences, a line each, of log-normal lengths.

Every sentence comes once, as it does in a corpus: text that comes again flatters whoever remembers
its words. Sentences are those that scripts/get_data.py fetches, where they are there; else made
here, of words as frequent as Zipf's law says.
"""

from collections.abc import Iterator
import json
import os
from pathlib import Path
import re

import numpy as np
import vocab

DATA = Path(os.environ.get("LRL_TEST_DATA") or Path(__file__).parents[2] / "test_data")
LLAMA = DATA / "tokenizers" / "llama2"
SETS = {  # lines of sentences; of .jsonl the field "text"
    "ko": (
        "mono/ko/nsmc_raw_sample.jsonl",
        "mono/ko/korquad_dev_contexts.txt",
        "parallel/korean_english_park/korean-english-park.dev.ko",
        "parallel/korean_english_jhe/jhe-koen-dev.ko",
        "parallel/tatoeba_test/eng-kor.kor",
        "parallel/ntrex128/newstest2019-ref.kor.txt",
        "parallel/flores101_first200/kor.devtest",
    ),
    "en": (
        "mono/en/wiki_demo.txt",
        "mono/en/c4_demo.jsonl",
        "mono/en/tinystories_sample.txt",
        "parallel/lafand_en_swa/train.en",
        "parallel/korean_english_park/korean-english-park.dev.en",
        "parallel/korean_english_jhe/jhe-koen-dev.en",
        "parallel/tatoeba_test/eng-kor.eng",
        "parallel/ntrex128/newstest2019-src.eng.txt",
        "parallel/flores101_first200/eng.devtest",
    ),
}
ENDS = re.compile(r"(?<=[.!?]) ")  # where a line is cut into sentences
SENTENCES = 12  # of a document, the median; the logarithm of their number has deviation 1
FILES = 8  # a language
LEARNT = 16_000  # pieces of the tokenizer where Llama 2's is not at hand
MADE_BYTES = 60  # of a made sentence, at least; there are as many as the text asked for takes
LANGUAGES = {"ko": "hangul", "en": "latin"}


def write(folder: Path, tiny: Path, megabytes: float) -> list[dict[str, list[str]]]:
    """Writes the files of each language, and small ones of other sentences; language -> paths."""
    texts, small = {}, {}
    for seed, language in enumerate(LANGUAGES):
        rng = np.random.default_rng(seed)
        pool = sentences(language, 1.1 * megabytes)
        rng.shuffle(pool)
        few = max(FILES, len(pool) // 100)  # to warm up with
        small[language] = _write(tiny / language, pool[:few], rng, int(megabytes * 1e4))
        texts[language] = _write(folder / language, pool[few:], rng, int(megabytes * 1e6))
    return [texts, small]


def real() -> bool:
    """Whether there are real sentences."""
    return all((DATA / name).exists() for names in SETS.values() for name in names)


def sentences(language: str, megabytes: float = 2) -> list[str]:
    """Every different sentence there is of a language, or made ones of at least so many bytes."""
    if real():
        lines = [" ".join(line.split()) for name in SETS[language] for line in _lines(DATA / name)]
        every = (sentence for line in lines for sentence in ENDS.split(line))
        return [sentence for sentence in dict.fromkeys(every) if sentence]
    rng = np.random.default_rng(0)
    words = np.array(vocab.lexicon(rng, LANGUAGES[language], 50_000), object)
    share = 1 / np.arange(1, len(words) + 1)
    lengths = rng.integers(4, 25, int(megabytes * 1e6 / MADE_BYTES) + 1)
    picked = np.searchsorted(np.cumsum(share / share.sum()), rng.random(lengths.sum()))
    parts = np.split(words[picked], np.cumsum(lengths)[:-1])
    return [*dict.fromkeys(" ".join(part) + "." for part in parts)]


def _lines(path: str | Path) -> list[str]:
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines] if str(path).endswith(".jsonl") else lines


def _write(stem: Path, pool: list[str], rng: np.random.Generator, size: int) -> list[str]:
    paths = [Path(f"{stem}-{i}-of-{FILES}.txt") for i in range(FILES)]
    texts: list[list[str]] = [[] for _ in paths]
    for i, document in enumerate(_documents(pool, rng, size)):
        texts[i % FILES].append(document + "\n")
    for path, text in zip(paths, texts, strict=True):
        path.write_text("".join(text), encoding="utf-8")
    return [str(path) for path in paths]


def _documents(pool: list[str], rng: np.random.Generator, size: int) -> Iterator[str]:
    """Yields documents of so many bytes, or of all the sentences, each of which comes once."""
    written = count = start = 0
    while start < len(pool) and (written < size or count < FILES):
        most = len(pool) - start - (FILES - count - 1)  # one is left for every other file
        length = min(int(np.ceil(rng.lognormal(np.log(SENTENCES), 1.0))), max(1, most))
        document = " ".join(pool[start : start + length])
        start += length
        written += len(document.encode()) + 1
        count += 1
        yield document


def write_tokenizer(folder: Path) -> str:
    """Llama 2's tokenizer in every form, or one learnt on the sentences; says which."""
    from lrl_jax.vocab.pieces import learn
    from lrl_jax.vocab.tokenizer import load as tokenizers
    from lrl_jax.vocab.tokenizer import sentencepieces

    if LLAMA.exists():
        sentencepieces.write(tokenizers.load(LLAMA), folder)
        return "Llama 2's"
    lines = (line for language in LANGUAGES for line in sentences(language))
    learnt = learn.train(lines, LEARNT, 0.9995)
    sentencepieces.write(learnt, folder)
    return f"{learnt.size:,} pieces learnt on the sentences"


def count(paths: list[str], model: str) -> dict[str, int]:
    """Documents, bytes and tokens of files, an eos after each document."""
    import sentencepiece

    encode = sentencepiece.SentencePieceProcessor(model_file=model).encode
    found = {"docs": 0, "bytes": 0, "tokens": 0}
    for path in paths:
        lines = _lines(path)
        found["docs"] += len(lines)
        found["bytes"] += sum(len(line.encode()) for line in lines)
        found["tokens"] += sum(len(ids) + 1 for ids in encode(lines))
    return found


def write_rows(folder: Path, files: int, rows: int) -> list[str]:
    """Small files of instructions, as MITS has one a language; their sentences come again."""
    pools = [sentences(language) for language in LANGUAGES]
    rng = np.random.default_rng(0)
    paths = []
    for number in range(files):
        pool = pools[number % len(pools)]
        picked = rng.integers(0, len(pool), (rows, 3)).tolist()
        lines = [
            {"instruction": pool[a], "input": "", "output": f"{pool[b]} {pool[c]}"}
            for a, b, c in picked
        ]
        path = folder / f"rows-{number:03}.jsonl"
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        path.write_text(text, encoding="utf-8")
        paths.append(str(path))
    return paths
