"""lhc's sparse-weight CNN runtime: plan once, run many.

    import runtime
    model = runtime.load("net.lhc")
    y = model.run(x, threads=2)        # x: float32[n, h, w, c]
    print(model.explain())

Importing it compiles nothing; the first run does, and keeps what it compiled on disk.
"""

from runtime.explain import Explanation
from runtime.kernel_cache import keep_kernels_in
from runtime.loading import load
from runtime.model import Model
from runtime.profile import LayerTime, Profile

__all__ = ["Explanation", "LayerTime", "Model", "Profile", "keep_kernels_in", "load"]
