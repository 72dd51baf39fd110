"""ONNX files as models. Light to import: the package onnx is imported when a file is loaded."""

from runtime.onnx.graph import is_onnx
from runtime.onnx.importer import Imported, load

__all__ = ["Imported", "is_onnx", "load"]
