"""Showing data: what is dim is what the loss does not count, and the tables add up."""

import dataclasses

from hand_tokenizer import NEWLINE, make
import numpy as np
import pytest
from rich.console import Console

from lrl_jax import recipe_data
from lrl_jax.data import jobs, pack, rows, show
from lrl_jax.data.plan import Plan, Stage

ROW = rows.Row(
    tokens=np.array([263, NEWLINE, 264, 2, 265, 2]),  # "a\n" -> "b", then "c"
    weights=np.array([0, 0, 1, 1, 1, 1], np.float32),
    lengths=np.array([4, 2]),
)
MANIFEST = rows.Manifest(
    name="ko",
    fingerprint="f",
    language="kor_Hang",
    template="plain",
    sequence_length=10,
    bos_id=1,
    eos_id=2,
    pad_id=2,
    tokenizer="t",
    docs=6,
    order="shuffled",
    records=7,
    left_out={"empty": 1},
    distinct=6,
    scripts={"Hang": 300},
    cut=0,
    bytes=600,
    tokens=190,
    loss_tokens=100,
    rows=20,
    shards=(),
)


def printed(what) -> str:
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(what)
    return console.export_text()


def test_masked_tokens_are_dim_and_learnt_ones_bold():
    first, second = show.documents(ROW, make())
    spans = [(first.plain[s.start : s.end], s.style) for s in first.spans]
    assert first.plain == "<bos>a\n b<eos>"  # the answer's word mark shows as its space
    assert spans == [("a\n", "dim"), (" b", "bold"), ("<eos>", "cyan")]
    assert second.plain == "<bos>c<eos>"


def test_show_prints_the_documents_of_a_row(tmp_path):
    (tmp_path / "t").write_text("a b\nc\n")
    text = {"kind": "text", "path": [str(tmp_path / "t")], "language": "kor_Hang"}
    data = recipe_data.Data(sequence_length=8, datasets={"d": text})
    jobs.prepare(data, "d", make(), tmp_path)
    folder = pack.folders(tmp_path)["d"]
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    show.show(folder, make(), console=console)
    got = console.export_text()
    assert "d row 0: 2 documents, 5 of 8 tokens (62.5%), 5 trained on" in got
    assert "1 <bos>a b<eos>" in got
    assert "2 <bos>c<eos>" in got
    with pytest.raises(ValueError, match="has rows 0 to 0; got 7"):
        show.show(folder, make(), start=7)
    with pytest.raises(ValueError, match="packed with another tokenizer"):
        show.show(folder, make(("d",)))


def test_the_dataset_table_has_its_numbers():
    got = printed(show.datasets({"ko": MANIFEST})).split()
    for number in ("ko", "kor_Hang", "6", "1", "190", "53%", "6.00", "20", "95.0%"):
        assert number in got


def test_the_plan_table_counts_epochs_and_tokens_of_each_stage():
    manifests = {"ko": MANIFEST, "en": dataclasses.replace(MANIFEST, name="en", rows=5)}
    plan = Plan(
        {"ko": 20, "en": 5},
        (Stage("warm", 40, {"ko": 1}), Stage("mix", 20, {"ko": 1, "en": 3})),
    )
    lines = [line.split() for line in printed(show.plan_table(plan, manifests)).splitlines()]
    # 40 rows are 2 epochs of 20: 380 tokens, 1200 bytes
    assert ["warm", "ko", "100.0%", "40", "380", "1,200", "2.00"] in lines
    assert ["mix", "ko", "25.0%", "5", "48", "150", "0.25"] in lines
    assert ["mix", "en", "75.0%", "15", "570", "1,800", "3.00"] in lines
    assert ["all", "ko", "75.0%", "45", "428", "1,350", "2.25"] in lines
