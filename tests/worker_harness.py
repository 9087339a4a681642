"""Runs tasks of lm-evaluation-harness in a process of its own, which can be killed.

python worker_harness.py '{"folder": "export", "tasks": ["a.yaml"], "out": "items"}'
"""

import dataclasses
import json
import sys
import time

OPTIONS = {"devices": 1, "limit": 4, "batch_size": 2, "slow": 0.0, "length": 256}


class WithoutTorch:
    """Finds what another finder does, but for PyTorch."""

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name == "torch" else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)


def main(options: dict) -> dict:
    """Runs `tasks` on the model in `folder`; results, and how many pairs were computed.

    With `torch` false, PyTorch is not there. `slow` is how many seconds each batch takes more.
    """
    options = OPTIONS | options
    if not options.get("torch", True):
        sys.meta_path[:] = map(WithoutTorch, sys.meta_path)
    from etils import epath
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", options["devices"])
    from lrl_jax.devices import mesh as meshes
    from lrl_jax.evaluate import harness
    from lrl_jax.evaluate.zoo import relay
    from lrl_jax.pipeline import models

    meshes.start(
        options.get("coordinator", ""), options.get("processes", 0), options.get("process_id", 0)
    )
    relay.PIECE = options.get("piece", relay.PIECE)
    model = models.open_model(options["folder"], length=options["length"])
    computed = []

    def tick(done, whole):
        computed.extend([whole] * (done == 0 and not computed))
        time.sleep(options["slow"])

    model = dataclasses.replace(model, tick=tick)
    start = time.monotonic()
    results = harness.run(
        model, options["tasks"], epath.Path(options["out"]), limit=options["limit"],
        batch_size=options["batch_size"],
    )  # fmt: skip
    seconds = time.monotonic() - start
    return {
        "results": results, "computed": computed, "seconds": seconds,
        "torch": "torch" in sys.modules,
    }  # fmt: skip


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.loads(sys.argv[1]))) + "\n")
    sys.stdout.flush()
