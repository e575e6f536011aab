"""Critics: predictions of a self-edit's reward from its text, before anything is trained."""

from seal_env.critics.critic import Critic, load_critic

__all__ = ["Critic", "load_critic"]
