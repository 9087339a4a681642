"""Chooses which machines run the jobs of `jobs`: of a Ray cluster, or of Apache Beam.

    run = runner("ray", address="10.0.0.1:6379")
    jobs.prepare_all(data, tokenizer, "gs://b/runs/korean/data", runner=run)

Every machine runs the same function on the same shards, so the bytes are those of a local run.
"""

from collections.abc import Iterator, Sequence
import functools

from lrl_jax.data.pack import beam
from lrl_jax.data.pack.packing import ShardJob, Tick
from lrl_jax.data.pack.workers import Runner, Work
from lrl_jax.devices import on_ray

RAY = "ray"
NAMES = (RAY, *beam.RUNNERS)


def runner(name: str, options: Sequence[str] = (), address: str = "") -> Runner | None:
    """Returns the runner of a name; None for "", which means the cores of this machine.

    Args:
      options: those of Beam's runners (`beam.runner`).
      address: host:port of a Ray cluster; "" for the one that this machine belongs to.

    Raises:
      ValueError: no such runner, what is given is another's, or its library is not installed.
    """
    if options and name in ("", RAY):
        raise ValueError(f"--runner-option needs a --runner of Beam: {', '.join(beam.RUNNERS)}")
    if address and name != RAY:
        raise ValueError("--address: is that of a Ray cluster; add --runner ray, or leave it out")
    if name == RAY:
        return functools.partial(_on_ray, on_ray.Ray(address))
    if name and name not in NAMES:
        raise ValueError(f"--runner {name}: there are {', '.join(NAMES)}")
    return beam.runner(name, options) if name else None


def _on_ray(
    machines: on_ray.Ray, work: Work, jobs: Sequence[ShardJob], tick: Tick
) -> Iterator[ShardJob]:
    for job, _ in on_ray.map_on_ray(functools.partial(_do, work), jobs, machines):
        yield job


def _do(work: Work, job: ShardJob) -> None:
    work(job, lambda documents: None)  # a machine elsewhere has nobody to report progress to
