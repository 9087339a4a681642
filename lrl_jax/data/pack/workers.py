"""Runs jobs on this machine: in this process, or in several that exchange only files and counts.

for job in local(workers=8)(work, jobs, tick): ...      # in the order the jobs are done
"""

from collections.abc import Callable, Iterator, Sequence
import concurrent.futures
from concurrent.futures.process import BrokenProcessPool
import dataclasses
import itertools
import multiprocessing
import os
import signal
import threading
from typing import Any

from lrl_jax.data.pack.packing import ShardJob, Tick
from lrl_jax.text import DataError
from lrl_jax.vocab.tokenizer import load as tokenizers

POLL = 0.5  # most seconds between two reports of the processes' progress
Work = Callable[[ShardJob, Tick], None]  # writes its result to the job's folder
Runner = Callable[[Work, Sequence[ShardJob], Tick], Iterator[ShardJob]]


def local(workers: int) -> Runner:
    """Returns a function that runs jobs in `workers` processes (0: one for every core).

    With one worker, jobs run in this process. Jobs that import TensorFlow (those of seqio Tasks)
    always run in processes of their own. Where there are fewer jobs than workers, the jobs share
    the others to tokenise their documents.
    """

    def run(work: Work, jobs: Sequence[ShardJob], tick: Tick) -> Iterator[ShardJob]:
        count = min(workers or cores(), len(jobs))
        jobs = [
            dataclasses.replace(job, encoders=share)
            for job, share in zip(jobs, shares(len(jobs), workers or cores()), strict=True)
        ]
        if count <= 1 and not any(job.dataset.brings_tensorflow for job in jobs):
            for job in jobs:
                work(job, tick)
                yield job
        else:
            yield from _pool(work, jobs, count, tick)

    return run


def shares(jobs: int, workers: int) -> list[int]:
    """Returns how many processes may tokenise for each job: workers that have no job of their own.

    >>> shares(2, 8), shares(3, 2), shares(4, 4)
    ([4, 4], [1, 1, 2], [1, 1, 1, 1])
    """
    last = jobs % workers  # these run when no other job is left
    return [1] * (jobs - last) + [workers // last] * last if last else [1] * jobs


def cores() -> int:
    """Returns how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _pool(work: Work, jobs: Sequence[ShardJob], count: int, tick: Tick) -> Iterator[ShardJob]:
    # spawn: a fork of a process that runs JAX threads can hang
    context = multiprocessing.get_context("spawn")
    documents, stop = context.Value("q", 0), context.Event()
    ticked, waiting = 0, iter(jobs)
    running: dict[concurrent.futures.Future, ShardJob] = {}
    threads = max(1, cores() // count)
    others = {*multiprocessing.active_children()}
    with concurrent.futures.ProcessPoolExecutor(
        count, context, _enter, (documents, stop, threads)
    ) as pool:
        try:
            while True:
                for job in itertools.islice(waiting, 2 * count - len(running)):
                    running[pool.submit(_do, work, job)] = job
                if not running:
                    return
                done, _ = concurrent.futures.wait(running, POLL, concurrent.futures.FIRST_COMPLETED)
                now = documents.value
                tick(now - ticked)
                ticked = now
                for future in sorted(done, key=lambda future: running[future].number):
                    future.result()
                    yield running.pop(future)
        except BrokenProcessPool:
            # The pool sends the other workers SIGTERM, which they ignore, and waits for them.
            for worker in {*multiprocessing.active_children()} - others:
                worker.kill()
            raise DataError(
                "a process was killed while preparing data, most likely for lack of memory; "
                f"lower data.workers (now {count}) or data.pack_window and run the same command "
                "again: what is packed stays packed"
            ) from None
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


_shared: dict[str, Any] = {}  # what the parent gave this process: its counter and stop event


class _Stopped(Exception):  # noqa: N818  (no error: another process failed, or the user stops)
    pass


def _enter(documents: Any, stop: Any, threads: int) -> None:
    _shared.update(documents=documents, stop=stop)
    tokenizers.share_cores(threads)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the parent gets it too, and sets `stop`
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: Any) -> None:
    """Ends this process when the parent has ended, even if it was killed."""
    parent.join()
    os._exit(1)


def _tick(documents: int) -> None:
    if _shared["stop"].is_set():
        raise _Stopped
    with _shared["documents"].get_lock():
        _shared["documents"].value += documents


def _do(work: Work, job: ShardJob) -> None:
    _tick(0)
    work(job, _tick)
