"""Weights at size: files read by ranges, what a host reads and holds, and headers that lie."""

import contextlib
import itertools
import json
import socket
import struct
import sys

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
import worker_init
import worker_weights as worker

from lrl_jax.hf import safetensors_ranges
from lrl_jax.hf.safetensors_ranges import DamagedError, File, Local, Remote, open_file

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


# ---------------------------------------------------------------------------- one file
def written(folder, **arrays):
    safetensors.numpy.save_file(arrays, folder / "a.safetensors")
    return folder / "a.safetensors"


@pytest.fixture(params=["local", "remote"])
def source(request):
    """Opens a file of this machine as what it is, or as if it were an object store's."""
    with contextlib.ExitStack() as stack:
        yield (
            lambda path: (
                Local(path, stack) if request.param == "local" else Remote(f"file://{path}")
            )
        )


RNG = np.random.default_rng(0)
ARRAYS = {
    "matrix": RNG.standard_normal((7, 5)).astype(np.float32),
    "short": RNG.standard_normal((3, 4)).astype(ml_dtypes.bfloat16),
    "half": RNG.standard_normal((3, 4)).astype(np.float16),
    "double": RNG.standard_normal(6),
    "deep": RNG.standard_normal((2, 3, 4)).astype(np.float32),
    "none": np.zeros((0, 4), np.float32),
    "scalar": np.array(3.5, np.float32),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_every_region_is_what_numpy_would_cut(tmp_path, source, name):
    want, file = ARRAYS[name], File(source(written(tmp_path, **ARRAYS)))
    sides = [[slice(0, n), slice(n // 3, n), slice(1, 1), slice(0, n // 2)] for n in want.shape]
    for index in itertools.product(*sides):
        got = file.read(name, index)
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want[index])


def test_only_the_bytes_of_a_region_are_read_from_a_local_file(tmp_path):
    with contextlib.ExitStack() as stack:
        local, asked = Local(written(tmp_path, **ARRAYS), stack), []

        class Counted:
            size, exact = local.size, True

            def fill(self, start, out):
                asked.append(out.nbytes)
                local.fill(start, out)

        file = File(Counted())
        asked.clear()
        file.read("matrix", (slice(2, 6), slice(0, 5)))
        assert asked == [4 * 5 * 4]
        asked.clear()
        file.read("matrix", (slice(2, 6), slice(1, 3)))
        assert asked == [2 * 4] * 4


def test_integers_are_no_weights(tmp_path, source):
    file = File(source(written(tmp_path, a=np.zeros((2, 2), np.int8))))
    with pytest.raises(ValueError, match=r"a is stored as I8; want one of \['F64', 'F32'"):
        file.read("a", (slice(0, 2), slice(0, 2)))


def entry(dtype="F32", shape=(2,), span=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(span)}


def packed(header, data=b"\0" * 8):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


LIES = {
    "empty": b"",
    "short": b"\1\2\3",
    "no header": struct.pack("<Q", 0),
    "header beyond the end": struct.pack("<Q", 2**63) + b"{}",
    "no JSON": packed(b"{"),
    "no text": packed(b"\xff\xfe"),
    "deep": packed(b"[" * 100_000),
    "no object": packed([]),
    "no entry": packed({"a": 3}),
    "no such dtype": packed({"a": entry("F31")}),
    "dtype of another kind": packed({"a": entry(["F32"])}),
    "no shape": packed({"a": {"dtype": "F32", "data_offsets": [0, 8]}}),
    "negative": packed({"a": entry(shape=(-2,))}),
    "boolean": packed({"a": entry(shape=(True, 2))}),
    "three ends": packed({"a": entry(span=(0, 8, 8))}),
    "too long": packed({"a": entry(shape=(3,))}),
    "overflow": packed({"a": entry(shape=(2**40, 2**40))}),
    "backwards": packed({"a": entry(span=(8, 0))}),
    "gap": packed({"a": entry(span=(4, 12))}, b"\0" * 12),
    "overlap": packed({"a": entry(), "b": entry()}),
    "more than the file": packed({"a": entry()}, b"\0" * 7),
    "less than the file": packed({"a": entry()}, b"\0" * 9),
    "twice": packed(b'{"a": %s, "a": %s}' % ((json.dumps(entry()).encode(),) * 2)),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_is_refused_as_by_the_library(tmp_path, lie):
    path = tmp_path / "a.safetensors"
    path.write_bytes(LIES[lie])
    want = r"a.safetensors: damaged or cut short \(.*fetch"
    with contextlib.ExitStack() as stack, pytest.raises(DamagedError, match=want):
        open_file(path, stack)
    if lie != "twice":  # of which the library takes the last
        with pytest.raises(safetensors.SafetensorError):
            safetensors.safe_open(str(path), framework="np").__enter__()


@pytest.mark.parametrize("scheme", ["", "file://"])  # the second is read as an object store's
@pytest.mark.parametrize("page", ["<!doctype html>", "\n" * 900 + "<HTML>", "<a", ""])
def test_a_web_page_in_place_of_weights_is_called_one(tmp_path, scheme, page):
    path = tmp_path / "a.safetensors"
    path.write_text(page)
    want = r"a.safetensors: is a web page, such as a login form \(fetch the file while logged in\)$"
    if len(page) < 8:
        want = r"a.safetensors: damaged or cut short \(no header\); fetch it again"
    with contextlib.ExitStack() as stack, pytest.raises(DamagedError, match=want):
        open_file(f"{scheme}{path}", stack)


def test_a_file_that_shrinks_while_it_is_read_is_named(tmp_path, source):
    path = written(tmp_path, **ARRAYS)
    opened = File(source(path))
    path.write_bytes(path.read_bytes()[:-200])
    last = max(opened.places, key=lambda name: opened.places[name].start)
    with pytest.raises(ValueError, match=r"a.safetensors: ends at byte \d+; fetch it again"):
        opened.read(last, tuple(slice(0, n) for n in ARRAYS[last].shape))


def test_the_metadata_of_other_tools_is_passed_over(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(packed({"__metadata__": {"format": "pt"}, "a": entry()}))
    with contextlib.ExitStack() as stack:
        assert list(open_file(path, stack).places) == ["a"]
    assert safetensors_ranges.SIZES["F32"] == 4


# ---------------------------------------------------------------------------- a checkpoint
@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights") / "base"
    worker.said(worker.spawn(make=str(folder)))
    return folder


LARGEST = 64_000 * 1024 * 4


@LINUX
def test_a_host_holds_little_beyond_the_arrays(base, tmp_path):
    got = worker.said(worker.spawn(folder=str(base), out=str(tmp_path / "out"), dtype="float32"))
    assert got["held"] > 300e6
    assert got["load"] < 1.5 * LARGEST
    assert got["save"] < 1.5 * LARGEST
    for path in base.glob("*.safetensors"):
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


@LINUX
@pytest.mark.slow
@pytest.mark.parametrize("mesh", [{"fsdp": 4}, {"fsdp": 1, "tensor": 4}], ids=str)
def test_each_of_two_hosts_reads_its_half(base, mesh):
    with socket.socket() as s:
        s.bind(("localhost", 0))
        coordinator = f"localhost:{s.getsockname()[1]}"
    both = dict(
        folder=str(base), dtype="float32", mesh=mesh, devices=2, coordinator=coordinator,
        processes=2,
    )  # fmt: skip
    one = worker.said(worker.spawn(folder=str(base), dtype="float32", mesh=mesh, devices=4))
    found = [worker.said(child) for child in [worker.spawn(process_id=i, **both) for i in (0, 1)]]
    whole = one["read"]
    for host in found:
        assert 0.45 * whole < host["read"] < 0.55 * whole
        assert host["digest"].items() <= one["digest"].items()
    assert found[0]["digest"] | found[1]["digest"] == one["digest"]


@pytest.mark.slow
def test_init_in_bfloat16_holds_less_than_half_of_its_arrays_beside_them(tmp_path):
    held = worker_init.spawn(tmp_path)
    assert held["arrays"] > 800e6
    assert 1 < held["peak"] / held["arrays"] < 1.5, held
