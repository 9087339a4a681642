"""Splicing: the base language keeps its ids, new pieces work, both written forms are one."""

import json

from conftest import DATA, NO_DATA
import pytest
from sentencepiece import sentencepiece_model_pb2 as spm

from lrl_jax import text
from lrl_jax.vocab import scripts
from lrl_jax.vocab.pieces import learn, prove, splice
from lrl_jax.vocab.tokenizer import sentencepieces
from lrl_jax.vocab.tokenizer.auto import AutoCodec
from lrl_jax.vocab.tokenizer.load import from_bytes, from_files, load
from lrl_jax.vocab.tokenizer.piece_model import proto_of
from lrl_jax.vocab.tokenizer.types import Tokenizer

FLORES = DATA / "parallel" / "flores101_first200"
ENGLISH = ["the cat sat on the mat", "the dog ran to the cat", "a mat and a hat"] * 3
KOREAN = ["고양이가 집에 갑니다", "강아지가 집에 옵니다", "고양이와 강아지가 갑니다"] * 3


@pytest.fixture(scope="module")
def base() -> Tokenizer:
    return learn.train(ENGLISH, size=290, coverage=1.0)


def toy(*pieces: tuple[str, float], **normalizer: object) -> Tokenizer:
    """A BPE model of the letters a to h, `▁`, all bytes, and `pieces` with their scores."""
    proto = spm.ModelProto()
    proto.trainer_spec.model_type = spm.TrainerSpec.BPE
    proto.trainer_spec.byte_fallback = True
    llama = {"name": "identity", "add_dummy_prefix": True, "remove_extra_whitespaces": False}
    proto.normalizer_spec.MergeFrom(spm.NormalizerSpec(**llama | normalizer))
    proto.pieces.add(piece="<unk>", type=2)
    proto.pieces.add(piece="<s>", type=3)
    proto.pieces.add(piece="</s>", type=3)
    for byte in range(256):
        proto.pieces.add(piece=f"<0x{byte:02X}>", type=6)
    for letter in "▁abcdefgh":
        proto.pieces.add(piece=letter, score=-1e3)
    for piece, score in pieces:
        proto.pieces.add(piece=piece, score=score)
    return from_bytes(proto.SerializeToString())


def scores(model: Tokenizer) -> dict[str, float]:
    return {piece.piece: piece.score for piece in proto_of(model).pieces}


def spell(model: Tokenizer, ids: tuple[int, ...]) -> list[str]:
    return [proto_of(model).pieces[i].piece for i in ids]


# ---------------------------------------------------------------------------- scores
def test_new_pieces_score_below_the_last_ranked_piece_not_below_runs_of_spaces():
    base = toy(("ab", 0), ("▁a", -2000), ("▁▁", -1e9), ("▁▁▁", -1e9))
    model, _ = splice.splice(base, ["cd", "cdab"])
    got = scores(model)
    assert (got["cd"], got["cdab"], got["▁▁"]) == (-2001, -2002, -1e9)


def test_base_pieces_keep_id_score_and_kind(base):
    model, plan = splice.splice(base, ["가", "나", "가나"])
    old, new = proto_of(base).pieces, proto_of(model).pieces
    assert list(new[: len(old)]) == list(old)
    assert plan.kept == {i: i for i in range(290)}
    assert sorted(plan.added) == [290, 291, 292]
    assert plan.size == model.size == 293


def test_the_base_normaliser_is_kept():
    base = toy(("ab", 0), remove_extra_whitespaces=True)
    model, _ = splice.splice(base, ["cd"])
    got, want = proto_of(model), proto_of(base)
    assert got.normalizer_spec == want.normalizer_spec


def test_scores_too_low_for_float32_are_refused():
    with pytest.raises(ValueError, match=r"scores a piece -1e\+09.*Give its merges the scores 0"):
        splice.splice(toy(("ab", -1e9)), ["cd"])


def test_pieces_the_base_has_and_repeated_ones_are_left_out(base):
    _, plan = splice.splice(base, ["t", "▁", "가", "가", "<s>", "<0x41>"])
    assert list(plan.added) == [290]


@pytest.mark.parametrize("piece", ["", "a b", "x" * 65])
def test_what_cannot_be_a_piece_is_refused(piece, base):
    with pytest.raises(ValueError, match="cannot be a piece"):
        splice.splice(base, [piece])


def test_a_base_that_is_not_bpe_is_refused():
    proto = proto_of(toy())
    proto.trainer_spec.model_type = spm.TrainerSpec.UNIGRAM
    with pytest.raises(ValueError, match="is a SentencePiece unigram model; want a BPE model"):
        splice.splice(from_bytes(proto.SerializeToString()), ["ab"])


# ---------------------------------------------------------------------------- spelling
def test_a_word_initial_piece_is_spelled_without_a_stray_space():
    base = toy(("▁a", 0), ("bc", -1))
    _, plan = splice.splice(base, ["▁abc", "abc", "▁def"])
    got = [spell(base, ids) for ids in plan.added.values()]
    assert got == [["▁a", "bc"], ["a", "bc"], ["▁", "d", "e", "f"]]


def test_spelling_keeps_the_space_where_the_base_drops_extra_ones():
    base = toy(("▁a", 0), remove_extra_whitespaces=True)
    _, plan = splice.splice(base, ["▁ab"])
    assert spell(base, plan.added[len(plan.kept)]) == ["▁a", "b"]


def test_a_splice_reads_back_as_it_was_written(base, tmp_path):
    _, plan = splice.splice(base, ["가", "▁가"])
    plan.write(tmp_path / "splice.json")
    assert splice.read(tmp_path / "splice.json") == plan


def test_a_damaged_splice_file_is_named(tmp_path):
    path = tmp_path / "splice.json"
    with pytest.raises(ValueError, match="no such file"):
        splice.read(path)
    for content in ("{", "[]", '{"kept": [[0, 0, 3]]}'):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"splice.json: is not a splice"):
            splice.read(path)


def test_a_tokenizer_kept_as_it_is_adds_nothing(base):
    plan = splice.identity(base)
    assert (plan.size, plan.added, plan.base_fingerprint) == (290, {}, plan.new_fingerprint)


# ---------------------------------------------------------------------------- pruning
def test_rare_pieces_go_and_the_parts_of_kept_ones_stay():
    new = ["ab", "abc", "gh", "ghe"]
    got = splice.prune(toy(), new, ["abc abc abc", "ghe gh"], min_count=3)
    assert got == ["ab", "abc"]  # `ab` is never emitted, but `abc` is merged from it


def test_counts_are_taken_again_after_each_round():
    new = ["ab", "abc", "abd"]  # without abc and abd, ab comes out four times
    got = splice.prune(toy(), new, ["abc abc abd abd"], min_count=3)
    assert got == ["ab"]


def test_pieces_the_merges_never_reach_go():
    base = toy(("bc", 0))  # bc always merges first, and abc is no join of a and bc with cd around
    new = ["ab", "cd", "abcd"]
    got = splice.prune(base, new, ["abcd ab cd"] * 9, min_count=1)
    assert got == ["ab", "cd"]


def test_pieces_with_a_character_that_has_no_piece_go():
    assert splice.prune(toy(), ["aé"], ["aé"] * 9, min_count=1) == []


def test_pieces_that_touch_the_base_language_go_when_it_is_given():
    new = ["ab", "cd", "abcd"]
    got = splice.prune(toy(), new, ["abcd ab cd"] * 9, min_count=1, spare=["efgh cde"])
    assert got == ["ab"]


def test_a_piece_is_kept_when_another_way_to_merge_it_takes_over():
    new = ["ab", "bc", "abc"]  # abc is ab + c at first; ab goes, and a + bc is left
    got = splice.prune(toy(), new, ["abc"] * 9, min_count=1, spare=["abe"])
    assert got == ["bc", "abc"]


def test_what_is_left_is_reachable_and_emitted(base):
    new = splice.prune(base, learn.pieces(KOREAN, 60, ("Hang",), 1.0, base), KOREAN, 3)
    model, plan = splice.splice(base, new)
    emitted = {i for ids in model.encode_batch(KOREAN) for i in ids}
    assert prove.unreachable(model, 290) == []
    assert emitted & set(plan.added)
    assert len(model.encode(KOREAN[0])) < 5


# ---------------------------------------------------------------------------- both forms
ODD = [*prove.ADVERSARIAL, "abcabc" * 9, " " * 70 + "ab" + " " * 17 + "c", "▁ab", "ab cd  ab "]


@pytest.mark.parametrize(
    "model",
    [
        toy(("ab", 0), ("abc", -1), ("▁ab", -2)),
        toy(("ab", 0), ("▁ab", -2), remove_extra_whitespaces=True),
        toy(("ab", 0), ("▁ab", -2), add_dummy_prefix=False),
        toy(*[("▁" * n, -1e9) for n in range(2, 17)]),
        toy(*[("a" * n, 5 - n) for n in range(2, 9)]),
    ],
    ids=["plain", "extra spaces removed", "no prefix", "runs of spaces", "runs of a letter"],
)
def test_the_json_form_gives_the_ids_and_the_text_of_the_model_form(model):
    fast = sentencepieces.fast_form(model)
    fast.encode_special_tokens = True
    for odd in ODD:
        want = model.encode(odd)
        assert fast.encode(odd, add_special_tokens=False).ids == want, odd[:60]
        assert fast.decode(want, skip_special_tokens=True) == model.decode(want)


def test_user_defined_pieces_are_whole_in_both_forms():
    proto = proto_of(toy(("ab", 0)))
    proto.pieces.add(piece="<sep>", type=4)
    proto.pieces.add(piece="\n\n", type=4)
    model = from_bytes(proto.SerializeToString())
    fast = sentencepieces.fast_form(model)
    for odd in ("ab<sep>ab", "<sep><sep>", "a\n\n\nb", " <sep> "):
        assert fast.encode(odd, add_special_tokens=False).ids == model.encode(odd)


def test_transformers_loads_the_written_folder(base, tmp_path):
    config = {"chat_template": "{{ x }}", "auto_map": {"AutoTokenizer": "evil.py"}, "legacy": True}
    files = {**base.files, "tokenizer_config.json": json.dumps(config).encode()}
    sentencepieces.write(from_files(files), tmp_path)
    fast = AutoCodec(tmp_path).tokenizer
    assert fast("the cat")["input_ids"] == [1, *base.encode("the cat")]
    assert (fast.bos_token_id, fast.eos_token_id, fast.pad_token_id) == (1, 2, None)
    assert (len(fast), fast.chat_template) == (290, "{{ x }}")
    assert fast("a</s>", add_special_tokens=False)["input_ids"][-1] == 2  # as every Llama there
    written = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert not {"auto_map", "legacy"} & set(written)


def test_writing_twice_gives_the_same_bytes(base, tmp_path):
    sentencepieces.write(base, tmp_path / "a")
    sentencepieces.write(base, tmp_path / "b")
    for name in ("tokenizer.model", "tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


# ---------------------------------------------------------------------------- real tokenizers
def real(name: str) -> Tokenizer:
    path = DATA / "tokenizers" / name
    if not path.exists():
        pytest.skip(NO_DATA)
    return load(path)


def flores(language: str) -> list[str]:
    (path,) = FLORES.glob(f"{language}*.devtest")
    return list(text.lines(str(path)))


def chinese() -> list[str]:
    return sentencepieces.pieces(real("chinese_sp_20k/chinese_sp.model"))


def test_merging_the_chinese_vocabulary_gives_the_published_size():
    _, plan = splice.splice(real("llama2"), chinese())
    assert plan.size == 49_953  # Chinese-LLaMA (arXiv 2304.08177)


def test_han_pieces_below_the_base_leave_english_alone_and_halve_chinese(tmp_path):
    base = real("llama2")
    han = [p for p in chinese() if p[0] != "▁" and scripts.written_in(p, ("Hani",))]
    new, plan = splice.splice(base, han)
    sentencepieces.write(new, tmp_path)
    fast = AutoCodec(tmp_path)
    ntrex = DATA / "parallel" / "ntrex128"
    english = [*text.lines(str(ntrex / "newstest2019-src.eng.txt")), *flores("eng")]
    korean = list(text.lines(str(ntrex / "newstest2019-ref.kor.txt")))
    assert (len(plan.added), len(english)) == (16_992, 2_197)
    assert new.encode_batch(english) == base.encode_batch(english)
    assert new.encode_batch(korean) == base.encode_batch(korean)
    for language in ("eng", "zho", "kor"):
        lines = flores(language)
        assert fast.encode_batch(lines) == new.encode_batch(lines)
    target = [*text.lines(str(ntrex / "newstest2019-ref.zho-CN.txt")), *flores("zho")]
    assert (count(base, target), count(new, target)) == (135_551, 64_895)


def count(words: Tokenizer, lines: list[str]) -> int:
    return sum(map(len, words.encode_batch(lines)))


@pytest.mark.parametrize("name", ["llama2", "tok512"])
def test_real_tokenizers_are_equal_in_both_forms_in_thirteen_languages(name, tmp_path):
    sentencepieces.write(real(name), tmp_path)
    words, fast = load(tmp_path), AutoCodec(tmp_path)
    lines = [line for path in sorted(FLORES.glob("*.devtest")) for line in text.lines(str(path))]
    lines += ODD
    got = fast.encode_batch(lines)
    different = [a for a, b, c in zip(lines, got, words.encode_batch(lines), strict=True) if b != c]
    assert len(lines) > 2_600
    assert different == []


def test_pieces_built_on_characters_without_a_piece_are_what_differs(tmp_path):
    """A published tokenizer with this flaw: 932 texts differ as transformers reads its .model."""
    model = real("llama2_hindi_plus1k")
    fast = sentencepieces.fast_form(model)
    lines = [line for path in sorted(FLORES.glob("*.devtest")) for line in text.lines(str(path))]
    pairs = zip(model.encode_batch(lines), fast.encode_batch(lines), strict=True)
    different = sum(want != got.ids[1:] for want, got in pairs)
    assert different == 145
