"""What may import what. Each check reads the sources below `root` and returns its violations, none when clean."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGES = ("lhc_ref", "runtime")
GATE = "lhc_ref.extras"  # the one module that imports optional packages, inside functions
FIRST = "lhc_ref"  # loads its names at their first use, so that the runtime loads none of them
OPTIONAL = {"PIL", "h5py", "hypothesis", "matplotlib", "numba_cuda", "onnx", "sklearn"}
FOR_CORE = {"lhc_ref.modelfile", "lhc_ref.files"}
FOR_IMPORTER = FOR_CORE | {"lhc_ref.extras"}
FOR_COMMANDS = {"lhc_ref", "lhc_ref.command", "lhc_ref.errors", "lhc_ref.extras", "lhc_ref.files", "lhc_ref.modelfile"}
FOR_CHECKING_COMMANDS = FOR_COMMANDS | {"lhc_ref.evaluate"}
CHECKING_COMMANDS = {"runtime.commands.bench", "runtime.commands.verify"}
USE_RELATED = ("lhc_ref.related", "lhc_ref.models", "lhc_ref.inspect", "lhc_ref.export")
MEASURING = "runtime.bench"  # what the command `bench` is made of
WORKER = "runtime.bench.worker"  # a script that runs in other engines' environments, and imports just the one it is for
GPU, GPU_GATE, GPU_KERNELS = "runtime.cuda", "runtime.cuda.gate", "runtime.cuda.kernels"
FOR_GPU_KERNELS = {*(f"runtime.cuda.{name}" for name in ("registry", "step", "tiles")), "runtime.kernels.step"}
ORDER = ("layer", "fuse", "spec", "topology", "pack", "select", "steps", "plan", "model")
RUNTIME_ORDER = [f"runtime.{name}" for name in ORDER]


@dataclass(frozen=True)
class Import:
    """One import of one module: `target` is the module itself where the sources tell, else the name as written."""

    module: str
    line: int
    target: str
    in_function: bool

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


def module_files(root: Path) -> dict[str, Path]:
    """Dotted name of each module of the packages, and its file."""
    files = (path for package in PACKAGES for path in sorted((root / package).rglob("*.py")))
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def imports(root: Path) -> list[Import]:
    """Every import of the packages, `if TYPE_CHECKING:` and calls of import_module with a plain string included."""
    files = module_files(root)
    return [found for module, path in files.items() for found in _imports_of(module, path, set(files))]


def _imports_of(module: str, path: Path, modules: set[str]) -> Iterator[Import]:
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node, in_function in _walk(ast.parse(path.read_text(encoding="utf-8")), False):
        for target in _targets(node, package, modules):
            yield Import(module, node.lineno, target, in_function)


def _walk(node: ast.AST, in_function: bool) -> Iterator[tuple[ast.stmt | ast.Call, bool]]:
    """Statements and calls below `node`, each with whether it stands in a function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.Call):
            yield child, in_function
        inside = in_function or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from _walk(child, inside)


def _targets(node: ast.AST, package: list[str], modules: set[str]) -> Iterator[str]:
    """The modules that one statement or call imports."""
    match node:
        case ast.Import():
            yield from (alias.name for alias in node.names)
        case ast.ImportFrom():
            parts = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            for alias in node.names:
                yield name if (name := f"{base}.{alias.name}") in {*modules, "numba.cuda"} else base
        case ast.Call(func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__")):
            first = node.args[0] if node.args else None
            yield first.value if isinstance(first, ast.Constant) else "a computed name"


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def cycles(root: Path) -> list[str]:
    """Modules that import each other, in a ring of any length."""
    graph: dict[str, set[str]] = {module: set() for module in module_files(root)}
    for found in imports(root):
        if found.target in graph:
            graph[found.module].add(found.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [" imports ".join(reversed(error.args[1]))]
    return []


def imports_in_functions(root: Path) -> list[str]:
    """Imports inside a function, and computed ones, outside the gates."""
    return [
        str(found)
        for found in imports(root)
        if (found.in_function or found.target == "a computed name")
        and found.module not in (GATE, WORKER, FIRST)
        and not (found.module == GPU_GATE and _within(found.target, GPU_KERNELS))
    ]


def gpu_kernels_past_their_gate(root: Path) -> list[str]:
    """Imports of numba.cuda by anything but GPU kernels, and of these by anything but their gate, inside a function."""
    return [
        str(found)
        for found in imports(root)
        if (_within(found.target, "numba.cuda") or _within(found.target, GPU_KERNELS))
        and not _within(found.module, GPU_KERNELS)
        and not (found.module == GPU_GATE and found.in_function and _within(found.target, GPU_KERNELS))
    ]


def optional_packages(root: Path) -> list[str]:
    """Imports of an optional package, which only the gate may do."""
    return [
        str(found)
        for found in imports(root)
        if found.target.partition(".")[0] in OPTIONAL and found.module not in (GATE, WORKER)
    ]


def out_of_the_house(root: Path) -> list[str]:
    """Imports of tests or benchmarks, and imports of runtime by lhc_ref."""
    return [
        str(found)
        for found in imports(root)
        if found.target.partition(".")[0] in {"tests", "benchmarks"}
        or (_within(found.module, "lhc_ref") and _within(found.target, "runtime"))
    ]


def allowed_of_lhc_ref(module: str) -> set[str]:
    """The modules of lhc_ref that a module of runtime may import."""
    if module in CHECKING_COMMANDS or _within(module, MEASURING):
        return FOR_CHECKING_COMMANDS
    if module == "runtime.cli" or _within(module, "runtime.commands"):
        return FOR_COMMANDS
    if _within(module, "runtime.kernels") or _within(module, GPU_KERNELS):
        return set()
    if _within(module, "runtime.onnx") or module == GPU_GATE:
        return FOR_IMPORTER
    return FOR_CORE


def runtime_reaching_into_lhc_ref(root: Path) -> list[str]:
    """Imports by runtime of a module of lhc_ref that is not for it."""
    return [
        str(found)
        for found in imports(root)
        if _within(found.module, "runtime")
        and _within(found.target, "lhc_ref")
        and found.target not in allowed_of_lhc_ref(found.module)
    ]


def lhc_reaching_for_related(root: Path) -> list[str]:
    """Imports of what is related to LHC by the way from the tape to training, which a reader walks without it."""
    return [
        str(found)
        for found in imports(root)
        if _within(found.target, "lhc_ref.related") and not any(_within(found.module, user) for user in USE_RELATED)
    ]


def runtime_upwards(root: Path) -> list[str]:
    """Imports by a kernel of anything but kernels, by the core of a command or the GPU, and against spec, ... model."""
    return [str(found) for found in imports(root) if _upwards(found.module, found.target)]


def _upwards(module: str, target: str) -> bool:
    if not (_within(module, "runtime") and _within(target, "runtime")):
        return False
    if _within(module, "runtime.kernels"):
        return not _within(target, "runtime.kernels")
    if _within(module, GPU_KERNELS):
        return not _within(target, GPU_KERNELS) and target not in FOR_GPU_KERNELS
    if module in RUNTIME_ORDER and _within(target, GPU):
        return True
    if module in RUNTIME_ORDER and target in RUNTIME_ORDER:
        return RUNTIME_ORDER.index(target) > RUNTIME_ORDER.index(module)
    above = ("runtime.cli", "runtime.commands", MEASURING)
    is_above = any(_within(module, package) for package in above)
    return not is_above and any(_within(target, package) for package in above)


def oracle_imports(root: Path) -> list[str]:
    """Imports by tests/oracle.py of anything but NumPy and Python's own library."""
    path = root / "tests" / "oracle.py"
    found = _imports_of("tests.oracle", path, set())
    return [str(one) for one in found if one.target.partition(".")[0] not in {"numpy", *sys.stdlib_module_names}]


CHECKS = (
    cycles,
    imports_in_functions,
    gpu_kernels_past_their_gate,
    optional_packages,
    out_of_the_house,
    runtime_reaching_into_lhc_ref,
    lhc_reaching_for_related,
    runtime_upwards,
    oracle_imports,
)
