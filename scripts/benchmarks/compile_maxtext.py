"""MaxText's side of the compile benchmark: its own train_compile, its own settings by default.

It runs in a Python of its own (3.12: pip install maxtext libtpu) and is started by compile.py:

    PYTHON compile_maxtext.py SETTING.json FOLDER

SETTING names the topology, the model's shape, the mesh, sequences a chip, remat policy and
compiler flags; FOLDER receives `hlo.txt` (the optimised program) and `result.json` (bytes,
seconds, or why not).
"""

import json
import os
from pathlib import Path
import sys
import time

# What MaxText calls the parts of a shape.
SHAPE = {
    "width": "base_emb_dim",
    "depth": "base_num_decoder_layers",
    "mlp_width": "base_mlp_dim",
    "num_heads": "base_num_query_heads",
    "num_kv_heads": "base_num_kv_heads",
    "head_width": "head_dim",
    "vocab_size": "vocab_size",
    "length": "max_target_length",
    "batch": "per_device_batch_size",
    "data": "ici_data_parallelism",
    "fsdp": "ici_fsdp_parallelism",
    "tensor": "ici_tensor_parallelism",
    "remat": "remat_policy",
    "topology": "compile_topology",
}


def main() -> None:
    """Compiles one setting."""
    setting = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    result: dict = dict(setting)
    try:
        result |= compiled(setting, folder)
    except Exception as error:  # the compiler's refusal is a result; its text says which
        result |= {"error": f"{type(error).__name__}: {error}"[:4000]}
    (folder / "result.json").write_text(json.dumps(result, indent=1))


def compiled(setting: dict, folder: Path) -> dict:
    """Bytes by kind of one compiled step, after writing its program to `folder`."""
    os.environ |= {
        "JAX_PLATFORMS": "cpu",
        "TPU_SKIP_MDS_QUERY": "1",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "TPU_ACCELERATOR_TYPE": "v5litepod-16",
        "TPU_WORKER_HOSTNAMES": "localhost",
    }
    import jax
    import maxtext
    from maxtext.trainers.pre_train import train_compile

    dump = folder / "dump"
    kept: list = []
    jit_and_compile = train_compile.jit_and_compile
    flags_of = train_compile.max_utils.parse_libtpu_flags_to_dict

    def keep(*args, **named):
        """What train_compile would throw away."""
        start = time.perf_counter()
        kept.append(jit_and_compile(*args, **named))
        kept.append(time.perf_counter() - start)
        raise StopIteration

    def with_dump(flags: str) -> dict:
        """Its flags, and the program as text: as_text fails for some targets."""
        return flags_of(flags) | {"xla_dump_to": str(dump), "xla_dump_hlo_as_text": True}

    train_compile.jit_and_compile = keep
    train_compile.max_utils.parse_libtpu_flags_to_dict = with_dump
    base = Path(maxtext.__file__).parent / "configs" / "base.yml"
    try:
        train_compile.main(["", str(base), *arguments(setting, folder)])
    except StopIteration:
        executable, seconds = kept
    memory = executable.memory_analysis()
    (folder / "hlo.txt").write_text(program(executable, dump))
    return {
        "seconds": seconds,
        "jax": jax.__version__,
        "arguments": memory.argument_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "outputs": memory.output_size_in_bytes,
        "aliased": memory.alias_size_in_bytes,
        "host": memory.host_temp_size_in_bytes + memory.host_argument_size_in_bytes,
    }


def arguments(setting: dict, folder: Path) -> list[str]:
    """The command line of train_compile."""
    flags = " ".join(f"--{name}={value}" for name, value in setting["flags"].items())
    return [
        "model_name=llama2-7b", "override_model_config=true", "hardware=tpu", "run_name=compile",
        "compile_topology_num_slices=1", "dataset_type=synthetic", "enable_checkpointing=false",
        "skip_jax_distributed_system=true", f"base_output_directory={folder}/out",
        *([f"compile_xla_flags={flags}"] if flags else []),
        *(f"{theirs}={setting[ours]}" for ours, theirs in SHAPE.items() if ours in setting),
        *setting.get("more", []),
    ]  # fmt: skip


def program(executable, dump: Path) -> str:
    """The optimised HLO with the compiler's cycle estimates."""
    try:
        return executable.as_text()
    except Exception:  # jaxlib's parser is older than libtpu's programs
        return max(
            dump.glob("*after_codegen.txt"), key=lambda path: path.stat().st_size
        ).read_text()


if __name__ == "__main__":
    main()
