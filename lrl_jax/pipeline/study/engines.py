"""Opens the engine that does the steps of a study: this machine's, or that of a Ray cluster."""

from etils import epath

from lrl_jax import storage
from lrl_jax.devices.jobs import JobEngine

HERE, LOCAL, RAY = "here", "local", "ray"


def opened(
    on: str, folder: epath.PathLike, *, jobs: int = 0, address: str = "", slice_name: str = ""
) -> JobEngine:
    """Returns what runs jobs: on this machine, or RAY on those of a cluster.

    Args:
      folder: where the jobs write, beside what those on this machine print.
      jobs: how many run side by side on this machine; 0 means one for every two cores.
      address, slice_name: of a Ray cluster, and of its machines.

    Raises:
      ValueError: an argument of the other engine, Ray is not installed, or no cluster answers.
    """
    if on == RAY:
        from lrl_jax.devices import cluster, on_ray

        if jobs:
            raise ValueError("--jobs: is of --on local; a cluster runs as many as it has room for")
        return cluster.ClusterEngine(on_ray.Ray(address), slice_name)
    refuse_ray(address, slice_name)
    from lrl_jax.pipeline.study.engine import LocalEngine

    return LocalEngine(logs_of(epath.Path(folder)), jobs)


def refuse_ray(address: str, slice_name: str) -> None:
    """Raises ValueError where an argument is given that only a Ray cluster has."""
    for name, value in (("address", address), ("slice", slice_name)):
        if value:
            raise ValueError(f"--{name}: is of a Ray cluster; add --on ray, or leave it out")


def logs_of(folder: epath.Path) -> str:
    """Returns where jobs on this machine write what they print; a store takes no such lines."""
    return str(folder / "logs") if not storage.is_remote(folder) else f"logs/{folder.name}"
