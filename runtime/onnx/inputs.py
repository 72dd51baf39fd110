"""What operators take: data that the graph computes, and constants."""

from runtime.onnx.builder import Builder
from runtime.onnx.fold import Constant
from runtime.onnx.graph import Op, Unsupported
from runtime.onnx.values import Value


def data(x: object) -> Value:
    """An input that is a value, not a constant."""
    if not isinstance(x, Value):
        raise Unsupported("a constant where the graph's data are needed")
    return x


def constant(x: object, what: str) -> Constant:
    """An input that is a constant."""
    if not isinstance(x, Constant):
        raise Unsupported(f"{what} that the graph computes, where a constant is needed")
    return x


def optional(b: Builder, op: Op, at: int) -> Constant | None:
    """An input that may be left out, and is constant otherwise."""
    given = b.take(op.inputs[at]) if len(op.inputs) > at else None
    return None if given is None else constant(given, f"input {at}")
