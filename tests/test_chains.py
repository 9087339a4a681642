"""Held-out chains: asked as they were trained, and judged by their last section."""

import json

from hand_tokenizer import make
import pytest

from lrl_jax.data.templates import documents, taco
from lrl_jax.data.templates import table as templates
from lrl_jax.evaluate import chains
from lrl_jax.recipe.evaluate import Chains

WHOLE = "Instruction in English: Add.\nResponse in English: three\nResponse in Korean: 셋"
CUT = "Instruction in English: Add.\nResponse in English: three"


@pytest.fixture
def part(tmp_path) -> Chains:
    rows = {
        "en": [("a", "b", ""), ("c", "same", ""), ("a b", "c", "b")],
        "ko": [("가", "나", ""), ("다", "same", ""), ("라", "마", "b")],
    }
    for name, some in rows.items():
        fields = [{"instruction": i, "output": o, "input": x} for i, o, x in some]
        (tmp_path / name).write_text(json.dumps(fields), encoding="utf-8")
    files = dict(english=str(tmp_path / "en"), translated=str(tmp_path / "ko"))
    return Chains(**files, language="kor_Hang", limit=5)


def test_a_chain_that_is_cut_short_has_failed():
    got = chains.judge([WHOLE, CUT, WHOLE, "..."], ["셋"] * 4, "kor_Hang")
    assert (got["parsed"], got["lines"]) == (50.0, 4)


def test_only_the_last_section_is_judged():
    right, wrong = WHOLE, WHOLE.replace("three", "seven")
    assert chains.judge([right], ["셋"], "kor_Hang") == chains.judge([wrong], ["셋"], "kor_Hang")
    assert chains.judge([right], ["셋"], "kor_Hang")["chrf"] == pytest.approx(100)
    assert chains.judge([right], ["넷"], "kor_Hang")["chrf"] < 1


def test_rows_that_were_not_translated_are_not_asked(part):
    assert [record["instruction"] for record in chains.held_out(part)] == ["가", "라"]


def test_a_question_begins_as_its_document_did_in_training(part):
    tokenizer = make()
    asked = chains.held_out(part)
    write = templates.writer(chains._dataset(part), tokenizer)
    trained = documents.encode([write(dict(record)) for record in asked], tokenizer)
    for ids, document in zip(chains.prompts(part, asked, tokenizer), trained, strict=True):
        assert document.tokens[: len(ids)].tolist() == ids
        assert tokenizer.decode(ids).endswith(taco.PREFIX)


def test_files_without_a_row_to_ask_are_refused(part, tmp_path):
    for name in ("en", "ko"):
        row = {"instruction": "a", "input": "", "output": "same"}
        (tmp_path / name).write_text(json.dumps([row]), encoding="utf-8")
    with pytest.raises(ValueError, match="no row that can be asked"):
        chains.held_out(part)
