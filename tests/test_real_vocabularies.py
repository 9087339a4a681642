"""Real tokenizers extended from real text, proved on text that was not learnt from."""

import gzip
import itertools
import json
from pathlib import Path

from conftest import DATA, needs_data
import pytest

from lrl_jax import text
from lrl_jax.recipe.vocab import Extend
from lrl_jax.vocab import build
from lrl_jax.vocab.pieces import prove, splice
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.types import Tokenizer

NTREX, FLORES = DATA / "parallel/ntrex128", DATA / "parallel/flores101_first200"
ENGLISH = (f"{NTREX}/newstest2019-src.eng.txt", f"{FLORES}/eng.devtest")  # 2,197 lines
pytestmark = [
    pytest.mark.slow,
    needs_data,
]


def flores(language: str) -> list[str]:
    return list(text.lines(f"{FLORES}/{language}.devtest"))


def fertility(tokenizer: Tokenizer, lines: list[str]) -> float:
    """Tokens for each word between spaces."""
    tokens = sum(map(len, tokenizer.encode_batch(lines)))
    return tokens / sum(len(line.split()) for line in lines)


def proof_of(built: build.Built, part: Extend, folder: Path) -> prove.Proof:
    tokenizers.family(built.new).write(built.new, folder)
    every = [line for path in sorted(FLORES.iterdir()) for line in text.lines(str(path))]
    new = itertools.chain(text.lines(*part.text), every)
    start = build.starting(part, built.base)
    return prove.prove(folder, built.base, text.lines(*ENGLISH), new, start=start)


def llama3() -> Tokenizer:
    """The published ranks with Llama 3's control tokens, which the file at hand is without."""
    tree = json.loads(gzip.decompress((DATA / "tokenizers/llama3/tokenizer.json.gz").read_bytes()))
    names = ["<|begin_of_text|>", "<|end_of_text|>"]
    names += [f"<|reserved_special_token_{i}|>" for i in range(254)]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    tree["added_tokens"] = [
        {"id": 128_000 + i, "content": name, "special": True} | plain
        for i, name in enumerate(names)
    ]
    config = {"bos_token": names[0], "eos_token": names[1]}
    files = {"tokenizer.json": tree, "tokenizer_config.json": config}
    return tokenizers.from_files({name: json.dumps(x).encode() for name, x in files.items()})


def test_llama_2_takes_eight_thousand_korean_pieces_and_nothing_english_moves(tmp_path):
    reviews = [
        json.loads(row)["text"] for row in text.lines(f"{DATA}/mono/ko/nsmc_raw_sample.jsonl")
    ]
    path = tmp_path / "nsmc.txt"
    path.write_text("\n".join(" ".join(review.split()) for review in reviews), encoding="utf-8")
    learnt = (f"{DATA}/mono/ko/korquad_dev_contexts.txt", str(path))
    part = Extend(
        method="extend", text=learnt, pieces=8000, scripts=("Hang",), min_count=3, prove_on=ENGLISH
    )
    built = build.build(part, tokenizers.load(DATA / "tokenizers/llama2"))
    proof = proof_of(built, part, tmp_path / "out")
    assert proof.ok, proof.summary
    assert (proof.new_pieces, proof.base_texts) == (8000, 2197)
    assert proof.utilisation > 0.95
    korean = flores("kor")
    assert fertility(built.base, korean) == pytest.approx(6.54, abs=0.005)
    assert fertility(built.new, korean) < 2.5 < 2.71  # Llama 3's


@pytest.mark.parametrize(
    ("pretokenizer", "most"), [("keep", 4.6), ("mark_aware", 2.5)], ids=["keep", "mark_aware"]
)
def test_llama_3_takes_tamil_as_far_as_its_pre_tokenizer_lets_it(pretokenizer, most, tmp_path):
    learnt = (f"{NTREX}/newstest2019-ref.tam.txt",)
    part = Extend(
        method="extend", text=learnt, pieces=4000, scripts=("Taml",), min_count=2,
        pretokenizer=pretokenizer, prove_on=ENGLISH[1:],
    )  # fmt: skip
    base = llama3()
    built = build.build(part, base)
    proof = proof_of(built, part, tmp_path)
    assert proof.ok, proof.summary
    tamil, english = flores("tam"), list(text.lines(*ENGLISH))
    assert fertility(base, tamil) == pytest.approx(12.12, abs=0.005)
    assert fertility(built.new, tamil) < most
    assert built.new.encode_batch(english) == base.encode_batch(english)
    assert splice.identity(base).size == 128_256 == min(built.splice.added)


def test_a_flawed_base_is_named_and_never_proved(tmp_path):
    folder = DATA / "tokenizers/llama2_hindi_plus1k"
    hindi = f"{NTREX}/newstest2019-ref.hin.txt"
    part = Extend(
        method="extend", text=(hindi,), pieces=100, scripts=("Deva",), prove_on=ENGLISH[1:]
    )
    built = build.build(part, tokenizers.load(folder))
    assert any("spell bytes by name: 88" in note for note in built.notes)
    assert any("end in ▁: 336" in note for note in built.notes)
    proof = proof_of(built, part, tmp_path)
    assert not proof.ok
    assert proof.form_ids.count > 30
