"""Runs: rounds of rollouts, and what is made of them."""
