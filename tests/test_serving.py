"""`seal-env serve`: OpenEnv's server, client and layout around sessions in shared passes."""

import asyncio
import importlib
import json
import sys
import threading

import pytest
import uvicorn
from openenv.cli._validation import validate_multi_mode_deployment, validate_running_environment
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect
from typer.testing import CliRunner
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect as websocket

from seal_agents.cli import main
from seal_env.batcher import BatcherConfig
from seal_env.config import EnvConfig
from seal_env.env import SelfEditEnv
from seal_env.errors import UserError
from seal_env.serving.app import TOKEN, create_app, serve
from seal_env.serving.client import SelfEditClient
from seal_env.serving.limits import BadRequestError, Guard, ServeLimits, check_json
from seal_env.serving.models import SelfEditAction
from seal_env.serving.space import read_settings, write_space
from seal_env.sessions import Sessions
from seal_env.testing import identity

HOST = "127.0.0.1:8000"


@pytest.fixture
def settings(models):
    return identity(2, 2, model=models["llama"])


@pytest.fixture
def browse(settings):
    """Makes clients of an application, without a network."""
    opened = []

    def build(limits=None, token=None, batching=None, **changes):
        sessions = Sessions(EnvConfig(**settings | changes), batching or BatcherConfig(max_wait=0))
        app = create_app(sessions, limits or ServeLimits(), token)
        client = TestClient(app, f"http://{HOST}", raise_server_exceptions=False)
        client.__enter__()
        opened.extend([client.__exit__, lambda *_: sessions.close()])
        return client

    yield build
    for close in opened:
        close(None, None, None)


def talk(socket, kind, **data):
    socket.send_text(json.dumps({"type": kind, "data": data}))
    return json.loads(socket.receive_text())


def connect(client, **headers):
    return client.websocket_connect(f"ws://{HOST}/ws", headers=headers)


# Over a network


@pytest.fixture
def seeded(settings):
    """An environment whose rewards depend on the seed, too."""
    return settings | {"reward": "log_likelihood"}


@pytest.fixture
def served(seeded, monkeypatch, capsys):
    """Address of a server that runs in a thread."""
    servers, began = [], threading.Event()

    class Server(uvicorn.Server):
        def run(self, sockets):
            servers.append(self)
            began.set()
            super().run(sockets)

    monkeypatch.setattr(uvicorn, "Server", Server)
    thread = threading.Thread(target=serve, args=(EnvConfig(**seeded),), kwargs={"port": 0})
    thread.start()
    assert began.wait(60)
    line = capsys.readouterr().out
    assert line.startswith("serving seal_env.testing:SayTheWord with ")
    yield line.split(" on ")[-1].partition(";")[0]
    servers[0].should_exit = True
    thread.join(60)
    assert not thread.is_alive()


@pytest.mark.slow
def test_clients_of_a_server_get_what_the_environment_gives(served, seeded):
    env = SelfEditEnv(**seeded)

    async def episode(problem):
        async with SelfEditClient(base_url=served) as client:
            first = await client.reset(seed=3, problem=problem)
            replies = []
            for text in (first.observation.context, "Nothing."):
                last = await client.step(SelfEditAction(text=text))
                state = await client.state()
                replies.append((last.reward, last.done, state.step_count, last.observation))
                await client.reset(seed=3, problem=problem)
            return first, replies

    async def episodes():
        return await asyncio.gather(*(episode(problem) for problem in range(8)))

    for problem, (first, replies) in enumerate(asyncio.run(episodes())):
        seen, info = env.reset(seed=3, options={"problems": problem})
        assert (first.observation.context, first.observation.metadata) == (seen["context"], info)
        for reward, done, count, observation in replies:
            env.reset(seed=3, options={"problems": problem})
            _, wanted, terminated, _, info = env.step(observation.metadata["text"])
            assert (reward, done, count) == (wanted, terminated, 1)
            assert observation.metadata == info
    with (
        websocket(f"{served.replace('http', 'ws')}/ws") as socket,
        pytest.raises(ConnectionClosedError) as closed,
    ):
        socket.send("x" * ((1 << 20) + 1))
        socket.recv(60)
    assert closed.value.rcvd.code == 1009
    report = validate_running_environment(served, timeout_s=60)
    assert report["passed"], report


# Without one


def test_a_session_is_an_episode_of_its_own(browse):
    client = browse()
    with connect(client) as one, connect(client) as two:
        context = talk(one, "reset", seed=0, problem=3)["data"]["observation"]["context"]
        talk(two, "reset", seed=0, problem=4)
        right, wrong = (talk(socket, "step", text=context)["data"] for socket in (one, two))
    assert (right["reward"], right["done"]) == (1.0, True)
    assert wrong["reward"] == 0.0 and "does not say" in wrong["metadata"]["error"]
    metrics = client.get("/metrics").json()
    assert (metrics["requests"], metrics["failed"], metrics["queue"]) == (2, 0, 0)


def test_problems_can_be_listed(browse):
    client = browse()
    assert client.get("/seal-env/splits").json() == [{"name": "train", "type": "train"}]
    ask = {"split": "train", "index": 3, "start": 3, "stop": 5}
    assert client.post("/seal-env/num_tasks", json=ask | {}).status_code == 422  # unknown fields
    assert client.post("/seal-env/num_tasks", json={"split": "train"}).json()["num_tasks"] is None
    one = client.post("/seal-env/task", json={"split": "train", "index": 3}).json()["task"]
    some = {"split": "train", "start": 3, "stop": 5}
    tasks = client.post("/seal-env/task_range", json=some).json()["tasks"]
    assert tasks[0] == one and [task["index"] for task in tasks] == [3, 4]
    assert len(client.post("/seal-env/tasks", json={"split": "train"}).json()["tasks"]) == 100
    assert "train" in client.post("/seal-env/num_tasks", json={"split": "x"}).json()["detail"]


HOSTILE = [
    b"{",
    b"[" * 100_000,
    b"[1]",
    b"null",
    b'"text"',
    b"\xff\xfe",
    b'{"action": {"text": 3}}',
    b'{"action": {"text": "x", "more": 1}}',
    b'{"action": {"text": "x"}, "timeout_s": -1}',
    b'{"action": {"text": "x"}, "timeout_s": 1e999}',
    b'{"action": {"text": "\\ud800"}}',
    b'{"action": [[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]}',
    b'{"action": {"text": "x"}}',
    b'{"seed": -1, "action": 3}',
    b'{"seed": NaN, "action": 3}',
    b'{"seed": ' + b"9" * 5000 + b', "action": 3}',
    b'{"problem": "x", "action": 3}',
    b'{"problem": -1, "action": 3}',
    b'{"problem": {"a": [true]}, "action": 3}',
    b'{"text": "' + b"x" * (1 << 20) + b'"}',
]


def test_hostile_bodies_are_refused_and_nothing_is_lost(browse):
    client = browse()
    with connect(client) as socket:
        context = talk(socket, "reset", seed=0, problem=3)["data"]["observation"]["context"]
        for body in HOSTILE:
            for path in ("/reset", "/step", "/mcp", "/seal-env/task", "/seal-env/tasks", "/none"):
                reply = client.post(path, content=body)
                assert reply.status_code < 500, (path, body[:60], reply.text)
                if path in ("/step", "/none"):
                    assert reply.status_code >= 400
            if len(body) < 1 << 20:
                socket.send_text(body.decode("latin-1"))
                reply = json.loads(socket.receive_text())
                assert reply["type"] == "error", body[:60]
        socket.send_bytes(b"{}")
        assert json.loads(socket.receive_text())["type"] == "error"
        assert talk(socket, "step", text=context)["data"]["reward"] == 1.0


def test_each_refusal_has_its_status(browse):
    client = browse()
    step = {"action": {"text": "x"}}
    assert client.post("/step", json=step).status_code == 409
    assert client.post("/reset", json={"problem": -1}).status_code == 422
    assert client.post("/reset", content=b"{").status_code == 400
    assert client.post("/reset", content=b"x" * (1 << 21)).status_code == 413
    assert client.get("/health", headers={"Origin": "http://evil.example"}).status_code == 403
    assert client.get("/health", headers={"Origin": f"http://{HOST}"}).status_code == 200
    assert client.get("/health", headers={"Host": "evil.example"}).status_code == 400
    with pytest.raises(WebSocketDisconnect), connect(client, Origin="http://evil.example"):
        pass
    with pytest.raises(WebSocketDenialResponse):
        client.websocket_connect("ws://evil.example/ws").__enter__()


def test_a_token_opens_the_server(browse):
    client = browse(token="secret")
    right, wrong = {"Authorization": "Bearer secret"}, {"Authorization": b"Bearer \xff"}
    assert client.get("/health").status_code == 200
    for headers, status in ((right, 200), (wrong, 401), ({}, 401)):
        assert client.get("/metadata", headers=headers).status_code == status
    with connect(client, **right) as socket:
        assert talk(socket, "reset", seed=0)["type"] == "observation"
    with pytest.raises(WebSocketDisconnect), connect(client):
        pass


def test_one_session_too_many_is_refused_and_a_closed_one_makes_room(browse):
    client = browse(ServeLimits(max_sessions=2))
    with connect(client) as one:
        talk(one, "reset", seed=0)
        with connect(client) as two:
            talk(two, "reset", seed=0)
            with connect(client) as three:
                reply = json.loads(three.receive_text())
                assert reply["data"]["code"] == "CAPACITY_REACHED"
            two.send_text('{"type": "close"}')
            with pytest.raises(WebSocketDisconnect):
                two.receive_text()
        with connect(client) as three:
            assert talk(three, "reset", seed=0)["type"] == "observation"


def test_an_idle_session_is_closed(browse):
    client = browse(ServeLimits(idle_seconds=0.2))
    with connect(client) as socket:
        talk(socket, "reset", seed=0)
        with pytest.raises(WebSocketDisconnect):
            socket.receive_text()


def test_a_slow_body_is_given_up():
    async def never():
        await asyncio.Event().wait()

    sent = []

    async def send(message):
        sent.append(message)

    guard = Guard(None, ServeLimits(idle_seconds=0.01), None)
    scope = {"type": "http", "path": "/reset", "headers": []}
    asyncio.run(guard(scope, never, send))
    assert sent[0]["status"] == 408


@pytest.mark.parametrize("frame", ['{"type": "reset", "data": {}}', "{", '{"type": "close"}'])
def test_an_answer_to_a_client_that_has_left_is_dropped(browse, frame):
    """Servers raise what `send` raises here, and print what the application then raises."""
    client = browse()
    frames, sent = [], []

    async def receive():
        return frames.pop(0) if frames else {"type": "websocket.disconnect", "code": 1006}

    async def send(message):
        sent.append(message["type"])
        if len(sent) > 1:
            raise OSError("the client has left")

    scope = {
        "type": "websocket", "raw_path": b"/", "query_string": b"", "scheme": "ws",
        "headers": [(b"host", HOST.encode())], "subprotocols": [], "client": None, "server": None,
        "root_path": "", "asgi": {"version": "3.0"}, "extensions": {},
    }  # fmt: skip
    for path in ("/ws", "/mcp"):
        frames[:] = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": frame}]
        sent.clear()
        asyncio.run(client.app(scope | {"path": path}, receive, send))
        assert sent[0] == "websocket.accept" and len(sent) == 2


def test_a_step_that_is_too_slow_leaves_the_episode(browse):
    client = browse(batching=BatcherConfig(max_wait=30, max_batch=2, timeout=0.05))
    with connect(client) as one, connect(client) as two:
        for socket in (one, two):
            context = talk(socket, "reset", seed=0, problem=3)["data"]["observation"]["context"]
        assert talk(one, "step", text=context)["type"] == "error"
        one.send_text('{"type": "state"}')
        assert json.loads(one.receive_text())["data"]["step_count"] == 0


def test_nesting_is_counted_outside_of_strings():
    assert check_json(json.dumps({"text": "[" * 1000}).encode()) == {"text": "[" * 1000}
    with pytest.raises(BadRequestError, match="nested"):
        check_json(b"[" * 17 + b"]" * 17)
    check_json(b"[" * 16 + b"]" * 16)


@pytest.mark.parametrize("name", ["max_body", "max_sessions", "idle_seconds"])
def test_limits_are_checked(name):
    with pytest.raises(UserError, match=name):
        ServeLimits(**{name: 0})


# The command line and the layout


def refused(capsys, *arguments):
    with pytest.raises(SystemExit):
        main(["serve", *arguments])
    return capsys.readouterr().err


def test_other_addresses_need_a_token(capsys, monkeypatch, settings):
    monkeypatch.delenv(TOKEN, raising=False)
    assert TOKEN in refused(capsys, "--host", "0.0.0.0")
    assert "--port 70000" in refused(capsys, "--port", "70000")
    assert "max_body" in refused(capsys, "--limits.max-body", "0")


@pytest.mark.slow
def test_the_layout_passes_openenvs_validation(tmp_path, capsys, settings):
    from openenv.cli.__main__ import app as openenv

    folder = tmp_path / "space"
    main(["serve", "--layout", str(folder), "--horizon", "2", "--task", settings["task"]])
    checked = ["validate", str(folder), "--level", "static", "--skip-build", "--json"]
    result = CliRunner().invoke(openenv, checked)
    report = json.loads(result.stdout)
    assert result.exit_code == 0 and report["verdict"] == "pass", report
    _, issues = validate_multi_mode_deployment(folder)
    assert issues == ["Missing uv.lock - run 'uv lock' to generate it"]
    config = read_settings(folder)
    assert (config.horizon, config.task) == (2, settings["task"])
    assert not any("@" in path.read_text() for path in folder.rglob("*.*") if path.is_file())
    capsys.readouterr()
    assert "is there already" in refused(capsys, "--layout", str(folder))


def test_the_layouts_application_serves_its_settings(tmp_path, settings, monkeypatch):
    folder = tmp_path / "space"
    write_space(folder, EnvConfig(**settings))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delenv(TOKEN, raising=False)
    with pytest.raises(UserError, match=TOKEN):
        importlib.import_module("server.app")
    monkeypatch.setenv(TOKEN, "secret")
    app = importlib.import_module("server.app").app
    with TestClient(app, headers={"Authorization": "Bearer secret"}) as client:
        assert "SayTheWord" in client.get("/metadata").json()["description"]
    assert importlib.import_module("client").SelfEditClient is SelfEditClient
    for name in ("server", "server.app", "client"):
        del sys.modules[name]


def test_broken_settings_of_a_layout_are_one_line(tmp_path):
    with pytest.raises(UserError, match=r"seal_env\.json: cannot be read"):
        read_settings(tmp_path)
    (tmp_path / "seal_env.json").write_text('{"horizons": 2}')
    with pytest.raises(UserError, match="horizons"):
        read_settings(tmp_path)
