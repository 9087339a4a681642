"""One of two processes that meet, in a process of its own: it ends, fails or stands still as asked.

python worker_peers.py localhost:1234 RANK HEARTBEAT "an end" [JOIN]
"""

import sys
import time

import jax
import numpy as np

from lrl_jax.cli import codes
from lrl_jax.devices import mesh, peers, signals

GATHER = "a gather that process 1 never does"
ENDS = {"an end": 1, "a slow end": 1, "a long end": 60}  # seconds of process 1; 0 is done at once


def gather() -> None:
    """Reads from every device what the others have, as a checkpoint does that is saved."""
    grid = jax.make_mesh((2,), ("data",))
    spread, whole = (jax.NamedSharding(grid, jax.P(axis)) for axis in ("data", None))
    mine_N = jax.make_array_from_process_local_data(spread, np.ones(1))
    try:
        np.asarray(jax.jit(lambda x_N: x_N, out_shardings=whole)(mine_N))
    except jax.errors.JaxRuntimeError as e:  # of which an asynchronous read makes a ValueError
        raise OSError("checkpoint 5 was not written") from ValueError(str(e))


def main(coordinator: str, rank: int, heartbeat: int, what: str, join: float = 0) -> None:
    """Meets the other process, says that it is ready, and does what is asked."""
    jax.config.update("jax_platforms", "cpu")
    if join:
        peers.JOIN, peers.REMIND = join, 1.0
    mesh.start(coordinator, 2, rank, heartbeat)
    assert peers.exchange(f"process {rank}") == ["process 0", "process 1"]
    if what == GATHER:
        gather()  # so that they are connected
    try:
        with signals.interrupts(), signals.naming("data"):
            sys.stdout.write("ready\n")
            sys.stdout.flush()
            if what == f"an error of process {rank}":
                raise FileNotFoundError("bad.json")
            if what == GATHER and rank == 0:
                gather()
            if what not in ENDS:
                peers.meet("which process 1 never does") if rank == 0 else time.sleep(60)
            elif rank == 1:
                time.sleep(ENDS[what])
        if what == "a slow end" and rank == 0:
            time.sleep(3)  # on a busy machine a process comes to its end late
    except signals.Stopped as stopped:
        sys.stderr.write(f"{stopped}\n")
        signals.end(stopped.exit_code)
    except Exception as e:
        sys.exit(codes.end(e, "run"))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], *map(float, sys.argv[5:]))
