"""Every test runs strict: no silent broadcasting, no silent dtype change, eight CPU devices."""

import os

import jax

os.environ["XLA_FLAGS"] = " ".join([
    os.environ.get("XLA_FLAGS", ""),
    # Eight devices on two busy cores may come late to a sum; after 40 s XLA would end the process.
    "--xla_cpu_collective_call_terminate_timeout_seconds=400",
    # Small models: most of the time is LLVM's, and half of that is saved. The passes are the same.
    "--xla_backend_optimization_level=0",
])  # fmt: skip
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
