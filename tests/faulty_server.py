"""A judge on 127.0.0.1 that fails as real ones do: for each question as its text says.

    with FaultyServer() as server:
        ...server.url...

A question "fault=500" fails every time, "fault=500 once" the first time only. Others are judged: a
rating by the length of the answer, a choice of the longer answer.
"""

from collections import Counter, defaultdict
import contextlib
import http.server
import json
import re
import threading
import time

from lrl_jax.evaluate.judge import asking

NONSENSE = {
    "html": b"<html>Bad gateway</html>",
    "truncated": b'{"choices": [{"message": {"content": "[[8',
    "list": b"[]",
    "text": b'"ok"',
    "null": b"null",
    "empty": b"",
    "error": b'{"error": {"message": "overloaded"}}',
    "latin": b'{"choices": "\xe9"}',
    "choices": b'{"choices": []}',
    "message": b'{"choices": [{"message": null}]}',
    "number": b'{"choices": [{"message": {"content": 8}}]}',
}
FAULT = re.compile(r"fault=([\w-]+)( once)?")
LATE = 1.2  # seconds that a late answer takes


def answer(text, **choice):
    message = {"role": "assistant", "content": text, "refusal": choice.pop("refusal", None)}
    usage = {"prompt_tokens": 10, "completion_tokens": 5}
    choice = {"index": 0, "finish_reason": "stop", **choice, "message": message}
    return json.dumps({"id": "x", "choices": [choice], "usage": usage}).encode()


def judged(prompt):
    """The text of a judge that likes long answers."""
    between = re.findall(r"----- ANSWER ?(?:A|B)? -----\n(.*?)(?=\n\n-----)", prompt, re.DOTALL)
    if len(between) == 2:
        a, b = map(len, between)
        return f"I see. [[{'A' if a > b else 'B' if b > a else 'C'}]]"
    return f"I see. Grade: [[{min(10, max(1, len(between[0])))}]]"


class FaultyServer:
    """A server; `requests` counts those that came by key, `answered` those with a verdict.

    Attributes:
      gate: while it is cleared, requests after the first `pass_through` wait.
    """

    def __init__(self, judge=judged, pass_through=0):
        self.judge = judge
        self.requests, self.answered = Counter(), Counter()
        self.times, self.headers = defaultdict(list), []
        self.gate, self.pass_through = threading.Event(), pass_through
        if not pass_through:
            self.gate.set()
        self._lock = threading.Lock()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *unused):
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self):
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                server._serve(self, json.loads(body))

            def log_message(self, *unused):
                pass

        return Handler

    def _serve(self, handler, request):
        key, prompt = asking.key(request), request["messages"][-1]["content"]
        with self._lock:
            self.requests[key] += 1
            count = self.requests[key]
            number = self.requests.total()
            self.times[key].append(time.monotonic())
            self.headers.append(dict(handler.headers))
        if self.pass_through and number > self.pass_through:
            self.gate.wait()
        match = FAULT.search(prompt)
        fault = match[1] if match and (count == 1 or not match[2]) else ""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client is gone
            self._reply(handler, fault, key, prompt)

    def _reply(self, handler, fault, key, prompt):
        status, headers, body = 200, {}, b""
        if fault == "drop":
            handler.close_connection = True
            handler.connection.close()
            return
        if fault == "timeout":
            time.sleep(LATE)
        if fault == "drip":
            self._drip(handler)
            return
        if fault in NONSENSE:
            body = NONSENSE[fault]
        elif fault.isdigit():
            status, body = int(fault), b'{"error": {"message": "no", "code": "some_code"}}'
            headers = {"retry-after": "1.2"} if fault == "429" else {}
        elif fault == "azure":
            status, body = 400, b'{"error": {"message": "no", "code": "content_filter"}}'
        else:
            body = {
                "refusal": answer(None, refusal="I cannot judge this"),
                "filter": answer("", finish_reason="content_filter"),
                "nothing": answer(None),
                "cut": answer("I think that", finish_reason="length"),
                "words": answer("I rate it eight of ten"),
                "both": answer("[[3]] or [[4]], [[A]] or [[B]]"),
                "eleven": answer("[[11]]"),
            }.get(fault) or answer(self.judge(prompt))
            with self._lock:
                self.answered[key] += 1
        handler.send_response(status)
        cut = 7 if fault == "short" else 0  # bytes that are promised and never come
        for name, value in {**headers, "content-length": str(len(body) + cut)}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = bool(cut)

    def _drip(self, handler):
        """Sends a byte now and then, so that no single one is late."""
        handler.send_response(200)
        handler.send_header("content-length", "100000")
        handler.end_headers()
        for _ in range(40):
            handler.wfile.write(b" ")
            time.sleep(LATE / 10)
        handler.close_connection = True
