"""``python -m benchmarks COMMAND ...``: one door to all commands of the benchmarks."""

import runpy
import sys

COMMANDS = {
    "environments": "make the environments of the other engines",
    "run": "time the runtime beside them: the speeds that are held to limits",
    "sweep": "any other benchmark, by name",
    "report": "write the measured tables and plots into the documents",
    "compare": "has it become slower?",
    "smoke": "run everything at toy size",
    "demo": "what `make demo` runs",
    "cifar": "train on CIFAR-10, and report: what `make cifar` runs",
    "gpu": "test, check and time the kernels of NVIDIA GPUs",
}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        print("python -m benchmarks COMMAND ...; COMMAND --help tells more")
        print("\n".join(f"  {name:14}{about}" for name, about in COMMANDS.items()))
        sys.exit(0 if sys.argv[1:2] in ([], ["--help"], ["-h"]) else 2)
    name = sys.argv.pop(1)
    runpy.run_module(f"benchmarks.{name}", run_name="__main__")
