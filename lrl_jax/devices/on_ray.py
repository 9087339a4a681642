"""Reaches the machines of a Ray cluster; only this file knows Ray.

    engine = cluster.ClusterEngine(Ray("10.0.0.1:6379"), slice="v5litepod-16")
    for item, result in map_on_ray(function, items, Ray("10.0.0.1:6379")): ...

An actor on each machine runs `lrl` in a process of its own, which knows nothing of Ray. All
machines have lrl_jax, Ray and Python of the same versions, and reach the files by the same paths.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
import itertools
import os
from typing import Any

from lrl_jax.devices import cluster, jobs, signals, slices
from lrl_jax.recipe.extras import how_to_install

RESERVE, START = 15.0, 120.0  # seconds that a slice has to be free, and its machines to begin
RETRIES = 3  # how often an item of `map_on_ray` may lose its machine
POLL = 0.2


class Ray:
    """Reaches the machines of a cluster, as `cluster.Machines`.

    Args:
      address: host:port of its head; "" for the cluster that this machine belongs to.

    Raises:
      ValueError: Ray is not installed, or no cluster answers.
    """

    def __init__(self, address: str = ""):
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        try:
            import ray
        except ImportError as e:
            raise ValueError(f"Ray is not installed ({e}): {how_to_install('ray')}") from None
        self.library = ray
        quiet = {"log_to_driver": False, "logging_level": "error", "ignore_reinit_error": True}
        cluster.join(address, lambda place: ray.init(place, **quiet))

    def nodes(self) -> list[slices.Node]:
        try:
            return [node for node in self.library.nodes() if node["Alive"]]
        except self.library.exceptions.RayError:  # its head does not answer
            return []

    def reserve(self, taken: slices.Slice) -> cluster.Reserved:
        make = self.library.remote(max_concurrency=2)(jobs.Host).options  # to run, and to stop
        if not taken.topology:
            return cluster.Reserved([make(**taken.options).remote()])
        from ray.util import placement_group_table, scheduling_strategies, tpu

        group = tpu.slice_placement_group(
            taken.topology, taken.version, head_reservation_timeout_s=RESERVE
        )
        reserved = cluster.Reserved([], group=group)
        try:
            bundles = group.slice_placement_group
            self.library.get(bundles.ready(), timeout=START)
            group.release_head_pgs()
            nodes = {node["NodeID"]: node for node in self.nodes()}
            places = placement_group_table(bundles)["bundles_to_node_id"]
            order = slices.ordered([nodes.get(places[i], {}) for i in range(group.num_bundles)])
            for i in order:
                where = scheduling_strategies.PlacementGroupSchedulingStrategy(bundles, i)
                chips = {"TPU": group.devices_per_host}
                made = make(num_cpus=0, resources=chips, scheduling_strategy=where).remote()
                reserved.hosts.append(made)
            port = self.library.get(reserved.hosts[0].free_port.remote(), timeout=START)
            reserved.coordinator = f"{nodes[places[order[0]]]['NodeManagerAddress']}:{port}"
        except (self.library.exceptions.RayError, TimeoutError, KeyError) as e:
            self.release(reserved)
            raise TimeoutError(f"{taken.name}: a machine of the slice went ({e})") from None
        return reserved

    def run(self, host: Any, words: Sequence[str], folder: str) -> Any:
        return host.run.remote(words, folder)

    def ends(self, runs: Sequence[Any]) -> dict[Any, cluster.End]:
        done, _ = self.library.wait([*runs], num_returns=len(runs), timeout=0)
        return {run: self._end(run) for run in done}

    def stop(self, host: Any) -> None:
        host.stop.remote()

    def release(self, reserved: cluster.Reserved) -> None:
        for host in reserved.hosts:
            self.library.kill(host)
        if reserved.group:
            reserved.group.shutdown()

    def close(self) -> None:
        self.library.shutdown()

    def _end(self, run: Any) -> cluster.End:
        errors = self.library.exceptions
        try:
            return self.library.get(run)
        except errors.RayTaskError as e:
            return getattr(e.cause, "exit_code", 2), str(e.cause)
        except errors.RayError as e:
            return signals.RETRY, f"its machine went: {e}"


def map_on_ray(
    function: Callable[[Any], Any], items: Iterable[Any], machines: Ray
) -> Iterator[tuple[Any, Any]]:
    """Calls a function with each item on a core of any machine; yields items as they are done.

    An item whose machine goes is done again on another. An error of the function is raised.
    """
    ray, core = machines.library, slices.choose(machines.nodes(), "CPU=1")
    call = ray.remote(num_cpus=1, max_retries=RETRIES)(_call)
    waiting, running = iter(items), {}
    while True:
        room = 2 * slices.count(machines.nodes(), core) - len(running)
        for item in itertools.islice(waiting, max(0, room)):
            running[call.remote(function, item, os.getcwd())] = item
        if not running:
            return
        done, _ = ray.wait([*running], timeout=POLL)
        for result in done:
            try:
                yield running.pop(result), ray.get(result)
            except ray.exceptions.RayTaskError as e:
                raise e.cause from None
            except ray.exceptions.RayError as e:
                raise OSError(f"{e}; what is done is kept: run the same command again") from None


def _call(function: Callable[[Any], Any], item: Any, folder: str) -> Any:
    os.chdir(folder)  # workers of Ray begin elsewhere
    return function(item)
