"""Gradients that are written out have no gradients of their own: asking for those is an error."""

import importlib
import pkgutil

import numpy as np
import pytest
import torch
from torch.autograd import Function

import seal_agents
import seal_env


def own_functions():
    """All autograd functions of the packages."""
    for package in (seal_env, seal_agents):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            # Adapters need packages that cannot all be installed.
            left_out = module.name.endswith("__main__") or ".integrations." in module.name
            if not left_out and ".models." not in module.name:
                importlib.import_module(module.name)
    every, found = [Function], []
    while every:
        kinds = every.pop().__subclasses__()
        every += kinds
        found += [k for k in kinds if k.__module__.startswith(("seal_env", "seal_agents"))]
    return found


def test_every_backward_pass_is_marked():
    names = {kind.__name__ for kind in own_functions()}
    assert {"_DecoderLayer", "_Adapted", "_Attention", "_Losses", "_Hidden"} <= names
    for kind in own_functions():
        # What once_differentiable makes has the function that it wraps.
        assert hasattr(kind.backward, "__wrapped__"), kind


def test_a_second_derivative_is_refused(llama):
    hidden = torch.randn(6, llama.width, requires_grad=True)
    loss = llama.losses(hidden, np.arange(6), [5] * 6).square().sum()
    (slope,) = torch.autograd.grad(loss, hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="marked with @once_differentiable"):
        slope.square().sum().backward()
