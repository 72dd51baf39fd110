"""The page in a real browser: at the width of a phone and of a desk, light and dark, and its tables sort."""

import json
import re
import shutil
import subprocess
from html import escape, unescape

import pytest

from runtime.bench import page
from tests.runtime.bench import found

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
QUIET = ("gpu", "quic", "background-networking", "component-update", "sync")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--virtual-time-budget=3000",
    *(f"--disable-{x}" for x in QUIET),
)
WIDTHS = {"phone": 390, "desk": 1280}  # Why frames: no window of Chromium is narrower than 500 pixels
LIGHT, DARK = 1, 0  # as Chromium's setting preferredColorScheme numbers them

ASK = """
const facts = {};
for (const frame of document.querySelectorAll("iframe")) {
  const page = frame.contentDocument, style = one => frame.contentWindow.getComputedStyle(one);
  const layers = [...page.querySelectorAll(".card")].find(card => card.textContent.startsWith("Layers in numbers"));
  const button = [...layers.querySelectorAll("th button")].find(one => one.textContent.startsWith("time"));
  const order = () => [...layers.querySelector("tbody").rows].map(row => row.cells[0].textContent);
  const box = layers.querySelector(".scroll");
  const ends = [box.classList.contains("wider"), box.classList.contains("end")];
  const click = () => { button.click(); return [order(), button.parentNode.getAttribute("aria-sort")]; };
  facts[frame.id] = {
    width: page.documentElement.scrollWidth,
    ground: style(page.body).backgroundColor, ink: style(page.body).color,
    columns: Number(style(page.querySelector(".grid2")).columnCount), hinted: ends,
    overflows: box.scrollWidth > box.clientWidth,
    letters: [...page.querySelectorAll("svg")].map(svg => parseFloat(style(svg.querySelector("text")).fontSize)
      * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width),
    outside: [...page.querySelectorAll("svg")].filter(
      svg => svg.getBoundingClientRect().right > frame.clientWidth).length,
    before: order(), sorted: [click(), click()],
  };
}
document.body.textContent = "FOUND" + JSON.stringify(facts) + "END";
"""


@pytest.fixture(scope="module", params=[LIGHT, DARK], ids=["light", "dark"])
def seen(request, tmp_path_factory):
    """(scheme, what the browser says of the page) by width."""
    if BROWSER is None:
        pytest.skip("no Chromium: the page was not seen in a browser. On Debian: apt-get install chromium")
    folder = tmp_path_factory.mktemp("browser")
    text = escape(page.render(found.facts()))
    frames = "".join(
        f'<iframe id="{name}" style="border:0;width:{width}px;height:900px" srcdoc="{text}"></iframe>'
        for name, width in WIDTHS.items()
    )
    (folder / "page.html").write_text(f"<!DOCTYPE html><body>{frames}<script>onload = () => {{{ASK}}}</script></body>")
    profile = f"--user-data-dir={folder / 'profile'}"
    scheme = f"--blink-settings=preferredColorScheme={request.param}"
    command = [
        BROWSER,
        *FLAGS,
        profile,
        scheme,
        "--virtual-time-budget=3000",
        "--window-size=1400,1000",
        "--dump-dom",
        str(folder / "page.html"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    facts = re.search("FOUND(.*)END", done.stdout, re.DOTALL)
    assert facts, done.stderr[-2000:]
    return request.param, json.loads(unescape(facts[1]))


@pytest.mark.parametrize("name", WIDTHS)
def test_nothing_is_wider_than_the_page(seen, name):
    assert seen[1][name]["width"] <= WIDTHS[name]
    assert seen[1][name]["outside"] == 0


def test_a_phone_has_one_column_and_a_desk_two(seen):
    assert [seen[1][name]["columns"] for name in WIDTHS] == [1, 2]


@pytest.mark.parametrize("name", WIDTHS)
def test_letters_in_plots_can_be_read(seen, name):
    assert all(10 <= size <= 16 for size in seen[1][name]["letters"])


@pytest.mark.parametrize("name", WIDTHS)
def test_tables_that_do_not_fit_say_so(seen, name):
    assert seen[1][name]["overflows"] or name == "desk"
    assert seen[1][name]["hinted"] == [seen[1][name]["overflows"], not seen[1][name]["overflows"]]


def luminance(colour):
    """Relative luminance by WCAG 2.1 of `rgb(r, g, b)`."""
    parts = [int(part) / 255 for part in re.findall("[0-9]+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_follow_the_scheme_with_contrast(seen):
    scheme, facts = seen
    ground, ink = (luminance(facts["desk"][key]) for key in ("ground", "ink"))
    assert (ground > ink) == (scheme == LIGHT)
    assert (max(ground, ink) + 0.05) / (min(ground, ink) + 0.05) >= 7  # WCAG's level AAA


def test_a_click_sorts_a_table_by_numbers_and_another_turns_it_round(seen):
    facts = seen[1]["desk"]
    assert facts["before"] == ["conv1 +1", "pool", "conv2"]
    assert facts["sorted"] == [
        [["conv2", "conv1 +1", "pool"], "descending"],
        [["pool", "conv1 +1", "conv2"], "ascending"],
    ]
