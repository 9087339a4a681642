"""Our side of the compile benchmark: the step that `lrl train` runs, in a process of its own.

    python compile_ours.py SETTING.json FOLDER

The same SETTING as compile_maxtext.py reads; `train` in it are fields of a recipe's train. FOLDER
receives `hlo.txt` and `result.json`.
"""

import dataclasses
import json
from pathlib import Path
import sys

from lrl_jax.fit import compile as fitting
from lrl_jax.fit import topology
from lrl_jax.model import llama
from lrl_jax.recipe import train as recipe_train


def main() -> None:
    """Compiles one setting."""
    setting = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    topology.unused_backend()
    try:
        result = setting | compiled(setting, folder)
    except ValueError as error:  # too large, or cut wrongly: that is a result too
        result = setting | {"error": str(error)}
    (folder / "result.json").write_text(json.dumps(result, indent=1))


def compiled(setting: dict, folder: Path) -> dict:
    """Bytes by kind of one compiled step, after writing its program to `folder`."""
    target = topology.describe(setting["topology"])
    job = job_of(setting, target.count)
    found = fitting.compile_step(
        job, job.phases[0], target, setting["flags"], text_to=folder / "hlo.txt"
    )
    memory = found.memory
    return {
        "seconds": found.compiling,
        "arguments": memory.parameters + memory.optimizer + memory.other,
        "temporaries": memory.temporaries,
        "outputs": 0,
        "aliased": 0,
        "host": memory.host,
    }


def job_of(setting: dict, count: int) -> fitting.CompileJob:
    """Full training in bfloat16 with float32 weights and moments, as MaxText's default."""
    shape = {f.name: setting[f.name] for f in dataclasses.fields(llama.LlamaConfig)
             if f.name in setting}  # fmt: skip
    cfg = llama.LlamaConfig(**shape, norm_eps=1e-5, rope_theta=1e4)
    rule = recipe_train.Rule(match=".*", schedule=recipe_train.Schedule(peak=1e-3))
    stage = recipe_train.Stage(name="all", steps=1000, mixture={"text": 1}, learn=(rule,))
    rows = setting["batch"] * count // setting.get("tensor", 1)
    axes = {axis: setting.get(axis, 1) for axis in ("data", "fsdp", "tensor")}
    train = recipe_train.Train(
        batch_size=rows, stages=(stage,), mesh=recipe_train.Mesh(**axes), remat=cfg.remat,
        **setting.get("train", {}),
    )  # fmt: skip
    return fitting.CompileJob(cfg, train, setting["length"])


if __name__ == "__main__":
    main()
