"""Prepares data with Apache Beam: the jobs of `jobs`, mapped on Dataflow, Flink or Spark.

    run = runner("dataflow", ["project=p", "region=us-east5", "temp_location=gs://b/tmp", ...])
    jobs.prepare_all(data, tokenizer, "gs://b/runs/korean/data", runner=run)

Beam runs the same function on the same shards as `lrl data` does on one machine, and the same bytes
are left in the same folder; what has to know all shards (copies, manifests) stays with the caller.
Every worker must reach the text and that folder, and have lrl_jax with its dependencies: an image
(sdk_container_image), or a wheel to install (extra_package).
"""

from collections.abc import Iterator, Sequence
import functools
import importlib
from typing import Any

from etils import epath

from lrl_jax import storage
from lrl_jax.data.pack.packing import ShardJob, Tick
from lrl_jax.data.pack.workers import Runner, Work
from lrl_jax.recipe.extras import how_to_install
from lrl_jax.text import DataError

RUNNERS = {
    "direct": "DirectRunner",
    "dataflow": "DataflowRunner",
    "flink": "FlinkRunner",
    "spark": "SparkRunner",
}
OPEN = ("flink", "spark")  # whose job servers know options of their own
ERROR = ".error"  # beside the rows a shard should have: why it has none


def runner(name: str, options: Sequence[str] = ()) -> Runner:
    """What `jobs.prepare_all` runs its jobs with.

    Args:
      name: one of RUNNERS.
      options: Beam's pipeline options as `key=value`, or `key` where it takes no value.

    Raises:
      ValueError: no such runner, an option Beam does not know, or no Beam.
    """
    if name not in RUNNERS:
        raise ValueError(f"--runner {name}: there are {', '.join(RUNNERS)}")
    beam = _beam(name)
    flags = [f"--runner={RUNNERS[name]}", *(f"--{word.lstrip('-')}" for word in options)]
    given = importlib.import_module("apache_beam.options.pipeline_options").PipelineOptions(flags)
    known = given.get_all_options()
    unknown = given.get_all_options(retain_unknown_options=True).keys() - known.keys()
    if unknown and name not in OPEN:
        raise ValueError(
            f"--runner-option {', '.join(sorted(unknown))}: Beam's {RUNNERS[name]} has no such "
            "option; see its page of pipeline options"
        )
    return functools.partial(_run, beam, given)


def _run(
    beam: Any, options: Any, work: Work, jobs: Sequence[ShardJob], tick: Tick
) -> Iterator[ShardJob]:
    for job in jobs:
        _error(job).unlink(missing_ok=True)
    pipeline = beam.Pipeline(options=options)
    shards = pipeline | "shards" >> beam.Create(list(jobs)) | "spread" >> beam.Reshuffle()
    _ = shards | "work" >> beam.Map(functools.partial(_do, work))
    state = pipeline.run().wait_until_finish()
    if str(state) != "DONE":
        raise DataError(f"Beam ended with {state}; its log says why. Run the same command again")
    for job in jobs:
        if _error(job).exists():
            raise DataError(_error(job).read_text())
        yield job


def _do(work: Work, job: ShardJob) -> None:
    """One job on some machine. Bad data is no failure of that machine, to be tried again."""
    try:
        work(job, _unheard)
    except ValueError as e:
        storage.write(_error(job), str(e).encode())


def _unheard(documents: int) -> None:
    """Takes the number of documents that another machine has packed; nobody is there to hear it."""


def _error(job: ShardJob) -> epath.Path:
    return epath.Path(job.folder) / (job.file + ERROR)


def _beam(name: str) -> Any:
    try:
        return importlib.import_module("apache_beam")
    except ImportError as e:
        raise ValueError(
            f"--runner {name} needs Apache Beam ({e}): {how_to_install('beam')}; or leave "
            "--runner out to use the cores of this machine"
        ) from None
