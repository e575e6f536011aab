"""Probes: what a reward term has measured of a learner beside its score, one file each."""

from seal_env.probes.base import Probe, ProbeContext, Probed, Subject

__all__ = ["Probe", "ProbeContext", "Probed", "Subject"]
