"""The safetensors container: an 8-byte length, a JSON header, then the tensors' bytes without holes."""

import json
import os
import stat
from collections.abc import Mapping
from math import prod
from typing import Any, BinaryIO

import numpy as np

from lhc_ref._modelfile.json import Entry, parse_json, typed
from lhc_ref._modelfile.reasons import MAX_HEADER_BYTES, MAX_RANK, MAX_WEIGHTS, refuse, show
from lhc_ref._modelfile.types import is_int

GRAPH_KEY = "lhc_model"
DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "U8": np.dtype("u1")}


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file to read; never waits, as opening a pipe would."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:
        refuse("path", "file", "one that can be read", getattr(error, "strerror", None) or str(error))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        refuse("not-a-file", "path", "a regular file", "a folder, pipe or device")
    return os.fdopen(descriptor, "rb")


def read_header(file: BinaryIO) -> tuple[Any, dict[str, Entry]]:
    """The graph (parsed JSON) and the tensors' entries in the order of their data, which begin where `file` then is."""
    size = os.fstat(file.fileno()).st_size
    if size < 8:
        refuse("too-short", "file", "at least 8 bytes", f"{size}")
    length = int.from_bytes(_read(file, 8).tobytes(), "little")
    if length > size - 8:
        refuse("header-length", "length of the header", f"at most the {size - 8} bytes that follow", length)
    check_header_size(length)
    text = _read(file, length).tobytes()
    if not text.startswith(b"{"):
        refuse("header-start", "header", "JSON that starts with '{'", show(text[:8]))
    header = typed(parse_json(text, "header"), dict, "header")
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or not isinstance(metadata.get(GRAPH_KEY), str):
        refuse("no-graph", "header", f"a graph under the key {GRAPH_KEY} of __metadata__", "none")
    entries = {name: _parse_entry(name, value) for name, value in header.items()}
    _check_layout(entries, size - 8 - length)
    return parse_json(metadata[GRAPH_KEY].encode("utf-8", "surrogatepass"), "graph"), entries


def check_header_size(length: int) -> None:
    """Refuse a header above the limit."""
    if length > MAX_HEADER_BYTES:
        refuse("header-limit", "length of the header", f"at most {MAX_HEADER_BYTES} bytes", length)


def _read(file: BinaryIO, count: int) -> np.ndarray:
    """u8[count], new memory; the caller has compared `count` with the file's size."""
    data = np.empty(count, np.uint8)
    got = file.readinto(data.data)  # type: ignore[attr-defined]
    if got != count:
        refuse("short-read", "file", f"{count} more bytes", got)
    return data


def _parse_entry(name: str, value: Any) -> Entry:
    """One line of the header; whether its bytes exist is for `_check_layout`."""
    thing = f"tensor {show(name)}"
    table = typed(value, dict, thing)
    dtype, shape, offsets = (table.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in DTYPES:
        refuse("entry-dtype", thing, f"dtype {' or '.join(DTYPES)}", show(dtype))
    if not isinstance(shape, list) or not 1 <= len(shape) <= MAX_RANK:
        refuse("entry-rank", thing, f"a shape of 1 to {MAX_RANK} sizes", show(shape))
    if not all(is_int(size) and 0 <= size <= MAX_WEIGHTS for size in shape):
        refuse("entry-dimension", thing, f"sizes from 0 to {MAX_WEIGHTS}", show(shape))
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(is_int(at) and at >= 0 for at in offsets):
        refuse("entry-offsets", thing, "data_offsets [begin, end]", show(offsets))
    begin, end = offsets
    expected = prod(shape) * DTYPES[dtype].itemsize
    if end - begin != expected:
        refuse("entry-bytes", thing, f"{expected} bytes for {dtype}{shape}", end - begin)
    return Entry(dtype, tuple(shape), begin, end)


def _check_layout(entries: Mapping[str, Entry], size: int) -> None:
    """Entries stand in the order of their data and fill them exactly."""
    reached, begins = 0, {entry.begin for entry in entries.values()}
    for name, entry in entries.items():
        thing = f"data of tensor {show(name)}"
        if entry.begin < reached:
            refuse("entry-overlap", thing, f"to begin at byte {reached}", f"{entry.begin}, inside an earlier tensor")
        if entry.begin > reached and reached in begins:
            refuse("entry-order", thing, f"to begin at byte {reached}", f"{entry.begin}, where a later tensor belongs")
        if entry.begin > reached:
            refuse("entry-hole", thing, f"to begin at byte {reached}", f"{entry.begin}, which leaves a hole")
        reached = entry.end
    if reached > size:
        refuse("data-truncated", "data of the tensors", f"{reached} bytes", f"{size}")
    if reached < size:
        refuse("data-left-over", "data of the tensors", f"{reached} bytes", f"{size}")


def read_tensors(file: BinaryIO, entries: Mapping[str, Entry]) -> dict[str, np.ndarray]:
    """Each tensor in memory of its own; `file` stands at the start of the data, `entries` are checked."""
    arrays = {}
    for name, entry in entries.items():
        dtype = DTYPES[entry.dtype]
        data = _read(file, entry.end - entry.begin)
        arrays[name] = data.view(dtype).reshape(entry.shape).astype(dtype.newbyteorder("="), copy=False)
    return arrays


def write(file: BinaryIO, graph: str, tensors: Mapping[str, np.ndarray]) -> None:
    """Write the container: float32 before bytes, so that all are aligned, each kind by name."""
    kinds = {dtype.newbyteorder("="): name for name, dtype in DTYPES.items()}
    names = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    header: dict[str, Any] = {"__metadata__": {GRAPH_KEY: graph}}
    reached = 0
    for name in names:
        array = tensors[name]
        header[name] = {
            "dtype": kinds[array.dtype],
            "shape": array.shape,
            "data_offsets": (reached, reached + array.nbytes),
        }
        reached += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    check_header_size(len(text))
    file.write(len(text).to_bytes(8, "little") + text)
    for name in names:
        file.write(np.ascontiguousarray(tensors[name], DTYPES[kinds[tensors[name].dtype]]).data)
