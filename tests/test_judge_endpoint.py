"""A judge that fails: every item ends as a score or a named failure, and no answer is lost."""

import collections
import json
import threading
import time

from faulty_server import NONSENSE, FaultyServer
import pytest

from lrl_jax.evaluate.judge import asking, grading, prompts
from lrl_jax.evaluate.judge import endpoint as endpoints
from lrl_jax.evaluate.judge.asking import Judgments
from lrl_jax.evaluate.judge.endpoint import Endpoint, EndpointError, Reply
from lrl_jax.evaluate.judge.grading import JudgeSettings
from lrl_jax.evaluate.judge.pace import Pace
from lrl_jax.evaluate.judge.records import AnswerSet, JudgeQuestion

pytest.importorskip("openai", reason="openai is not installed (`pip install openai`)")

SINGLE = prompts.load("", "single")
# What a question says to the server -> what becomes of its item.
FATES = {
    "timeout": endpoints.TIMEOUT,
    "429": endpoints.LIMITED,
    "500": endpoints.SERVER,
    "503": endpoints.SERVER,
    "400": endpoints.BAD_REQUEST,
    "drop": endpoints.CONNECTION,
    "drip": endpoints.TIMEOUT,
    "short": endpoints.MALFORMED,
    "azure": endpoints.FILTERED,
    "filter": endpoints.FILTERED,
    "refusal": endpoints.REFUSED,
    "nothing": endpoints.EMPTY,
    "cut": grading.CUT_SHORT,
    "words": "no verdict",
    "both": "several verdicts",
    "eleven": "out of range",
    **dict.fromkeys(NONSENSE, endpoints.MALFORMED),
    "choices": endpoints.NO_CHOICES,
}
LATE = ("timeout", "drip")  # which take time


def items(*texts, judge="j"):
    questions = [JudgeQuestion(n, "", (text,)) for n, text in enumerate(texts)]
    answers = AnswerSet("m", {str(q.id): ("four",) for q in questions})
    return [*grading.single_items(questions, answers, judge, SINGLE, JudgeSettings())]


def judged(server, file, every, timeout=20, retries=1, concurrency=16):
    """The results of items, of a client whose pauses are short."""
    kept = Judgments(file)
    endpoint = Endpoint(server.url, timeout, retries, sleep=lambda seconds: None)
    try:
        asking.ask_all(grading.requests_of(every), kept, endpoint.ask, concurrency)
    finally:
        endpoint.close()
    return [grading.result(item, kept.replies) for item in every]


def test_every_item_ends_as_a_score_or_a_named_failure(tmp_path):
    texts = [f"fault={fault}" for fault in FATES if fault not in LATE]
    once = [f"{text} once" for text in texts if FATES[text[6:]] in endpoints.TRANSPORT]
    once.remove("fault=400 once")  # which is no error of the transport
    every = items("plain", *texts, *once)
    with FaultyServer() as server:
        results = judged(server, tmp_path / "judgments.jsonl", every)
        asked = server.requests.total()
        again = judged(server, tmp_path / "judgments.jsonl", every)
    got = {item.question.turns[0]: r for item, r in zip(every, results, strict=True)}
    assert len(got) == 1 + len(FATES) - len(LATE) + len(once)
    assert {t: r["failure"] for t, r in got.items() if t in texts} == {
        f"fault={fault}": fate for fault, fate in FATES.items() if fault not in LATE
    }
    assert {r["score"] for t, r in got.items() if t in texts} == {None}
    # what failed only once has been asked again, and is judged
    assert {t: r["score"] for t, r in got.items() if t not in texts} == dict.fromkeys(
        ["plain", *once], 4.0
    )
    assert again == results
    assert asked == server.requests.total()


def test_an_answer_that_is_late_is_asked_for_again(tmp_path):
    every = items(*(f"fault={fault}" for fault in LATE), "fault=timeout once")
    with FaultyServer() as server:
        results = judged(server, tmp_path / "judgments.jsonl", every, timeout=0.6)
    assert [r["failure"] for r in results] == [endpoints.TIMEOUT, endpoints.TIMEOUT, ""]
    assert results[2]["score"] == 4.0


def test_the_server_says_when_it_wants_to_be_asked_again(tmp_path):
    with FaultyServer() as server:
        (result,) = judged(server, tmp_path / "j.jsonl", items("fault=429 once"))
    assert result["score"] == 4.0
    ((first, second),) = server.times.values()
    assert second - first >= 1.1  # its retry-after; by itself the client waits half a second


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_fails_for_every_request_ends_the_work_and_keeps_what_came(tmp_path, status):
    every = items("plain", f"fault={status}", *(f"later {n}" for n in range(20)))
    with FaultyServer() as server, pytest.raises(EndpointError, match=str(status)):
        judged(server, tmp_path / "j.jsonl", every, concurrency=1)
    assert server.requests.total() < 6
    kept = Judgments(tmp_path / "j.jsonl").replies
    assert kept[every[0].requests[0][0]].text.endswith("[[4]]")
    assert {*kept} == {key for key in server.answered}


def test_a_server_that_is_not_there_ends_the_work_and_nothing_is_kept(tmp_path):
    with FaultyServer() as server:
        pass  # nobody listens at its address any more
    with pytest.raises(EndpointError, match=r"127.0.0.1:\d+: nobody answers there .*--base-url"):
        judged(server, tmp_path / "j.jsonl", items("plain"))
    assert not Judgments(tmp_path / "j.jsonl").replies


def test_an_address_without_its_version_is_told_what_most_end_in(tmp_path):
    with FaultyServer() as server:
        server.url = server.url.removesuffix("/v1")
        with pytest.raises(EndpointError, match="that of most servers ends in /v1"):
            judged(server, tmp_path / "j.jsonl", items("fault=404"))


def test_the_key_is_sent_and_stands_in_no_file_and_no_message(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-1234")
    with FaultyServer() as server:
        judged(server, tmp_path / "j.jsonl", items("plain"))
        sent = {name.lower(): value for name, value in server.headers[0].items()}
        endpoint = Endpoint(server.url)
    assert sent["authorization"] == "Bearer sk-secret-1234"
    assert "secret" not in (tmp_path / "j.jsonl").read_text()
    assert endpoint._plain("Incorrect API key provided: sk-secret-1234") == (
        "Incorrect API key provided: ***"
    )


def test_a_server_of_ones_own_needs_no_key_and_one_elsewhere_does(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with FaultyServer() as server:
        Endpoint(server.url).ask(
            {"model": "j", "messages": items("x")[0].requests[0][1]["messages"]}
        )
    assert server.requests.total() == 1
    with pytest.raises(EndpointError, match="OPENAI_API_KEY"):
        Endpoint("https://api.example.com/v1")


@pytest.mark.parametrize("url", ["127.0.0.1:8000/v1", "ftp://a/v1", "", "http://a:x/v1"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(EndpointError, match="--base-url"):
        Endpoint(url)


@pytest.mark.parametrize("url", ["http://me:secret@a/v1", "http://a/v1?key=secret"])
def test_an_address_with_a_secret_is_refused_and_not_repeated(url):
    with pytest.raises(EndpointError) as error:
        Endpoint(url)
    assert "secret" not in str(error.value)


def test_equal_requests_are_asked_once(tmp_path):
    every = [*items("same"), *items("same")]
    with FaultyServer() as server:
        results = judged(server, tmp_path / "j.jsonl", every)
    assert [r["score"] for r in results] == [4.0, 4.0]
    assert server.requests.total() == 1


def test_a_line_that_was_cut_short_is_asked_again_and_the_others_stay(tmp_path):
    file, every = tmp_path / "j.jsonl", items("one", "two", "three")
    with FaultyServer() as server:
        want = judged(server, file, every)
        whole = file.read_bytes()
        file.write_bytes(whole[:-30])  # within the last line
        assert judged(server, file, every) == want
        assert sorted(server.requests.values()) == [1, 1, 2]
    lines = file.read_text().splitlines()
    assert len({json.loads(line)["key"] for line in lines}) == len(lines) == 3


def test_lines_that_are_none_of_ours_are_no_replies(tmp_path):
    file = tmp_path / "j.jsonl"
    odd = [
        {"key": 1, "reply": {"text": "a"}},
        {"key": "a", "reply": {"text": 5}},
        [],
        {"key": "b"},
        {"key": "c", "reply": {}},
        {"key": "d", "reply": {"text": "[[5]]", "new": 1}},
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in odd))
    assert Judgments(file).replies == {"d": Reply(text="[[5]]")}


def test_failures_of_the_transport_are_asked_again_only_when_one_says_so(tmp_path):
    file, every = tmp_path / "j.jsonl", items("fault=500", "fault=refusal")
    with FaultyServer() as server:
        judged(server, file, every, retries=0)
        before = server.requests.copy()
        kept = Judgments(file, retry=True)
    (due,) = kept.due(grading.requests_of(every))
    assert due == every[0].requests[0][0]
    assert set(before.values()) == {1}
    assert not Judgments(file).due(grading.requests_of(every))


def test_requests_keep_to_their_pace():
    clock = [0.0]
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        clock[0] += seconds

    pace = Pace(requests=30, tokens=600, now=lambda: clock[0], sleep=sleep)
    for _ in range(3):
        pace.wait_request()  # one in two seconds
    assert slept == [2.0, 2.0]
    pace.wait_tokens(100)  # ten tokens a second
    pace.wait_tokens(1)
    assert slept == [2.0, 2.0, 10.0]


def test_retries_of_the_client_keep_to_the_pace_too():
    counted = collections.Counter()
    pace = Pace()
    pace.wait_request = lambda: counted.update(["request"])
    with FaultyServer() as server:
        endpoint = Endpoint(server.url, retries=1, pace=pace, sleep=lambda seconds: None)
        endpoint.ask(items("fault=500 once")[0].requests[0][1])
    assert counted["request"] == server.requests.total() == 2


def test_what_others_are_still_answering_is_kept_when_one_ends_the_work(tmp_path):
    begun = threading.Event()

    def ask(request, tokens):
        if "stop" in request["messages"][-1]["content"]:
            begun.wait()
            raise EndpointError("wrong key")
        begun.set()
        time.sleep(0.3)
        return Reply(text="[[5]]")

    every = items("slow", "stop")
    kept = Judgments(tmp_path / "j.jsonl")
    with pytest.raises(EndpointError):
        asking.ask_all(grading.requests_of(every), kept, ask, 2)
    assert [*Judgments(tmp_path / "j.jsonl").replies] == [every[0].requests[0][0]]


def test_requests_are_sent_so_many_at_a_time(tmp_path):
    inside, most, lock = [0], [0], threading.Lock()

    def ask(request, tokens):
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        time.sleep(0.02)
        with lock:
            inside[0] -= 1
        return Reply(text="[[5]]")

    every = items(*map(str, range(12)))
    asking.ask_all(grading.requests_of(every), Judgments(tmp_path / "j.jsonl"), ask, 3)
    assert most == [3]
    assert len((tmp_path / "j.jsonl").read_text().splitlines()) == 12


def test_an_estimate_counts_what_is_not_kept_yet(tmp_path):
    every, kept = items("one", "two"), Judgments(tmp_path / "j.jsonl")
    requests = grading.requests_of(every)
    key, request = next(iter(requests.items()))
    kept.add(key, request, Reply(text="[[5]]"))
    got = asking.estimate(requests, kept, longest=100)
    assert (got.calls, got.kept, got.tokens_out, got.tokens_most) == (1, 1, 100, 100)
    assert got.tokens_in == asking.tokens(every[1].requests[0][1])
    assert got.price(0.0, 5.0) == (0.0005, 0.0005)
