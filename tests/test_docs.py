"""The pages of docs/ say what happens: their Python sessions and commands are run, their output compared."""

import doctest
import logging
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lhc_ref.cli
import runtime.cli
from lhc_ref.tape import VJPS
from runtime import threads
from runtime.kernel_cache import KEPT
from runtime.kernels.machine import MACHINE

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


# --- Examples with the files of `make demo` ---------------------------------------------------------------------------

DEMO = re.compile(r"^```console demo\n(.*?)^```$", re.M | re.S)
COMMAND = re.compile(r"^\$ lhc-run (.*)\n((?:(?!\$ ).*\n)*)", re.M)
EXAMPLES = COMMAND.findall("".join(DEMO.findall((DOCS / "commands.md").read_text("utf-8"))))
QUICK = "--conv lhc-free --seed 0 --epochs-coarse 2 --epochs-fine 1 --enable-epochs 1 --ramp-epochs 1"


PICTURES = re.compile(r"^ *([#.]{1,7}|[\d.]+%)( +([#.]{1,7}|[\d.]+%))+ *$\n?", re.M)
NUMBERS = re.compile(
    r"(?<![a-z_\d.])(\d[\d,]*\.\d+|\d[\d,]*(?![\dx,.]))(e-?\d+)?( (us|ms|s)\b)?"
)  # shapes stay: 8x8x32


def without_numbers(text):
    """The text with one zero for each number that training or a clock makes, and without pictures of patterns."""
    return NUMBERS.sub("0", PICTURES.sub("", text))


def same_but_for_numbers(want, got):
    return doctest.OutputChecker().check_output(without_numbers(want), without_numbers(got), ROUGHLY)


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory):
    """What the examples take for granted, of the net of `make demo` after a short training."""
    folder = tmp_path_factory.mktemp("demo")
    for command in (
        f"train --out {folder}/run --data digits {QUICK}",
        f"export {folder}/run {folder}/build/demo/lhc-0.lhc",
        f"data digits {folder}/build/demo/test.npz",
    ):
        (folder / "build" / "demo").mkdir(parents=True, exist_ok=True)
        assert lhc_ref.cli.main(command.split()) == 0
    for i, image in enumerate(np.load(folder / "build" / "demo" / "test.npz")["x"][:2]):
        Image.fromarray(image.reshape(8, 8).astype(np.uint8)).save(folder / f"digit{i}.png")
    return folder


@pytest.mark.skipif(MACHINE.name != "AVX-512", reason="the examples name the kernels of a machine with AVX-512")
@pytest.mark.parametrize(("command", "output"), EXAMPLES)
def test_what_commands_print_of_the_demo_is_as_the_page_says(command, output, demo_folder, monkeypatch, capsys):
    monkeypatch.chdir(demo_folder)
    monkeypatch.setattr(threads, "available_cores", lambda: 2)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert runtime.cli.main(command.split()) == 0
    got = capsys.readouterr().out
    assert same_but_for_numbers(output, got), got


def test_examples_that_differ_in_more_than_numbers_are_found():
    assert same_but_for_numbers("conv1  8x8x32  0.458  14.0x  ...\n", "conv1 8x8x32 0.1  2.25x why\n")
    assert same_but_for_numbers(
        "ran 3 in 1.5 ms\n  ##.  ..#\n  50.0%  1%\nend", "ran 4 in 27 us\n  ###  ...  .#.\n  50.0%  1%  1%\nend"
    )
    assert not same_but_for_numbers("8x8x32\n", "8x8x33\n")
    assert not same_but_for_numbers("conv1\npool  8x8\n", "conv1+pool  8x8\n")
    assert not same_but_for_numbers("f32_conv2d_images_rows_3x8__cpu\n", "f32_conv2d_images_rows_6x4__cpu\n")


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
