"""Agents: algorithms that train a policy against SelfEdit-v0. One file an agent."""

from seal_agents.base import Agent, AgentContext, Experience
from seal_env.registry import Registry

AGENTS = Registry(
    "agent",
    {
        "none": "seal_agents.fixed:Nothing",
        "passage": "seal_agents.fixed:Passage",
        "always": "seal_agents.fixed:Always",
        "edits": "seal_agents.fixed:Edits",
        "base": "seal_agents.prompted:Prompted",
        "rest-em": "seal_agents.rest_em:RestEM",
        "grpo": "seal_agents.grpo:GRPO",
        "rloo": "seal_agents.grpo:RLOO",
        "best-of-n": "seal_agents.best_of_n:BestOfN",
        "self-rewarding": "seal_agents.self_rewarding:SelfRewarding",
        "ppo": "seal_agents.ppo:ProximalPolicy",
        "ppo-choices": "seal_agents.ppo_choices:PPOChoices",
    },
    extra="agents",
)

__all__ = ["AGENTS", "Agent", "AgentContext", "Experience"]
