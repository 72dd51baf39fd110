"""The reference for learnable heterogeneous convolution: differentiable NumPy, obvious before fast.

To read it, walk

1. `tape`: what was computed, and a table from each operator to its derivative;
2. `ops`, `conv`: operators, each beside its vector-Jacobian product;
3. `mask`: which weights of a kernel exist; `handmade`: other convolutions, stated as masks;
4. `layers`, `blocks`, `nets`: operators with their weights;
5. `regularizer`, `schedule`, `training`: how masks and weights are learned; `runs`: in a folder, with checkpoints.

Beside that way lie `models` (nets by name), `related` (other systems of the kind), `inspect` (counts and probes),
`check` (is a layer of yours right?), `gradcheck` (is a derivative right?), and `modelfile`, `export`, `evaluate`
(files for the runtime, and what they compute).

The names below can be had from here: `from lhc_ref import Tape, apply, conv2d, LhcConv2d`.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "tape": "Tape apply define_vjp",
    "conv": "conv2d",
    "mask": "PATTERNS lhc_mask",
    "layers": "BatchNorm Conv2d Dense LhcConv2d Operator Pass",
    "blocks": "Concat Residual Sequential",
    "nets": "Net",
    "models": "MODELS make_net",
    "regularizer": "density_penalty",
    "optim": "SGD",
    "gradcheck": "check_vjp",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}
__all__ = [*_HOME_OF]


def __getattr__(name: str) -> Any:
    """Load a name at its first use: the runtime, which needs the model file alone, loads no operator."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'lhc_ref' has no attribute {name!r}")
    return getattr(importlib.import_module(f"lhc_ref.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
