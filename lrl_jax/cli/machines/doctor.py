"""Says in a line what a host has, and what on it would stop a run.

    doctor t1v-n-1-w-0 ok lrl=0.1.0 python=3.12.12 jax=0.12.0.1 libtpu=0.0.50 devices=4xTPU_v5_lite
    of=64 disk=85GiB clock=2026-11-30T10:12:31Z folder=gs://b/runs/tamil written region=europe-west4

(one line). Each problem follows in a line of its own, with what to do.
"""

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import platform
import shutil
import socket
import subprocess
import sys
import time
import uuid

from etils import epath

from lrl_jax import __version__, storage
from lrl_jax.cli.machines.watch import DISK_FULL, far
from lrl_jax.recipe.extras import how_to_install

LEAST = 5 * storage.GIB  # one file of weights, as the hub's libraries write them: 5 GB at most
SKEW = 60.0  # seconds; what a lease tolerates (devices/lease.py)
# What training does first, in a process of its own: JAX may hang where another host is gone.
DEVICES = """\
import json
from lrl_jax.devices import mesh
mesh.start()
import jax
here = jax.local_devices()
print(json.dumps([here[0].device_kind, len(here), jax.device_count()]))
"""


def doctor(args: argparse.Namespace) -> int:
    """Prints what this host has; returns 0, 9 where its disk is full, or 2 for another problem."""
    host, problems = socket.gethostname(), []
    facts = [f"lrl={__version__}", f"python={platform.python_version()}", *_versions()]
    facts += _devices(args.seconds, problems)
    facts += _disk(problems)
    facts.append(f"clock={datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}")
    if args.recipe:
        from lrl_jax.recipe import file

        recipe = file.load(args.recipe, args.overrides)
        folder = f"{recipe.folder.rstrip('/')}/{recipe.name}"
        facts += _folder(folder, problems)
        facts += _region(folder, args.zone, args.far_bucket, problems)
    print(f"doctor {host} {'wrong' if problems else 'ok'} {' '.join(facts)}")
    for _, problem in problems:
        print(f"doctor {host} {problem}")
    return max((code for code, _ in problems), default=0)


def _versions() -> list[str]:
    versions = []
    for name in ("jax", "libtpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{name}={importlib.metadata.version(name)}")
    return versions


def _devices(seconds: float, problems: list[tuple[int, str]]) -> list[str]:
    """Returns what devices JAX has on this host, and how many all hosts have together."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", DEVICES], capture_output=True, text=True, timeout=seconds,
            check=False,
        )  # fmt: skip
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise ValueError(f"JAX has no devices: {last[:300]}")
        kind, here, every = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        problems.append(
            (2, f"JAX found no devices within {seconds:.0f} s: another process may use them, or "
             "another host of the slice does not answer")
        )  # fmt: skip
        return ["devices=none"]
    except ValueError as e:
        problems.append((2, f"{e}; is another process using them?"))
        return ["devices=none"]
    return [f"devices={here}x{str(kind).replace(' ', '_')}", f"of={every}"]


def _disk(problems: list[tuple[int, str]]) -> list[str]:
    free = shutil.disk_usage(".").free
    if free < LEAST:
        problems.append(
            (DISK_FULL, f"its disk has {free / storage.GIB:.1f} GiB free, and a file of weights "
             f"takes up to {LEAST / storage.GIB:.0f}: free some space")
        )  # fmt: skip
    return [f"disk={free / storage.GIB:.0f}GiB"]


def _folder(folder: str, problems: list[tuple[int, str]]) -> list[str]:
    """Writes a file into the run folder and removes it; compares the clock of its store."""
    path = epath.Path(folder) / f".doctor-{uuid.uuid4().hex}{storage.PARTIAL}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        _compare_clock(path, problems)
        path.unlink(missing_ok=True)
    except Exception as e:  # clients of stores raise errors of many types
        problems.append(_refusal(folder, e))
        return [f"folder={folder} refused"]
    return [f"folder={folder} written"]


def _compare_clock(path: epath.Path, problems: list[tuple[int, str]]) -> None:
    with contextlib.suppress(Exception):  # not every store says when
        ahead = time.time() - path.stat().mtime
        if abs(ahead) > SKEW:
            problems.append(
                (2, f"its clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} that "
                 "of the run folder's store: set it right (sudo systemctl restart chrony)")
            )  # fmt: skip


def _refusal(folder: str, error: Exception) -> tuple[int, str]:
    """Returns the exit code and the sentence for a run folder that cannot be written."""
    said = " ".join(str(error).split())[:300] or type(error).__name__
    if storage.is_full(error):
        return DISK_FULL, f"{folder} cannot be written: its disk is full"
    if isinstance(error, ImportError):
        return (
            2,
            f"{folder} cannot be written without a client of the store: {how_to_install('hub')}",
        )
    if storage.is_remote(folder):
        bucket = "/".join(folder.split("/")[:3])
        return 2, (
            f"{folder} cannot be written ({said}); give the service account of the TPU rights: "
            f"gcloud storage buckets add-iam-policy-binding {bucket} "
            "--member=serviceAccount:PROJECT_NUMBER-compute@developer.gserviceaccount.com "
            "--role=roles/storage.objectAdmin"
        )
    return 2, f"{folder} cannot be written ({said}); name another in folder"


def _region(folder: str, zone: str, far_bucket: bool, problems: list[tuple[int, str]]) -> list[str]:
    """Returns where the bucket of a run folder is, as far as this host may ask."""
    if not folder.startswith("gs://") or not zone or not shutil.which("gcloud"):
        return []
    bucket = "/".join(folder.split("/")[:3])
    words = ("gcloud", "storage", "buckets", "describe", bucket, "--format=value(location)")
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=60.0, check=False)
    except subprocess.TimeoutExpired:
        return ["region=unknown"]
    place = done.stdout.strip().lower()
    if (reason := far(place, zone)) and not far_bucket:
        problems.append(
            (2, f"{bucket} {reason}: every save would cross, slowly and for money; --far-bucket "
             "goes on all the same")
        )  # fmt: skip
    return [f"region={place or 'unknown'}"]
