"""What every test runs under: no network, no pop-up windows, no flaky deadlines."""

import os

# Before anything imports torch, transformers, tokenizers or matplotlib; subprocesses inherit it.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MPLBACKEND"] = "Agg"
if "PYTEST_XDIST_WORKER" in os.environ:  # the cores are taken by the other workers
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import ipaddress
import socket
from collections.abc import Iterator

import hypothesis
import pytest
from helpers import ARCHITECTURES, chat_tokenizer, save_model

from seal_env.config import InnerLoopConfig
from seal_env.engine.config import FinetuneConfig, LoraConfig
from seal_env.engine.learner import Learner
from seal_env.engine.loading import load_learner
from seal_env.presets import MODEL_PRESETS, ModelPreset

# A first example may load a model, so time says nothing; runs are the same every time.
hypothesis.settings.register_profile("seal-env", deadline=None, derandomize=True)
hypothesis.settings.load_profile("seal-env")


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Fails a connection to anywhere but this machine, so that no test can come to need one."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_local(address):
            raise OSError(f"tests use no network, and one wants to reach {address!r}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield


def _is_local(address: object) -> bool:
    host = str(address[0]) if isinstance(address, tuple) else str(address)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of small random models, by architecture."""
    root = tmp_path_factory.mktemp("models")
    return {kind: save_model(kind, root / kind) for kind in ARCHITECTURES}


@pytest.fixture(scope="session")
def llama(models: dict[str, str]) -> Learner:
    """The small random Llama, loaded."""
    return load_learner(models["llama"], device="cpu")


@pytest.fixture
def quick_tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short inner loop for the embedded model, where it is of no matter what it learns."""
    short = InnerLoopConfig(LoraConfig(4, 8.0), FinetuneConfig(5e-3, epochs=1, batch_size=8))
    monkeypatch.setitem(MODEL_PRESETS, "tiny", ModelPreset(short))


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs draw nothing: the pictures take longer than a short run."""
    for name in ("plot_styles", "plot_learning", "plot_comparison"):
        monkeypatch.setattr(f"seal_agents.runner.train.{name}", lambda *_: None)


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a small random model with a chat template."""
    return save_model("qwen2", tmp_path_factory.mktemp("models") / "chat", chat_tokenizer())


@pytest.fixture(scope="session", params=ARCHITECTURES)
def learner(request: pytest.FixtureRequest, models: dict[str, str]) -> Learner:
    """Each architecture in turn, loaded."""
    return load_learner(models[request.param], device="cpu")
