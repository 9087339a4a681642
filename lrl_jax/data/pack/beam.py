"""Prepares data with Apache Beam: the jobs of `jobs`, mapped on Dataflow, Flink or Spark.

    run = runner("dataflow", ["project=p", "region=us-east5", "temp_location=gs://b/tmp", ...])
    jobs.prepare_all(data, tokenizer, "gs://b/runs/korean/data", runner=run)

Beam runs the same function on the same shards as `lrl data` does on one machine, and writes the
same bytes to the same folder. Work that needs all shards at once (finding copies, writing
manifests) stays with the caller. Every Beam worker must be able to reach the text and that folder,
and must have lrl_jax with its dependencies: give an image (sdk_container_image), or a wheel to
install (extra_package).
"""

from collections.abc import Iterator, Sequence
import functools
import importlib
from typing import Any

from lrl_jax import storage
from lrl_jax.data.pack.packing import ShardJob, Tick
from lrl_jax.data.pack.workers import Runner, Work
from lrl_jax.recipe.extras import how_to_install
from lrl_jax.text import DataError

RUNNERS = ("direct", "dataflow", "flink", "spark")  # Beam's DirectRunner and so on
OPEN = ("flink", "spark")  # runners whose job servers accept options that Beam does not list
ERROR = ".array_record.error"  # suffix of the file that says why a shard could not be packed


def runner(name: str, options: Sequence[str] = ()) -> Runner:
    """Returns one of RUNNERS, which `jobs.prepare_all` hands its jobs to.

    Args:
      options: Beam's pipeline options as `key=value`, or `key` where it takes no value.

    Raises:
      ValueError: an option that Beam does not know, or Beam is not installed.
    """
    try:
        beam = importlib.import_module("apache_beam")
    except ImportError as e:
        raise ValueError(
            f"--runner {name} needs Apache Beam ({e}): {how_to_install('beam')}; or leave "
            "--runner out to use the cores of this machine"
        ) from None
    beam_name = f"{name.capitalize()}Runner"
    flags = [f"--runner={beam_name}", *(f"--{option.lstrip('-')}" for option in options)]
    beam_options = importlib.import_module("apache_beam.options.pipeline_options")
    settings = beam_options.PipelineOptions(flags)
    accepted = settings.get_all_options().keys()
    unknown = settings.get_all_options(retain_unknown_options=True).keys() - accepted
    if unknown and name not in OPEN:
        raise ValueError(
            f"--runner-option {', '.join(sorted(unknown))}: Beam's {beam_name} has no such "
            "option; see its page of pipeline options"
        )
    return functools.partial(_run, beam, settings)


def _run(
    beam: Any, options: Any, work: Work, jobs: Sequence[ShardJob], tick: Tick
) -> Iterator[ShardJob]:
    for job in jobs:
        job.path(ERROR).unlink(missing_ok=True)
    pipeline = beam.Pipeline(options=options)
    shards = pipeline | "shards" >> beam.Create(list(jobs)) | "spread" >> beam.Reshuffle()
    _ = shards | "work" >> beam.Map(functools.partial(_do, work))
    state = pipeline.run().wait_until_finish()
    if str(state) != "DONE":
        raise DataError(f"Beam ended with {state}; its log says why. Run the same command again")
    for job in jobs:
        if job.path(ERROR).exists():
            raise DataError(job.path(ERROR).read_text())
        yield job


def _do(work: Work, job: ShardJob) -> None:
    """Runs one job on a Beam worker.

    Bad data is written to the shard's error file instead of raised: Beam would try it again.
    """
    try:
        work(job, lambda documents: None)  # a Beam worker has nobody to report progress to
    except ValueError as e:
        storage.write(job.path(ERROR), str(e))
