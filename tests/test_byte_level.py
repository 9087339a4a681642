"""Byte-level BPE: text is text, old ids stay, new pieces work, every written form is one."""

from collections import Counter
import gzip
import json
import pickle

from conftest import DATA, NO_DATA
import hand_byte_level as hand
from hand_byte_level import AB, ABC, BOS, EOS, G_AB
from hypothesis import given, settings
from hypothesis import strategies as st
import pytest
from tokenizers import pre_tokenizers

from lrl_jax import text
from lrl_jax.vocab.pieces import choose, prove, splice
from lrl_jax.vocab.tokenizer import byte_level, ranks
from lrl_jax.vocab.tokenizer.auto import AutoCodec
from lrl_jax.vocab.tokenizer.load import from_files, load
from lrl_jax.vocab.tokenizer.types import Tokenizer

STYLES = sorted(hand.TREES)
MADE = {style: hand.make(style) for style in STYLES}
anything = st.text(
    st.one_of(
        st.sampled_from("abcd <|>\n\r1'é가नि́\u200d😀"), st.characters(exclude_categories=["Cs"])
    )
)


@pytest.fixture(params=STYLES)
def base(request) -> Tokenizer:
    return MADE[request.param]


# ---------------------------------------------------------------------------- reading
def test_ids_are_those_worked_out_by_hand():
    llama3 = hand.make("llama3")
    assert llama3.encode("abc ab b") == [ABC, G_AB, 32, ord("b")]
    assert llama3.encode("é") == [0xC3, 0xA9]
    assert (llama3.bos_id, llama3.eos_id, llama3.pad_id, llama3.size) == (BOS, EOS, EOS, 261)


def test_special_tokens_have_the_first_ids_in_tekken():
    tekken = hand.make("tekken")
    assert tekken.encode("abc ab") == [4 + ABC, 4 + G_AB]
    assert (tekken.bos_id, tekken.eos_id, tekken.size) == (1, 2, 263)


def test_a_tokenizer_without_bos_begins_documents_with_eos():
    qwen, gpt2 = hand.make("qwen2"), hand.make("gpt2")
    assert (qwen.bos_id, qwen.eos_id, qwen.pad_id) == (259, 259, 259)
    assert (gpt2.bos_id, gpt2.eos_id, gpt2.pad_id) == (259, 259, 259)  # its name is guessed


def test_names_are_guessed_without_a_config_and_found_in_the_special_tokens_map():
    tree = hand.llama3()
    assert from_files(hand.files(tree), "x").bos_id == BOS
    files = hand.files(tree, {"bos_token": None})
    files["special_tokens_map.json"] = json.dumps(
        {"eos_token": "<|end_of_text|>", "pad_token": {"content": "<|begin_of_text|>"}}
    ).encode()
    got = from_files(files, "x")
    assert (got.bos_id, got.eos_id, got.pad_id) == (EOS, EOS, BOS)


def test_control_tokens_in_text_are_text_and_have_none():
    llama3 = hand.make("llama3")
    ids = llama3.encode("a<|end_of_text|>")
    assert ids == [ord(c) for c in "a<|end_of_text|>"]
    assert llama3.decode([BOS, AB, EOS]) == "ab"


def test_texts_are_never_cut_short_or_filled_up():
    tree = hand.llama3()
    tree["truncation"] = {
        "direction": "Right",
        "max_length": 2,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    tree["padding"] = {
        "strategy": {"Fixed": 9},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "x",
    }
    assert from_files(hand.files(tree), "x").encode("dddd") == [*b"dddd"]


def test_tokens_that_are_not_special_stand_whole_in_text():
    qwen = hand.make("qwen2")
    assert qwen.encode("a<tool_call>b") == [ord("a"), 260, ord("b")]
    assert qwen.decode([260]) == "<tool_call>"


def test_an_id_without_a_piece_decodes_to_nothing():
    tree = hand.gpt2()
    tree["model"]["vocab"]["abc"] = 262  # 258, 260 and 261 are nobody's
    holed = from_files(hand.files(tree), "x")
    assert holed.size == 263
    assert byte_level.pieces(holed)[257:] == ["Ġab", "", "<|endoftext|>", "", "", "abc"]
    assert holed.decode([258, 262, 261]) == "abc"


@settings(max_examples=60, deadline=None)
@given(anything)
def test_any_text_comes_back(sample):
    for made in MADE.values():
        want = byte_level.normal(made)(sample)
        assert made.decode(made.encode(sample)) == want
        bare = "".join(byte_level.words(made, [sample]).keys())
        assert (bare == "") == (sample == "")


def test_qwen_composes_letters_and_llama_does_not():
    decomposed = "e\u0301"
    assert hand.make("qwen2").decode(hand.make("qwen2").encode(decomposed)) == "\u00e9"
    assert hand.make("llama3").decode(hand.make("llama3").encode(decomposed)) == decomposed


def test_it_can_be_sent_to_another_process(base):
    sent = pickle.loads(pickle.dumps(base.codec))
    assert sent.encode_batch(["abc <|end_of_text|></s>"]) == [
        base.encode("abc <|end_of_text|></s>")
    ]


def test_the_fingerprint_is_of_the_json_and_of_the_named_tokens():
    tree, config = hand.llama3(), hand.CONFIGS["llama3"]
    one = from_files(hand.files(tree, config), "x").fingerprint
    other = from_files(hand.files(tree, config | {"pad_token": "<|begin_of_text|>"}), "x")
    same = from_files(hand.files(tree, config | {"chat_template": "y"}), "y")
    assert one == same.fingerprint != other.fingerprint


# ---------------------------------------------------------------------------- words and pieces
def test_the_byte_alphabet_is_the_librarys_and_goes_both_ways():
    written = [byte_level.written(bytes([byte])) for byte in range(256)]
    assert set(written) == set(pre_tokenizers.ByteLevel.alphabet())
    assert byte_level.surface("".join(written)) == bytes(range(256))
    assert written == [hand.SYMBOL[byte] for byte in range(256)]


def test_words_are_what_the_pre_tokenizer_cuts():
    got = byte_level.words(hand.make("llama3"), ["ab abc", " ab1234"])
    assert got == Counter({"ab": 1, "Ġabc": 1, "Ġab": 1, "123": 1, "4": 1})


def test_words_are_cut_of_normal_text():
    assert list(byte_level.words(hand.make("qwen2"), ["e\u0301"])) == ["Ã©"]


def test_words_and_parts_of_characters_are_spelled_as_inside_a_sentence():
    llama3 = hand.make("llama3")
    half = byte_level.written("é".encode()[:1])
    assert byte_level.spell(llama3, ["Ġab", "abcab", half]) == [[G_AB], [ABC, AB], [0xC3]]
    assert byte_level.segments(llama3, ["Ġabc", half]) == [["Ġab", "c"], [half]]
    assert byte_level.spell(llama3, []) == []


# ---------------------------------------------------------------------------- extending
@pytest.mark.parametrize("style", STYLES)
def test_new_pieces_follow_all_old_ids_and_join_below_all_old_merges(style):
    base = MADE[style]
    new = byte_level.extend(base, ["bc", "cd", "abccd"])
    assert new.size == base.size + 3
    first = base.size
    got = new.encode("abc bc cd abccd")  # a and b join first: `bc` is never made of `abc`
    space, abc, g_ab, c = (base.encode(t)[0] for t in (" ", "abc", " ab", "c"))
    want = [abc, space, first, space, first + 1, g_ab, c, first + 1]
    assert got[:-3] == want[:-3]
    assert new.encode("abccd") == [first + 2]
    assert byte_level.altered(base, new) == []


def test_the_rest_of_the_file_stays_as_it_is(base):
    new = byte_level.extend(base, ["bc", "ca"])
    old, now = (byte_level.tree_of(t) for t in (base, new))
    assert {k: v for k, v in now.items() if k != "model"} == {
        k: v for k, v in old.items() if k != "model"
    }
    count = len(old["model"]["merges"])
    assert now["model"]["merges"][:count] == old["model"]["merges"]
    text_form = isinstance(old["model"]["merges"][0], str)
    assert now["model"]["merges"][count:] == (
        ["b c", "c a"] if text_form else [["b", "c"], ["c", "a"]]
    )
    assert byte_level.pieces(new)[: base.size] == byte_level.pieces(base)


def test_a_piece_is_joined_from_any_two_parts():
    new = byte_level.extend(hand.make("qwen2"), ["cd", "abcd"])
    joins = byte_level.tree_of(new)["model"]["merges"][3:]
    assert joins == [["c", "d"], ["abc", "d"], ["ab", "cd"]]
    assert (new.encode("abcd"), new.encode("abccd")) == ([262], [ABC, 261])


def test_pieces_the_base_has_and_repeated_ones_are_passed_over(base):
    new = byte_level.extend(base, ["ab", "bc", "a", "bc"])
    assert byte_level.pieces(new)[base.size :] == ["bc"]


def test_a_piece_without_parts_is_refused_unless_words_are_taken_whole():
    with pytest.raises(ValueError, match=r"'xyz' .* cannot be joined.*add the parts"):
        byte_level.extend(hand.make("qwen2"), ["xyz"])
    whole = byte_level.extend(hand.make("llama3"), ["xyz"])
    assert whole.encode("xyz xyz") == [261, *b" xyz"]


@pytest.mark.parametrize("piece", ["", "a b", "가", "x" * 257])
def test_what_cannot_be_a_piece_is_refused(piece):
    with pytest.raises(ValueError, match="cannot be a piece"):
        byte_level.extend(hand.make("llama3"), [piece])


def test_a_control_token_that_text_would_become_is_refused():
    tree = hand.llama3()
    tree["added_tokens"][1]["content"] = "END"
    base = from_files(hand.files(tree, {"eos_token": "END"}), "x")
    assert base.encode("END") == [*b"END"]
    with pytest.raises(ValueError, match="would read 'END' in text as the control token"):
        byte_level.extend(base, ["bc"])


def test_what_another_tokenizer_changed_is_named():
    base = hand.make("llama3")
    tree = hand.llama3((("a", "b"), ("Ġ", "ab"), ("b", "c")))  # id 258 is `bc`
    tree["added_tokens"][0] |= {"special": False}
    tree["added_tokens"][1] |= {"content": "</s>"}
    tree["normalizer"] = {"type": "NFC"}
    tree["model"]["ignore_merges"] = False
    del tree["post_processor"]
    new = from_files(hand.files(tree, {"eos_token": "</s>"}), "x")
    assert byte_level.altered(base, new) == [
        *("abc", "<|end_of_text|>"),  # ids that are something else
        *("<|begin_of_text|>", "<|end_of_text|>"),  # tokens of another kind
        *("abc",),  # joins
        *("(normalizer)", "(post_processor)", "(ignore_merges)", "(bos_id)"),
    ]


def test_joins_that_are_gone_are_named():
    base, less = hand.make("gpt2"), hand.gpt2()
    less["model"]["merges"].pop()
    assert byte_level.altered(base, from_files(hand.files(less), "x")) == ["abc"]


# ---------------------------------------------------------------------------- written forms
def test_every_form_gives_the_same_ids_and_text(base, tmp_path):
    new = byte_level.extend(base, ["bc", "abd", "bcb", "Ã©", "Ġabd"])
    byte_level.write(new, tmp_path)
    again, others = load(tmp_path), byte_level.forms(tmp_path)
    assert sorted(others) == ["tokenizer.json", "tokenizer.tiktoken"]
    texts = [*prove.ADVERSARIAL, "abd bcb é abdabcb", "<tool_call>a", "a<|endoftext|>"]
    want = new.encode_batch(texts)
    assert again.encode_batch(texts) == want
    for name, codec in others.items():
        assert codec.encode_batch(texts) == want, name
        ends = [[base.bos_id, *row, base.eos_id] for row in want]
        assert codec.decode_batch(ends) == [new.decode(row) for row in ends]


@settings(max_examples=60, deadline=None)
@given(anything)
def test_tiktoken_gives_the_ids_of_the_json_for_any_text(sample):
    for base in MADE.values():
        new = byte_level.extend(base, ["bc", "aba", "ba", "abab", "Ã©", "ì", "Ġa", "Ġaba"])
        tree = byte_level.tree_of(new)
        lines = ranks.lines(tree)
        assert lines is not None
        codec = ranks.TiktokenCodec(lines, tree)
        assert codec.encode_batch([sample]) == [new.encode(sample)]


def test_ranks_are_the_bytes_of_a_piece_and_its_id():
    lines = ranks.lines(hand.tekken())
    assert lines is not None
    assert lines.splitlines()[0] == b"AA== 4"  # byte 0, after the special tokens
    assert lines.splitlines()[-2:] == [b"IGFi 261", b"YWJj 262"]


def test_no_ranks_are_written_where_they_would_not_be_the_same(tmp_path):
    out_of_order = hand.llama3()
    out_of_order["model"]["merges"] = [["Ġ", "ab"], ["a", "b"], ["ab", "c"]]
    unreachable = hand.qwen2()  # tiktoken takes `bca` whole, the merges never come to it
    unreachable["model"]["vocab"] |= {"<|endoftext|>": 259, "<tool_call>": 260, "bca": 261}
    other_cut = hand.llama3()
    other_cut["pre_tokenizer"] = hand.cut_by(r"\p{L}+|[^\p{L}]+")
    other_normal = hand.llama3() | {"normalizer": {"type": "Lowercase"}}
    half_listed = hand.llama3()  # `abac` is taken whole, but aba + c is no join of the list
    half_listed["added_tokens"] = []
    half_listed["model"]["vocab"] |= {"aba": 259, "ac": 260, "abac": 261}
    half_listed["model"]["merges"] += [["ab", "a"], ["a", "c"], ["ab", "ac"]]
    nested, conditional = hand.qwen2(), hand.qwen2()
    nested["added_tokens"].append(hand.token(261, "<tool_call>s", special=False))
    conditional["added_tokens"][1]["lstrip"] = True
    trees = (out_of_order, unreachable, other_cut, other_normal, half_listed, nested, conditional)
    for tree in trees:
        assert ranks.lines(tree) is None
    made = from_files(hand.files(unreachable, hand.CONFIGS["qwen2"]), "x")
    (tmp_path / "tokenizer.tiktoken").write_bytes(b"old")
    byte_level.write(made, tmp_path)
    assert sorted(byte_level.forms(tmp_path)) == ["tokenizer.json"]


def test_damaged_ranks_are_named(tmp_path):
    byte_level.write(hand.make("llama3"), tmp_path)
    (tmp_path / "tokenizer.tiktoken").write_bytes(b"AA== 0\n??? 1\n")
    with pytest.raises(ValueError, match=r"tokenizer.tiktoken: b'\?\?\? 1' is no piece"):
        byte_level.forms(tmp_path)


def test_transformers_loads_the_written_folder(tmp_path):
    base = hand.make("llama3")
    config = json.loads(base.files["tokenizer_config.json"])
    config |= {"auto_map": {"AutoTokenizer": "evil.py"}, "model_max_length": 77}
    files = {**base.files, "tokenizer_config.json": json.dumps(config).encode()}
    new = byte_level.extend(from_files(files, "x"), ["bc"])
    byte_level.write(new, tmp_path)
    fast = AutoCodec(tmp_path).tokenizer
    assert fast("bc abc")["input_ids"] == [BOS, 261, G_AB, ord("c")]
    assert (fast.bos_token_id, fast.eos_token_id, fast.pad_token_id) == (BOS, EOS, None)
    assert (len(fast), fast.chat_template, fast.model_max_length) == (262, "{{ x }}", 77)
    assert fast.decode(fast("a .")["input_ids"], skip_special_tokens=True) == "a ."
    assert fast("a<|end_of_text|>")["input_ids"][-1] == EOS  # as every Llama there
    written = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert (written.get("auto_map"), written["clean_up_tokenization_spaces"]) == (None, False)


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen3"])
def test_transformers_keeps_the_pre_tokenizer_beside_a_model_of(model_type, tmp_path):
    new = byte_level.extend(byte_level.mark_aware(hand.make("qwen2")), ["bc"])
    byte_level.write(new, tmp_path)
    config = {"model_type": model_type, "transformers_version": "5.0.0"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    got = json.loads(AutoCodec(tmp_path).tokenizer.backend_tokenizer.to_str())
    assert got["pre_tokenizer"] == byte_level.tree_of(new)["pre_tokenizer"]


def test_what_comes_with_a_tokenizer_goes_along_and_a_tiktoken_model_does_not(tmp_path):
    base = hand.make("llama3")
    more = {"chat_template.jinja": b"{{ y }}", "tokenizer.model": ranks.lines(hand.llama3())}
    byte_level.write(from_files({**base.files, **more}, "x"), tmp_path / "a")
    byte_level.write(load(tmp_path / "a"), tmp_path / "b")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["chat_template.jinja", *sorted(byte_level.FORMS)]
    for name in names:  # and writing again gives the same bytes
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("style", STYLES)
def test_a_splice_of_it_is_proved(style, tmp_path):
    base, lines = MADE[style], ["abd abd bca", "가나 가나 가나"]
    found = ["bd", "ca", *byte_level.segments(base, ["abca"])[0]]
    new, plan = splice.splice(base, splice.prune(base, found, lines, 1))
    byte_level.write(new, tmp_path)
    proof = prove.prove(tmp_path, base, ["the cab sat"], lines)
    assert proof.ok, proof.summary
    assert plan.added


# ---------------------------------------------------------------------------- real tokenizers
@pytest.fixture(scope="module")
def llama3() -> Tokenizer:
    """Llama 3: 128,000 pieces; its 256 special tokens are in no file but the config."""
    path = DATA / "tokenizers" / "llama3" / "tokenizer.json.gz"
    if not path.exists():
        pytest.skip(NO_DATA)
    tree = json.loads(gzip.decompress(path.read_bytes()))
    names = ["<|begin_of_text|>", "<|end_of_text|>"]
    names += [f"<|reserved_special_token_{n}|>" for n in range(254)]
    tree["added_tokens"] = [hand.token(128_000 + n, name) for n, name in enumerate(names)]
    return from_files(hand.files(tree, {"bos_token": names[0], "eos_token": names[1]}), "llama3")


def parallel() -> list[str]:
    folders = ("flores101_first200/*.devtest", "ntrex128/*.txt")
    paths = [path for f in folders for path in sorted((DATA / "parallel").glob(f))]
    return [line for path in paths for line in text.lines(str(path))]


def test_llama3_is_its_tiktoken_original(llama3):
    original = (DATA / "tokenizers" / "llama3" / "tokenizer.model").read_bytes()
    tree, lines = byte_level.tree_of(llama3), parallel()
    assert ranks.lines(tree) == original
    got = ranks.TiktokenCodec(original, tree).encode_batch(lines)
    assert len(lines) > 26_000
    assert got == llama3.encode_batch(lines)
    assert (llama3.bos_id, llama3.eos_id, llama3.size) == (128_000, 128_001, 128_256)


def test_extending_llama3_leaves_english_alone_in_every_form(llama3, tmp_path):
    tamil = list(text.lines(str(DATA / "parallel" / "ntrex128" / "newstest2019-ref.tam.txt")))
    english = list(text.lines(str(DATA / "parallel" / "ntrex128" / "newstest2019-src.eng.txt")))
    base = byte_level.mark_aware(llama3)
    found = choose.continued(tamil, 1000, ("Taml",), 1.0, base)
    new, plan = splice.splice(base, splice.prune(base, found, tamil, 2, english))
    byte_level.write(new, tmp_path)
    proof = prove.prove(tmp_path, llama3, english, tamil, start=base)
    assert proof.ok, proof.summary
    assert (min(plan.added), len(plan.added)) == (128_256, 1000)
    assert proof.tokens_after < proof.tokens_before / 4
