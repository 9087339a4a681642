"""Opens the engine that the arguments of a verb name: this machine's, or that of a Ray cluster."""

import argparse

from etils import epath

from lrl_jax.devices.jobs import JobEngine
from lrl_jax.pipeline.study import engines
from lrl_jax.pipeline.study.engines import HERE, LOCAL, RAY

__all__ = ["HERE", "LOCAL", "RAY", "engine", "refuse_ray"]


def engine(args: argparse.Namespace, folder: epath.PathLike, jobs: int = 0) -> JobEngine:
    """Returns what runs the jobs of a verb with `--on`, `--address` and `--slice`.

    This process leaves the accelerator to the jobs. Arguments and errors as of `engines.opened`.
    """
    import jax

    jax.config.update("jax_platforms", "cpu")
    return engines.opened(args.on, folder, jobs=jobs, address=args.address, slice_name=args.slice)


def refuse_ray(args: argparse.Namespace) -> None:
    """Raises ValueError where an argument is given that only a Ray cluster has."""
    engines.refuse_ray(args.address, args.slice)
