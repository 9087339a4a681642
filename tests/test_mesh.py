"""Meshes from a recipe, and processes that find each other."""

import dataclasses
from pathlib import Path
import signal
import socket
import subprocess
import sys
import time

import jax
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest
from tiny_llama import CFG

from lrl_jax.devices import mesh as meshes
from lrl_jax.model import sharding
from lrl_jax.recipe import train as recipe_train


@pytest.mark.parametrize(
    ("axes", "want"),
    [
        ({}, (1, 1, 8, 1)),
        ({"data": 2}, (1, 2, 4, 1)),
        ({"data": -1, "fsdp": 2, "tensor": 2}, (1, 2, 2, 2)),
        ({"data": 1, "fsdp": 1, "tensor": 8}, (1, 1, 1, 8)),
        ({"data": 4, "fsdp": 2, "slices": 2}, (2, 2, 2, 1)),
    ],
)
def test_one_axis_takes_what_is_left(axes, want):
    mesh = meshes.make(recipe_train.Mesh(**axes))
    assert mesh.axis_names == ("slices", "data", "fsdp", "tensor")
    assert tuple(mesh.shape.values()) == want


@pytest.mark.parametrize("axes", [{"data": 3}, {"fsdp": 4}, {"fsdp": 16}])
def test_a_mesh_that_does_not_fit_is_refused_with_ones_that_do(axes):
    with pytest.raises(ValueError, match=r"does not fit 8 devices; try data=1, fsdp=8, tensor=1"):
        meshes.make(recipe_train.Mesh(**axes))


@pytest.mark.parametrize("axes", [{"data": -1}, {"data": 0}, {"tensor": -2}])
def test_an_axis_that_means_nothing_is_refused(axes):
    with pytest.raises(ValueError, match="one of them may be -1"):
        meshes.make(recipe_train.Mesh(**axes))


def test_a_mesh_that_cuts_a_head_in_two_is_refused():
    with pytest.raises(
        ValueError, match=r"tensor=4 does not divide num_kv_heads .*\(2\); use tensor=1 or 2"
    ):
        meshes.param_shardings(CFG, meshes.make(recipe_train.Mesh(tensor=4)))


def test_rows_are_split_over_data_and_fsdp():
    mesh = meshes.make(recipe_train.Mesh(data=2, fsdp=2, tensor=2))
    assert meshes.batch_sharding(mesh).spec == P(("slices", "data", "fsdp"))
    assert sharding.rows_split(mesh.shape) == 4
    assert meshes.replicated(mesh).is_fully_replicated


def test_slices_hold_whole_copies_in_the_order_of_the_devices():
    mesh = meshes.make(recipe_train.Mesh(data=4, fsdp=2, slices=2))
    assert [[d.id for d in row.flat] for row in mesh.devices] == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ({"data": 1, "slices": 2}, r"data=1 is not a multiple of slices=2.* try data=2, fsdp=4"),
        ({"data": 3, "slices": 3}, "8 devices do not make 3 slices of one size"),
    ],
)
def test_slices_that_do_not_divide_are_refused_with_a_mesh_that_does(axes, words):
    with pytest.raises(ValueError, match=words):
        meshes.make(recipe_train.Mesh(**axes))


@dataclasses.dataclass(frozen=True)
class Chip:
    """What a mesh asks of a device that is not here."""

    id: int
    slice_index: int
    process_index: int
    platform: str = "gpu"
    device_kind: str = "imagined"


def chips(slices, count):
    """In an order that mixes the slices."""
    return [Chip(i, slice_index=i % slices, process_index=i % 4) for i in range(count)]


def test_devices_that_say_their_slice_are_kept_with_it():
    mesh = meshes.make(recipe_train.Mesh(data=2, slices=2), chips(2, 8))
    assert [{d.slice_index for d in row.flat} for row in mesh.devices] == [{0}, {1}]


def test_slices_are_not_taken_for_one_another():
    with pytest.raises(ValueError, match=r"slices=1.* lie in 2 slices; set train.mesh.slices to 2"):
        meshes.make(
            recipe_train.Mesh(), [dataclasses.replace(c, platform="tpu") for c in chips(2, 8)]
        )


def test_slices_do_not_cut_through_a_host():
    hosts = [dataclasses.replace(c, slice_index=0, process_index=c.id % 3) for c in chips(1, 12)]
    with pytest.raises(ValueError, match="slices=2 would cut through the 3 hosts"):
        meshes.make(recipe_train.Mesh(data=2, slices=2), hosts)


def test_rows_of_a_batch_come_to_lie_where_the_mesh_wants_them():
    mesh = meshes.make(recipe_train.Mesh(data=2, fsdp=2, tensor=2))
    rows_BT = np.arange(24, dtype=np.int32).reshape(8, 3)
    placed_BT = meshes.place(rows_BT, mesh, 8)
    assert meshes.rows_here(mesh, 8).tolist() == [*range(8)]
    assert placed_BT.sharding == meshes.batch_sharding(mesh)
    np.testing.assert_array_equal(placed_BT, rows_BT)
    np.testing.assert_array_equal(meshes.said_by_each(mesh, 3), [3] * 8)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere", 2, 0), "want host:port"),
        (("localhost:1", 2, 2), "ids run from 0 to processes - 1"),
        (("", 2, 0), "needs a coordinator"),
    ],
)
def test_a_start_that_cannot_work_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        meshes.start(*arguments)


# ---------------------------------------------------------------------------- processes
START = """
import sys
import jax, jax.numpy as jnp, numpy as np
from lrl_jax.devices import mesh as meshes
from lrl_jax.recipe import train as recipe_train
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 2)
coordinator, processes, process_id = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
meshes.start(coordinator, processes, process_id)
meshes.start(coordinator, processes, process_id)  # does nothing
mesh = meshes.make(recipe_train.Mesh())
x = jax.make_array_from_callback((4,), meshes.batch_sharding(mesh), lambda i: np.arange(4.0)[i])
total = jax.jit(jnp.sum, out_shardings=meshes.replicated(mesh))(x)
result = jax.distributed.is_initialized(), jax.process_count(), len(jax.devices()), float(total)
print()
print("RESULT", *result, flush=True)
"""


def run_processes(count, coordinator):
    command = [sys.executable, "-c", START, coordinator, str(count)]
    root = Path(__file__).parents[1]
    started = [
        subprocess.Popen([*command, str(i)], cwd=root, stdout=subprocess.PIPE, text=True)
        for i in range(count)
    ]
    outs = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0] * count
    return [out.split("RESULT ")[1].splitlines()[0] for out in outs]


def test_a_process_alone_is_a_group_of_one():
    assert run_processes(1, "") == ["True 1 2 6.0"]


SLEEPER = """
import jax
from lrl_jax.devices import mesh
jax.config.update("jax_platforms", "cpu")
mesh.start(heartbeat=2)
print("ready", flush=True)
input()
"""


@pytest.mark.slow
def test_a_process_alone_that_slept_longer_than_a_heartbeat_goes_on():
    root = Path(__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", SLEEPER],
        cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(7)
        process.send_signal(signal.SIGCONT)
        time.sleep(4)  # in which JAX would notice
        process.communicate("\n", timeout=60)
    assert process.returncode == 0


@pytest.mark.slow
def test_two_processes_make_one_mesh():
    with socket.socket() as s:
        s.bind(("localhost", 0))
        coordinator = f"localhost:{s.getsockname()[1]}"
    assert run_processes(2, coordinator) == ["True 2 4 6.0"] * 2


def test_a_process_that_used_jax_already_is_warned():
    jax.devices()
    with pytest.warns(UserWarning, match=r"before mesh.start"):
        meshes.start()
