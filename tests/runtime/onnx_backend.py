"""The ONNX package's backend node tests, run through `runtime.load`.

`python -m tests.runtime.onnx_backend` writes `onnx_backend_cases.json` anew: what passes, and why the others do not.
"""

import json
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
from onnx.backend.test import loader

import runtime
from lhc_ref.errors import ModelFileError

LIST = Path(__file__).with_name("onnx_backend_cases.json")
CLAIMED = """
Add AveragePool BatchNormalization Clip Concat Constant Conv ConvTranspose DepthToSpace Div Dropout Expand Flatten
Gather Gemm GlobalAveragePool GlobalMaxPool HardSigmoid HardSwish Identity LeakyRelu MatMul Max MaxPool Min Mul Neg
PRelu Pad Pow Reciprocal ReduceMax ReduceMean ReduceMin ReduceSum Relu Reshape Resize Sigmoid Slice Softmax SpaceToDepth
Split Squeeze Sub Sum Swish Tanh Transpose Unsqueeze Upsample
""".split()
# What the importer says of a case that it refuses, or why it computes other numbers -> why it is not claimed.
REASONS = {
    "an input of 5 axes, where": "windows over three axes: images and rows have two and one",
    "training mode": "training",
    "indices as a second output": "places of maxima: numbers are float32 here",
    "a mask as a second output": "what a dropout dropped: nothing, in inference",
    "that is constant": "a graph that computes nothing",
    "no numbers at all": "an array of size 0",
    "other inputs than data and one number": "Max and Min of several tensors",
    "where 1 or 2 is possible": "Pow with an exponent that is no product",
}
FRACTION = (
    "aligned corners of a length that is no whole number"  # PyTorch and onnxruntime align those of the pixels made
)
REASONS[FRACTION] = "the case aligns the last corner with a place behind the last pixel"
DIFFERENT = {f"test_resize_downsample_scales_{mode}_align_corners": FRACTION for mode in ("linear", "cubic")}


def cases():
    """The cases of one claimed operator whose real numbers are float32, in and out, by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package's own cases divide by zero on purpose
        loaded = loader.load_model_tests(kind="node")
    found = {}
    for case in loaded:
        kinds = {node.op_type for node in case.model.graph.node}
        if len(kinds) == 1 and kinds <= set(CLAIMED) and _is_float32(*case.data_sets[0]):
            found[case.name] = case
    return found


def _is_float32(given, wanted):
    """Whether all real numbers among arrays are float32, and some are made of real ones or of nothing."""
    if not all(isinstance(array, np.ndarray | np.generic) for array in (*given, *wanted)):
        return False  # lists of arrays
    read, made = ({array.dtype for array in arrays if array.dtype.kind not in "iub"} for arrays in (given, wanted))
    return made == {np.dtype(np.float32)} and (read == made or not given)


def run(case, folder):
    """Raise unless the case passes: with its float32 inputs as data, or else all but the first as constants."""
    path, (given, wanted) = Path(folder) / "case.onnx", case.data_sets[0]
    onnx.save(case.model, path)
    arrays = {item.name: np.asarray(array) for item, array in zip(case.model.graph.input, given, strict=True)}
    integers = {name: array for name, array in arrays.items() if array.dtype != np.float32}
    try:
        model = runtime.load(path, constants=integers)
    except ModelFileError:
        model = runtime.load(path, constants=dict(list(arrays.items())[1:]))
    got = model.run({name: arrays[name] for name in model.views[0]})
    names = [item.name for item in case.model.graph.output]
    made = got if isinstance(got, dict) else {names[0]: got}
    for name, want in zip(names, wanted, strict=True):
        assert made[name].shape == want.shape
        np.testing.assert_allclose(made[name], want, rtol=case.rtol, atol=case.atol)


def outcome(case, folder):
    """None where the case passes, or the key of REASONS for which it is refused, or computed otherwise."""
    try:
        run(case, folder)
    except ModelFileError as error:
        return next((key for key in REASONS if key in str(error)), str(error))
    except AssertionError:
        if case.name not in DIFFERENT:
            raise
        return DIFFERENT[case.name]
    return None


def main():
    with tempfile.TemporaryDirectory() as folder:
        outcomes = {name: outcome(case, folder) for name, case in cases().items()}
    listed = {"onnx": onnx.__version__, "passing": [n for n, why in outcomes.items() if why is None]}
    listed["unclaimed"] = {name: why for name, why in outcomes.items() if why is not None}
    LIST.write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
    print(f"{len(listed['passing'])} of {len(outcomes)} pass")


if __name__ == "__main__":
    main()
