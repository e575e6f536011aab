"""Resources of the workers on the nodes of a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Resources = Mapping[str, float]
"""Resources by Ray's names: ``CPU`` in cores, ``GPU`` in devices."""


def bundle(nodes: Sequence[Resources], count: int, gpus: bool) -> dict[str, float]:
    """Resources of each worker: one GPU, or an even share of the cores.

    Args:
        nodes: Resources of each node.
        count: Number of workers.
        gpus: Whether workers have a GPU each.
    """
    if gpus:
        with_gpus = [node for node in nodes if node.get("GPU", 0) >= 1]
        shares = [int(node.get("CPU", 0) // node["GPU"]) for node in with_gpus]
        return {"CPU": max(1, min(shares, default=1)), "GPU": 1}
    most = int(max((node.get("CPU", 0) for node in nodes), default=1))
    fitting = (cores for cores in range(most, 0, -1) if places(nodes, {"CPU": cores}) >= count)
    return {"CPU": next(fitting, 1)}


def places(nodes: Sequence[Resources], wanted: Resources) -> int:
    """Number of workers that fit on the nodes.

    Args:
        nodes: Resources of each node.
        wanted: Resources of each worker.
    """
    return sum(
        int(min(node.get(name, 0) // amount for name, amount in wanted.items())) for node in nodes
    )
