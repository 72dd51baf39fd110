"""Facts about the processor that kernels are compiled for: vector width, registers, cache sizes.

The facts follow the *compiler's* target, not the hardware: with ``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES`` set, the
kernels are those of the emulated machine.
"""

import platform
from dataclasses import dataclass

import llvmlite.binding as llvm
from numba.core import config


@dataclass(frozen=True)
class Machine:
    """What the kernels need to know of a processor.

    lanes : float32 values in one vector register.
    registers : vector registers the compiler can name.
    name : the instruction set, for people.
    """

    name: str
    lanes: int
    registers: int

    def __post_init__(self) -> None:
        if self.lanes not in (4, 8, 16):
            raise ValueError(
                f"machine: expected 4, 8 or 16 lanes, got {self.lanes}. Add a row to the tile table for it."
            )


AVX512 = Machine("AVX-512", lanes=16, registers=32)
AVX2 = Machine("AVX2", lanes=8, registers=16)
NEON = Machine("NEON", lanes=4, registers=32)
GENERIC = Machine("generic 128-bit", lanes=4, registers=16)


def compiler_features() -> frozenset[str]:
    """Names of the instruction set extensions that Numba compiles for."""
    if config.CPU_FEATURES is not None:
        listed = config.CPU_FEATURES.split(",")
        return frozenset(f[1:] for f in listed if f.startswith("+"))
    if config.CPU_NAME == "generic":
        return frozenset()
    return frozenset(name for name, on in llvm.get_host_cpu_features().items() if on)


def detect() -> Machine:
    """The machine that Numba compiles for in this process."""
    features = compiler_features()
    if {"avx512f", "avx512vl"} <= features:
        return AVX512
    if {"avx2", "fma"} <= features:
        return AVX2
    if platform.machine().lower() in ("arm64", "aarch64"):
        return NEON
    return GENERIC


MACHINE = detect()
LANES = MACHINE.lanes
