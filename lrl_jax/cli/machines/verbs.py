"""Runs the verbs of machines: launch, and the steps it is made of."""

import argparse
from collections.abc import Generator
import contextlib
from pathlib import Path
import shlex
import signal
import sys

from lrl_jax.cli.machines import bundle, hosts, manifests, requests, watch
from lrl_jax.cli.machines.gcloud import Gcloud, Pauses, say
from lrl_jax.cli.machines.hosts import WaitLimits
from lrl_jax.cli.machines.names import Tpu

# What takes a manifest; docs/machines has the rest.
SUBMIT = {"gke": "kubectl apply -f", "skypilot": "sky jobs launch"}

# What `fetch` leaves in the bucket unless all is asked for: it is large, and of use there.
HEAVY = r"(^|/)(init|data|train/checkpoints?|lock\..*)(/|$)"


def launch(args: argparse.Namespace) -> int:
    """Runs a recipe on a TPU until it is done, or prints a manifest for other machines."""
    if args.manifest:
        manifest = manifests.render(args)
        if args.to:
            args.to.write_text(manifest, encoding="utf-8")
            print(f"wrote {args.to}; read it, then: {SUBMIT[args.manifest]} {args.to}")
        else:
            print(manifest, end="")
        return 0
    return launch_watch(args)


def launch_create(args: argparse.Namespace) -> None:
    """Asks for a TPU and waits until it is ready."""
    tpu = _tpu(args)
    _say_who_pays(tpu)
    gcloud = _gcloud(args)
    requests.refuse_other_type(gcloud, tpu)
    requests.create(gcloud, tpu)


def launch_setup(args: argparse.Namespace) -> int:
    """Installs the package on every host, with a recipe and its texts."""
    gcloud, tpu, work = _gcloud(args), _tpu(args), _work(args)
    watch.check_folder(gcloud, tpu, work)
    return watch.setup(gcloud, tpu, work)


def launch_run(args: argparse.Namespace) -> int:
    """Runs a recipe on every host; returns the worst exit code."""
    gcloud, tpu, work = _gcloud(args), _tpu(args), _work(args)
    with _interrupted_by_signals():
        return _going_on(args, lambda: hosts.code_of(watch.run(gcloud, tpu, work)))


def launch_watch(args: argparse.Namespace) -> int:
    """Runs a recipe until it is done, over preemptions."""
    gcloud, tpu, work = _gcloud(args), _tpu(args), _work(args)
    _say_who_pays(tpu)
    with _interrupted_by_signals():
        code = _going_on(args, lambda: watch.watch(gcloud, tpu, work))
    if not (gcloud.dry or work.delete):
        say(f"{tpu.name} is still there, and billed unless a grant pays: tpu/fetch.sh, then "
            "tpu/delete.sh")  # fmt: skip
    return code


def launch_stop(args: argparse.Namespace) -> int:
    """Saves what runs on the hosts, and stops it."""
    return _on_hosts(args, f"{hosts.JOB} stop")


def launch_status(args: argparse.Namespace) -> int:
    """Prints the request, its slices, and what runs on each host."""
    gcloud, tpu = _gcloud(args), _tpu(args)
    if not gcloud.dry:
        states = requests.node_states(gcloud, tpu)
        print(f"request {tpu.name}: {requests.state(gcloud, tpu) or 'none'}")
        for name, state in zip(tpu.nodes, states, strict=True):
            print(f"slice {name}: {state or 'none'}")
        if not all(state == requests.READY for state in states):
            return 0
    return _on_hosts(args, f"{hosts.JOB} status")


def launch_fetch(args: argparse.Namespace) -> int:
    """Copies the results of a run here."""
    gcloud = _gcloud(args)
    run, is_folder = args.run.rstrip("/"), "://" in args.run
    folder = run if is_folder else bundle.place(run, args.overrides).rstrip("/")
    home = args.to.rstrip("/") or "/"
    target = f"{home}/{folder.rpartition('/')[2]}"
    if folder.startswith("gs://"):
        skipped = () if args.all else (f"--exclude={HEAVY}",)
        answer = gcloud.call(
            "storage", "rsync", "--recursive", *skipped, folder, target, limit=1e5, shown=True
        )
    else:
        tpu = _tpu(args)
        if gcloud.dry:
            gcloud.show(shlex.join(["mkdir", "-p", home]))
        else:
            Path(home).mkdir(parents=True, exist_ok=True)
        # Into a folder that is there, as scp puts what it copies below a target that is there too.
        words = ("scp", "--recurse", f"{tpu.nodes[0]}:{hosts.HOME}/{folder}", home)
        answer = gcloud.call(
            *requests.NODES, *words, "--worker=0", *requests.where(tpu), "--quiet",
            limit=1e5, shown=True,
        )  # fmt: skip
    if not answer.ok:
        raise answer.error(f"fetching {folder}")
    if not gcloud.dry:
        print(f"{target}/report/index.html")
    return 0


def launch_delete(args: argparse.Namespace) -> None:
    """Deletes the TPU and its request."""
    requests.delete(_gcloud(args), _tpu(args))


def launch_pack(args: argparse.Namespace) -> None:
    """Writes the archive that goes to the hosts."""
    for sentence in bundle.write(args.archive, args.recipe, args.overrides):
        say(f"left here: {sentence}")


# ---------------------------------------------------------------------------- what arguments mean
def _tpu(args: argparse.Namespace) -> Tpu:
    wanted = {"name": "the name of the TPU", "zone": "its zone", "project": "the id of the project"}
    if missing := [option for option in wanted if not getattr(args, option)]:
        raise ValueError(
            "; ".join(f"--{option}: want {wanted[option]}" for option in missing)
            + " (tpu/*.sh take "
            + ", ".join(option.upper() for option in missing)
            + " from the environment)"
        )
    return Tpu(
        args.name, args.zone, args.project, args.type, args.node_count,
        spot=getattr(args, "spot", False), reserved=getattr(args, "reserved", False),
        unlisted=args.unlisted,
    )  # fmt: skip


def _gcloud(args: argparse.Namespace) -> Gcloud:
    return Gcloud(args.dry_run, Pauses(args.wait, args.poll))


def _work(args: argparse.Namespace) -> watch.LaunchPlan:
    return watch.LaunchPlan(
        args.recipe, tuple(args.overrides), args.extras, args.compiled, args.logs,
        WaitLimits(args.answer, args.grace), getattr(args, "failures", 3), args.far_bucket,
        getattr(args, "delete", False),
    )  # fmt: skip


def _on_hosts(args: argparse.Namespace, command: str) -> int:
    """Runs a short command on every host, and prints what each says."""
    gcloud, tpu = _gcloud(args), _tpu(args)
    every, limits = hosts.of(gcloud, tpu), WaitLimits(args.answer, whole=args.answer)
    with contextlib.redirect_stdout(sys.stderr if not gcloud.dry else sys.stdout):
        logs = watch.LaunchPlan().logs / tpu.name
        ends = hosts.run_on_all(gcloud, tpu, every, command, logs, limits)
    for end in ends if not gcloud.dry else ():
        lines = [line for line in end.tail if not line.startswith("SSH: ")]  # which is gcloud's own
        print(f"{end.host}: {lines[-1] if end.code == 0 and lines else end.why or 'failed'}")
    return hosts.code_of(ends)


def _say_who_pays(tpu: Tpu) -> None:
    if tpu.type and not tpu.free():
        say(
            f"{tpu.slices} x {tpu.type} in {tpu.zone} is not of a usual TRC grant (the table of "
            "docs/launch.md), so it is billed unless yours differs"
        )


@contextlib.contextmanager
def _interrupted_by_signals() -> Generator[None]:
    """Makes SIGTERM and a closed terminal end this as Ctrl-C does, with every connection."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _going_on(args: argparse.Namespace, work) -> int:
    """Does some work; where it is interrupted, says that the hosts go on."""
    try:
        return work()
    except KeyboardInterrupt:
        say("ended here; the run goes on on its hosts. The same command attaches to it again, "
            "tpu/stop.sh saves and stops it, tpu/delete.sh ends the bill")  # fmt: skip
        raise
