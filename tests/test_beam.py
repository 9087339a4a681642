"""Beam runs the same jobs on other machines: the bytes are those of the local run."""

import importlib.util
import sys

import pytest
from test_jobs import corpus, data_of, make, small_shards, text, three_ways, tree

from lrl_jax.cli import main
from lrl_jax.data.pack import beam, jobs

__all__ = ["corpus", "small_shards", "text"]  # fixtures
needs_beam = pytest.mark.skipif(
    not importlib.util.find_spec("apache_beam"),
    reason="needs Apache Beam: the extra `beam`",
)


@needs_beam
def test_beam_leaves_the_bytes_of_a_local_run(corpus, tmp_path):
    data = three_ways(corpus)
    want = jobs.prepare_all(data, make(), tmp_path / "local")
    assert len(want["plain"].shards) > 3
    run = beam.runner("direct")
    assert jobs.prepare_all(data, make(), tmp_path / "beam", runner=run) == want
    assert tree(tmp_path / "beam") == tree(tmp_path / "local")


@needs_beam
def test_bad_data_is_named_as_a_local_run_names_it(text, tmp_path):
    text.write_bytes(b"a\n\xff\n")
    run = beam.runner("direct")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"dataset 'd': .*text\.txt:2: not UTF-8"):
            jobs.prepare_all(data_of(text), make(), tmp_path / "out", runner=run)
    text.write_text("a\n")
    assert jobs.prepare_all(data_of(text), make(), tmp_path / "out", runner=run)["d"].docs == 1


@needs_beam
def test_an_option_beam_does_not_know_is_refused():
    beam.runner("dataflow", ["region=us-east5", "experiments=a", "experiments=b"])
    with pytest.raises(ValueError, match=r"--runner-option regoin: .* has no such option"):
        beam.runner("dataflow", ["regoin=us-east5"])


def test_an_unknown_runner_is_refused_with_those_there_are(capsys):
    assert main.main(["data", "quickstart", "--runner", "spork"]) == 2
    assert (
        "--runner spork: there are ray, direct, dataflow, flink, spark" in capsys.readouterr().err
    )


def test_options_without_a_runner_are_refused(capsys):
    assert main.main(["data", "quickstart", "--runner-option", "region=us-east5"]) == 2
    assert "--runner-option needs a --runner" in capsys.readouterr().err


def test_without_beam_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(ValueError, match=r"needs Apache Beam .*pip install .*\[beam\]"):
        beam.runner("direct")
