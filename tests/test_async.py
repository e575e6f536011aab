"""Gymnasium's own vector environments around `SelfEdit-v0`, in processes of their own."""

import json
import subprocess
import sys

import gymnasium as gym
import pytest
from helpers import INNER

SCRIPT = """
import json, sys
import gymnasium as gym, torch, seal_env
from helpers import INNER
from seal_env.tasks import Problem, Question

torch.set_num_threads(2)
torch.ones(1 << 18).exp().sum()  # now there are threads that a forked process does not have
settings = dict(model=sys.argv[1], inner=INNER, reward="log_likelihood")
odd = "Ada Cho\\ud800 was born\\tin Malm\\xf6.\\x00 \\U0010ffff"
problem = Problem("odd", "Ada", odd, (Question("Where?", "Oslo"),))
found = []
for mode, kwargs in (("sync", {}), ("async", {}), ("async", {"shared_memory": False})):
    envs = gym.make_vec("SelfEdit-v0", 2, mode, vector_kwargs=kwargs, **settings)
    seen, _ = envs.reset(seed=[1, 2], options={"problems": problem})
    rewards = envs.step(("Edda works.", "\\ud800"))[1].tolist()
    again, _ = envs.reset(seed=[1, 2])
    found.append([seen["context"], seen["model_state"].tolist(), rewards, again["context"]])
    envs.close()
print(json.dumps([[one == found[0] for one in found], found[0][0], torch.get_num_threads()]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_processes_give_what_one_process_gives(models, kind, pytestconfig):
    run = [sys.executable, "-c", SCRIPT, models[kind]]
    tests = pytestconfig.rootpath / "tests"
    done = subprocess.run(run, cwd=tests, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    equal, contexts, threads = json.loads(done.stdout.splitlines()[-1])
    assert equal == [True] * 3
    assert contexts[0] == contexts[1] and "\ud800" in contexts[0] and "\U0010ffff" in contexts[0]
    assert threads == 2


def test_wrappers_of_the_single_environments_are_taken(models):
    settings = {"model": models["llama"], "inner": INNER, "reward": "log_likelihood"}
    wrappers = [lambda env: gym.wrappers.TransformReward(env, lambda reward: 2 * reward)]
    both = [
        gym.make_vec("SelfEdit-v0", 2, "sync", wrappers=some, **settings) for some in ([], wrappers)
    ]
    rewards = []
    for envs in both:
        envs.reset(seed=[1, 2])
        rewards.append(envs.step(["Ada.", "Bo."])[1])
    assert (rewards[1] == 2 * rewards[0]).all()
