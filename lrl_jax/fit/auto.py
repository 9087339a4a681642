"""Decides what `remat: auto` and `mesh: auto` mean on the devices of this process.

`remat: auto` compiles the step to find the most that a layer can keep for its backward pass without
running out of memory. `mesh: auto` is computed from the sizes alone (`lrl_jax.devices.presets`).
"""

from collections.abc import Sequence
import logging

import jax

from lrl_jax.devices import chips
from lrl_jax.fit import search
from lrl_jax.fit.compile import CompileJob, TooLargeError, batch, make, refusal, settled
from lrl_jax.model.llama import Remat
from lrl_jax.recipe import train as recipe_train

log = logging.getLogger(__name__)


def mesh(job: CompileJob, devices: Sequence[jax.Device]) -> recipe_train.Mesh:
    """Returns the mesh of the recipe, or the mesh that `auto` chooses for these devices.

    Raises:
      ValueError: no mesh works; says how many rows or chips would.
    """
    return settled(job, devices, _limit(devices[0])).settings.axes


def remat(job: CompileJob, mesh: jax.sharding.Mesh) -> Remat:
    """Returns the rung of `remat.LADDER` with the most kept activations that fits these devices.

    On a CPU everything is kept, because memory is not scarce there. The memory of a chip is what it
    reports itself, or else what `chips.CHIPS` says.

    Raises:
      TooLargeError: not even the lowest rung fits.
    """
    device = mesh.devices.flat[0]
    if device.platform == "cpu":
        return search.RUNGS[-1]
    return most(job, mesh, _limit(device))


def most(job: CompileJob, mesh: jax.sharding.Mesh, limit: float) -> Remat:
    """Returns the highest rung on which all phases need at most `limit` bytes on a device.

    Raises:
      TooLargeError: not even the lowest rung fits.
    """

    def fitting(tried: CompileJob) -> Remat:
        needed = max(_needed(tried, phase, mesh, limit) for phase in search.programs(tried))
        rung, least, had = tried.cfg.remat, needed / chips.GIB, limit / chips.GIB
        log.info("remat: auto is %s: %.2f GiB of %.2f", rung, least, had)
        return rung

    return search.most(job, fitting, log.debug)


def _limit(device: jax.Device) -> float:
    chip = chips.of(device)
    stats = device.memory_stats() or {}
    return stats.get("bytes_limit") or (chip.memory if chip else float("inf"))


def _needed(job: CompileJob, phase, mesh: jax.sharding.Mesh, limit: float) -> float:
    made = make(job, phase, mesh)
    with jax.set_mesh(mesh):
        lowered = made.run.lower(made.abstract, *batch(job, mesh))
        try:
            analysis = lowered.compile().memory_analysis()
        except jax.errors.JaxRuntimeError as e:
            raise refusal(e, limit) from None
    assert analysis is not None  # every backend of JAX reports the size of its buffers
    more = max(0, analysis.output_size_in_bytes - analysis.alias_size_in_bytes)
    needed = analysis.argument_size_in_bytes + analysis.temp_size_in_bytes + more
    if needed > limit:
        raise TooLargeError(needed, limit, f"remat {job.cfg.remat}")
    return needed
