"""Opens the engine that the arguments of a verb name: this machine's, or that of a Ray cluster."""

import argparse

from etils import epath

from lrl_jax import storage
from lrl_jax.devices.jobs import JobEngine

HERE, LOCAL, RAY = "here", "local", "ray"


def engine(args: argparse.Namespace, folder: epath.PathLike, jobs: int = 0) -> JobEngine:
    """Returns what runs the jobs of a verb with `--on`, `--address` and `--slice`.

    This process leaves the accelerator to the jobs.

    Args:
      folder: where the jobs write, beside what those on this machine print.
      jobs: how many run side by side on this machine; 0 means one for every two cores.

    Raises:
      ValueError: an argument of the other engine, Ray is not installed, or no cluster answers.
    """
    import jax

    jax.config.update("jax_platforms", "cpu")
    if args.on == RAY:
        from lrl_jax.devices import cluster, on_ray

        if jobs:
            raise ValueError("--jobs: is of --on local; a cluster runs as many as it has room for")
        return cluster.ClusterEngine(on_ray.Ray(args.address), args.slice)
    refuse_ray(args)
    from lrl_jax.pipeline.study.engine import LocalEngine

    return LocalEngine(logs_of(epath.Path(folder)), jobs)


def refuse_ray(args: argparse.Namespace) -> None:
    """Raises ValueError where an argument is given that only a Ray cluster has."""
    for name in ("address", "slice"):
        if getattr(args, name):
            raise ValueError(f"--{name}: is of a Ray cluster; add --on ray, or leave it out")


def logs_of(folder: epath.Path) -> str:
    """Returns where jobs on this machine write what they print; a store takes no such lines."""
    return str(folder / "logs") if not storage.is_remote(folder) else f"logs/{folder.name}"
