"""Runs scripts/study_engines.yaml three times, and compares what is left.

    lrl run quickstart_base && python -m scripts.study_engines [FOLDER]

1. on this machine; 2. on this machine, killed while it trains and begun again; 3. on a Ray cluster
of a head and two machines that are TPU slices by name, of which one is killed while it trains and
another one is added. Each step has to be done once, and all digests and scores have to be equal.
It ends with the seconds of each, what the steps took of them, and the memory of Ray itself.
"""

from collections import Counter
import importlib
import json
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import time

STUDY = "scripts/study_engines.yaml"
WANT = {"vocab": 2, "data": 2, "init": 6, "train": 12, "evaluate": 12}
SLICE = "TPU-v5litepod-4-head"
LRL = (sys.executable, "-m", "lrl_jax.cli", "study", "run", STUDY)


class Machines:
    """Holds a Ray cluster in processes here: a head of one core, and machines that are slices."""

    def __init__(self, slices: int = 2):
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        from ray.cluster_utils import Cluster

        self.small = {"object_store_memory": 80_000_000}
        head = {"num_cpus": 1, "include_dashboard": False, **self.small}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address = self.cluster.address
        self.slices = []
        for _ in range(slices):
            self.add()

    def add(self) -> None:
        """Adds a machine that is a slice of its own."""
        self.slices.append(self.cluster.add_node(num_cpus=1, resources={SLICE: 1}, **self.small))

    def remove(self, process: int) -> None:
        """Kills the machine on which a process runs."""
        while process > 1:
            for node in self.slices:
                if process == node.all_processes["raylet"][0].process.pid:
                    self.slices.remove(node)
                    self.cluster.remove_node(node, allow_graceful=False)
                    return
            process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        raise ValueError("it runs on no machine of a slice")

    def close(self) -> None:
        """Ends all machines."""
        importlib.import_module("ray").shutdown()
        self.cluster.shutdown()


def memory() -> int:
    """Returns the bytes of all processes of Ray's own; what several share is counted once."""
    whole = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            is_ours = b"\0-c\0" in command  # what jobs fork from has Ray's folder among its paths
            if command.startswith(b"ray::") or (b"site-packages/ray/" in command and not is_ours):
                lines = (process / "smaps_rollup").read_text().splitlines()
                whole += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except OSError:  # it has ended
            continue
    return whole * 1024


def made(study: Path) -> dict[str, dict]:
    """Returns what each step made: place and step -> digests; scores come with their times."""
    notes = [note for note in study.glob("shared/*/steps/*.json") if note.stem != "evaluate"]
    return {str(note.relative_to(study)): json.loads(note.read_text())["outputs"] for note in notes}


def trains(study: Path) -> int:
    """Returns a process that trains and has saved; 0 if there is none."""
    for place in study.glob("shared/train-*"):
        if (place / "lock.json").exists() and [*place.glob("train/checkpoints/*/meta")]:
            return json.loads((place / "lock.json").read_text())["pid"]
    return 0


def records(study: Path) -> list[dict]:
    """Returns the lines of steps.jsonl of steps that were done."""
    path = study / "steps.jsonl"
    lines = map(json.loads, path.read_text().splitlines() if path.exists() else ())
    return [line for line in lines if line["state"] == "done"]


def start(out: Path, *options: str) -> subprocess.Popen:
    """Starts the study in a folder."""
    words = (*LRL, "--out", str(out), *options)
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def end(running: subprocess.Popen) -> str:
    """Waits for a study, and returns what it said."""
    said, _ = running.communicate()
    if running.returncode:
        raise SystemExit(f"ended with code {running.returncode}:\n{said}")
    return said


def wait_for_training(study: Path, running: subprocess.Popen, cells: int) -> int:
    """Returns a process that trains, once so many cells have been trained."""
    while True:
        trained = Counter(line["step"] for line in records(study))["train"]
        if trained >= cells and (process := trains(study)):
            return process
        if running.poll() is not None:
            raise SystemExit(f"ended before it could be killed:\n{running.communicate()[0]}")
        time.sleep(0.2)


def main(folder: Path) -> None:
    """Runs and compares; exits with a message on the first difference."""
    shutil.rmtree(folder, ignore_errors=True)
    places = {name: folder / name for name in ("here", "killed", "ray")}
    seconds, held = {}, 0

    began = time.monotonic()
    end(start(places["here"], "--jobs", "1"))
    seconds["here"] = time.monotonic() - began

    running = start(places["killed"], "--jobs", "1")
    wait_for_training(places["killed"], running, 4)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    end(start(places["killed"], "--jobs", "1"))

    machines = Machines()
    began = time.monotonic()
    options = ("--on", "ray", "--address", machines.address, "--slice", "v5litepod-4")
    running = start(places["ray"], *options)
    process = wait_for_training(places["ray"], running, 3)
    held = memory()
    machines.remove(process)
    machines.add()
    said = end(running)
    seconds["ray"] = time.monotonic() - began
    machines.close()
    if "begins again" not in said:
        raise SystemExit(f"no job began again:\n{said}")

    want = made(places["here"])
    groups = json.loads((places["here"] / "results.json").read_text())["groups"]
    for name, study in places.items():
        counts = Counter(line["step"] for line in records(study))
        print(f"{name}: {', '.join(f'{step} {n}' for step, n in sorted(counts.items()))}")
        if counts != WANT:
            raise SystemExit(f"{study}: want {WANT}")
        if made(study) != want:
            raise SystemExit(f"{study}: made other bytes than {places['here']}")
        if json.loads((study / "results.json").read_text())["groups"] != groups:
            raise SystemExit(f"{study}/results.json: other scores than in {places['here']}")
    for name, took in seconds.items():
        steps = sum(line["seconds"] for line in records(places[name]))
        print(f"{name}: {took:.0f} s, of which steps {steps:.0f} s")
    print(f"Ray's own processes: {held / 1e9:.2f} GB")


if __name__ == "__main__":
    main(Path(sys.argv[1] if sys.argv[1:] else "runs/engines"))
