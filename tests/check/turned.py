"""The correct NumPy layer behind NCHW and OIHW."""

from tests.check import numpy_layer

NCHW, NHWC = (0, 3, 1, 2), (0, 2, 3, 1)


def layer(arrays, geometry):
    turned = dict(arrays)
    for name in ("x", "dy"):
        turned[name] = arrays[name].transpose(NHWC)
    for name in ("kernel", "scores"):
        turned[name] = arrays[name].transpose(2, 3, 1, 0)
    answer = numpy_layer.layer(turned, geometry)
    images = {name: answer[name].transpose(NCHW) for name in ("y", "dx")}
    kernels = {name: answer[name].transpose(3, 2, 0, 1) for name in ("mask", "dkernel", "dscores")}
    return {**answer, **images, **kernels}
