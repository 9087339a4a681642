"""What XLA is told where programs are small and their compilation is most of the time."""

import os

import jax

FLAGS = [
    # Eight devices on two busy cores may come late to a sum; after 40 s XLA would end the process.
    "--xla_cpu_collective_call_terminate_timeout_seconds=400",
    # Most of the time is LLVM's, and half of that is saved. The passes are the same.
    "--xla_backend_optimization_level=0",
    "--xla_cpu_parallel_codegen_split_count=1",
]
# Half of what is left. An unknown flag ends a process: jax 0.12 has none, 0.11 was not tried.
if jax.__version_info__ < (0, 11):
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")


def cheap() -> str:
    """Returns the value of XLA_FLAGS: what it is, and what saves compilation."""
    return " ".join([os.environ.get("XLA_FLAGS", ""), *FLAGS]).strip()
