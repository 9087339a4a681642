"""What a compiled program costs: small literal programs, seconds by hand."""

import pytest

from lrl_jax.devices import chips
from lrl_jax.fit import cost

CHIP = chips.Chip(
    kinds=("toy",), memory=1000.0, peak=1e6, clock=1000.0, link=10.0, links=2, network=5.0,
    host=50.0,
)  # fmt: skip


def program(entry: str, *others: str) -> str:
    """HLO text of an entry computation and those it calls."""
    whole = "".join(f"{other}\n}}\n\n" for other in others)
    return f"HloModule toy\n\n{whole}ENTRY %main (p: f32[8]) -> f32[8] {{\n{entry}\n}}\n"


def cycles(n: int) -> str:
    return f'backend_config={{"window_config":{{"estimated_cycles":"{n}"}}}}'


def test_a_loop_costs_its_body_as_often_as_it_goes_round():
    loop = """%body (s: (s32[], f32[8])) -> (s32[], f32[8]) {
  %s = (s32[], f32[8]) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %one = s32[] constant(2)
  %next = s32[] add(%i, %one)
  %x = f32[8]{0} get-tuple-element(%s), index=1
  %y = f32[8]{0} fusion(%x), kind=kLoop, calls=%inner, CYCLES
  ROOT %t = (s32[], f32[8]{0}) tuple(%next, %y)""".replace("CYCLES", cycles(500))
    test = """%test (s: (s32[], f32[8])) -> pred[] {
  %s = (s32[], f32[8]) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %limit = s32[] constant(7)
  ROOT %less = pred[] compare(%i, %limit), direction=LT"""
    inner = """%inner (x: f32[8]) -> f32[8] {
  ROOT %x = f32[8]{0} parameter(0)"""
    entry = f"""  %p = f32[8]{{0}} parameter(0)
  %c = f32[8]{{0}} copy(%p), {cycles(100)}
  %w = (s32[], f32[8]{{0}}) while(%c), condition=%test, body=%body
  ROOT %r = f32[8]{{0}} get-tuple-element(%w), index=1"""
    got = cost.of(program(entry, inner, loop, test), CHIP)
    assert got.kinds == {"copy": pytest.approx(0.1), "fusion": pytest.approx(4 * 0.5)}  # 0 2 4 6
    assert got.seconds == pytest.approx(2.1)
    assert got.unknown == ()


def test_a_loop_that_does_not_say_how_often_is_named():
    body = """%body (s: f32[8]) -> f32[8] {
  ROOT %y = f32[8]{0} copy(%s), CYCLES""".replace("CYCLES", cycles(500))
    test = """%test (s: f32[8]) -> pred[] {
  ROOT %less = pred[] fusion(%s), kind=kLoop, calls=%other"""
    entry = "  ROOT %w = f32[8]{0} while(%p), condition=%test, body=%body"
    got = cost.of(program(entry, body, test), CHIP)
    assert got.compute == pytest.approx(0.5)
    assert got.unknown == ("loop w: counted once",)


GROUPS = "channel_id=1, replica_groups=[2,4]<=[8]"


@pytest.mark.parametrize(
    ("line", "want"),
    [
        ("%a = f32[80]{0} all-gather(%p), " + GROUPS, ("all-gather", 320.0, 240.0)),
        ("%a = f32[80]{0} all-reduce(%p), " + GROUPS, ("all-reduce", 320.0, 480.0)),
        ("%a = f32[20]{0} reduce-scatter(%p), " + GROUPS, ("reduce-scatter", 320.0, 240.0)),
        ("%a = f32[80]{0} collective-permute(%p), " + GROUPS, ("collective-permute", 320.0, 320.0)),
    ],
)
def test_a_collective_takes_its_bytes_over_all_links(line, want):
    got = cost.of(program(f"  {line}"), CHIP)
    op, size, wire = want
    assert got.collectives == (cost.Collective(op, 4, False, 1, size),)
    assert got.exposed == pytest.approx(wire / 20)


def test_what_runs_beside_a_collective_hides_it():
    entry = f"""  %s = (f32[20]{{0}}, f32[80]{{0}}) all-gather-start(%p), {GROUPS}
  %c = f32[8]{{0}} copy(%p), {cycles(4000)}
  %d = f32[80]{{0}} all-gather-done(%s)
  ROOT %e = f32[8]{{0}} copy(%c), {cycles(1000)}"""
    got = cost.of(program(entry), CHIP)
    assert got.collectives == (cost.Collective("all-gather", 4, True, 1, 320.0),)
    assert got.exposed == pytest.approx(240 / 20 - 4)
    assert got.seconds == pytest.approx(12 + 1)


def test_a_collective_that_is_spread_over_fusions_is_one():
    def part(name, target):
        return f"""%{name} (x: f32[20]) -> f32[80] {{
  %g = f32[80]{{0}} all-gather(%x), {GROUPS}
  ROOT %k = f32[80]{{0}} custom-call(%g), custom_call_target="{target}\""""

    entry = f"""  %s = f32[80]{{0}} fusion(%p), kind=kCustom, calls=%first
  %m = f32[80]{{0}} fusion(%s), kind=kCustom, calls=%middle, {cycles(2000)}
  %d = f32[80]{{0}} fusion(%m), kind=kCustom, calls=%last
  ROOT %e = f32[80]{{0}} copy(%d), {cycles(20000)}"""
    parts = [part("first", "AsyncCollectiveStart"), part("middle", "x")]
    got = cost.of(program(entry, *parts, part("last", "AsyncCollectiveDone")), CHIP)
    assert got.collectives == (cost.Collective("all-gather", 4, True, 1, 320.0),)
    assert got.exposed == pytest.approx(12 - 2)


def test_a_sum_of_which_a_slice_is_kept_is_scattered():
    inner = f"""%inner (x: f32[80]) -> f32[20] {{
  %sum = f32[80]{{0}} all-reduce(%x), {GROUPS}
  ROOT %mine = f32[20]{{0}} dynamic-slice(%sum, %i), dynamic_slice_sizes={{20}}"""
    got = cost.of(program("  ROOT %f = f32[20]{0} fusion(%p), calls=%inner", inner), CHIP)
    assert got.collectives == (cost.Collective("reduce-scatter", 4, False, 1, 320.0),)
    assert got.exposed == pytest.approx(12)


def test_what_crosses_slices_takes_the_slower_network():
    how = '_xla_host_transfer_handler_name="xla_megascale_runtime"'
    ways = (
        f"is_host_transfer=true, frontend_attributes={{{how},"
        '_xla_host_transfer_rendezvous="sum.1",_xla_megascale_target="{0,1}x{0:3}",'
        '_xla_megascale_transfer_type="ALL_REDUCE"}'
    )
    entry = f"""  %send = (f32[10]{{0}}, u32[], token[]) send(%p, %t), channel_id=2, {ways}
  %recv = (f32[10]{{0}}, u32[], token[]) recv(%t), channel_id=3, {ways}
  %c = f32[8]{{0}} copy(%p), {cycles(3000)}
  %sent = token[] send-done(%send), channel_id=2
  %got = (f32[10]{{0}}, token[]) recv-done(%recv), channel_id=3
  ROOT %e = f32[8]{{0}} copy(%got), {cycles(20000)}"""
    got = cost.of(program(entry), CHIP)
    assert got.collectives == (cost.Collective("all-reduce between slices", 2, True, 1, 40.0),)
    assert got.exposed == pytest.approx(40 / 5 - 3)


def test_copies_to_the_host_count_and_those_within_the_chip_do_not():
    entry = f"""  %s = (f32[100]{{0:S(5)}}, f32[100]{{0}}, u32[]) copy-start(%p)
  %v = (f32[100]{{0:S(1)}}, f32[100]{{0}}, u32[]) copy-start(%p)
  %c = f32[8]{{0}} copy(%p), {cycles(3000)}
  ROOT %d = f32[100]{{0:S(5)}} copy-done(%s)"""
    got = cost.of(program(entry), CHIP)
    assert got.host_bytes == 400
    assert got.host == pytest.approx(400 / 50 - 3)


ROWS, ROW = "f32[40,100]{1,0:T(8,128)S(5)}", "f32[1,100]{1,0:T(8,128)}"


@pytest.mark.parametrize(
    "start",
    [
        f"(({ROWS}, s32[], s32[]), {ROW}, u32[]{{:S(2)}}) dynamic-slice-start(%p, %i, %j)",
        f"(({ROWS}, {ROW}, s32[], s32[]), {ROWS}, u32[]{{:S(2)}}) "
        "dynamic-update-slice-start(%p, %x, %i, %j)",
    ],
    ids=["read", "written"],
)
def test_of_rows_on_the_host_only_the_row_that_is_copied_counts(start):
    done = start.split(") ")[-1].partition("-start")[0] + "-done"
    entry = f"""  %s = {start}
  %c = f32[8]{{0}} copy(%p), {cycles(3000)}
  ROOT %d = {ROW} {done}(%s)"""
    got = cost.of(program(entry), CHIP)
    assert got.host_bytes == 400
    assert got.host == pytest.approx(400 / 50 - 3)


def kernel(name: str, out: str, table: str) -> str:
    shapes = f"s8[{table}]{{2,1,0}}, bf16[2,64,16]{{2,1,0}}, bf16[2,64,16]{{2,1,0}}, f32[2,1,64]"
    return (
        f'  ROOT %{name}.3 = {out} custom-call(%p), custom_call_target="tpu_custom_call", '
        f"operand_layout_constraints={{{shapes}{{2,1,0}}}}, frontend_attributes={{}}"
    )


WHOLE = 2 * 2 * 64 * 64 * 16  # FLOPs of one product of two heads, nothing masked
BACK = "(bf16[2,64,16]{2,1,0}, bf16[2,64,16]{2,1,0}"


@pytest.mark.parametrize(
    ("name", "out", "table", "want"),
    [
        ("splash_mha_fwd_residuals", "bf16[2,64,16]{2,1,0}", "1,4,4", 2 * WHOLE * 10 / 16),
        ("splash_mha_fwd_residuals", "bf16[2,64,16]{2,1,0}", "1,4,2", 2 * WHOLE * 7 / 16),
        ("splash_mha_dq_no_residuals", "bf16[2,64,16]{2,1,0}", "1,4,4", 3 * WHOLE * 10 / 16),
        ("splash_mha_dkv_no_residuals", f"{BACK})", "1,2,2", 4 * WHOLE * 3 / 4),
        ("splash_mha_dkv_no_residuals", f"{BACK}, f32[1,64,16])", "1,2,2", 4 * WHOLE * 3 / 4),
        ("splash_mha_dkv_no_residuals", f"{BACK}, f32[4,2,64,16])", "1,2,2", 5 * WHOLE * 3 / 4),
    ],
    ids=["forward", "window", "queries", "keys", "grouped", "fused"],
)
def test_an_attention_kernel_costs_the_blocks_its_mask_leaves(name, out, table, want):
    got = cost.of(program(kernel(name, out, table)), CHIP)
    assert got.flops == {name: want}
    assert got.kernels == pytest.approx(want / 1e6)


def test_a_kernel_nobody_knows_is_named():
    got = cost.of(program(kernel("gather_rows", "bf16[2,64,16]{2,1,0}", "1,4,4")), CHIP)
    assert got.unknown == ("kernel gather_rows: counted as nothing",)


def test_text_that_is_no_program_is_refused():
    with pytest.raises(ValueError, match="not the text of an HLO module"):
        cost.of("nothing", CHIP)
