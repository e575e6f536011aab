"""The judge, against a small server on this machine."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from seal_env.errors import UserError
from seal_env.judge import Judge

KEY = "sk-secret-of-the-test"


class Server(ThreadingHTTPServer):
    """Answers chat completions: by `script` first (status, body), then by containment."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = []
        self.requests = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, dict(self.headers), body))
        if self.server.script:
            status, reply = self.server.script.pop(0)
        else:
            item = json.loads(body["messages"][-1]["content"])
            right = item["gold answer"] in item["student's answer"]
            status, reply = 200, completion("Yes." if right else "no")
        data = reply.encode()
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def completion(text):
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr("seal_env.judge.time.sleep", lambda seconds: None)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_batch_is_judged_in_order(server):
    batch = [(f"Q{n}?", f"answer-{n}.", f"It is answer-{n * (n % 2)}.") for n in range(1, 21)]
    assert Judge(server.url, "m").grade(batch) == [n % 2 == 1 for n in range(1, 21)]
    assert len(server.requests) == 20


def test_what_is_sent(server):
    Judge(server.url + "/", "some-model").grade([("Why?", "because \ud800", "so")])
    path, headers, body = server.requests[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert body["model"] == "some-model"
    assert body["temperature"] == 0
    item = json.loads(body["messages"][-1]["content"])
    assert item == {"question": "Why?", "gold answer": "because \ud800", "student's answer": "so"}


def test_the_key_comes_from_the_named_variable_or_not_at_all(server, monkeypatch):
    monkeypatch.setenv("OTHER_KEY", "other")
    Judge(server.url, "m", api_key_env="OTHER_KEY").grade([("q", "g", "a")])
    Judge(server.url, "m", api_key_env="NO_SUCH_VARIABLE").grade([("q", "g", "a")])
    headers = [headers for _, headers, _ in server.requests]
    assert headers[0]["Authorization"] == "Bearer other"
    assert "Authorization" not in headers[1]


def test_several_gold_answers_are_one_request(server):
    server.script = [(200, completion("yes"))]
    judge = Judge(server.url, "m")
    assert judge.grade([("q", ["a", " ", "b"], "b"), ("q", ["", " "], "b"), ("q", [], "b")]) == [
        *(True, False, False),
    ]
    assert judge.grade([("q", ["", "a"], "a")]) == [True]
    several, one = (json.loads(body["messages"][-1]["content"]) for _, _, body in server.requests)
    assert several["gold answers, of which any one will do"] == ["a", "b"]
    assert one["gold answer"] == "a"


def test_empty_answers_are_wrong_without_asking(server):
    assert Judge(server.url, "m").grade([("q", "g", " "), ("q", "", "a")]) == [False, False]
    assert Judge(server.url, "m").grade([]) == []
    assert server.requests == []


@pytest.mark.parametrize(
    ("reply", "right"), [("yes", True), (" **Yes**\n", True), ("NO.", False), ('"no"', False)]
)
def test_yes_and_no(server, reply, right):
    server.script = [(200, completion(reply))]
    assert Judge(server.url, "m").grade([("q", "g", "a")]) == [right]


def test_passing_failures_are_retried(server):
    server.script = [(503, "busy"), (429, ""), (200, "no JSON"), (200, completion("yes"))]
    assert Judge(server.url, "m", retries=3).grade([("q", "g", "a")]) == [True]
    assert len(server.requests) == 4


@pytest.mark.parametrize("reply", ["", "maybe", "yes and no", "yes, because", "yesterday"])
def test_anything_else_is_no_verdict(server, reply):
    server.script = [(200, completion(reply))] * 2
    with pytest.raises(UserError, match="instead of yes or no"):
        Judge(server.url, "m", retries=1).grade([("q", "g", "a")])
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("script", "message", "requests"),
    [
        ([(500, "")] * 3, "HTTP 500", 3),
        ([(401, "")], "HTTP 401", 1),
        ([(404, "")], "HTTP 404", 1),
        ([(302, "")], "HTTP 302", 1),
        ([(200, "[1]")] * 3, "no chat completion", 3),
        ([(200, "{}")] * 3, "no chat completion", 3),
        ([(200, '{"choices": []}')] * 3, "no chat completion", 3),
    ],
)
def test_lasting_failures_are_one_line_without_the_key(server, script, message, requests):
    server.script = list(script)
    with pytest.raises(UserError, match=message) as caught:
        Judge(server.url, "m", retries=2).grade([("q", "g", "a")])
    assert len(server.requests) == requests
    assert "\n" not in str(caught.value)
    assert server.url in str(caught.value)
    assert KEY not in str(caught.value)


def test_nobody_there(server):
    with Server() as other:
        url = other.url
    with pytest.raises(UserError, match=f"at {url} .*refused.*check the address"):
        Judge(url, "m", retries=1).grade([("q", "g", "a")] * 3)


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "file" + ":///etc/hostname", "ftp://x/v1", "http://"]
)
def test_addresses_are_checked(url):
    with pytest.raises(UserError, match="is no http"):
        Judge(url, "m")
