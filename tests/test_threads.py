"""Environments that share one model, each in a thread of its own: what each gives alone."""

import copy
import pickle
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from helpers import ARCHITECTURES, INNER, random_ids, scrambled_bank

from seal_env.engine import loading
from seal_env.engine.generation import generate
from seal_env.engine.learner import Learner
from seal_env.engine.loading import load_learner
from seal_env.engine.sampling import Sampling
from seal_env.engine.threads import Turns
from seal_env.env import SelfEditEnv

TEXTS = [
    "Ada Cho was born in Oslo.\nThe pet of Ada Cho is a goat.",
    "Bo plays the flute.\n" * 3,
    "Question: Where?\nAnswer: Oslo",
    "",
]
CHANGES = ["scale {} by 1.5", "set {}[0, 0] to 2", "add 0.5 to {} row 1", "scale {} by -1"]
ROUNDS = 3
LANGUAGES = ("training-data", "weights", "subspace")


@pytest.fixture
def switching():
    """Threads take turns every 0.1 ms instead of every 5 ms, so that they meet everywhere.

    Each has one of torch's threads: those of several would wait for each other.
    """
    before, threads = sys.getswitchinterval(), torch.get_num_threads()
    sys.setswitchinterval(1e-4)
    torch.set_num_threads(1)
    yield
    sys.setswitchinterval(before)
    torch.set_num_threads(threads)


def together(jobs):
    """What jobs return that begin at the same moment, each in a thread of its own."""
    barrier = Barrier(len(jobs))

    def work(job):
        barrier.wait()
        return job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result() for future in [pool.submit(work, job) for job in jobs]]


def actions(language, env):
    if language == "training-data":
        return TEXTS
    if language == "weights":
        names = [t.name for t in env.episodes.loop.context.targets]
        return [line.format(names[i % len(names)]) for i, line in enumerate(CHANGES)]
    return [env.action_space.sample() for _ in range(4)]


def same(one, other):
    (seen, *rest), (seen2, *rest2) = one, other
    equal = seen["context"] == seen2["context"]
    return equal and (seen["model_state"] == seen2["model_state"]).all() and rest == rest2


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_each_environment_gives_what_it_gives_alone(models, kind, language, switching):
    def make():
        return SelfEditEnv(model=models[kind], inner=INNER, reward="log_likelihood", edit=language)

    def play(index, text):
        env = make()
        env.reset(seed=3, options={"problems": index})
        return env.step(text)

    texts = actions(language, make())
    alone = [play(i, text) for i, text in enumerate(texts)]
    assert len({result[1] for result in alone}) > 1
    for _ in range(ROUNDS):
        found = together([lambda i=i, t=t: play(i, t) for i, t in enumerate(texts)])
        assert all(same(a, b) for a, b in zip(found, alone, strict=True))


@pytest.mark.slow
def test_texts_are_written_beside_others_adapters(learner, switching):
    prompts = [random_ids(n, n) for n in (5, 9, 30)]
    bank = scrambled_bank(learner, 3)

    def write(adapters):
        owners = [0, 1, 2]
        return generate(learner, prompts, Sampling(12), owners, bank if adapters else None)

    jobs = [lambda i=i: write(i % 2) for i in range(4)]
    alone = [job() for job in jobs]
    assert alone[0] != alone[1]
    for _ in range(ROUNDS):
        assert together(jobs) == alone


def test_a_tokenizer_reads_for_each_thread_as_that_thread_asks(models, tmp_path, switching):
    folder = shutil.copytree(models["llama"], tmp_path / "chat")
    template = "{% for turn in messages %}<s> {{ turn['content'] }} </s>{% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    chatty = load_learner(str(folder), device="cpu")
    text = "Ada </s> Cho <s> was born in Oslo. " * 5
    jobs = [lambda: chatty.encode(text), lambda: chatty.encode_prompt(text, True)] * 2
    alone = [job() for job in jobs]
    assert alone[0] != alone[1]

    def often(job):
        return lambda: [job() for _ in range(200)]

    assert together([often(job) for job in jobs]) == [[a] * 200 for a in alone]


def test_a_model_is_loaded_once_and_copied_as_it_is(models, monkeypatch, switching):
    monkeypatch.setattr(loading, "_pool", type(loading._pool)())
    learners = together([lambda: load_learner(models["gpt2"], device="cpu")] * 4)
    assert all(one is learners[0] for one in learners)
    learner = learners[0]
    bank = scrambled_bank(learner, 1)
    text = random_ids(20, 1)

    def merge():
        return loading.merged_learner(learner, scrambled_bank(learner, 1))

    copies = together([merge, lambda: learner.score([[]], [text], [0], bank)] * 2)
    for merged in copies[::2]:
        assert not any("forward" in vars(module) for module in merged.model.modules())


def test_a_lock_is_copied_with_what_holds_it(models):
    env = SelfEditEnv(model=models["gpt2"], inner=INNER)
    turns = env.episodes.loop.learner.turns
    with turns:
        for twin in (copy.deepcopy(env), pickle.loads(pickle.dumps(env))):
            learner = twin.episodes.loop.learner
            assert isinstance(learner, Learner) and isinstance(learner.turns, Turns)
            assert learner.turns is not turns
            twin.reset(seed=1)
            (reward,) = together([lambda twin=twin: twin.step(TEXTS[0])[1]])
            assert torch.isfinite(torch.tensor(reward))
