"""Agents: algorithms that train a policy against SelfEdit-v0. One file an agent."""

from seal_agents.base import Agent, AgentContext, Experience
from seal_env.registry import Registry

AGENTS = Registry(
    "agent",
    {
        "none": "seal_agents.fixed:Nothing",
        "passage": "seal_agents.fixed:Passage",
        "edits": "seal_agents.fixed:Edits",
        "base": "seal_agents.prompted:Prompted",
        "rest-em": "seal_agents.rest_em:RestEM",
    },
)

__all__ = ["AGENTS", "Agent", "AgentContext", "Experience"]
