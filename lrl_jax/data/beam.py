"""Prepares data with Apache Beam: the jobs of `jobs`, mapped on Dataflow, Flink or Spark.

    prepare_all(data, tokenizer, "gs://b/runs/korean/data", runner=runner("dataflow", options))

Beam runs the same function on the same shards as `lrl data` does on one machine and leaves the same
bytes in the same folder; what has to know all shards (copies, manifests) stays with the caller.
The folder must be one that every worker reaches, and lrl_jax installed on them.
"""

from collections.abc import Iterator, Mapping, Sequence
import functools
from typing import Any

from lrl_jax.data.pack import Job, Tick
from lrl_jax.data.workers import Runner, Work
from lrl_jax.text import DataError

RUNNERS = {
    "direct": "DirectRunner",
    "dataflow": "DataflowRunner",
    "flink": "FlinkRunner",
    "spark": "SparkRunner",
}
EXTRA = 'pip install "lrl-jax[beam]"'


def options_of(words: Sequence[str]) -> dict[str, str]:
    """Options given as words `key=value`; a key alone is a flag.

    >>> options_of(["region=us-east5", "streaming"])
    {'region': 'us-east5', 'streaming': ''}
    """
    pairs = (word.partition("=") for word in words)
    return {key.lstrip("-"): value for key, _, value in pairs}


def runner(name: str, options: Mapping[str, str]) -> Runner:
    """What `jobs.prepare_all` runs its jobs with.

    Args:
      name: one of RUNNERS.
      options: Beam's pipeline options, without their dashes.

    Raises:
      ValueError: no such runner, an option Beam does not know, or no Beam.
    """
    if name not in RUNNERS:
        raise ValueError(f"--runner {name}: there are {', '.join(RUNNERS)}")
    beam = _beam(name)
    given = beam.options.pipeline_options.PipelineOptions(
        [f"--runner={RUNNERS[name]}", *(_flag(key, value) for key, value in options.items())]
    )
    return functools.partial(_run, beam, given)


def _run(beam: Any, options: Any, work: Work, jobs: Sequence[Job], tick: Tick) -> Iterator[Job]:
    pipeline = beam.Pipeline(options=options)
    done = (
        pipeline
        | "shards" >> beam.Create(list(jobs))
        | "spread" >> beam.Reshuffle()
        | "pack" >> beam.Map(functools.partial(_do, work))
    )
    del done
    result = pipeline.run()
    state = result.wait_until_finish()
    if str(state) != "DONE":
        raise DataError(f"Beam ended with {state}; its log says why. Run the same command again")
    yield from jobs


def _do(work: Work, job: Job) -> None:
    work(job, _unheard)


def _unheard(documents: int) -> None:
    """Documents are not told from other machines while they are packed."""


def _flag(key: str, value: str) -> str:
    return f"--{key}={value}" if value else f"--{key}"


def _beam(name: str) -> Any:
    try:
        import apache_beam
        import apache_beam.options.pipeline_options
    except ImportError as e:
        raise ValueError(
            f"--runner {name} needs Apache Beam ({e}): {EXTRA}, or leave --runner out to use the "
            "cores of this machine"
        ) from None
    return apache_beam
