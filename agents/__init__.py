"""Agents: algorithms that train a policy against SelfEdit-v0. One file an agent."""

from seal_agents.base import Action, Agent, AgentContext, Experience
from seal_env.engine.sampling import Completion
from seal_env.registry import Registry

AGENTS = Registry(
    "agent",
    {
        "none": "seal_agents.algorithms.fixed:Nothing",
        "passage": "seal_agents.algorithms.fixed:Passage",
        "always": "seal_agents.algorithms.fixed:Always",
        "edits": "seal_agents.algorithms.fixed:Edits",
        "base": "seal_agents.algorithms.prompted:Prompted",
        "rest-em": "seal_agents.algorithms.rest_em:RestEM",
        "grpo": "seal_agents.algorithms.grpo:GRPO",
        "rloo": "seal_agents.algorithms.grpo:RLOO",
        "pooled": "seal_agents.algorithms.pooled:Pooled",
        "best-of-n": "seal_agents.algorithms.best_of_n:BestOfN",
        "self-rewarding": "seal_agents.algorithms.self_rewarding:SelfRewarding",
        "ppo": "seal_agents.algorithms.ppo:ProximalPolicy",
        "ppo-choices": "seal_agents.algorithms.ppo_choices:PPOChoices",
    },
    extra="agents",
)

__all__ = ["AGENTS", "Action", "Agent", "AgentContext", "Completion", "Experience"]
