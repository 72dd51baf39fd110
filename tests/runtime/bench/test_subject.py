"""What engines get and what they must answer: every image of the batch is held against the reference."""

import numpy as np
import onnx
import pytest

import runtime
from lhc_ref import modelfile
from lhc_ref.modelfile import InputError, MaskedKernel
from runtime.bench.subject import DISTINCT, ForeignSubject, Subject, WrongAnswerError
from tests.runtime import onnx_nets
from tests.runtime.nets import net

BATCH = 2 * DISTINCT + 2


def small():
    """x[4, 3, 8] -> masked convolution, softmax."""
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((3, 3, 8, 6), np.float32)
    masked = MaskedKernel.from_dense(kernel, rng.random((3, 3, 2, 3)) < 0.4, 4, 2)
    return net({"x": (4, 3, 8)}, ["y"], ("conv2d", "c", ["x"], {}, {"kernel": masked}), ("softmax", "y", ["c"]))


@pytest.fixture
def subject(tmp_path):
    modelfile.save(tmp_path / "net.lhc", small())
    return Subject(tmp_path / "net.lhc", BATCH, tmp_path, None, "cpu")


def test_the_runtimes_own_answer_is_right_for_both_forms_of_ours(subject):
    for engine in ("ours", "ours-dense"):
        form = subject.form_for(engine)
        y = runtime.load(form.path).run(form.inputs["x"])
        found = form.check(engine, {"y": y})
        assert 0 < found["relative_difference"] < 1e-6
        assert 0 < found["share_of_bound"] < 1
    assert subject.has_masks
    assert not any(isinstance(n.tensors.get("kernel"), MaskedKernel) for n in modelfile.load(form.path).nodes)


@pytest.mark.parametrize("engine", ["ours", "onnxruntime"])
@pytest.mark.parametrize("image", [0, DISTINCT, BATCH - 1])
def test_one_wrong_image_is_an_error(subject, engine, image):
    form = subject.own
    y = runtime.load(form.path).run(form.inputs["x"])
    for wrong in (y[image] + 1e-3, y[(image + 1) % BATCH], np.full_like(y[0], np.nan)):
        answer = y.copy()
        answer[image] = wrong
        with pytest.raises(WrongAnswerError, match=rf"{engine}: expected the reference's y, got a relative difference"):
            form.check(engine, {"y": answer})


def test_ours_is_held_to_its_bound_and_others_to_rounding(subject):
    form = subject.own
    y = runtime.load(form.path).run(form.inputs["x"]) + np.float32(2e-5)
    assert form.check("onnxruntime", {"y": y})["share_of_bound"] > 1
    with pytest.raises(WrongAnswerError, match="Nothing was timed"):
        form.check("ours", {"y": y})
    y += np.float32(1e-2)
    assert form.check("openvino-bf16", {"y": y})
    with pytest.raises(WrongAnswerError):
        form.check("openvino", {"y": y})


def test_other_names_and_shapes_are_wrong(subject):
    y = runtime.load(subject.path).run(subject.own.inputs["x"])
    with pytest.raises(WrongAnswerError, match=r"torch: expected outputs \['y'\], got \['z'\]"):
        subject.own.check("torch", {"z": y})
    with pytest.raises(WrongAnswerError, match="torch: expected y"):
        subject.own.check("torch", {"y": y[:, :2]})


def test_others_get_the_onnx_twin_of_a_model_file(subject):
    form = subject.form_for("torch")
    assert form.path.suffix == ".onnx"
    assert form.inputs["x"].shape == (BATCH, 8, 4, 3)
    made = onnx_nets.reference(onnx.load(form.path), form.inputs)
    assert form.check("torch", made)["relative_difference"] < 1e-6
    filled = subject.form_for("deepsparse-dense")
    kernel = onnx.numpy_helper.to_array(onnx.load(filled.path).graph.initializer[0])
    assert (kernel != 0).all()


def conv_file(tmp_path, batch):
    kernel = np.where(np.arange(9) % 3, onnx_nets.normal(0, 6, 4, 3, 3).reshape(6, 4, 9), 0).reshape(6, 4, 3, 3)
    model = onnx_nets.graph([onnx_nets.node("Conv", "x w", "y")], {"x": [batch, 4, 5, 5]}, "y", {"w": kernel})
    return onnx_nets.save(tmp_path, model)


def test_others_read_an_onnx_file_itself_unless_its_batch_is_fixed(tmp_path):
    free = Subject(conv_file(tmp_path, "n"), 3, tmp_path, None, "cpu")
    assert free.form_for("onnxruntime").path == free.path == free.form_for("ours").path
    assert free.form_for("torch").path != free.path
    fixed = Subject(conv_file(tmp_path, 1), 3, tmp_path, None, "cpu")
    assert fixed.form_for("onnxruntime").path != fixed.path
    form = fixed.form_for("ours")
    assert form.inputs["x"].shape == (3, 4, 5, 5)
    y = runtime.load(form.path).run(form.inputs["x"])
    assert form.check("ours", {"y": y})["share_of_bound"] < 1


def test_operators_that_only_onnx_has_are_held_against_its_own_evaluator(tmp_path):
    model = onnx_nets.graph([onnx_nets.node("Erf", "x", "y")], {"x": ["n", 2, 3, 3]}, "y")
    path = onnx_nets.save(tmp_path, model)
    with pytest.raises(modelfile.ModelFileError, match="no such operator here"):
        Subject(path, 2, tmp_path, None, "cpu")
    subject = ForeignSubject(path, 2, None)
    form = subject.form_for("onnxruntime")
    answer = onnx_nets.reference(model, form.inputs)
    assert form.check("onnxruntime", answer) == {"relative_difference": 0.0, "share_of_bound": None}
    with pytest.raises(WrongAnswerError):
        form.check("onnxruntime", {"y": answer["y"] * 1.001})
    for engine in ("ours", "torch", "deepsparse-dense"):
        with pytest.raises(InputError, match=f"expected an engine that reads any ONNX file, got {engine}"):
            subject.form_for(engine)


def test_a_file_with_open_sizes_asks_for_them(tmp_path):
    model = onnx_nets.graph([onnx_nets.node("Erf", "x", "y")], {"x": ["n", 2, "h", "w"]}, "y")
    path = onnx_nets.save(tmp_path, model)
    with pytest.raises(InputError, match="expected an input 'x' of 2 images and known sizes"):
        ForeignSubject(path, 2, None)
    assert ForeignSubject(path, 2, {"x": (2, 3, 4)}).form_for("openvino").inputs["x"].shape == (2, 2, 3, 4)
