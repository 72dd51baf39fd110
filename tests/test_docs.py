"""The pages of docs/ say what happens: their Python sessions and commands are run, their output compared."""

import doctest
import logging
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import lhc_ref.cli
import runtime.cli
from lhc_ref.tape import VJPS
from runtime.kernel_cache import KEPT

DOCS = Path(__file__).parents[1] / "docs"
EXPORTED = Path(__file__).parent / "runtime" / "exported"
# What pages take for granted: a net that PyTorch exported, and its state dict.
FILES = {"net.onnx": EXPORTED / "resnet-dynamo.onnx", "weights.safetensors": EXPORTED / "resnet.safetensors"}
RUN = re.compile(r"^```(pycon|console)\n(.*?)^```$", re.M | re.S)
PAGES = sorted(path.name for path in DOCS.glob("*.md") if RUN.search(path.read_text("utf-8")))
COMMANDS: dict[str, Callable[[list[str]], int]] = {"lhc-ref": lhc_ref.cli.main, "lhc-run": runtime.cli.main}


def head(arguments: list[str]) -> int:
    """`head -N FILE`."""
    count, path = arguments
    print(*Path(path).read_text("utf-8").splitlines()[: -int(count)], sep="\n")
    return 0


COMMANDS["head"] = head
ROUGHLY = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def session(page: str) -> str:
    """A page's blocks `pycon` as they stand; each command of a block `console` as a call that prints what it prints."""
    lines = ["(`_command` runs a command.)", ""]
    for kind, block in RUN.findall(page):
        given = re.sub(r"^\$ (.*)$", lambda command: f">>> _command({command[1]!r})", block, flags=re.M)
        # Why: an empty line would end the expected output.
        lines += [given if kind == "pycon" else re.sub(r"^$", "<BLANKLINE>", given.strip(), flags=re.M), ""]
    return "\n".join(lines)


def run(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What differs from what the page says, a text for each example."""
    monkeypatch.chdir(folder)
    for name, path in FILES.items():
        shutil.copy(path, name)

    def command(line: str) -> None:
        program, *arguments = shlex.split(line)
        COMMANDS[program](arguments)

    test = doctest.DocTestParser().get_doctest(session(page), {"_command": command}, "page", None, 0)
    found: list[str] = []
    doctest.DocTestRunner(verbose=False, optionflags=ROUGHLY).run(test, out=found.append)
    return found


@pytest.fixture(autouse=True)
def same_settings():
    """Operators that a page defines, and what it sets for the process, go with it."""
    operators, caches, level = dict(VJPS), [kernel._cache for kernel in KEPT], logging.getLogger("runtime").level
    yield
    VJPS.clear()
    VJPS.update(operators)
    for kernel, cache in zip(KEPT, caches, strict=True):
        kernel._cache = cache
    logging.getLogger("runtime").setLevel(level)


@pytest.mark.parametrize("name", PAGES)
def test_page(name, tmp_path, monkeypatch):
    text = (DOCS / name).read_text("utf-8")
    if ".onnx" in "".join(block for _, block in RUN.findall(text)):
        pytest.importorskip("onnx")
    assert not "".join(run(text, tmp_path, monkeypatch))


def test_the_pages_with_examples_are_run():
    assert {"patterns.md", "learning.md", "first-net.md", "gradients.md", "related.md"} <= set(PAGES)
    assert {"runtime.md", "from-deepsparse.md", "commands.md"} <= set(PAGES)


@pytest.mark.parametrize(
    "block",
    [
        "```pycon\n>>> 1 + 1\n3\n```\n",
        "```pycon\n>>> 1 / 0\n```\n",
        "```console\n$ lhc-ref count golden\nno such table\n```\n",
    ],
)
def test_a_page_that_is_wrong_is_found(block, tmp_path, monkeypatch):
    assert run(block, tmp_path, monkeypatch)


def test_every_link_between_pages_leads_somewhere():
    for page in DOCS.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+\.md)(?:#[^)]*)?\)", page.read_text("utf-8")):
            assert (page.parent / target).is_file(), f"{page.name}: {target}"
