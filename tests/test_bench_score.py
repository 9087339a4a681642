"""The benchmark of scoring: what is scored, and ratios of CPU time over turns."""

from pathlib import Path
import re

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def score(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts/benchmarks"))
    import score

    return score


def test_lines_are_scored_whole_and_choices_share_their_questions(score):
    lines = score.lines(50)
    assert len(lines) == 100
    assert 3000 < sum(len(ids) for _, ids in lines) < 3700
    choices = score.WORKLOADS["choices of 3"](50)
    assert [len(ids) for _, ids in choices] == [3] * 400
    assert len({tuple(question) for question, _ in choices}) == 100


def test_a_ratio_is_the_median_of_turns_after_the_first(score, monkeypatch, capsys):
    seconds = {"ours": iter([9.0, 1.0, 1.0, 2.0]), "theirs": iter([5.0, 3.0, 2.0, 2.0])}

    class Turns:
        def __init__(self, name, model):
            self.name = name

        def turn(self, work):
            return next(seconds[self.name])

        def end(self):
            pass

    monkeypatch.setattr(score, "Worker", Turns)
    argv = ["score.py", "--model", "1m", "--only", "lines", "--rounds", "3"]
    monkeypatch.setattr("sys.argv", argv)
    score.main()
    out = capsys.readouterr().out
    assert re.search(r"1m lines +1.000 +2.000 +2.00x  1.00 to 3.00; first turn 9.0, 5.0", out)
