"""The judge, against small servers on this machine, well-behaved and hostile."""

import asyncio
import gzip
import json
import socket
import socketserver
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from seal_env.errors import MAX_LINE, UserError
from seal_env.grading import asking, endpoint
from seal_env.grading.judge import Judge

KEY = "sk-secret-of-the-test"
ONE = [("q", "g", "a")]


class Server(ThreadingHTTPServer):
    """Answers chat completions: by `script` first (status, body, headers), then by containment."""

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
        headers = {}
        if self.server.script:
            status, reply, *rest = self.server.script.pop(0)
            headers = rest[0] if rest else {}
        else:
            item = json.loads(body["messages"][-1]["content"])
            right = item["gold answer"] in item["student's answer"]
            status, reply = 200, completion("Yes." if right else "no")
        data = reply if isinstance(reply, bytes) else reply.encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def completion(text, **fields):
    message = {"role": "assistant", "content": text, **fields}
    return json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]})


def serving(server):
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(asking, "FIRST_WAIT", 0.0)


@pytest.fixture
def server():
    yield from serving(Server())


def refusal(url, batch=ONE, **settings):
    """The message of a judge that fails: one line, which names the address and no secret."""
    with pytest.raises(UserError) as caught:
        Judge(url, "m", **{"retries": 0, **settings}).grade(batch)
    message = str(caught.value)
    assert "\n" not in message and message.isprintable() and len(message) <= MAX_LINE
    assert KEY not in message
    assert message.startswith("judge: no verdict from 'm' at http")
    assert "check the address" in message
    return message


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


def test_passing_failures_are_retried(server):
    server.script = [(503, "busy"), (429, ""), (200, "no JSON"), (200, completion("yes"))]
    assert Judge(server.url, "m", retries=3).grade(ONE) == [True]
    assert len(server.requests) == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "message", "requests"),
    [
        ([(500, "")] * 3, "HTTP 500", 3),
        ([(401, '{"error": {"message": "Who\\nare you?"}}')], "HTTP 401: Who are you?", 1),
        ([(401, f'{{"error": "wrong key {KEY}"}}')], r"wrong key \*\*\*", 1),
        ([(404, "<html><title>404</title></html>")], r"HTTP 404\)", 1),
        ([(404, '{"detail": [{"loc": 1}]}')], "HTTP 404", 1),
        ([(302, "", {"Location": "/v1/chat/completions"})], "HTTP 302", 1),
        ([(204, "")], "HTTP 204", 1),
        ([(200, "[1]")] * 3, "no chat completion", 3),
        ([(200, "{}")] * 3, "no chat completion", 3),
        ([(200, '{"choices": []}')] * 3, "no chat completion", 3),
        ([(200, '{"choices": [null]}')] * 3, "no chat completion", 3),
        ([(200, completion(["text"]))] * 3, "no chat completion", 3),
        ([(200, completion(None))] * 3, "no text", 3),
        ([(200, completion(5))] * 3, "no text", 3),
        ([(200, "<html>hello</html>")] * 3, "not JSON", 3),
        ([(200, b"\xff\xfe{")] * 3, "not JSON", 3),
        ([(200, "[" * 100_000)] * 3, "not JSON", 3),
        ([(200, '{"choices":' * 90_000)] * 3, "not JSON", 3),
        ([(200, KEY + "\u202e\x1b[2J")] * 3, "not JSON", 3),
        ([(200, gzip.compress(bytes(10**7)), {"Content-Encoding": "gzip"})] * 3, "compressed", 3),
        ([(200, b" " * ((1 << 20) + 1))] * 3, "longer than 1 MiB", 3),
        ([(200, completion("I\x1b[31m cannot\u202esay\n"))] * 3, "instead of yes or no", 3),
    ],
)
def test_lasting_failures_are_one_line_without_the_key(server, script, message, requests):
    server.script = list(script)
    with pytest.raises(UserError, match=message):
        Judge(server.url, "m", retries=2).grade(ONE)
    assert len(server.requests) == requests
    server.script = list(script)
    assert server.url in refusal(server.url, retries=2)


def test_what_an_endpoint_refuses_is_left_out_from_then_on(server):
    def complain(text):
        return (400, json.dumps({"error": {"message": text}}))

    server.script = [
        complain("Unsupported value: 'temperature' does not support 0 with this model."),
        complain("'max_tokens' is not supported. Use 'max_completion_tokens' instead."),
        complain("System role not supported"),
        complain("max_completion_tokens: extra fields not permitted"),
        (200, completion("yes")),
        (200, completion("no")),
    ]
    found = Judge(server.url, "m", retries=0, max_tokens=99, concurrency=1).grade(ONE * 2)
    assert found == [True, False]
    bodies = [body for _, _, body in server.requests]
    told = [set(body) - {"model", "messages"} for body in bodies]
    assert told[:2] == [{"temperature", "max_tokens"}, {"max_tokens"}]
    assert told[2:] == [{"max_completion_tokens"}] * 2 + [set()] * 2
    assert [len(body["messages"]) for body in bodies] == [2, 2, 2, 1, 1, 1]
    assert bodies[2]["max_completion_tokens"] == 99
    assert bodies[3]["messages"][0]["content"].startswith("You grade answers")


def test_a_refusal_of_something_else_is_final(server):
    server.script = [(400, '{"error": {"message": "temperature"}}')] * 2
    assert "HTTP 400: temperature" in refusal(server.url, retries=3)
    assert len(server.requests) == 2


def test_the_endpoints_wish_to_wait_is_followed(server, monkeypatch):
    waits = []
    sleep = asyncio.sleep
    monkeypatch.setattr(asking.asyncio, "sleep", lambda wait: sleep(0, waits.append(wait)))
    later = {"Retry-After": formatdate(time.time() + 3600, usegmt=True)}
    server.script = [
        (429, "", {"Retry-After": "7"}),
        (503, "", later),
        (429, "", {"Retry-After": "-1"}),
        (429, "", {"Retry-After": "soon"}),
        (200, completion("yes")),
    ]
    assert Judge(server.url, "m", retries=4).grade(ONE) == [True]
    assert [wait for wait in waits if wait] == [7, asking.LONGEST_WAIT]


def test_nobody_there():
    with Server() as other:
        url = other.url
    assert f"at {url}" in refusal(url, [*ONE] * 3, retries=1)


def test_secrets_in_the_address_are_not_told():
    with Server() as other:
        port = other.server_port
    with pytest.raises(UserError) as caught:
        Judge(f"http://me:hush@127.0.0.1:{port}/v1?token=hidden", "m", retries=0).grade(ONE)
    assert f"at http://127.0.0.1:{port}/v1 " in str(caught.value)
    assert "hush" not in str(caught.value) and "hidden" not in str(caught.value)


def test_the_query_of_the_address_is_kept(server):
    assert Judge(f"{server.url}/?api-version=3", "m").grade(ONE) == [False]
    assert server.requests[0][0] == "/v1/chat/completions?api-version=3"


@pytest.mark.parametrize(
    "url",
    [
        *("", "localhost:8000", "file" + ":///etc/hostname", "ftp://x/v1", "http://"),
        *("http://x:99999/v1", "http://x:port/v1", "http://x:0/v1", "http://x:-1/v1"),
        *("http://[::1/v1", "http://a\nb/v1", " http://x/v1", "http://x/\u202e\x1b["),
    ],
)
def test_addresses_are_checked(url):
    with pytest.raises(UserError, match="is no http") as caught:
        Judge(url, "m")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "settings",
    [
        {"timeout": 0},
        {"timeout": float("nan")},
        {"retries": -1},
        {"concurrency": 0},
        {"max_tokens": 0},
    ],
)
def test_settings_are_checked(settings):
    with pytest.raises(UserError, match=str(*settings)):
        Judge("http://x/v1", "m", **settings)


@pytest.mark.parametrize("key", ["sk-\x00", "sk-\nX-Other: 1", "ключ"])
def test_impossible_keys_are_refused_and_not_told(server, monkeypatch, key):
    if "\x00" in key:
        monkeypatch.setattr(asking.os, "environ", {"OPENAI_API_KEY": key})
    else:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(UserError, match="OPENAI_API_KEY has characters") as caught:
        Judge(server.url, "m").grade(ONE)
    assert "sk-" not in str(caught.value) and server.requests == []


def test_a_wrong_proxy_is_one_line(server, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "nonsense://x")
    monkeypatch.setenv("HTTP_PROXY", "nonsense://x")
    assert "nonsense" in refusal(server.url)


def test_it_also_works_within_an_event_loop(server):
    async def notebook():
        return Judge(server.url, "m").grade([("q", "g", "g"), ("q", "g", "x")])

    assert asyncio.run(notebook()) == [True, False]


def test_one_failure_ends_the_batch_and_its_requests(server):
    server.script = [(401, "")]
    refusal(server.url, ONE * 50, concurrency=1)
    assert len(server.requests) == 1


# ---- servers that are none ------------------------------------------------------------------

GOOD = completion("yes").encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(GOOD) + GOOD


class Hostile(socketserver.ThreadingTCPServer):
    """Sends the parts that it is given, whatever it is asked, and closes the connection."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, parts, pause=0.0):
        super().__init__(("127.0.0.1", 0), Sender)
        self.parts, self.pause = parts, pause
        self.closing = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"

    def shutdown(self):
        self.closing.set()
        super().shutdown()


class Sender(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.settimeout(5)
        try:
            if self.server.parts is None:  # a reset
                linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
                self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                return
            self.request.recv(65_536)
            for part in self.server.parts:
                self.request.sendall(part)
                if self.server.closing.wait(self.server.pause):
                    return
        except OSError:
            pass


@pytest.fixture
def hostile(request):
    yield from serving(Hostile(*request.param))


def split(data):
    return [data[at : at + 1] for at in range(len(data))]


@pytest.mark.slow
@pytest.mark.parametrize(
    "hostile",
    [
        pytest.param((parts,), id=name)
        for name, parts in {
            "nothing": [],
            "a reset": None,
            "no HTTP": [b"SSH-2.0-OpenSSH_9.6\r\n"],
            "zeros": [bytes(1000)],
            "a bad version": [b"HTTP/9.9 200 OK\r\n\r\n"],
            "a bad status": [b"HTTP/1.1 TWO OK\r\n\r\n"],
            "no status": [b"HTTP/1.1\r\n\r\n"],
            "a huge status": [b"HTTP/1.1 99999999999 OK\r\n\r\n"],
            "a long status line": [b"HTTP/1.1 200 " + b"O" * 1_000_000],
            "a flood of headers": [HEAD, *[b"X-%d: y\r\n" % n for n in range(50_000)], b"\r\n"],
            "a long header": [HEAD + b"X: " + b"y" * 1_000_000 + b"\r\n\r\n"],
            "a header without a colon": [HEAD + b"nonsense\r\n\r\n"],
            "control characters": [HEAD + b"X\x1b[2J: \x00\r\n\r\n"],
            "a bad length": [HEAD + b"Content-Length: many\r\n\r\n" + GOOD],
            "a negative length": [HEAD + b"Content-Length: -5\r\n\r\n" + GOOD],
            "two lengths": [HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + GOOD],
            "a body cut off": [HEAD + b"Content-Length: 5000\r\n\r\n" + GOOD],
            "a bad chunk": [HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + GOOD],
            "a chunk cut off": [HEAD + b"Transfer-Encoding: chunked\r\n\r\nffff\r\n" + GOOD],
            "a huge chunk": [HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 99 + b"\r\n"],
            "an unknown coding": [HEAD + b"Transfer-Encoding: smoke\r\n\r\n" + GOOD],
            "an endless body": [HEAD + b"\r\n", *[b" " * 65_536] * 40],
            "a switch of protocols": [b"HTTP/1.1 101 Switching Protocols\r\n\r\n"],
        }.items()
    ],
    indirect=True,
)
def test_whatever_a_server_sends_is_told_in_one_line(hostile):
    refusal(hostile.url, timeout=20)


@pytest.mark.slow
@pytest.mark.parametrize(
    "hostile",
    [
        # Each would end in a verdict after ten seconds or more.
        pytest.param(([b"", *split(WHOLE)], 0.1), id="a reply that trickles"),
        pytest.param(([HEAD, *split(WHOLE[len(HEAD) :])], 0.1), id="a body that trickles"),
        pytest.param(([b"", WHOLE], 10.0), id="silence"),
        pytest.param(([b"HTTP/1.1 100 Continue\r\n\r\n"] * 100 + [WHOLE], 0.1), id="not yet"),
    ],
    indirect=True,
)
def test_one_deadline_holds_for_a_whole_request(hostile):
    assert "no complete reply within 0.3 s" in refusal(hostile.url, timeout=0.3)


@pytest.mark.parametrize("hostile", [([WHOLE],)], indirect=True, ids=["plain text"])
def test_no_tls_where_it_is_expected(hostile):
    refusal(hostile.url.replace("http:", "https:"), timeout=20)


@pytest.mark.parametrize("hostile", [([WHOLE],)], indirect=True, ids=["well"])
def test_the_servers_above_would_be_understood(hostile):
    assert Judge(hostile.url, "m").grade(ONE) == [True]


def test_a_reply_may_come_in_parts(server):
    parts = [{"type": "text", "text": "ye"}, {"type": "text", "text": "s"}]
    server.script = [(200, completion(parts)), (200, "\ufeff" + completion("no"))]
    assert Judge(server.url, "m").grade(ONE) + Judge(server.url, "m").grade(ONE) == [True, False]
    assert endpoint.MAX_REPLY_BYTES > 100_000
