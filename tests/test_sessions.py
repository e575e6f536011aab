"""Sessions: concurrent episodes in shared passes, each as `SelfEditEnv` would carry it out."""

import asyncio
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers import INNER

from seal_env.batcher import BatcherConfig
from seal_env.config import EnvConfig
from seal_env.env import SelfEditEnv
from seal_env.errors import UserError
from seal_env.sessions import NoEpisodeError, Sessions
from seal_env.tasks.biographies.task import Biographies
from seal_env.testing import identity
from seal_env.vector import SelfEditVectorEnv

EDIT = "Ada Cho was born in Oslo.\nThe pet of Ada Cho is a goat."
TEXTS = [EDIT, "", "x", "---", "\ud800 Oslo", "Question: Where?\nAnswer: Oslo", None]


UNLUCKY = Biographies().problem("train", 3).title


class Moody:
    """Reward term that fails for one person, when all else of a pass is done."""

    def __call__(self, measured):
        if UNLUCKY in measured.questions[0].text:
            raise ConnectionError(UNLUCKY)
        return measured.after.log_likelihood


@pytest.fixture
def settings(models):
    return {"model": models["llama"], "inner": INNER, "reward": "accuracy + log_likelihood"}


@pytest.mark.slow
def test_500_requests_of_32_threads_get_the_bits_of_the_vector_environment(models):
    settings = identity(model=models["llama"], edit="training-data", reward="log_likelihood")
    cases = [(p, text, seed) for p in (3, 4) for text in TEXTS[:6] for seed in (0, 1)]
    envs = SelfEditVectorEnv(len(cases), **settings)
    problems, texts, seeds = (list(column) for column in zip(*cases, strict=True))
    envs.reset(seed=seeds, options={"problems": problems})
    rewards = dict(zip(cases, envs.step(texts)[1].tolist(), strict=True))
    requests = random.Random(0).choices(cases, k=500)
    start = threading.Barrier(32)

    def ask(share):
        start.wait()
        return [sessions.one_step(*case).reward for case in share]

    with (
        Sessions(EnvConfig(**settings), BatcherConfig(max_batch=48)) as sessions,
        ThreadPoolExecutor(32) as threads,
    ):
        shares = [requests[i::32] for i in range(32)]
        replies = list(threads.map(ask, shares))
        sizes = sessions.batcher.metrics().batch_sizes
    assert sum(size * count for size, count in sizes.items()) == 500 and max(sizes) > 8
    assert len(set(rewards.values())) > 4
    for share, got in zip(shares, replies, strict=True):
        assert got == [rewards[case] for case in share]


@pytest.mark.slow
def test_a_session_is_an_environment_without_numbers(settings):
    env = SelfEditEnv(horizon=2, **settings)
    with Sessions(EnvConfig(horizon=2, **settings)) as sessions:
        session = sessions.open()
        for seed, problems in ((3, None), (None, None), (4, [5, 6])):
            options = None if problems is None else {"problems": problems}
            seen, info = env.reset(seed=seed, options=options)
            assert session.reset(seed, problems) == (seen["context"], info)
            for text in (EDIT, None):
                seen, reward, terminated, _, info = env.step(text)
                context, step = session.step(text)
                assert (context, step.reward, step.terminated) == (
                    seen["context"],
                    reward,
                    terminated,
                )
                assert step.info == info


def test_coroutines_of_any_event_loop_share_passes(settings):
    with Sessions(EnvConfig(**settings), BatcherConfig(max_wait=30, max_batch=3)) as sessions:

        async def ask(texts):
            steps = await asyncio.gather(*(sessions.one_step_async(7, t, seed=3) for t in texts))
            return {text: step.reward for text, step in zip(texts, steps, strict=True)}

        assert asyncio.run(ask([EDIT, "x", ""])) == asyncio.run(ask(["", EDIT, "x"]))
        assert sessions.batcher.metrics().batch_sizes == {3: 2}


@pytest.mark.slow
def test_a_failed_step_touches_no_other_session_and_leaves_its_own_episode(settings):
    config = EnvConfig(**settings | {"reward": "test_sessions:Moody", "horizon": 2})
    with Sessions(config, BatcherConfig(max_batch=3, max_wait=0.2)) as sessions:
        calm, moody, third = (sessions.open() for _ in range(3))
        calm.reset(0, [2, 4])
        moody.reset(0, [3, 4])
        third.reset(0, [4, 3])
        before = moody.context
        with ThreadPoolExecutor(3) as threads:
            one, two, three = (threads.submit(s.step, EDIT) for s in (calm, moody, third))
            with pytest.raises(ConnectionError):
                two.result()
            assert not one.result()[1].terminated and not three.result()[1].terminated
        assert moody.context == before and moody.episode.step == 0
        assert calm.step(EDIT)[1].terminated
        with pytest.raises(ConnectionError):
            third.step(EDIT)
        assert third.episode.step == 1


def test_mistakes_are_one_line(settings):
    with Sessions(EnvConfig(**settings)) as sessions:
        session = sessions.open()
        with pytest.raises(NoEpisodeError, match="reset before the first step"):
            session.step("x")
        with pytest.raises(UserError, match="horizon is 1"):
            session.reset(0, [1, 2])
        session.reset(0, 1)
        with pytest.raises(UserError, match="must be a str, not int"):
            session.step(3)
        assert session.step("x")[1].terminated
        with pytest.raises(NoEpisodeError, match="the episode is over"):
            session.step("x")
