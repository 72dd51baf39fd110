"""Systems related to LHC, each in plain NumPy with its derivatives: what it is compared with, and what inspired it.

| module | what it computes |
|---|---|
| `csg` | kernels generated from codes by one matrix for the whole net |
| `lean` | a stencil in groups plus a full 1x1 |
| `circulant` | circulant coupling of the channels, explicit and by FFT |
| `steps`, `implicit`, `fourier` | steps of a differential equation: parabolic, diffusion-reaction, implicit-explicit |
| `nm` | N:M sparsity with SR-STE |
| `involution`, `xsepconv`, `binary` | other operators in place of a convolution |
| `pruning` | channel pruning by LASSO and least squares |
| `adam`, `xrda` | optimizers |
| `ham`, `huffman` | compressed storage of a weight matrix |
| `layers` | layers of nets: HetConv, N:M, CSG, lean |
"""
