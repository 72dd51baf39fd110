"""One lie, at least, for each place where a model file is refused: `LIES` has (code, what, make the file's bytes)."""

import json
import struct

import numpy as np

from lhc_ref.modelfile import MaskedKernel
from tests.modelfile_bytes import Parts, container

LIES = []


def lie(code, what=""):
    """Add a function that changes `Parts` in place, or returns bytes of its own."""

    def add(make):
        def make_bytes(file):
            parts = Parts.of(file)
            made = make(parts)
            return parts.bytes() if made is None else made

        LIES.append((code, what or make.__name__.strip("_"), make_bytes))
        return make

    return add


def set_at(code, what, path, value):
    """Add a lie that sets one field of the graph (path starts with a node's name or "graph") or of the entries."""

    @lie(code, what)
    def change(parts):
        start, *keys, last = path
        target = {"graph": parts.graph, "entries": parts.entries}.get(start) or parts.node(start)
        for key in keys:
            target = target[key]
        target[last] = value


def raw(code, what, make):
    """Add a lie that makes bytes from `Parts`."""
    lie(code, what)(make)


# --- The container ---------------------------------------------------------------------------------------------------

raw("too-short", "empty", lambda parts: b"")
raw("too-short", "7 bytes", lambda parts: parts.bytes()[:7])
raw("header-length", "header cut", lambda parts: parts.bytes()[:100])
raw("header-length", "absurd length", lambda parts: struct.pack("<Q", 2**64 - 1) + parts.bytes()[8:])
raw("header-limit", "header of 9 MiB", lambda parts: container(b"{" + b" " * 9 * 2**20, b""))
raw("header-start", "list", lambda parts: container("[]", b""))
raw("header-start", "empty header", lambda parts: container("", b""))
raw("json-encoding", "not UTF-8", lambda parts: container(b'{"\xff": 1}', b""))
raw("json-syntax", "cut JSON", lambda parts: container('{"a": ', b""))
raw("json-syntax", "integer of 5000 digits", lambda parts: container('{"a": ' + "9" * 5000 + "}", b""))
raw("json-depth", "100000 lists", lambda parts: container('{"a": ' + "[" * 100_000, b""))
raw("json-duplicate", "two of a tensor", lambda parts: container('{"a": 1, "b": 2, "a": 3}', b""))
raw("json-constant", "NaN in the header", lambda parts: container('{"a": NaN}', b""))
raw("no-graph", "no metadata", lambda parts: container(json.dumps(parts.entries), parts.data))
raw("no-graph", "other metadata", lambda parts: container('{"__metadata__": {"format": "pt"}}', b""))
raw("no-graph", "metadata is a list", lambda parts: container('{"__metadata__": []}', b""))
raw("field-type", "entry is a number", lambda parts: container(json.dumps({**parts.header(), "x": 1}), parts.data))
raw("json-syntax", "graph is no JSON", lambda parts: container('{"__metadata__": {"lhc_model": "{"}}', b""))
raw("json-encoding", "graph with a lone surrogate",
    lambda parts: container('{"__metadata__": {"lhc_model": "\\ud800"}}', b""))  # fmt: skip
raw("data-truncated", "last byte cut", lambda parts: parts.bytes()[:-1])
raw("data-left-over", "one byte more", lambda parts: parts.bytes() + b"\0")
BIAS, KERNEL = "classifier.bias", "classifier.kernel"
set_at("entry-dtype", "F64", ("entries", BIAS, "dtype"), "F64")
set_at("entry-dtype", "no text", ("entries", BIAS, "dtype"), ["F32"])
set_at("entry-rank", "no list", ("entries", BIAS, "shape"), 4)
set_at("entry-rank", "scalar", ("entries", BIAS, "shape"), [])
set_at("entry-rank", "100000 axes", ("entries", BIAS, "shape"), [2] * 100_000)
set_at("entry-dimension", "negative", ("entries", BIAS, "shape"), [-4])
set_at("entry-dimension", "true", ("entries", BIAS, "shape"), [True])
set_at("entry-dimension", "2**31", ("entries", BIAS, "shape"), [2**31])
set_at("entry-dimension", "thousand digits", ("entries", BIAS, "shape"), [10**1000])
set_at("entry-bytes", "absurd shape", ("entries", BIAS, "shape"), [2**30, 2**30, 2**30, 2**30])
set_at("entry-bytes", "one number more", ("entries", BIAS, "shape"), [5])
set_at("entry-bytes", "end before begin", ("entries", BIAS, "data_offsets"), [16, 0])
set_at("entry-offsets", "one number", ("entries", BIAS, "data_offsets"), [0])
set_at("entry-offsets", "negative", ("entries", BIAS, "data_offsets"), [-16, 0])
set_at("entry-offsets", "fractions", ("entries", BIAS, "data_offsets"), [0.0, 16.0])
set_at("entry-hole", "far away", ("entries", BIAS, "data_offsets"), [2**60, 2**60 + 16])
set_at("field-type", "entry is a list", ("entries", BIAS), [])


@lie("entry-overlap")
def _a_tensor_over_another(parts):
    begin, end = parts.entries[KERNEL]["data_offsets"]
    parts.entries[KERNEL]["data_offsets"] = [begin - 4, end - 4]


@lie("entry-hole")
def _a_hole_between_tensors(parts):
    for name in list(parts.entries)[1:]:
        parts.entries[name]["data_offsets"] = [at + 4 for at in parts.entries[name]["data_offsets"]]
    parts.data = parts.data[:16] + bytes(4) + parts.data[16:]


@lie("entry-order")
def _entries_in_another_order(parts):
    parts.entries = dict(sorted(parts.entries.items(), reverse=True))


# --- The fields of the graph -----------------------------------------------------------------------------------------

raw("field-type", "graph is a list", lambda parts: container('{"__metadata__": {"lhc_model": "[]"}}', b""))
raw("json-duplicate", "graph with a key twice",
    lambda parts: container('{"__metadata__": {"lhc_model": "{\\"op\\": 1, \\"op\\": 2}"}}', b""))  # fmt: skip
set_at("field-type", "nodes are a table", ("graph", "nodes"), {})
set_at("field-type", "a node is a text", ("graph", "nodes", 0), "conv2d")
set_at("field-type", "inputs of a node are a text", ("conv 1", "inputs"), "image")
set_at("field-type", "attributes are a list", ("conv 1", "attrs"), [])
set_at("field-type", "shape is a text", ("conv 1", "tensors", "kernel", "shape"), "3x3")
set_at("field-type", "a class is a number", ("graph", "classes"), [1, 2, 3, 4])
set_at("field-unknown", "in the graph", ("graph", "nodez"), [])
set_at("field-unknown", "in a node", ("conv 1", "attributes"), {})
set_at("field-unknown", "in a tensor", ("conv 1", "tensors", "kernel", "bits"), 1)
set_at("format-name", "another format", ("graph", "format"), "onnx")
set_at("version-text", "a number", ("graph", "version"), 1.0)
set_at("version-text", "three numbers", ("graph", "version"), "1.0.0")
set_at("version-text", "negative", ("graph", "version"), "-1.0")
set_at("version-major", "newer", ("graph", "version"), "2.0")
set_at("version-major", "older", ("graph", "version"), "0.9")
set_at("requires", "a feature", ("graph", "requires"), ["sparse_dense"])
set_at("layout", "unknown", ("conv 1", "tensors", "kernel", "layout"), "csr")
set_at("layout", "a list", ("conv 1", "tensors", "kernel", "layout"), [])
set_at("mask-claim", "of another kernel", ("conv 1", "tensors", "kernel", "shape"), [3, 3, 5, 12])


@lie("field-missing")
def _a_node_without_output(parts):
    del parts.node("conv 1")["output"]


@lie("field-missing", "input without shape")
def _input_without_shape(parts):
    del parts.graph["inputs"][0]["shape"]


@lie("tensor-missing")
def _a_tensor_that_is_not_there(parts):
    parts.graph["nodes"][1]["tensors"] = {"bias": {"layout": "dense"}}


@lie("tensor-unused")
def _a_tensor_that_nobody_uses(parts):
    parts.replace("spare", np.zeros(3, np.float32))


@lie("dense-dtype")
def _a_bias_of_bytes(parts):
    parts.replace(BIAS, np.zeros(4, np.uint8))


@lie("values-claim", "more values than weights")
def _more_values_than_weights(parts):
    parts.replace("conv 1.kernel.values", np.zeros(3 * 3 * 5 * 6 + 1, np.float32))


@lie("values-claim", "values in two axes")
def _values_in_two_axes(parts):
    parts.replace("conv 1.kernel.values", parts.array("conv 1.kernel.values")[None])


@lie("values-claim", "values as bytes")
def _values_as_bytes(parts):
    parts.replace("conv 1.kernel.values", np.zeros(72, np.uint8))


@lie("mask-claim", "mask as floats")
def _mask_as_floats(parts):
    parts.replace("conv 1.kernel.mask", np.zeros(7, np.float32))


@lie("mask-padding")
def _a_bit_after_the_last(parts):
    mask = parts.array("conv 1.kernel.mask")  # 54 bits
    mask[-1] |= 0x80
    parts.replace("conv 1.kernel.mask", mask)


@lie("mask-values", "a mask bit more")
def _a_mask_bit_more(parts):
    mask = parts.array("conv 1.kernel.mask")
    mask[0] |= 2
    parts.replace("conv 1.kernel.mask", mask)


@lie("mask-values", "a value less")
def _a_value_less(parts):
    parts.replace("conv 1.kernel.values", parts.array("conv 1.kernel.values")[1:])


@lie("mask-values", "other groups of the same mask size")
def _other_groups(parts):
    parts.node("conv 1")["tensors"]["kernel"]["group_out"] = 3


@lie("not-finite", "NaN in kept weights")
def _nan_in_kept_weights(parts):
    values = parts.array("conv 1.kernel.values")
    values[3] = np.nan
    parts.replace("conv 1.kernel.values", values)


@lie("not-finite", "infinity in a bias")
def _infinity_in_a_bias(parts):
    parts.replace(BIAS, np.full(4, -np.inf, np.float32))


# --- The graph -------------------------------------------------------------------------------------------------------

set_at("name", "empty", ("conv 1", "name"), "")
set_at("name", "a number", ("relu 1", "name"), 1)
set_at("name", "a control letter", ("relu 1", "output"), "a\x1b[31m")
set_at("name", "a lone surrogate", ("relu 1", "output"), "\ud800")
set_at("name", "a long one", ("relu 1", "output"), "a" * 257)
set_at("name", "input's", ("graph", "inputs", 0, "name"), None)
set_at("name", "class with a line end", ("graph", "classes", 0), "a\n")
set_at("shape-type", "two axes", ("graph", "inputs", 0, "shape"), [9, 8])
set_at("shape-type", "fractions", ("graph", "inputs", 0, "shape"), [9.0, 8.0, 5.0])
set_at("shape-type", "null", ("graph", "inputs", 0, "shape"), None)
set_at("shape-limit", "zero", ("graph", "inputs", 0, "shape"), [0, 8, 5])
set_at("shape-limit", "absurd", ("graph", "inputs", 0, "shape"), [2**20, 2**20, 5])
set_at("shape-limit", "hundred digits", ("graph", "inputs", 0, "shape"), [9, 10**100, 5])
set_at("input-count", "none", ("graph", "inputs"), [])
set_at("op-unknown", "newer", ("relu 1", "op"), "gelu")
set_at("op-unknown", "a list", ("relu 1", "op"), ["relu"])
set_at("arity", "add of one", ("sum", "inputs"), ["c"])
set_at("arity", "relu of none", ("relu 1", "inputs"), [])
set_at("attribute-unknown", "newer", ("conv 1", "attrs", "transposed"), False)
set_at("attribute-unknown", "of another operator", ("relu 1", "attrs"), {"stride": [1, 1]})
set_at("attribute-missing", "size of a pool", ("max", "attrs"), {"stride": [2, 2]})
set_at("attribute-value", "stride 0", ("conv 1", "attrs", "stride"), [0, 1])
set_at("attribute-value", "stride true", ("conv 1", "attrs", "stride"), [True, True])
set_at("attribute-value", "one stride", ("conv 1", "attrs", "stride"), [1])
set_at("attribute-value", "absurd stride", ("conv 1", "attrs", "stride"), [1, 10**30])
set_at("attribute-value", "unknown padding", ("conv 1", "attrs", "padding"), "reflect")
set_at("attribute-value", "padding of one number", ("conv 1", "attrs", "padding"), 1)
set_at("attribute-value", "padding of two", ("conv 1", "attrs", "padding"), [1, 1])
set_at("attribute-value", "negative padding", ("conv 1", "attrs", "padding"), [[-1, 0], [0, 0]])
set_at("attribute-value", "no groups", ("conv/2", "attrs", "groups"), 0)
set_at("attribute-value", "null", ("conv/2", "attrs", "groups"), None)
set_at("dangling", "unknown input", ("relu 1", "inputs"), ["nobody"])
set_at("cycle", "itself", ("relu 1", "inputs"), ["b"])
set_at("cycle", "around", ("relu 1", "inputs"), ["d"])
set_at("output-count", "none", ("graph", "outputs"), [])
set_at("output-count", "more than nodes", ("graph", "outputs"), ["flat"] * 11)
set_at("output-twice", "the same", ("graph", "outputs"), ["probabilities", "flat", "flat"])
set_at("output-unknown", "nobody's", ("graph", "outputs"), ["probabilities", "flat", "nobody"])
set_at("output-unknown", "an input", ("graph", "outputs"), ["probabilities", "flat", "image"])
set_at("node-unused", "flatten", ("graph", "outputs"), ["probabilities"])
set_at("input-unused", "second input", ("graph", "inputs"),
       [{"name": "image", "shape": [9, 8, 5]}, {"name": "mask", "shape": [1]}])  # fmt: skip
set_at("value-name-twice", "output as an input", ("relu 1", "output"), "image")
set_at("classes", "one less", ("graph", "classes"), ["a", "b", "c"])
set_at("preprocessing", "channels", ("graph", "preprocessing", "divide"), [1.0])
set_at("preprocessing", "by zero", ("graph", "preprocessing", "divide"), [1.0, 2.0, 0.0, 1.0, 1.0])
set_at("preprocessing", "overflow", ("graph", "preprocessing", "subtract"), [1.0, 2.0, 10**400, 1.0, 1.0])
set_at("preprocessing", "texts", ("graph", "preprocessing", "subtract"), "12345")
set_at("preprocessing", "unknown step", ("graph", "preprocessing", "gamma"), [1.0] * 5)
set_at("preprocessing", "a list", ("graph", "preprocessing"), [])
set_at("metadata", "numbers", ("graph", "metadata", "epoch"), 3)
set_at("metadata", "a list", ("graph", "metadata"), [])
set_at("metadata", "lone surrogate", ("graph", "metadata", "note"), "\udcff")
set_at("mask-groups", "zero", ("conv 1", "tensors", "kernel", "group_in"), 0)
set_at("mask-groups", "absurd", ("conv 1", "tensors", "kernel", "group_out"), 2**40)
set_at("kernel-dimensions", "three axes", ("conv 1", "tensors", "kernel", "shape"), [3, 3, 5])
set_at("kernel-dimensions", "zero", ("conv 1", "tensors", "kernel", "shape"), [3, 3, 0, 6])
set_at("kernel-dimensions", "absurd", ("conv 1", "tensors", "kernel", "shape"), [3, 3, 2**30, 2**30])
set_at("kernel-dimensions", "fraction", ("conv 1", "tensors", "kernel", "shape"), [3, 3, 5.0, 6])
set_at("kernel-shape", "other input channels", ("graph", "inputs", 0, "shape"), [9, 8, 4])
set_at("kernel-shape", "groups", ("conv/2", "attrs", "groups"), 3)
set_at("rank", "dense on an image", ("classifier", "inputs"), ["f"])
set_at("add-shapes", "before and after", ("sum", "inputs"), ["c", "b"])
set_at("window", "valid and too large", ("graph", "inputs", 0, "shape"), [1, 1, 5])
set_at("window", "absurd dilation", ("conv/2", "attrs", "dilation"), [1, 2**16])
set_at("pool-padding", "as large as the window", ("average", "attrs", "padding"), [[2, 0], [0, 0]])
set_at("activation-limit", "padding", ("conv/2", "attrs", "padding"), [[2**16, 2**16], [2**16, 2**16]])


@lie("no-node")
def _no_node_at_all(parts):
    parts.graph["nodes"], parts.entries, parts.data = [], {}, b""


@lie("node-count")
def _ten_thousand_nodes_and_one(parts):
    parts.graph["nodes"] += [{"op": "relu", "name": "r", "inputs": ["a"], "output": "r"}] * 10_001


@lie("node-name-twice")
def _two_nodes_of_one_name(parts):
    parts.node("relu 1")["name"] = "sum"


@lie("node-order")
def _a_node_before_its_input(parts):
    parts.graph["nodes"].insert(0, parts.graph["nodes"].pop(1))


@lie("role-missing")
def _a_convolution_without_kernel(parts):
    parts.node("conv 1")["tensors"] = {}
    parts.replace("conv 1.kernel.mask", None)
    parts.replace("conv 1.kernel.values", None)


@lie("role-unknown")
def _a_scale_in_a_convolution(parts):
    parts.node("conv 1")["tensors"]["scale"] = {"layout": "dense"}
    parts.replace("conv 1.scale", np.zeros(6, np.float32))


@lie("tensor-type")
def _a_masked_bias(parts):
    layout = {"layout": "masked", "shape": [1, 1, 1, 4], "group_in": 1, "group_out": 1}
    parts.node("classifier")["tensors"]["bias"] = layout
    parts.replace(f"{BIAS}.mask", np.full(1, 15, np.uint8))
    parts.replace(f"{BIAS}.values", np.zeros(4, np.float32))
    parts.replace(BIAS, None)


@lie("weights-limit")
def _two_kernels_of_two_to_the_thirty(parts):
    size = 2**15
    layout = {"layout": "masked", "shape": [1, 1, size, size], "group_in": size, "group_out": size}
    node = {"op": "conv2d", "attrs": {"padding": "same"}, "tensors": {"kernel": layout}}
    parts.entries, parts.data = {}, b""
    for name in ("one", "two"):
        parts.replace(f"{name}.kernel.mask", np.zeros(1, np.uint8))
        parts.replace(f"{name}.kernel.values", np.zeros(0, np.float32))
    parts.graph = {
        "format": "lhc-model",
        "version": "1.0",
        "inputs": [{"name": "x", "shape": [1, 1, size]}],
        "outputs": ["y"],
        "nodes": [
            {**node, "name": "one", "inputs": ["x"], "output": "a"},
            {**node, "name": "two", "inputs": ["a"], "output": "y"},
        ],
    }


@lie("dense-shape")
def _a_classifier_of_other_features(parts):
    parts.replace(KERNEL, np.zeros((5, 4), np.float32))


@lie("bias-shape")
def _a_bias_of_another_length(parts):
    parts.replace(BIAS, np.zeros(5, np.float32))


# --- Operators of format 1.1 and 1.2 ----------------------------------------------------------------------------------


def newer_lie(code, what, op, attrs=None, inputs=("image",), tensors=None):
    """The file with the node `relu 1` replaced by one of format 1.1 or 1.2."""

    @lie(code, f"{op} {what}")
    def change(parts):
        layouts = {role: {"layout": "dense"} for role in tensors or {}}
        node = {"op": op, "name": "relu 1", "inputs": list(inputs), "output": "b", "attrs": attrs or {}}
        parts.graph["nodes"][1] = {**node, "tensors": layouts}
        for role, array in (tensors or {}).items():
            parts.replace(f"relu 1.{role}", array)


newer_lie("clip-limits", "the wrong way round", "clip", {"low": 1, "high": 0}, ["a"])
newer_lie("attribute-value", "of infinity", "clip", {"low": "-inf", "high": 0}, ["a"])
newer_lie("attribute-value", "beyond float32", "clip", {"low": -1e39, "high": 0}, ["a"])
newer_lie("channel-vector", "of another length", "prelu", {}, ["a"], {"slope": np.zeros(5, np.float32)})
newer_lie("mul-shapes", "of two sizes", "mul", {}, ["a", "image"])
newer_lie("mul-shapes", "of two sizes", "div", {}, ["a", "image"])
newer_lie("arity", "of one", "concat", {}, ["a"])
newer_lie("arity", "of too many", "concat", {}, ["a"] * 65)
newer_lie("concat-shapes", "of two sizes", "concat", {}, ["a", "image"])
newer_lie("attribute-value", "same", "pad", {"padding": "same"}, ["a"])
newer_lie("slice", "beyond the end", "slice", {"start": [0, 0, 0], "stop": [5, 8, 7], "step": [1, 1, 1]}, ["a"])
newer_lie("slice", "of two axes", "slice", {"start": [0, 0], "stop": [5, 8], "step": [1, 1]}, ["a"])
newer_lie("slice", "without a step", "slice", {"start": [0, 0, 0], "stop": [5, 8, 6], "step": [1, 0, 1]}, ["a"])
newer_lie("rearrange", "of fewer", "rearrange", {"split": [5, 8], "order": [0, 1], "shape": [40]}, ["a"])
newer_lie("rearrange", "of no order", "rearrange", {"split": [5, 48], "order": [0, 0], "shape": [240]}, ["a"])
newer_lie("rearrange", "to two axes", "rearrange", {"split": [5, 48], "order": [0, 1], "shape": [5, 48]}, ["a"])


# --- What no file can say: wrong arrays given by a program -----------------------------------------------------------

CALLS = [
    ("mask-shape", lambda: MaskedKernel((1, 1, 2, 2), 1, 1, np.ones((1, 1, 2, 3), bool), np.zeros(6, np.float32))),
    ("kernel-type", lambda: MaskedKernel.from_dense(np.zeros((1, 1, 2, 2)), np.ones((1, 1, 2, 2), bool), 1, 1)),
]
