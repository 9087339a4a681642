"""What a recipe takes on machines that are not here: names, refusals, searches, real compiles."""

import dataclasses
import importlib.util

import jax
import pytest
from tiny_llama import CFG

from lrl_jax.cli import fit, main
from lrl_jax.devices import chips
from lrl_jax.fit import compile as fitting
from lrl_jax.fit import cost, published, search, topology
from lrl_jax.model import llama
from lrl_jax.recipe import train as recipe_train


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
def job(cfg=CFG, length=256, lora=None, **train) -> fitting.CompileJob:
    rules = [recipe_train.Rule(match=".*", schedule=recipe_train.Schedule(peak=1e-3))]
    stage = recipe_train.Stage(name="all", steps=10, mixture={"text": 1}, learn=tuple(rules))
    settings = recipe_train.Train(**{"batch_size": 8, "stages": (stage,)} | train)
    return fitting.CompileJob(cfg, settings, length)


def here(kind: str = "v5e") -> topology.Machine:
    """This machine's eight devices by another name: enough for what is refused uncompiled."""
    return topology.Machine(f"{kind}-8", kind, 1, "2x4", 8, jax.devices())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mesh": recipe_train.Mesh(data=3)}, "does not fit 8 devices"),
        ({"mesh": recipe_train.Mesh(tensor=4)}, r"tensor=4 does not divide num_kv_heads .*\(2\)"),
        ({"batch_size": 12}, r"use a multiple of 8 \(8 or 16\)"),
        ({"accumulate": 3}, r"accumulate=3 parts; use a multiple of 24 \(24\)"),
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
    got = fitting.state_bytes(fitting.make(one, one.phases[0], mesh))
    shapes = llama.abstract(CFG)
    norms = sum(4 * leaf.size for name, leaf in shapes.items() if "norm" in name)
    split = sum(4 * leaf.size for name, leaf in shapes.items() if "norm" not in name)
    assert got["parameters"] == norms + split / 8
    assert got["optimizer"] == pytest.approx(2 * got["parameters"], abs=16)  # and its counters
    assert got["host"] == 0


def test_the_ladder_of_the_search_is_the_models():
    assert set(search.RUNGS) | {"offload"} == set(llama.LADDER)


def test_on_a_cpu_auto_keeps_everything():
    assert search.remat(job(), fitting.check(job(), here())) == "full"


def test_auto_keeps_the_most_that_fits_and_refuses_where_the_least_does_not(monkeypatch):
    monkeypatch.setattr(search, "RUNGS", ("nothing", "full"))  # each is compiled
    one = job(dataclasses.replace(CFG, depth=1), batch_size=8, length=128)
    mesh = fitting.check(one, here())
    assert search.remat_within(one, mesh, 1e12) == "full"
    with pytest.raises(fitting.TooLargeError, match="remat nothing needs"):
        search.remat_within(one, mesh, 1.0)


@pytest.mark.parametrize("highest", search.RUNGS)
def test_the_highest_rung_that_fits_is_found_in_three_compiles(highest):
    tried = []

    def compiled(one):
        tried.append(one.cfg.remat)
        if search.RUNGS.index(one.cfg.remat) > search.RUNGS.index(highest):
            raise fitting.TooLargeError(2, 1, "the step")
        return one.cfg.remat

    assert search.most(job(), compiled, lambda line: None) == highest
    assert len(tried) <= 3


def test_a_setting_counts_as_fitting_only_if_every_phase_does(monkeypatch):
    rate = recipe_train.Schedule(peak=1e-3)
    few = (
        recipe_train.Rule(match="embed_VD", schedule=rate),
        recipe_train.Rule(match=".*", schedule="frozen"),
    )
    more = (recipe_train.Rule(match=".*", schedule=rate),)
    stages = tuple(
        recipe_train.Stage(name=name, steps=10, mixture={"text": 1}, learn=learn)
        for name, learn in (("few", few), ("more", more), ("again", few))
    )
    compiled = []

    def step(one, phase, target):
        compiled.append((phase.name, one.cfg.remat))
        needed = (60 if phase.name == "more" else 10) * (1 + (one.cfg.remat == "full"))
        if needed > 100:
            raise fitting.TooLargeError(needed, 100, "the step")
        return fitted(needed, 1.0)

    monkeypatch.setattr(search, "compile_step", step)
    asked = job(stages=stages)
    full = search.attempt(asked, {"remat": "full"}, here(), compiled.append)
    assert (full.fitted, full.needed) == (None, 120)
    got = search.nearest(asked.but(remat="full"), here(), lambda line: None)
    assert (got.changes, got.memory, got.fitted.phase) == ({"remat": "nothing"}, 60, "more")
    # What learns most comes first and refuses alone; the third phase is the first.
    assert compiled[1:] == [("more", "full"), ("more", "nothing"), ("few", "nothing")]


def fitted(total: float, seconds: float) -> fitting.Fitted:
    memory = fitting.Memory(0, 0, 0, total, 0, total, 100)
    took = cost.Cost(seconds, 0, 0, 0, 0, {}, {}, (), ())
    band = published.Band(0.75, 1.5, 2)
    return fitting.Fitted("all", 8, "nothing", 100, memory, took, 0.5, 1.0, band)


def test_the_frontier_leaves_out_what_another_beats_in_both():
    made = {"a": (9, 1.0), "b": (5, 2.0), "c": (6, 3.0), "d": (4, 4.0)}
    trials = [search.FitTrial({"remat": name}, fitted(*one)) for name, one in made.items()]
    trials.append(search.FitTrial({"remat": "e"}, None, 200.0))
    assert [t.changes["remat"] for t in search.frontier(trials)] == ["a", "b", "d"]


def test_a_search_says_how_much_it_may_compile_and_keeps_the_batch():
    ways = search.plan(job(batch_size=24), here())
    assert sum(map(len, ways)) == 24  # meshes 1x8, 2x4: 1 row at once; 1x4x2: 2 or 1; 6 rungs
    for way in ways:
        for one in way:
            mesh, parts = one["mesh"], one["accumulate"]
            assert 24 % (mesh.data * mesh.fsdp * parts) == 0
    assert [one["remat"] for one in ways[0]] == list(search.RUNGS)


def test_a_larger_machine_is_one_that_holds_the_state_twice():
    wide = dataclasses.replace(CFG, width=4096, depth=32, mlp_width=16384)
    # 32 layers of 3 x 4,096 x 16,384 weights and little else, 12 bytes each: 72 GiB
    assert search.larger(job(wide), here()) == "v5e-16"
    assert search.larger(job(CFG), here("v4")) == "v4-8"


def test_days_have_a_band():
    assert fitted(1, 2.0).days(43200) == (0.75, 1.5)


def test_times_and_mfu_are_printed_as_the_band_of_the_chip(monkeypatch):
    monkeypatch.setattr(topology, "libtpu", lambda: "0.0.99")
    step = fitted(1, 2.0)
    target = topology.read("v5e-8")
    cells = [[*column.cells] for column in fit.report("korean", step, target, 10).columns]
    lines = dict(zip(*cells, strict=True))
    assert lines["a step"] == "1.500 to 3.000 s (estimate 2.000 s; 2 published runs compared)"
    assert lines["compiler"] == "libtpu 0.0.99; published runs were compared by 0.0.51"
    assert lines["MFU"] == "33% to 67%"
    assert lines["tokens/s/chip"] == "4 to 8"
    assert fit.mfu(dataclasses.replace(step, mfu=0.9)) == "60% to 100%"
    plain = fit._plain(step)
    assert (plain["band"], plain["published_runs"], plain["seconds"]) == ((0.75, 1.5), 2, 2.0)
    assert plain["libtpu"] == "0.0.99"
    best = fit.frontier_table([search.FitTrial({"remat": "qk"}, step)], target)
    assert [[*column.cells] for column in best.columns][2:] == [["2.000"], ["33% to 67%"]]


def test_a_kernel_that_wants_too_much_fast_memory_is_not_called_too_large():
    error = RuntimeError("RESOURCE_EXHAUSTED: E1001: CompileTimeScopedVmemOom: 20M of 16M")
    assert fitting.refusal(error, 1.0) is error


# ---------------------------------------------------------------------------- the verb
@pytest.mark.parametrize(
    ("on", "words"),
    [((), "no machine to fit"), (("--on", "v5e-65"), "v5e comes as v5e-1, v5e-4")],
)
def test_the_verb_refuses_a_machine_it_does_not_know(on, words, capsys):
    assert main.main(["fit", "quickstart_base", *on]) == 2
    assert words in capsys.readouterr().err


# ---------------------------------------------------------------------------- compiling
needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="no libtpu: the extra `fit`"
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
    # Forward, dQ, dK with dV: of 2 layers, 4 heads of 64, 2 rows of 256 in one block each.
    rows = 8 / target.count
    assert sum(got.cost.flops.values()) == (2 + 3 + 4) * 2 * 2 * 4 * 64 * 256 * 256 * rows
    assert got.memory.total < target.chip.memory


@pytest.mark.skipif(not topology.has_gpu_compiler(), reason="no JAX CUDA plugin")
@pytest.mark.slow
def test_a_small_model_compiles_for_gpus_and_gives_bytes():
    one = job(SMALL)
    got = fitting.compile_step(one, one.phases[0], topology.describe("h100-8"))
    assert got.cost is None
    assert 0 < got.memory.parameters < got.memory.total < got.memory.limit


def test_gpus_without_their_compiler_are_refused_with_its_name():
    if topology.has_gpu_compiler():
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
    deep = dataclasses.replace(SMALL, depth=64, remat="full")
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


@needs_libtpu
@pytest.mark.slow
def test_weights_are_gathered_and_gradients_scattered_not_summed_on_every_device():
    target = topology.describe("v4-128")
    wide = dataclasses.replace(SMALL, width=4096, mlp_width=1024, num_heads=4, num_kv_heads=4)
    axes = recipe_train.Mesh(data=2, fsdp=32)
    one = job(wide, length=512, batch_size=64, mesh=axes, loss_blocks=4)
    found = fitting.compile_step(one, one.phases[0], target).cost.collectives
    layers = (
        2
        * 2
        * sum(  # bytes in bfloat16 of both layers
            leaf.size // wide.depth
            for path, leaf in llama.abstract(wide).items()
            if "layers" in path
        )
    )
    gathered = sum(c.bytes for c in found if (c.op, c.group) == ("all-gather", 64))
    scattered = sum(c.bytes for c in found if (c.op, c.group) == ("reduce-scatter", 32))
    summed = sum(c.bytes for c in found if (c.op, c.group) == ("all-reduce", 64))
    assert gathered > 1.8 * layers  # forwards and backwards
    assert scattered > 0.8 * layers  # small ones may be put together and summed
    assert summed < 0.2 * layers  # embeddings and norms
