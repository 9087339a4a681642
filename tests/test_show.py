"""Showing data: what is dim is what the loss does not count, and the tables add up."""

import dataclasses
import time

from hand_tokenizer import NEWLINE, make
import numpy as np
import pytest
from rich.console import Console

from lrl_jax.data.feed import show
from lrl_jax.data.feed.plan import Plan, PlanStage
from lrl_jax.data.pack import jobs, packing, rows
from lrl_jax.recipe import data as recipe_data

ROW = rows.PackedRow(
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
    assert first.plain == "<s>a\n b</s>"  # the answer's word mark shows as its space
    assert spans == [("a\n", "dim"), (" b", "bold"), ("</s>", "cyan")]
    assert second.plain == "<s>c</s>"


def test_another_weight_than_one_and_a_control_token_in_the_middle_are_seen():
    row = rows.PackedRow(
        tokens=np.array([263, 2, 264, 265, 2]),
        weights=np.array([0, 0, 0.25, 1, 1], np.float32),
        lengths=np.array([5]),
    )
    (got,) = show.documents(row, make())
    assert got.plain == "<s>a</s> b[0.25] c</s>"
    spans = [(got.plain[s.start : s.end], s.style) for s in got.spans]
    assert spans == [
        ("a", "dim"), ("</s>", "dim cyan"), (" b", "bold yellow"), ("[0.25]", "cyan"),
        (" c", "bold"), ("</s>", "cyan"),
    ]  # fmt: skip


def test_the_token_table_has_a_line_a_token():
    row = dataclasses.replace(ROW, weights=np.array([0, 0, 0.5, 1, 1, 1], np.float32))
    table = show.token_table(row, make())
    assert [one.style for one in table.rows][:4] == ["dim", "dim", "bold yellow", "bold"]
    lines = [line.split() for line in printed(table).splitlines()]
    assert [line for line in lines if line and line[0] in "12"] == [
        ["1", "0", "1", "263", "\u2581a", "0"],
        ["1", "1", "263", "13", "<0x0A>", "0"],
        ["1", "2", "13", "264", "\u2581b", "0.5"],
        ["1", "3", "264", "2", "</s>", "1"],
        ["2", "0", "1", "265", "\u2581c", "1"],
        ["2", "1", "265", "2", "</s>", "1"],
    ]


def test_show_prints_the_documents_of_a_row(tmp_path):
    (tmp_path / "t").write_text("a b\nc\n")
    text = {"kind": "text", "path": [str(tmp_path / "t")], "language": "kor_Hang"}
    data = recipe_data.Data(sequence_length=8, datasets={"d": text})
    jobs.prepare_all(data, make(), tmp_path)
    folder = packing.folders(tmp_path)["d"]
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    show.show(folder, make(), console=console)
    got = console.export_text()
    assert " d row 0 " in got
    assert "2 documents, 5 of 8 tokens (62.5%), 5 trained on" in got
    assert "1 <s>a b</s>" in got
    assert "2 <s>c</s>" in got
    with pytest.raises(ValueError, match="has rows 0 to 0; got 7"):
        show.show(folder, make(), start=7)
    with pytest.raises(ValueError, match="packed with another tokenizer"):
        show.show(folder, make(("d",)))


def test_what_is_worth_a_second_look_is_said_in_a_line():
    loses = dataclasses.replace(
        MANIFEST, records=100, docs=88, left_out={"empty": 6, "too short": 5, "longer": 1}
    )
    assert [*show.remarks({"ko": loses})] == [
        "ko: 6 of 100 records are left out: empty (samples.json beside the rows has some)"
    ]
    fields = {f"f{i:02}": 20 - i for i in range(14)}
    named = dataclasses.replace(
        MANIFEST, records=100, source_rows=1000, unread=fields, absent={"input": 1000, "x": 9}
    )
    first = ", ".join(f"f{i:02} in {20 - i}" for i in range(12))
    assert [*show.remarks({"ko": named})] == [
        "ko: no row has input, which is read as empty; if a field that is not read holds it, say "
        "so with columns: {input: NAME_OF_THE_FIELD}",
        f"ko: fields not read: {first}, 2 more (of 1,000 rows)",
    ]
    [beyond] = show.remarks({"ko": dataclasses.replace(MANIFEST, records=100, beyond=3)})
    assert beyond.startswith(
        "ko: 3 of 100 documents have something to learn beyond the first row of 10 tokens"
    )


def test_a_stage_is_shown_in_the_order_of_training(tmp_path):
    for name, lines in (("d", "a b\nb a\na a\n"), ("e", "c c\nc a\n")):
        (tmp_path / f"{name}.txt").write_text(lines)
    data = recipe_data.Data(
        sequence_length=4,
        datasets={
            name: {"kind": "text", "path": [str(tmp_path / f"{name}.txt")], "language": "kor_Hang"}
            for name in "de"
        },
    )
    packed = jobs.prepare_all(data, make(), tmp_path)
    sizes = {name: one.rows for name, one in packed.items()}
    assert sizes == {"d": 3, "e": 2}
    plan = Plan(sizes, (PlanStage("one", 3, {"d": 1}), PlanStage("up.01", 2, {"d": 1, "e": 1}),
                        PlanStage("up.02", 2, {"e": 1})))  # fmt: skip
    datasets, places = plan(np.arange(7))
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    folders = packing.folders(tmp_path)
    show.show_stage(folders, plan, make(), "up", count=9, start=1, console=console)
    got = [line for line in console.export_text().splitlines() if "row" in line]
    assert len(got) == 3
    for line, g in zip(got, (4, 5, 6), strict=True):
        title = f"up row {g - 3} (row {g} of training): {plan.names[datasets[g]]} row {places[g]} "
        assert title in line
    show.show_stage(folders, plan, make(), "up.02", console=console)
    assert "up.02 row 0 (row 5 of training): e row" in console.export_text()
    with pytest.raises(ValueError, match=r"no stage 'x'; there are one, up$"):
        show.show_stage(folders, plan, make(), "x")
    with pytest.raises(ValueError, match="stage 'one' has rows 0 to 2; got 3"):
        show.show_stage(folders, plan, make(), "one", start=3)


def test_the_dataset_table_says_what_was_left_out_and_what_is_there_twice():
    one = dataclasses.replace(
        MANIFEST, records=2_011, left_out={"copy": 5, "too short": 2000}, distinct=3, cut=77,
        scripts={"Latn": 4, "Hang": 996},
    )  # fmt: skip
    got = " ".join(printed(show.datasets({"ko": one})).split())
    assert "ko kor_Hang 6 50% 190 53% 6.00 20 95.0% Korean Hang >99% Latn <1%" in got
    assert "ko 2,011 2,005 2,000 too short, 5 copy, 77 tokens cut from long documents" in got


def test_the_dataset_table_has_its_numbers():
    lines = [line.split() for line in printed(show.datasets({"ko": MANIFEST})).splitlines()]
    assert ["ko", "kor_Hang", "6", "100%", "190", "53%", "6.00", "20", "95.0%"] in lines
    assert ["ko", "7", "1", "1", "empty"] in lines


def test_tables_of_large_datasets_fit_a_narrow_terminal():
    large = dataclasses.replace(
        MANIFEST,
        docs=2_345_678,
        tokens=987_654_321,
        rows=482_813,
        sequence_length=2048,
        bytes=1_987_654_321,
        loss_tokens=987_654_321,
        distinct=2_345_670,
    )
    plan = Plan({"korean_web": large.rows}, (PlanStage("pretrain", 10**6, {"korean_web": 1}),))
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(show.datasets({"korean_web": large}))
    console.print(show.plan_table(plan, {"korean_web": large}))
    got = console.export_text()
    assert "\u2026" not in got
    assert got.count("korean_web") == 4  # packed, left out, read, and read again


def test_the_plan_table_counts_tokens_epochs_and_new_text_of_each_stage():
    manifests = {"ko": MANIFEST, "en": dataclasses.replace(MANIFEST, name="en", rows=5, distinct=3)}
    plan = Plan(
        {"ko": 20, "en": 5},
        (PlanStage("warm", 30, {"ko": 1}), PlanStage("mix", 20, {"ko": 1, "en": 3})),
    )
    lines = [line.split() for line in printed(show.plan_table(plan, manifests)).splitlines()]
    # 30 rows are 1.5 epochs of 20: 285 tokens, 900 bytes; 20 rows of them are read at first
    assert ["warm", "ko", "100.0%", "30", "285", "900", "1.50", "67%"] in lines
    # 5 rows of 9.5 tokens beside 15 rows of 38; 5 of the 15 are new, and half of their text
    assert ["mix", "ko", "7.7%", "5", "48", "150", "0.25", "0%"] in lines
    assert ["mix", "en", "92.3%", "15", "570", "1,800", "3.00", "17%"] in lines
    assert ["all", "ko", "36.8%", "35", "332", "1,050", "1.75", "57%"] in lines
    # 1.75 epochs of ko, 3 of en: 1 + 15.387756 (1 - exp(-0.75 / 15.387756)) and so on
    said = " ".join(printed(show.plan_table(plan, manifests)).split())
    assert "en 3.00 epochs as 2.88, ko 1.75 epochs as 1.73" in said


def test_a_plan_that_reads_nothing_twice_says_nothing_of_repetition():
    plan = Plan({"ko": 20}, (PlanStage("warm", 20, {"ko": 1}),))
    assert "again" not in printed(show.plan_table(plan, {"ko": MANIFEST}))


def test_the_plan_table_has_a_ramp_as_one_stage_and_rows_that_are_never_read():
    manifests = {name: dataclasses.replace(MANIFEST, name=name) for name in ("ko", "en", "sw")}
    plan = Plan(
        {"ko": 20, "en": 20, "sw": 20},
        (PlanStage("up.01", 10, {"ko": 1, "sw": 1e-9}), PlanStage("up.02", 10, {"ko": 1, "en": 1})),
    )
    lines = [line.split() for line in printed(show.plan_table(plan, manifests)).splitlines()]
    assert ["up", "ko", "100%", "to", "50%", "15", "142", "450", "0.75", "100%"] in lines
    assert ["up", "en", "0%", "to", "50%", "5", "48", "150", "0.25", "100%"] in lines
    assert ["up", "sw", "0%", "to", "0%", "0", "0", "0", "0.00", "0%"] in lines


def test_132_datasets_are_planned_and_shown_at_once():
    manifests = {
        f"d{i}": dataclasses.replace(MANIFEST, name=f"d{i}", rows=20 + i) for i in range(132)
    }
    start = time.perf_counter()
    stages = tuple(PlanStage(f"s{i}", 10**6, {name: 1 + i for name in manifests}) for i in range(3))
    plan = Plan({name: one.rows for name, one in manifests.items()}, stages)
    got = printed(show.plan_table(plan, manifests))
    assert got.count("d131") == 4
    assert time.perf_counter() - start < 2
