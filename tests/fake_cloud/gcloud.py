"""A gcloud of the tests: requests, slices and hosts in a folder, with faults that are told to it.

LRL_FAKE_CLOUD names the folder. world.json holds requests, slices, calls, and the ledger: each
machine that was made or deleted. Each host is a folder, which is the HOME of what runs there; its
PATH has the tools of a bare Ubuntu 22.04 and no Python but 3.10. `faults` are taken in order by the
first call that fits: {"on": words of the call, "do": what happens, "times": how often}.
"""

import contextlib
import fcntl
import json
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import time

WORLD = Path(os.environ["LRL_FAKE_CLOUD"])
HOSTS = WORLD / "hosts"
CHIPS = {"v4": 8, "v5p": 8, "v5litepod": 4, "v6e": 4}  # of the number in a type, for one host


@contextlib.contextmanager
def world():
    """Gives the state of the world to one process at a time, and writes it back."""
    with (WORLD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state = json.loads((WORLD / "world.json").read_text())
        try:
            yield state
        finally:  # a call that fails changes the world, too
            (WORLD / "world.json").write_text(json.dumps(state))


def fail(text, code=1):
    print(f"ERROR: (gcloud) {text}", file=sys.stderr)
    sys.exit(code)


def option(words, name, default=""):
    return next((w.partition("=")[2] for w in words if w.startswith(f"--{name}=")), default)


def fault(state, line):
    """Returns what is to go wrong with this call, if anything is."""
    for entry in state["faults"]:
        if all(word in line for word in entry["on"]):
            entry["times"] = entry.get("times", 1) - 1
            if not entry["times"]:
                state["faults"].remove(entry)
            return entry["do"]
    return ""


def make(state, name):
    request = state["requests"][name]
    request["state"] = "ACTIVE"
    kind, _, size = request["type"].rpartition("-")
    count = max(1, int(size) // CHIPS[kind]) if int(size) > 8 else 1
    for node in request["nodes"]:
        state["nodes"][node] = {"state": "READY", "hosts": count, "type": request["type"]}
        state["ledger"].append(["made", node])
        for worker in range(count):
            home = HOSTS / node / str(worker)
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir(parents=True)


def end_processes(node):
    """Ends every process of the hosts of a slice at once, as a power switch does."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"HOME={HOSTS / node}/".encode() in path.read_bytes():
                os.kill(int(path.parent.name), signal.SIGKILL)


def preempt(state, node):
    end_processes(node)
    if node in state["nodes"]:
        state["nodes"][node]["state"] = "PREEMPTED"
    for request in state["requests"].values():
        if node in request["nodes"]:
            request["state"] = "SUSPENDED"


def remove(state, node):
    if state["nodes"].pop(node, None):
        end_processes(node)
        state["ledger"].append(["deleted", node])


def request(words, verb, name):
    with world() as state:
        wrong = fault(state, f"request {verb} {name}")
        if verb == "create":
            if wrong == "no capacity":
                fail("RESOURCE_EXHAUSTED: There is no more capacity in the zone; try another zone")
            if wrong == "quota":
                fail("Quota limit 'TPUV5sPreemptibleLitepodPerProject' has been exceeded")
            if name in state["requests"]:
                fail(f"ALREADY_EXISTS: Resource '{name}' already exists")
            count, prefix = int(option(words, "node-count", "1")), option(words, "node-prefix")
            nodes = (
                [f"{prefix}-{i}" for i in range(count)] if prefix else [option(words, "node-id")]
            )
            state["requests"][name] = {
                "state": "WAITING_FOR_RESOURCES",
                "nodes": nodes,
                "type": option(words, "accelerator-type"),
            }
            if wrong == "made though it failed":
                make(state, name)
                fail("INTERNAL: deadline")
        elif name not in state["requests"]:
            fail(f"NOT_FOUND: Resource '{name}' was not found")
        elif verb == "delete":
            if wrong == "unavailable":
                fail("UNAVAILABLE: try again")
            for node in state["requests"].pop(name)["nodes"]:
                remove(state, node)
        else:
            describe(state, words, name, wrong)


def describe(state, words, name, wrong):
    held = state["requests"][name]
    said = {}
    if wrong == "preempt":  # while it is made
        held["state"] = "SUSPENDED"
    elif wrong == "failed":
        held["state"] = "FAILED"
        said = {"failedData": {"error": {"message": "no more capacity in the zone"}}}
    elif held["state"] == "WAITING_FOR_RESOURCES":
        held["state"] = "PROVISIONING"
    elif held["state"] == "PROVISIONING":
        make(state, name)
    if option(words, "format").startswith("value"):
        print(held["state"])
    else:
        spec = {"nodeSpec": [{"node": {"acceleratorType": held["type"]}}]}
        print(json.dumps({"name": name, "state": {"state": held["state"], **said}, "tpu": spec}))


def node(words, verb, name):
    with world() as state:
        wrong = fault(state, f"node {verb} {name}")
        if wrong == "offline":
            fail("Unable to reach the server: Connection refused")
        if name not in state["nodes"]:
            fail(f"NOT_FOUND: Resource '{name}' was not found")
        if verb == "delete":
            remove(state, name)
        else:
            held = state["nodes"][name]
            ends = [{"ipAddress": f"10.0.0.{i}"} for i in range(held["hosts"])]
            about = {"acceleratorType": held["type"]} if "type" in held else {}
            print(json.dumps({"state": held["state"], "networkEndpoints": ends} | about))


def reach(words, verb, name):
    """Does `ssh` and `scp`: runs a command on a host, or copies a file to it."""
    copied = verb == "scp"
    source, target = [w for w in words[4:] if not w.startswith("--")][:2] if copied else ("", "")
    back = ":" in source
    name = ((source if back else target) if copied else name).partition(":")[0]
    worker, command = option(words, "worker"), option(words, "command")
    with world() as state:
        wrong = fault(state, f"{verb} {name} worker {worker}. {command}")
        there = state["nodes"].get(name, {}).get("state") == "READY"
        if wrong == "preempt":
            preempt(state, name)
    if not there or wrong == "preempt":
        fail(f"NOT_FOUND: the TPU {name} is not in state READY")
    if wrong == "no answer":
        time.sleep(1000)
    if wrong == "refused":
        fail("[ssh] exited with return code [255]", 255)
    if wrong == "disk full" and copied:
        fail(f"scp: write remote '{target}': No space left on device")
    home = HOSTS / name / worker
    if back:  # scp itself says what becomes of folders that are there already
        sys.exit(subprocess.call(["cp", "-r", home / source.partition(":")[2], target]))
    if copied:
        shutil.copy(source, home / target.partition(":")[2])
        return
    print(f"SSH: Attempting to connect to worker {worker}...", file=sys.stderr)
    env = {"HOME": str(home), "PATH": str(WORLD / "hostbin"), "LRL_FAKE_CLOUD": str(WORLD)}
    env |= {"LRL_FAKE_CLOCK": "95"} if wrong == "clock" else {}
    env |= {"LRL_FAKE_DISK": "50"} if wrong == "disk full" else {}
    breaks = wrong == "connection breaks"
    process = subprocess.Popen(["bash", "-c", command], cwd=home, env=env, start_new_session=breaks)
    if breaks:
        time.sleep(0.6)
        os.killpg(process.pid, signal.SIGKILL)  # nothing that it printed to is left open
        fail("[ssh] exited with return code [255]", 255)
    sys.exit(process.wait())


def main(words):
    with world() as state:
        state["calls"].append(words)
    kind, verb, name = words[2], words[3], words[4] if len(words) > 4 else ""
    if words[:3] == ["storage", "buckets", "describe"]:
        with world() as state:
            wrong = fault(state, f"bucket {verb}")
        if wrong == "gone":
            fail("gs://bkt not found: 404")
        if wrong == "forbidden":
            fail(
                "HTTPError 403: me@x.org does not have storage.buckets.get access to the Google "
                "Cloud Storage bucket. Permission 'storage.buckets.get' denied on resource"
            )
        print("EUROPE-WEST4" if wrong == "far" else "US-CENTRAL2")
    elif words[:2] == ["storage", "rsync"]:
        shutil.copytree(WORLD / "bucket", words[-1])
    elif kind == "queued-resources":
        request(words, verb, name)
    elif verb in ("ssh", "scp"):
        reach(words, verb, name)
    else:
        node(words, verb, name)


if __name__ == "__main__":
    if sys.argv[1] == "preempt":
        with world() as now:
            for each in list(now["nodes"]):
                preempt(now, each)
    else:
        main(sys.argv[1:])
