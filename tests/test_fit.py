"""What a recipe takes on machines that are not here: names, costs of programs, refusals."""

import dataclasses

import jax
import pytest
from tiny_llama import CFG

from lrl_jax import chips, cli, recipe_train
from lrl_jax.fit import auto, cost, gpus, search, topology
from lrl_jax.fit import compile as fitting
from lrl_jax.model import llama

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


# ---------------------------------------------------------------------------- cost
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
  ROOT %d = f32[80]{{0}} fusion(%m), kind=kCustom, calls=%last"""
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
  ROOT %got = (f32[10]{{0}}, token[]) recv-done(%recv), channel_id=3"""
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
        ("splash_mha_dkv_no_residuals", f"{BACK}, f32[4,2,64,16])", "1,2,2", 5 * WHOLE * 3 / 4),
    ],
    ids=["forward", "window", "queries", "keys", "fused"],
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


# ---------------------------------------------------------------------------- machines
@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("v4-128", ("v4", 1, "4x4x4", 64)),  # v4 and v5p are named by cores
        ("v5p-16", ("v5p", 1, "2x2x2", 8)),
        ("v5e-64", ("v5e", 1, "8x8", 64)),
        ("2xV6e-256", ("v6e", 2, "16x16", 512)),
        ("4xh100-8", ("h100", 4, "8", 32)),
        ("a100-40gb-8", ("a100-40gb", 1, "8", 8)),
    ],
)
def test_a_name_means_a_machine(name, want):
    got = topology.read(name)
    assert (got.kind, got.slices, got.shape, got.count) == want


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("v5e-48", "v5e comes as v5e-1, v5e-4, v5e-8"),
        ("v4-4", r"v4-8, .* \(named by cores, two a chip\)"),
        ("v5-64", "did you mean v.*v5e-64"),
        ("tpu", "chips are v4, v5e, v5p, v6e"),
        ("h100-16", "h100-8; 2xh100-... is two nodes"),
    ],
)
def test_a_machine_that_does_not_exist_is_refused_with_ones_that_do(name, words):
    with pytest.raises(ValueError, match=words):
        topology.read(name)


def test_every_chip_has_its_kind_once():
    kinds = [kind for chip in chips.CHIPS.values() for kind in chip.kinds]
    assert len(kinds) == len(set(kinds))


# ---------------------------------------------------------------------------- jobs
def job(cfg=CFG, length=256, lora=None, **train) -> fitting.Job:
    rules = [recipe_train.Rule(match=".*", schedule=recipe_train.Schedule(peak=1e-3))]
    stage = recipe_train.Stage(name="all", steps=10, mixture={"text": 1}, learn=tuple(rules))
    settings = recipe_train.Train(**{"batch_size": 8, "stages": (stage,)} | train)
    return fitting.Job(cfg, settings, length)


def here(kind: str = "v5e") -> topology.Target:
    """This machine's eight devices by another name: enough for what is refused uncompiled."""
    return topology.Target(f"{kind}-8", kind, 1, "2x4", 8, jax.devices())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mesh": recipe_train.Mesh(data=3)}, "does not fit 8 devices"),
        ({"mesh": recipe_train.Mesh(tensor=4)}, r"tensor=4 does not divide num_kv_heads .*\(2\)"),
        ({"batch_size": 12}, "use 8 or 16"),
        ({"accumulate": 3}, "accumulate=3 parts; use 24"),
        ({"length": 200}, "sequence_length=200.* use 128 or 256"),
    ],
    ids=lambda x: str(x)[:20],
)
def test_what_cannot_be_is_refused_before_anything_is_compiled(change, words):
    with pytest.raises(ValueError, match=words):
        fitting.check(job(**change), here())


def test_a_state_larger_than_a_chip_is_refused_with_both_sizes():
    large = dataclasses.replace(
        CFG, width=8192, depth=80, mlp_width=28672, num_heads=64, num_kv_heads=8, head_width=128
    )
    # 80 layers of 4 x 8,192 x 8,192 x (1 + 1/8) / 2 + 3 x 8,192 x 28,672; 12 bytes each; 8 chips
    with pytest.raises(fitting.TooLargeError, match=r"95\.\d+ GiB a chip of 15.75 GiB"):
        fitting.check(job(large), here())


def test_the_state_is_counted_by_kind_and_split_over_the_mesh():
    mesh = fitting.check(job(), here())
    one = job()
    got = fitting.state_bytes(one, one.phases[0], mesh)
    shapes = llama.abstract(CFG)
    norms = sum(4 * leaf.size for name, leaf in shapes.items() if "norm" in name)
    split = sum(4 * leaf.size for name, leaf in shapes.items() if "norm" not in name)
    assert got["parameters"] == norms + split / 8
    assert got["optimizer"] == pytest.approx(2 * got["parameters"], abs=16)  # and its counters
    assert got["host"] == 0


def test_the_ladder_of_the_search_is_the_models():
    assert set(search.RUNGS) | {"offload"} == set(llama.LADDER)


def test_on_a_cpu_auto_keeps_everything():
    assert auto.remat(job(), fitting.check(job(), here())) == "full"


def fitted(total: float, seconds: float) -> fitting.Fitted:
    memory = fitting.Memory(0, 0, 0, total, 0, total, 100)
    took = cost.Cost(seconds, 0, 0, 0, 0, {}, {}, (), ())
    return fitting.Fitted("all", 8, "nothing", 100, memory, took, 0.5, 1.0)


def test_the_frontier_leaves_out_what_another_beats_in_both():
    made = {"a": (9, 1.0), "b": (5, 2.0), "c": (6, 3.0), "d": (4, 4.0)}
    trials = [search.Trial({"remat": name}, fitted(*one)) for name, one in made.items()]
    trials.append(search.Trial({"remat": "e"}, None, 200.0))
    assert [t.changes["remat"] for t in search.frontier(trials)] == ["a", "b", "d"]


def test_a_search_says_how_much_it_may_compile_and_keeps_the_batch():
    ways = search.plan(job(batch_size=16), here())
    assert sum(map(len, ways)) == 35  # meshes 1x8, 2x4: 2 or 1 rows; 1x4x2: 4, 2, 1
    for way in ways:
        for one in way:
            mesh, parts = one["mesh"], one["accumulate"]
            assert 16 % (mesh.data * mesh.fsdp * parts) == 0
    assert [one["remat"] for one in ways[0]] == list(search.RUNGS)


def test_a_larger_machine_is_one_that_holds_the_state_twice():
    wide = dataclasses.replace(CFG, width=4096, depth=32, mlp_width=16384)
    # 32 layers of 3 x 4,096 x 16,384 weights and little else, 12 bytes each: 72 GiB
    assert search.larger(job(wide), here()) == "v5e-16"
    assert search.larger(job(CFG), here("v4")) == "v4-8"


def test_days_have_a_band():
    low, high = fitted(1, 2.0).days(43200)
    assert (low, high) == (1.0, pytest.approx(1.25))


def test_a_kernel_that_wants_too_much_fast_memory_is_not_called_too_large():
    error = RuntimeError("RESOURCE_EXHAUSTED: E1001: CompileTimeScopedVmemOom: 20M of 16M")
    assert fitting.refusal(error, 1.0) is error


# ---------------------------------------------------------------------------- the verb
@pytest.mark.parametrize(
    ("on", "words"),
    [((), "no machine to fit"), (("--on", "v5e-65"), "v5e comes as v5e-1, v5e-4")],
)
def test_the_verb_refuses_a_machine_it_does_not_know(on, words, capsys):
    assert cli.main(["fit", "quickstart_base", *on]) == 2
    assert words in capsys.readouterr().err


# ---------------------------------------------------------------------------- compiling
needs_libtpu = pytest.mark.skipif(
    bool(fitting.cannot_compile_for_a_tpu()), reason=fitting.cannot_compile_for_a_tpu()
)
SMALL = dataclasses.replace(
    CFG, vocab_size=500, width=256, depth=2, mlp_width=512, head_width=64, dtype="bfloat16"
)


@needs_libtpu
@pytest.mark.slow
@pytest.mark.parametrize("name", ["v4-8", "v5e-4", "v5p-8", "v6e-4", "2xv5e-4"])
def test_a_small_model_compiles_for_every_chip(name):
    target = topology.describe(name)
    axes = recipe_train.Mesh(data=target.slices, slices=target.slices)
    one = job(SMALL, mesh=axes)
    got = fitting.compile_step(one, one.phases[0], target)
    assert got.cost is not None
    assert got.cost.unknown == ()
    assert got.cost.compute > 0
    ops = {each.op for each in got.cost.collectives}
    assert {"all-gather", "reduce-scatter"} <= ops
    assert ("all-reduce between slices" in ops) == (target.slices > 1)
    # Forward and fused backward of 2 layers, 4 heads of 64, 2 rows of 256 in one block each.
    rows = 8 / target.count
    assert sum(got.cost.flops.values()) == (2 + 5) * 2 * 2 * 4 * 64 * 256 * 256 * rows
    assert got.memory.total < target.chip.memory


@pytest.mark.skipif(not gpus.plugin(), reason="no JAX CUDA plugin")
@pytest.mark.slow
def test_a_small_model_compiles_for_gpus_and_gives_bytes():
    one = job(SMALL)
    got = fitting.compile_step(one, one.phases[0], topology.describe("h100-8"))
    assert got.cost is None
    assert 0 < got.memory.parameters < got.memory.total < got.memory.limit


def test_gpus_without_their_compiler_are_refused_with_its_name():
    if gpus.plugin():
        pytest.skip("the CUDA plugin is here")
    with pytest.raises(ValueError, match="pip install --no-deps jax-cuda13-plugin"):
        topology.describe("h200-8")


@needs_libtpu
@pytest.mark.slow
def test_a_chip_gets_its_compiler_options():
    target = topology.describe("v5e-4")
    one = job(SMALL)
    with pytest.raises(jax.errors.JaxRuntimeError, match="no_such_option"):
        fitting.compile_step(one, one.phases[0], target, {"xla_tpu_no_such_option": "1"})


@needs_libtpu
@pytest.mark.slow
def test_what_does_not_fit_is_told_with_the_nearest_that_does():
    target = topology.describe("v5e-4")
    deep = dataclasses.replace(SMALL, depth=24, remat="full")
    large = job(deep, length=2048, batch_size=128)
    with pytest.raises(fitting.TooLargeError) as caught:
        fitting.compile_step(large, large.phases[0], target)
    assert caught.value.needed > target.chip.memory
    said = []
    got = search.nearest(large, target, said.append)
    assert got is not None
    assert got.fitted is not None
    assert got.memory <= target.chip.memory
    assert got.changes["remat"] == "nothing"
    assert len(said) >= 1
