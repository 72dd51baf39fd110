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
"""

__version__ = "0.1.0"
