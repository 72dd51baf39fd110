"""A net with the weights that were missing, for engines and runs that are to compute them all."""

from dataclasses import replace

import numpy as np

from lhc_ref.modelfile import MaskedKernel, ModelSpec

FILL = np.float32(1e-3)  # Why not zero: an engine that looks for zeros must find none.


def dense_twin(spec: ModelSpec) -> ModelSpec:
    """The same net with small random numbers in the place of the missing weights."""
    rng, nodes = np.random.default_rng(1), []
    for node in spec.nodes:
        kernel = node.tensors.get("kernel")
        if isinstance(kernel, MaskedKernel):
            noise = rng.standard_normal(kernel.shape).astype(np.float32) * FILL
            full = np.where(kernel.expanded_mask(), kernel.dense(), noise)
            node = replace(node, tensors={**node.tensors, "kernel": full})
        nodes.append(node)
    return replace(spec, nodes=tuple(nodes))
