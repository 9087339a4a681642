"""Declares the verbs of machines: launch, launch create ... launch delete, and doctor."""

import argparse
from pathlib import Path

from lrl_jax.cli.arguments import shared

MODULE = "machines.verbs"
MANIFESTS = ("gke", "skypilot")
WAITING = (  # option, seconds, what they are
    ("--wait", 10.0, "seconds before the first retry; they double"),
    ("--poll", 30.0, "seconds between two looks at a request"),
    ("--answer", 300.0, "seconds after which a silent host counts as one that does not answer"),
    ("--grace", 180.0, "seconds the other hosts have when one has ended badly"),
)


def add(verbs) -> None:
    """Adds `lrl launch`, the steps it is made of, and `lrl doctor`."""
    _launch(verbs)
    _steps(verbs)
    _doctor(verbs)
    what = "write the archive that goes to the hosts"
    pack = shared.verb(verbs, "launch pack", what, MODULE, hidden=True)
    pack.add_argument("archive", type=Path, help="file to write")
    shared.with_recipe(pack, optional=True)


def _launch(verbs) -> None:
    launch = shared.with_recipe(
        shared.verb(
            verbs, "launch", "run a recipe on a TPU of Google Cloud until it is done: make the "
            "TPU, set it up, run, resume after preemptions; or print a manifest for other machines",
            MODULE,
        )
    )  # fmt: skip
    launch.epilog = (
        "Single steps of it are verbs of their own: lrl launch create, setup, run, watch (the same "
        "as launch), stop, fetch, status and delete. Typed overrides may follow the recipe"
    )
    _tpu(launch, made=True)
    _work(launch)
    _watching(launch)
    group = launch.add_argument_group("other machines")
    group.add_argument(
        "--manifest", choices=MANIFESTS, default="",
        help="print a manifest for these machines, and ask nothing of Google: gke (a JobSet), "
        "skypilot (a managed job, on spot machines with --spot)",
    )  # fmt: skip
    what = "file to write the manifest to (default: print it)"
    group.add_argument("--to", type=Path, default=None, metavar="FILE", help=what)
    what = "container image of docs/machines/docker.md, for gke"
    group.add_argument("--image", default="", metavar="IMAGE", help=what)


def _steps(verbs) -> None:
    create = _verb(
        verbs, "create", "ask for a TPU as a queued resource, and wait until it is there"
    )
    _tpu(create, made=True)
    setup = _verb(verbs, "setup", "bring checkout, recipe and its texts to every host, install")
    shared.with_recipe(setup, optional=True)
    _tpu(setup)
    _work(setup)
    run = _verb(verbs, "run", "run a recipe on every host, or attach to it where it runs already")
    shared.with_recipe(run)
    _tpu(run)
    _work(run)
    watch = _verb(verbs, "watch", "run a recipe until it is done, over preemptions (as launch)")
    shared.with_recipe(watch)
    _tpu(watch, made=True)
    _work(watch)
    _watching(watch)
    _tpu(_verb(verbs, "stop", "save what runs on the hosts, and stop it"))
    _tpu(_verb(verbs, "status", "the request, its slices, and what runs on each host"))
    fetch = _verb(verbs, "fetch", "copy results of a run here: reports, export, metrics")
    fetch.add_argument("run", help="its recipe, or its folder: gs://BUCKET/runs/NAME")
    fetch.add_argument("--to", default="runs", metavar="FOLDER", help="where to (default: runs)")
    fetch.add_argument("--all", action="store_true", help="checkpoints and packed rows too")
    _tpu(fetch)
    _tpu(_verb(verbs, "delete", "delete the TPU and its request, so that nothing is billed"))


def _doctor(verbs) -> None:
    what = "say in a line what this host has: versions, devices, disk, clock, the run folder"
    doctor = shared.with_recipe(
        shared.verb(verbs, "doctor", what, "machines.doctor"), optional=True
    )
    doctor.add_argument("--zone", default="", help="of this host; its bucket is to be near")
    doctor.add_argument(
        "--far-bucket", action="store_true", help="the run folder may be in another region"
    )
    doctor.add_argument(
        "--seconds", type=float, default=180.0, help="for JAX to find its devices (default: 180)"
    )


def _verb(verbs, name: str, what: str) -> argparse.ArgumentParser:
    return shared.verb(verbs, f"launch {name}", what, MODULE)


def _tpu(verb: argparse.ArgumentParser, made: bool = False) -> None:
    """Adds which TPU is meant, and how it is made."""
    group = verb.add_argument_group("TPU (tpu/*.sh read NAME, ZONE, PROJECT, TYPE and SLICES too)")
    group.add_argument("--name", default="", help="what it is or will be called")
    group.add_argument("--zone", default="", help="such as europe-west4-b")
    group.add_argument("--project", default="", help="id of the project")
    group.add_argument("--type", default="", help="such as v5litepod-64")
    group.add_argument(
        "--node-count", type=int, default=1, metavar="SLICES",
        help="slices that train together (default: 1)",
    )  # fmt: skip
    group.add_argument(
        "--unlisted", action="store_true", help="take a zone that is newer than our table"
    )
    if made:
        kind = group.add_mutually_exclusive_group()
        what = "spare capacity: cheaper, may be taken away at any time (default: on demand)"
        kind.add_argument("--spot", action="store_true", help=what)
        kind.add_argument("--reserved", action="store_true", help="out of your reservation")
    group.add_argument(
        "--dry-run", action="store_true",
        help="print the calls of gcloud, quoted so that a shell runs them, and make none",
    )  # fmt: skip
    tries = verb.add_argument_group("waiting")
    for option, seconds, what in WAITING:
        what = f"{what} (default: {seconds:g})"
        tries.add_argument(option, type=float, default=seconds, metavar="S", help=what)


def _work(verb: argparse.ArgumentParser) -> None:
    group = verb.add_argument_group("hosts")
    group.add_argument(
        "--extras", default="tpu,hub", help="of the package, to install (default: tpu,hub)"
    )
    what = "folder here for what each host prints (default: logs)"
    group.add_argument("--logs", type=Path, default=Path("logs"), metavar="FOLDER", help=what)
    group.add_argument(
        "--compiled", default="", metavar="FOLDER",
        help="gs:// folder for compiled steps, which a restart then reads",
    )  # fmt: skip
    group.add_argument(
        "--far-bucket", action="store_true", help="the run folder may be in another region"
    )


def _watching(verb: argparse.ArgumentParser) -> None:
    group = verb.add_argument_group("watching")
    group.add_argument(
        "--failures", type=shared.whole("number", 1), default=3, metavar="N",
        help="equal failures in a row on a TPU that is there, which end it (default: 3)",
    )  # fmt: skip
    group.add_argument(
        "--delete", action="store_true", help="delete the TPU when this ends by itself"
    )
