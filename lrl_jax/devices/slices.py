"""Chooses what a job takes of a Ray cluster, from what its machines say that they have.

    choose(ray.nodes(), "v5litepod-16")     # ValueError where no machine has it: what there is

A machine of a cluster is a mapping with Resources and Labels, as `ray.nodes()` returns them. On a
TPU VM Ray itself names the slice: worker 0 of a v5litepod-16 has one TPU-v5litepod-16-head.
"""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import math
import re
from typing import Any

from lrl_jax.recipe.vocab import did_you_mean

Node = Mapping[str, Any]
HEAD = re.compile(r"TPU-(.+)-head")
TOPOLOGY, POD, WORKER = "ray.io/tpu-topology", "ray.io/tpu-pod-type", "ray.io/tpu-worker-id"
OWN = re.compile(r"node:.*|.*memory.*|CPU|TPU|accelerator_type:.*")  # resources that are no slices


@dataclasses.dataclass(frozen=True)
class Slice:
    """Describes what a job takes: something that machines have, or a slice of several machines.

    Attributes:
      name: as it is called on the command line.
      resource: what each machine has of it, in Ray's words; of several machines, the first has it.
      amount: how much of it a job takes.
      tpus: the chips of that machine, which a job takes with it.
      topology: how the chips of a slice lie, such as 4x4; "" if its machine is alone.
      version: the kind of TPU where there is a topology, such as v5litepod.
    """

    name: str
    resource: str
    amount: int = 1
    tpus: int = 0
    topology: str = ""
    version: str = ""

    @property
    def options(self) -> dict[str, Any]:
        """Returns what Ray is asked for, where it is one machine.

        >>> Slice("GPU", "GPU", 8).options
        {'num_cpus': 0, 'num_gpus': 8, 'resources': {}}
        """
        taken = {self.resource: self.amount} | ({"TPU": self.tpus} if self.tpus else {})
        cores, gpus = taken.pop("CPU", 0), taken.pop("GPU", 0)
        return {"num_cpus": cores, "num_gpus": gpus, "resources": taken}


def choose(nodes: Sequence[Node], wanted: str) -> Slice:
    """Returns the slice of a name; for "", the only kind that the cluster has.

    A name is that of a TPU slice (v5litepod-16), GPU, CPU, or a resource that a machine was started
    with; GPU=8 takes eight of them.

    Raises:
      ValueError: no machine has it, or "" and there are several; names what there is.
    """
    offers = offered(nodes)
    if not wanted:
        if len(offers) != 1:
            raise ValueError(f"name with --slice what a job takes; {_there(offers)}")
        wanted = next(iter(offers))
    name, _, number = wanted.partition("=")
    amount = int(number) if number.isdigit() else 0
    if "=" not in wanted:
        amount = 1
    if not amount:
        raise ValueError(f"--slice {wanted}: want a name, or a name and a number such as GPU=8")
    for resource in (f"TPU-{name}-head", name):
        for node in nodes:
            if node["Resources"].get(resource, 0) >= amount:
                return _of(node, name, resource, amount)
    near = did_you_mean(name, offers)
    raise ValueError(f"--slice {wanted}: no machine of the cluster has it{near}; {_there(offers)}")


def offered(nodes: Iterable[Node]) -> dict[str, int]:
    """Returns the slices, GPUs and other resources of a cluster, and how many there are of each."""
    offers: dict[str, int] = {}
    for node in nodes:
        names = (node.get("Labels") or {}).values()  # a machine of a pod has its pod's name, too
        for resource, amount in node["Resources"].items():
            if OWN.fullmatch(resource) or resource in names:
                continue
            head = HEAD.fullmatch(resource)
            name = head[1] if head else resource
            offers[name] = offers.get(name, 0) + int(amount)
    return offers


def count(nodes: Iterable[Node], taken: Slice) -> int:
    """Returns how many jobs the machines hold side by side, if nothing else runs there."""
    return sum(int(node["Resources"].get(taken.resource, 0) // taken.amount) for node in nodes)


def ordered(nodes: Sequence[Node]) -> list[int]:
    """Returns the places of the machines of a slice in this list, by their numbers in the slice."""
    numbers = [int((node.get("Labels") or {}).get(WORKER, 0)) for node in nodes]
    return sorted(range(len(nodes)), key=numbers.__getitem__)


def commands(words: Sequence[str], hosts: int, coordinator: str) -> list[tuple[str, ...]]:
    """Returns the command of each machine of a slice.

    >>> commands(["train", "r.yaml"], 2, "10.0.0.1:8476")[1][2:]
    ('--coordinator', '10.0.0.1:8476', '--processes', '2', '--process-id', '1')
    """
    joined = ("--coordinator", coordinator, "--processes", f"{hosts}", "--process-id")
    return [(*words, *joined, f"{number}") for number in range(hosts)]


def _of(node: Node, name: str, resource: str, amount: int) -> Slice:
    """Returns a slice as its first machine shows it."""
    tpus = int(node["Resources"].get("TPU", 0)) if HEAD.fullmatch(resource) else 0
    labels = node.get("Labels") or {}
    topology = labels.get(TOPOLOGY, "")
    chips = math.prod(int(side) for side in topology.split("x")) if topology else 0
    if not (tpus and chips > tpus and labels.get(POD) == name):
        return Slice(name, resource, amount, tpus)
    return Slice(name, resource, amount, tpus, topology, name.rpartition("-")[0])


def _there(offers: Mapping[str, int]) -> str:
    """Says what a cluster has."""
    if offers:
        return "the cluster has " + ", ".join(f"{n} x {name}" for name, n in offers.items())
    return (
        "the cluster has no TPU slice and no GPU. A machine that is to run one job at a time is "
        "started with a name of your choice: "
        """ray start --address=HOST:6379 --resources='{"laptop": 1}', then --slice laptop"""
    )
