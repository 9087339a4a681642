"""Text for the data benchmark: documents of sentences, a line each, of log-normal lengths.

Sentences are those of the parallel sets that scripts/get_data.py fetches, where they are there;
else made here, of words as frequent as Zipf's law says.
"""

from collections.abc import Iterator
import json
import os
from pathlib import Path

import numpy as np
import vocab

DATA = Path(os.environ.get("LRL_TEST_DATA") or Path(__file__).parents[2] / "test_data")
LLAMA = DATA / "tokenizers" / "llama2"
SETS = {  # a sentence a line
    "ko": (
        "korean_english_park/korean-english-park.dev.ko",
        "korean_english_jhe/jhe-koen-dev.ko",
        "tatoeba_test/eng-kor.kor",
        "ntrex128/newstest2019-ref.kor.txt",
        "flores101_first200/kor.devtest",
    ),
    "en": (
        "korean_english_park/korean-english-park.dev.en",
        "korean_english_jhe/jhe-koen-dev.en",
        "tatoeba_test/eng-kor.eng",
        "ntrex128/newstest2019-src.eng.txt",
        "flores101_first200/eng.devtest",
    ),
}
SENTENCES = 12  # of a document, the median; the logarithm of their number has deviation 1
FILES = 8  # a language
LEARNT = 16_000  # pieces of the tokenizer where Llama 2's is not at hand
MADE = 20_000  # sentences made where there are no real ones
LANGUAGES = {"ko": "hangul", "en": "latin"}


def write(folder: Path, megabytes: float) -> dict[str, list[str]]:
    """Writes the files of each language; language -> paths."""
    return {
        language: _write(folder / language, sentences(language), megabytes, seed)
        for seed, language in enumerate(LANGUAGES)
    }


def real() -> bool:
    """Whether there are real sentences."""
    return all((DATA / "parallel" / name).exists() for names in SETS.values() for name in names)


def sentences(language: str) -> list[str]:
    """Every different sentence there is of a language."""
    if real():
        paths = [DATA / "parallel" / name for name in SETS[language]]
        lines = [" ".join(line.split()) for path in paths for line in _lines(path)]
        return [line for line in dict.fromkeys(lines) if line]
    rng = np.random.default_rng(0)
    words = np.array(vocab.lexicon(rng, LANGUAGES[language], 50_000), object)
    share = 1 / np.arange(1, len(words) + 1)
    lengths = rng.integers(4, 25, MADE)
    picked = np.searchsorted(np.cumsum(share / share.sum()), rng.random(lengths.sum()))
    parts = np.split(words[picked], np.cumsum(lengths)[:-1])
    return [" ".join(part) + "." for part in parts]


def _lines(path: str | Path) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines()


def _write(stem: Path, pool: list[str], megabytes: float, seed: int) -> list[str]:
    paths = [Path(f"{stem}-{i}-of-{FILES}.txt") for i in range(FILES)]
    found = _documents(pool, np.random.default_rng(seed), int(megabytes * 1e6))
    texts: list[list[str]] = [[] for _ in paths]
    for i, document in enumerate(found):
        texts[i % FILES].append(document + "\n")
    for path, text in zip(paths, texts, strict=True):
        path.write_text("".join(text), encoding="utf-8")
    return [str(path) for path in paths]


def _documents(pool: list[str], rng: np.random.Generator, size: int) -> Iterator[str]:
    written = count = 0
    while written < size or count < FILES:
        length = int(np.ceil(rng.lognormal(np.log(SENTENCES), 1.0)))
        document = " ".join(pool[i] for i in rng.integers(0, len(pool), length))
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
    """Small files of instructions, as MITS has one a language."""
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
