"""What is made of the facts: the page's structure, the text, CSV and PNG. No browser is needed; see test_browser."""

import csv
import io
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from runtime.bench import charts, markup, page, pictures, sections, tables
from runtime.bench.scaling import Amdahl
from tests.runtime.bench import found

VOID = {"meta", "br", "rect", "path", "circle"}


class Reader(HTMLParser):
    """Checks that tags close in order; collects texts of tags, links, and rows of tables."""

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.texts, self.rows, self.values = [], [], {}, [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.links += [value for key, value in attrs if key in ("src", "href", "xlink:href", "action")]
        self.values += [value for key, value in attrs if key == "data-v"]
        if tag == "tr":
            self.rows.append([])
        if tag not in VOID or tag == "rect":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == "rect" and tag != "rect":
            self.open.pop()
        if tag in VOID and tag != "rect":
            return
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)
            if self.open[-1] == "td":
                self.rows[-1].append(data)


def test_the_page_stands_alone():
    text = page.render(found.facts())
    reader = Reader(text)
    assert reader.links == []
    assert not re.search(r"https?:|@import|url\(|<link|<img|fetch\(", text)
    assert text.startswith("<!DOCTYPE html>")
    assert 'name="viewport"' in text
    assert "prefers-color-scheme: dark" in text


def test_the_page_shows_every_subject_with_a_plot():
    text = page.render(found.facts())
    titles = Reader(text).texts["h2"][1:]
    assert titles[:6] == ["Engines", "Memory", "Threads", "Roofline", "Layers", "Break-even density"]
    assert titles[6:] == ["Layers in numbers", "Break-even in numbers"]
    assert text.count("<svg") == 6
    assert text.count("<table") == 5


def test_the_page_tells_what_was_measured():
    reader = Reader(page.render(found.facts()))
    assert reader.texts["b"][:5] == ["2 ms", "4,000", "3.00x", "4.00x", "12.5%"]
    (layer,) = [row for row in reader.rows if row and row[0] == "conv1 +1"]
    assert layer[:7] == ["conv1 +1", "100.0", "400.0", "4.00", "0.125", "30.0%", "8x8x16 > 8x8x32"]
    assert layer[7:] == ["1.000", "0.125", "0.125", "20.0", "160.0", "50%", "multiply-adds"]
    assert ["conv1+relu1", "f32_conv2d", "density <low>"] in reader.rows
    threads = [row for row in reader.rows if row and row[:2] == ["torch", "2"]]
    assert ["torch", "2", "6.00", "2.00", "100%", "0.0%"] in threads
    assert (
        "Sparsity pays here: with 12.5% of its weights, this net runs 4.00x as fast as with all"
        in reader.texts["h2"][0]
    )


def test_the_page_tells_how_it_was_measured():
    machine = {**found.facts()["machine"], "commit": "abc+changes", "quota_cores": 1.5, "busy_cores_meanwhile": None}
    text = page.render(found.facts(machine=machine))
    for told in (
        "Made by <code>lhc-run bench &#x27;nets/a &lt;net&gt;.lhc&#x27;</code>",
        "lhc 1.2 of commit abc+changes; python 1.2",
        "2 threads for 2 cores, AVX2, CPU quota of 1.5 cores, 40 to 170 ns from core to core",
        "other load 0.00 cores before, not known while engines were timed",
    ):
        assert told in text


def test_names_from_files_are_no_markup():
    text = page.render(found.facts(notes=["<script>alert(1)</script>"]))
    assert "a &lt;net&gt;.lhc" in text
    assert "<net>" not in text
    assert "<script>alert" not in text


def test_layers_that_ran_on_a_gpu_are_not_said_to_be_the_cpus():
    facts = found.facts()
    facts["setup"]["device"] = "cuda:1"
    text = "\n".join(tables.lines(facts))
    assert "layers on cuda:1: MACs" in text
    assert "why each kernel: runtime.load('nets/a <net>.lhc', device='cuda:1').explain(8)" in text
    assert "of a batch goes on cuda:1, medians" in page.render(facts)


def test_an_interrupted_run_has_a_page_of_what_there_is():
    reader = Reader(page.render(found.nothing_measured()))
    assert reader.texts["h2"] == ["Engines"]
    assert "left out: torch: no luck" in reader.texts["li"]
    assert page.INTERRUPTED in reader.texts["li"]
    text = "\n".join(tables.lines(found.nothing_measured()))
    assert "interrupted: this is what was measured until then" in text


def test_the_text_has_every_table():
    text = "\n".join(tables.lines(found.facts(notes=["a CPU quota"])))
    assert "a <net>.lhc: batch 8, latency, on A CPU, 2 threads for 2 cores, AVX2, 40 to 170 ns from core" in text
    assert "  a CPU quota\n" in text
    assert "ours is 3.00x as fast as torch" in text
    assert "  packed weights of ours: 2.0 MiB" in text
    assert "ours is 4.00x as fast as ours-dense" in text
    assert "ours by threads; Amdahl's law fitted: 0.0% serial" in text
    assert re.search(r"conv1 \+1 +f32_conv2d +0\.125 +1,000,000 +125,000 +125,000 +100 us +20\.0 +160\.0 +50%", text)
    assert "layers on 2 threads: MACs" in text
    assert "why each kernel: lhc-run info nets/a <net>.lhc --batch 8" in text
    assert re.search(r"3x3x16x32 +8x8x16 +8x8 +180 us +150 us +torch +always +0\.75", text)


def test_csv_has_a_row_for_each_run_and_each_layer():
    runs = list(csv.DictReader(io.StringIO(tables.csv_of_runs(found.facts()))))
    assert [(row["engine"], row["threads"]) for row in runs][:3] == [("ours", "1"), ("ours", "2"), ("ours-dense", "1")]
    assert float(runs[1]["median_s"]) == 0.002
    assert float(runs[1]["first_run_s"]) == 0.0625
    assert float(runs[1]["peak_bytes"]) == 64 * 2**20
    assert float(runs[1]["relative_difference"]) == 1e-7
    layers = list(csv.DictReader(io.StringIO(tables.csv_of_layers(found.facts()))))
    assert [row["shape"] for row in layers] == ["8x8x16"] * 3
    assert layers[1]["density"] == ""


@pytest.mark.parametrize("facts", [found.facts(), found.nothing_measured()], ids=["whole", "interrupted"])
def test_png_holds_the_plots(facts, tmp_path):
    pictures.write(tmp_path / "plots.png", facts)
    with Image.open(tmp_path / "plots.png") as picture:
        assert picture.width == 13 * 120
        assert len(picture.convert("L").getcolors(256)) > 5


@pytest.mark.parametrize(
    ("most", "ticks"), [(1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (7.0, [0, 2, 4, 6, 8]), (30, [0, 5, 10, 15, 20, 25, 30])]
)
def test_ticks_are_round_numbers_up_to_the_largest(most, ticks):
    assert charts.nice(most) == pytest.approx(ticks)


def test_powers_of_ten_enclose_what_is_drawn():
    assert charts.powers(0.3, 40) == [0.1, 1, 10, 100]


def test_an_axis_of_few_decades_has_more_ticks():
    assert charts.log_ticks(3, 60) == [5, 10, 20, 50]
    assert charts.log_ticks(0.5, 200) == [1, 10, 100]


@pytest.mark.parametrize(
    ("values", "units", "expected"),
    [
        ([2e-4, None, 1.5e-5], markup.TIMES, ("us", ["200.0", "", "15.0"])),
        ([2.5e-3, 1e-5], markup.TIMES, ("ms", ["2.500", "0.010"])),
        ([2e-9], markup.TIMES, ("us", ["0.002"])),
        ([1_500_000, 20_000], markup.COUNTS, ("M", ["1.500", "0.020"])),
        ([999, None], markup.COUNTS, ("", ["999", ""])),
        ([None], markup.COUNTS, ("", [""])),
    ],
)
def test_a_column_has_one_unit_and_as_many_decimals(values, units, expected):
    unit, cells = markup.scaled(values, units)
    assert (unit, [text for text, _ in cells]) == expected
    assert [key for _, key in cells] == [-1 if value is None else value for value in values]


def test_many_layers_are_not_all_drawn():
    rows = [found.layer(f"conv{i}", 0.5, 1e-4 * (i + 1)) for i in range(30)]
    text = sections.layer_times(found.facts(layers=rows))
    assert "The 20 slowest layers; 10 others are in the table." in text
    assert ">conv29<" in text
    assert ">conv9<" not in text


def test_a_bar_is_as_long_as_its_value():
    svg = charts.bars([charts.Bar("a", 2.0, "2", "ours"), charts.Bar("b", 1.0, "1", "")], "two")
    widths = [float(w) for w in re.findall(r'class="bar [^>]*width="([0-9.]+)"', svg)]
    assert widths[0] == pytest.approx(2 * widths[1], rel=0.01)


def test_amdahl_curve_of_the_fit():
    assert Amdahl(2.0, 0.5).seconds(2) == 1.5
