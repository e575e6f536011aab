"""An agent of one's own: a bandit that finds out which kind of self-edit teaches the most."""

import json
from random import Random

from seal_agents import Agent

KINDS = {
    "nothing to add": lambda passage: "",
    "sentence by sentence": lambda passage: passage.replace(". ", ".\n"),
    "three times over": lambda passage: "\n".join([passage.replace(". ", ".\n")] * 3),
}


class Bandit(Agent):
    """Explores until it has learned something, then mostly writes what paid best."""

    def __init__(self, context):
        super().__init__(context)
        self.rewards = {kind: [] for kind in KINDS}

    def act(self, observations, seeds):
        return [
            KINDS[self.choose(Random(s))](o["context"])
            for o, s in zip(observations, seeds, strict=True)
        ]

    def choose(self, random):
        if random.random() < 0.2 or not any(self.rewards.values()):
            return random.choice(list(KINDS))
        return max(KINDS, key=lambda kind: self.mean(kind))

    def mean(self, kind):
        return sum(self.rewards[kind]) / max(1, len(self.rewards[kind]))

    def learn(self, experiences):
        for e in experiences:
            for kind, write in KINDS.items():
                if e.text == write(e.observation["context"]):
                    self.rewards[kind].append(e.reward)
        return {kind: self.mean(kind) for kind in KINDS}

    def save(self, folder):
        (folder / "rewards.json").write_text(json.dumps(self.rewards))

    def load(self, folder):
        self.rewards = json.loads((folder / "rewards.json").read_text())


if __name__ == "__main__":
    from seal_agents.cli import main

    sizes = "--rounds 2 --problems 4 --samples 4 --test-problems 4"
    main(f"train --agent own_agent:Bandit {sizes} --out runs/bandit --overwrite".split())
