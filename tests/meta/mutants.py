"""Planted faults: each is one small change of the sources that named tests must catch.

A snippet is compared with the sources as syntax, not as text, so reformatting does not matter. It must occur once in
the module, or in the function or class that `within` names, or the mutant is out of date and that is an error.
"""

import ast
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Mutant:
    """`original` in `path` becomes `mutated`; one of `tests` must then fail."""

    name: str
    path: str
    original: str
    mutated: str
    tests: tuple[str, ...]
    within: str = ""
    quick: bool = False  # run in the quick suite too
    compiled: bool = False  # shows in compiled kernels only; others are tried without compiling


def parse(snippet: str) -> ast.AST:
    """One expression or one statement."""
    (statement,) = ast.parse(snippet).body
    return statement.value if isinstance(statement, ast.Expr) else statement


class _Replace(ast.NodeTransformer):
    def __init__(self, original: ast.AST, mutated: ast.AST) -> None:
        self.wanted, self.mutated, self.count = ast.dump(original), mutated, 0
        self.kind = type(original)

    def visit(self, node: ast.AST) -> ast.AST:
        if type(node) is self.kind and ast.dump(node) == self.wanted:
            self.count += 1
            return self.mutated
        return self.generic_visit(node)


def mutate(source: str, mutant: Mutant) -> str:
    """The source with the mutant's change; ValueError unless its snippet occurs exactly once."""
    tree = ast.parse(source)
    scopes = [tree]
    if mutant.within:
        kinds = ast.FunctionDef | ast.ClassDef
        scopes = [node for node in ast.walk(tree) if isinstance(node, kinds) and node.name == mutant.within]
    replace = _Replace(parse(mutant.original), parse(mutant.mutated))
    for scope in scopes:
        replace.visit(scope)
    if replace.count != 1:
        where = f"{mutant.path}, {mutant.within}" if mutant.within else mutant.path
        raise ValueError(
            f"mutant {mutant.name}: expected its snippet once in {where}, got {replace.count} times. "
            f"Bring tests/meta/faults_*.py up to date with the sources."
        )
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


def changed_functions(source: str, mutated: str) -> set[str]:
    """Names of the functions, methods among them, that a mutant changes."""
    before, after = (_functions(ast.parse(text)) for text in (source, mutated))
    return {a.name for a, b in zip(before, after, strict=True) if ast.dump(a) != ast.dump(b)}


def reached_functions(source: str, names: set[str]) -> set[str]:
    """The named functions and those of the same module that they use, all methods of a class that they use included."""
    tree = ast.parse(source)
    defined: dict[str, list[ast.AST]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.setdefault(node.name, []).append(node)
    reached, waiting = set(), set(names)
    while waiting:
        name = waiting.pop()
        reached.add(name)
        inside = [inner for node in defined.get(name, []) for inner in ast.walk(node)]
        used = {n.id for n in inside if isinstance(n, ast.Name)} | {f.name for f in _functions(*defined.get(name, []))}
        waiting |= (used & defined.keys()) - reached
    return reached


def _functions(*nodes: ast.AST) -> list[ast.FunctionDef]:
    """All functions at or below some nodes, in order."""
    return [inner for node in nodes for inner in ast.walk(node) if isinstance(inner, ast.FunctionDef)]
