"""An lrl of the tests, on hosts of `gcloud.py`: counts steps instead of training.

It saves every fifth step in the bucket and goes on from there, like training. Host 0 counts; the
others end as it does. `train_faults` of the bucket has what goes wrong at which step.
"""

import json
import os
from pathlib import Path
import subprocess
import sys
import time

WORLD, HOME = Path(os.environ["LRL_FAKE_CLOUD"]), Path(os.environ["HOME"])
BUCKET = WORLD / "bucket"
STEPS, SAVE, PAUSE = 20, 5, 0.01


def lead():
    saved = BUCKET / "saved"
    step = int(saved.read_text()) if saved.exists() else 0
    while step < STEPS:
        step += 1
        with (BUCKET / "steps").open("a") as file:
            file.write(f"{step}\n")
        print(f"step {step}", flush=True)
        wrong(step)
        if step % SAVE == 0:
            saved.write_text(str(step))
        time.sleep(PAUSE)
    return 0


def wrong(step):
    faults = json.loads((BUCKET / "train_faults").read_text())
    for entry in faults:
        if entry["step"] == step:
            faults.remove(entry)
            (BUCKET / "train_faults").write_text(json.dumps(faults))
            if entry["do"] == "preempt":
                gcloud = Path(__file__).with_name("gcloud.py")
                subprocess.run([sys.executable, "-I", gcloud, "preempt"], check=False)
                time.sleep(10)  # never comes back
            if entry["do"] == "stop":  # as tpu/stop.sh does
                subprocess.run(
                    ["bash", "tpu/host/job.sh", "stop"], cwd=HOME / "lrl_jax", check=False
                )
                time.sleep(10)
            finish(entry["do"])


def finish(code):
    (BUCKET / "ended").write_text(str(code))
    sys.exit(code)


def follow():
    began = time.time()
    while time.time() - began < 15:
        ended = BUCKET / "ended"
        done = (BUCKET / "saved").exists() and (BUCKET / "saved").read_text() == str(STEPS)
        if done:
            return 0
        if ended.exists() and ended.stat().st_mtime > began:
            return int(ended.read_text()) and 76
        time.sleep(0.05)
    return 76


def run():
    words = [*sys.argv[2:], f"cache={os.environ.get('JAX_COMPILATION_CACHE_DIR', 'none')}"]
    (HOME / "words").write_text("\n".join(words))
    if HOME.name != "0" or not HOME.parent.name.endswith(("0", "tamil")):
        return follow()
    if (BUCKET / "lock.json").exists():
        from lrl_jax.devices import lease

        lease.LEASE, lease.BEAT = 2.0, 0.2
        if not (BUCKET / "seen").exists():  # its owner went a moment ago
            held = json.loads((BUCKET / "lock.json").read_text())
            (BUCKET / "lock.json").write_text(json.dumps(held | {"heartbeat": time.time()}))
            (BUCKET / "seen").touch()
        try:
            with lease.Lease(BUCKET):
                finish(lead())
        except lease.InUseError as e:
            print(e, flush=True)
            finish(e.exit_code)
    finish(lead())


if __name__ == "__main__":
    if sys.argv[1] == "doctor":
        print(f"doctor {HOME.name} ok lrl=0.1.0 python=3.12.1 jax=0.12.0 devices=4xTPU disk=85GiB")
    elif sys.argv[1] == "run":
        sys.exit(run())
    else:
        print("lrl_jax 0.1.0")
