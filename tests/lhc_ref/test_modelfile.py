"""The model file: what is written, what is read back, and one lie at least for every place that refuses."""

import ast
import errno
import io
import json
import os
import re
import stat
import tracemalloc
from collections import Counter
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given

from lhc_ref import modelfile
from lhc_ref._modelfile import container, reasons
from lhc_ref.modelfile import REASONS, InputSpec, MaskedKernel, ModelFileError, ModelSpec, Node, load, save, validate
from tests import oracle
from tests.model_strategies import models
from tests.modelfile_bytes import GOLDEN_SPECS, Parts, assert_same_spec, golden_spec
from tests.modelfile_lies import CALLS, LIES


def golden_file(version):
    """The file of this version that is kept."""
    return Path(__file__).parents[1] / "golden" / f"model_v{version.replace('.', '_')}.lhc"


GOLDEN = golden_file("1.0")
SOURCES = [Path(modelfile.__file__), *sorted(Path(container.__file__).parent.glob("*.py"))]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.lhc"


# --- Written and read back -------------------------------------------------------------------------------------------


@given(models())
def test_what_is_saved_is_loaded_bit_for_bit(tmp_path_factory, spec):
    path = tmp_path_factory.mktemp("saved") / "model.lhc"
    save(path, spec)
    loaded = load(path)
    assert_same_spec(loaded, validate(spec))
    first = path.read_bytes()
    save(path, loaded)
    assert path.read_bytes() == first
    assert modelfile.fingerprint(spec) == modelfile.fingerprint(loaded) == sha256(first).hexdigest()


@pytest.mark.parametrize("version", GOLDEN_SPECS)
def test_the_file_of_each_version_stays_readable(version):
    loaded = load(golden_file(version))
    assert loaded.version == version
    assert_same_spec(loaded, validate(GOLDEN_SPECS[version]()))


@pytest.mark.parametrize("version", GOLDEN_SPECS)
def test_this_version_still_writes_the_golden_files(version, path):
    """A file that needs nothing newer is of the version that the oldest readers know."""
    save(path, GOLDEN_SPECS[version]())
    assert path.read_bytes() == golden_file(version).read_bytes()


def test_there_is_a_golden_file_of_the_newest_version():
    assert list(GOLDEN_SPECS)[-1] == modelfile.VERSION


def test_safetensors_reads_the_file(path):
    spec = golden_spec()
    save(path, spec)
    tensors = safetensors.numpy.load_file(path)
    kernel = spec.nodes[0].tensors["kernel"]
    assert np.array_equal(tensors["conv 1.kernel.values"], kernel.values)
    assert np.array_equal(tensors["classifier.kernel"], spec.nodes[8].tensors["kernel"])
    with safetensors.safe_open(path, "numpy") as file:
        assert json.loads(file.metadata()["lhc_model"])["version"] == "1.0"


def test_a_file_that_safetensors_wrote_is_read(path):
    save(path, golden_spec())
    parts = Parts.of(path.read_bytes())
    tensors = {name: parts.array(name) for name in parts.entries}
    safetensors.numpy.save_file(tensors, path, {"lhc_model": json.dumps(parts.graph), "format": "np"})
    assert_same_spec(load(path), validate(golden_spec()))


def test_mask_bits_are_little_endian_in_c_order(path):
    save(path, golden_spec())
    packed = Parts.of(path.read_bytes()).array("conv 1.kernel.mask")
    mask = golden_spec().nodes[0].tensors["kernel"].mask
    for i, kept in enumerate(mask.reshape(-1)):
        assert bool(packed[i // 8] >> (i % 8) & 1) == kept


def test_the_size_follows_the_density(path):
    sizes = {}
    for density in (0.0, 0.25, 1.0):
        mask = np.arange(9 * 64).reshape(3, 3, 8, 8) < density * 9 * 64
        kernel = MaskedKernel.from_dense(np.ones((3, 3, 64, 64), np.float32), mask, 8, 8)
        conv = Node("conv2d", "c", ("x",), "y", {}, {"kernel": kernel})
        save(path, ModelSpec((InputSpec("x", (8, 8, 64)),), ("y",), (conv,)))
        sizes[density] = path.stat().st_size
    all_weights = 4 * 9 * 64 * 64
    assert sizes[0.0] < 1024
    assert abs(sizes[1.0] - sizes[0.0] - all_weights) < 64
    assert abs(sizes[0.25] - sizes[0.0] - all_weights / 4) < 64


def test_defaults_are_filled_in():
    conv = Node("conv2d", "c", ("x",), "y", {}, {"kernel": np.zeros((1, 1, 2, 3), np.float32)})
    checked = validate(ModelSpec((InputSpec("x", (4, 4, 2)),), ["y"], [conv]))
    assert checked.nodes[0].attrs == {"stride": (1, 1), "padding": "same", "dilation": (1, 1), "groups": 1}
    assert checked.outputs == ("y",)


def test_integers_of_numpy_are_integers(path):
    one = np.int64(1)
    kernel = MaskedKernel.from_dense(np.ones((1, 1, 2, 3), np.float32), np.ones((1, 1, 2, 1), bool), one, np.int32(4))
    conv = Node("conv2d", "c", ("x",), "y", {"stride": [one, one]}, {"kernel": kernel})
    save(path, ModelSpec((InputSpec("x", (np.int64(4), 4, 2)),), ("y",), (conv,)))
    assert load(path).nodes[0].attrs["stride"] == (1, 1)


# --- The page that describes it ---------------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs" / "model-file.md").read_text(encoding="utf-8")


def test_the_page_names_every_operator_with_its_attributes_and_tensors():
    for op, schema in modelfile.OPS.items():
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{op}` |"))
        names = [*schema.attrs, *schema.tensors] if op != "average_pool" else ["max_pool"]
        assert all(f"`{name}`" in row for name in names), row


def test_the_page_states_the_limits():
    assert f"header | {reasons.MAX_HEADER_BYTES // 2**20} MiB, nested {reasons.MAX_DEPTH} deep" in PAGE
    assert f"nodes; inputs | {reasons.MAX_NODES:,}; {reasons.MAX_INPUTS}" in PAGE
    assert f"names | {reasons.MAX_NAME_LENGTH} printable" in PAGE
    assert f"mask groups | {reasons.MAX_SPAN:,}" in PAGE
    assert f"one value of one example | 2^{reasons.MAX_ELEMENTS.bit_length() - 1} numbers" in PAGE
    assert f"absent weights included | 2^{reasons.MAX_WEIGHTS.bit_length() - 1} numbers" in PAGE
    assert f"classes | {reasons.MAX_CLASSES:,}" in PAGE


def test_the_pages_example_of_a_mask():
    mask = np.array([[1, 0], [1, 1]], bool).reshape(1, 1, 2, 2)
    kernel = MaskedKernel.from_dense(np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3), mask, 1, 2)
    assert np.packbits(mask, bitorder="little").tolist() == [0b1101]
    assert kernel.expanded_mask().reshape(2, 3).tolist() == [[1, 1, 0], [1, 1, 1]]
    assert kernel.values.tolist() == [0, 1, 3, 4, 5]


# --- Masked kernels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [(1, 1), (2, 3), (4, 7), (5, 8), (9, 9)])
def test_a_masked_kernel_is_the_kernel_times_its_mask(groups):
    rng = np.random.default_rng(7)
    kernel = rng.normal(size=(3, 2, 5, 8)).astype(np.float32)
    mask = rng.random((3, 2, -(-5 // groups[0]), -(-8 // groups[1]))) < 0.4
    masked = MaskedKernel.from_dense(kernel, mask, *groups)
    expanded = oracle.expand(mask, 5, 8, *groups)
    assert np.array_equal(masked.expanded_mask(), expanded.astype(bool))
    assert np.array_equal(masked.dense(), kernel * expanded)
    assert masked.kept == expanded.sum()
    assert masked.density == expanded.mean()


# --- Shapes ----------------------------------------------------------------------------------------------------------


@given(models())
def test_window_sizes_agree_with_the_definition(spec):
    shapes = modelfile.infer_shapes(spec)
    for node in validate(spec).nodes:
        if "stride" not in node.attrs:
            continue
        x = shapes[node.inputs[0]]
        window = node.attrs.get("size") or node.tensors["kernel"].shape[:2]
        geometry = {"stride": node.attrs["stride"], "dilation": node.attrs.get("dilation", (1, 1))}
        padding = node.attrs["padding"]
        assert shapes[node.output][:2] == oracle.output_size(x[:2], window, padding=padding, **geometry)
        pads = modelfile.resolve_padding(padding, x[:2], window, **geometry)
        assert pads == oracle.resolve_padding(padding, x[:2], window, **geometry)


def test_shapes_of_the_golden_graph():
    shapes = modelfile.infer_shapes(golden_spec())
    assert shapes == {
        "image": (9, 8, 5), "a": (5, 8, 6), "b": (5, 8, 6), "c": (6, 7, 6), "d": (6, 7, 6), "e": (3, 4, 6),
        "f": (2, 2, 6), "flat": (24,), "g": (6,), "logits": (4,), "probabilities": (4,),
    }  # fmt: skip


# --- Refusals --------------------------------------------------------------------------------------------------------

MESSAGE = re.compile(r"^(?P<thing>.+): expected (?P<want>.+), got (?P<got>.*)\. (?P<do>[A-Z].+)\.$", re.DOTALL)


def check_message(error, path):
    match = MESSAGE.match(str(error))
    assert match, str(error)
    assert str(error).startswith(f"{path}: ")
    assert len(str(error)) < 1000 + len(str(path))
    assert str(error).isprintable(), repr(str(error))


@pytest.mark.parametrize(("code", "make"), [pytest.param(c, m, id=f"{c}: {what}") for c, what, m in LIES])
def test_each_lie_is_refused_for_its_own_reason(path, code, make):
    path.write_bytes(make(GOLDEN.read_bytes()))
    size = path.stat().st_size
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError) as refusal:
            load(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refusal.value.code == code, str(refusal.value)
    check_message(refusal.value, path)
    assert peak < 64 * size + 2**20


@pytest.mark.parametrize(("code", "call"), CALLS)
def test_arrays_that_no_file_can_hold_are_refused(code, call):
    with pytest.raises(ModelFileError) as refusal:
        call()
    assert refusal.value.code == code


def refused(path, code):
    with pytest.raises(ModelFileError) as refusal:
        load(path)
    assert refusal.value.code == code
    check_message(refusal.value, path)


def test_paths_that_are_no_files(tmp_path):
    refused(tmp_path, "not-a-file")
    refused(tmp_path / "absent", "path")
    refused("/dev/zero", "not-a-file")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "not-a-file")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused(tmp_path / "loop", "path")


def test_a_file_without_permission(path, monkeypatch):
    path.write_bytes(GOLDEN.read_bytes())
    path.chmod(0)
    if os.geteuid() != 0:
        refused(path, "path")

    def denied(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    refused(path, "path")


def test_a_name_that_no_system_takes():
    with pytest.raises(ModelFileError, match="null"):
        load("a\0b")


def test_a_file_cut_while_it_is_read(path, monkeypatch):
    path.write_bytes(GOLDEN.read_bytes()[:-8])
    whole = GOLDEN.stat().st_size
    fields = list(os.stat(path))
    fields[stat.ST_SIZE] = whole
    monkeypatch.setattr(os, "fstat", lambda _: os.stat_result(fields))
    refused(path, "short-read")


def test_a_disk_that_fails(path, monkeypatch):
    class Broken(io.BytesIO):
        def readinto(self, _):
            raise OSError(errno.EIO, "Input/output error")

        def fileno(self):
            return os.open(path, os.O_RDONLY)

    path.write_bytes(GOLDEN.read_bytes())
    monkeypatch.setattr(container, "open_regular", lambda _: Broken())
    refused(path, "read-failed")


OUTSIDE = {"path", "not-a-file", "read-failed", "short-read"}  # the tests just above


def test_every_place_that_refuses_has_its_own_code_and_is_reached_here():
    calls = [node for source in SOURCES for node in ast.walk(ast.parse(source.read_text())) if is_refusal(node)]
    codes = Counter(call.args[0].value for call in calls)
    assert set(codes.values()) == {1}, [code for code, count in codes.items() if count > 1]
    assert set(codes) == set(REASONS)
    assert {code for code, *_ in LIES} | {code for code, _ in CALLS} | OUTSIDE == set(REASONS)


def is_refusal(node):
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "refuse"


def test_an_invalid_graph_leaves_the_old_file(path):
    save(path, golden_spec())
    node = Node("relu", "r", ("nobody",), "y")
    with pytest.raises(ModelFileError, match="nobody"):
        save(path, ModelSpec((InputSpec("x", (3,)),), ("y",), (node,)))
    assert path.read_bytes() == GOLDEN.read_bytes()
    assert os.listdir(path.parent) == [path.name]


def test_a_graph_too_long_for_the_header_is_not_written(path):
    metadata = {"essay": "x" * 2**23}
    node = Node("relu", "r", ("x",), "y")
    with pytest.raises(ModelFileError) as refusal:
        save(path, ModelSpec((InputSpec("x", (3,)),), ("y",), (node,), metadata=metadata))
    assert refusal.value.code == "header-limit"
    assert not path.exists()


@pytest.mark.parametrize("tensor", [np.zeros((1, 1, 2, 3)), [[0.0]], np.zeros((1, 1, 2, 3), np.int32)])
def test_only_float32_tensors_are_saved(path, tensor):
    conv = Node("conv2d", "c", ("x",), "y", {}, {"kernel": tensor})
    with pytest.raises(ModelFileError, match="float32"):
        save(path, ModelSpec((InputSpec("x", (4, 4, 2)),), ("y",), (conv,)))


# --- Versions --------------------------------------------------------------------------------------------------------


def newer(path, change):
    parts = Parts.of(GOLDEN.read_bytes())
    parts.graph["version"] = "1.7"
    change(parts)
    path.write_bytes(parts.bytes())


def test_a_newer_minor_version_that_needs_nothing_unknown_is_read(path):
    def change(parts):
        parts.graph["requires"] = []
        parts.graph["comment"] = {"a": ["new", "field"]}
        parts.node("conv 1")["colour"] = "red"
        parts.graph["inputs"][0]["unit"] = "m"

    newer(path, change)
    loaded = load(path)
    assert loaded.version == "1.7"
    assert_same_spec(loaded, validate(golden_spec()))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda parts: parts.node("relu 1").update(op="gelu"), "gelu"),
        (lambda parts: parts.node("conv 1")["attrs"].update(output_padding=1), "output_padding"),
        (lambda parts: parts.graph.update(requires=["tied_tensors"]), "tied_tensors"),
        (lambda parts: parts.node("conv 1")["tensors"]["kernel"].update(layout="csr"), "csr"),
    ],
)
def test_a_newer_minor_version_that_needs_more_is_refused_by_name(path, change, named):
    newer(path, change)
    with pytest.raises(ModelFileError, match=named) as refusal:
        load(path)
    check_message(refusal.value, path)
