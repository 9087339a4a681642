"""What `auto` means on the devices that are here.

`remat: auto` is the most a layer can keep that still fits, found by compiling; `mesh: auto` is a
rule of numbers (`lrl_jax.devices.presets`).
"""

from collections.abc import Sequence
import logging

import jax

from lrl_jax.devices import chips
from lrl_jax.fit import search
from lrl_jax.fit.compile import Job, TooLargeError, batch, make, refusal, settled
from lrl_jax.model.llama import Remat
from lrl_jax.recipe import train as recipe_train

log = logging.getLogger(__name__)


def mesh(job: Job, devices: Sequence[jax.Device]) -> recipe_train.Mesh:
    """The mesh of the recipe, or the one `auto` means for these devices.

    Raises:
      ValueError: none will do; says how many rows or chips would.
    """
    return settled(job, devices, _limit(devices[0])).settings.axes


def remat(job: Job, mesh: jax.sharding.Mesh) -> Remat:
    """The rung of the ladder for these devices.

    On a CPU nothing is made again: memory is not what is short there. A chip that is not in the
    table of chips says how much it has.

    Raises:
      TooLargeError: not even the least fits.
    """
    device = mesh.devices.flat[0]
    if device.platform == "cpu":
        return search.RUNGS[-1]
    return most(job, mesh, _limit(device))


def most(job: Job, mesh: jax.sharding.Mesh, limit: float) -> Remat:
    """The highest rung whose steps, of all phases, need no more than `limit` bytes a device.

    Raises:
      TooLargeError: not even the least fits.
    """

    def fitting(tried: Job) -> Remat:
        needed = max(_needed(tried, phase, mesh, limit) for phase in search.programs(tried))
        rung, least, had = tried.cfg.remat, needed / chips.GIB, limit / chips.GIB
        log.info("remat: auto is %s: %.2f GiB of %.2f", rung, least, had)
        return rung

    return search.most(job, fitting, log.debug)


def _limit(device: jax.Device) -> float:
    known = chips.of(device)
    stats = device.memory_stats() or {}
    return stats.get("bytes_limit") or (known.memory if known else float("inf"))


def _needed(job: Job, phase, mesh: jax.sharding.Mesh, limit: float) -> float:
    made = make(job, phase, mesh)
    with jax.set_mesh(mesh):
        lowered = made.run.lower(made.abstract, *batch(job, mesh))
        try:
            found = lowered.compile().memory_analysis()
        except jax.errors.JaxRuntimeError as e:
            raise refusal(e, limit) from None
    assert found is not None  # every backend of JAX lays out its buffers
    more = max(0, found.output_size_in_bytes - found.alias_size_in_bytes)
    needed = found.argument_size_in_bytes + found.temp_size_in_bytes + more
    if needed > limit:
        raise TooLargeError(needed, limit, f"remat {job.cfg.remat}")
    return needed
