"""Results documents for tests."""

from typing import Any

MACHINE = {
    "cpu": "Some CPU",
    "system": "Linux",
    "vectors": "AVX2",
    "lanes": 8,
    "cores": 2,
    "threads": 2,
    "nearest_core_ns": 25.4,
    "python": "3.11.7",
    "lhc": "0.1.0",
    "numpy": "2.0",
    "numba": "0.68",
}


def document(
    times_us: dict[str, list[list[float]]], problem: str = "vgg16_cifar_d0.1", version: str = "1.0", **more: Any
) -> dict[str, Any]:
    """Of one net at batch 64; the engines' times are given."""
    engines = {engine: {"version": version, "times_us": times} for engine, times in times_us.items()}
    return {
        "format": 1,
        "benchmark": "speed",
        "machine": dict(MACHINE),
        "commit": "a" * 40,
        "command": ["benchmarks.run"],
        "busy_cores": 0,
        "results": [{"problem": problem, "batch": 64, "threads": 2, "engines": engines}],
        **more,
    }
