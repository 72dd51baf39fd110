"""The page's style and its few lines of script."""

CSS = """
:root { color-scheme: light dark;
  --ground: #f6f7f9; --card: #fff; --ink: #1b2430; --soft: #5b6675; --rule: #dde2e8; --bar: #b9c3cf;
  --ours: #1f5fd0; --c1: #b45309; --c2: #0f766e; --c3: #8b3fc0; --c4: #be185d; --c5: #4d7c0f; --warn: #fff4dc;
  --warn-ink: #7a4b00; --inner: rgba(255, 255, 255, .55); --shade: rgba(27, 36, 48, .16); }
@media (prefers-color-scheme: dark) { :root {
  --ground: #10151c; --card: #19212b; --ink: #e6ebf2; --soft: #9aa7b8; --rule: #2c3846; --bar: #4a5869;
  --ours: #6ea8ff; --c1: #f0a44b; --c2: #3fc5b3; --c3: #c593f0; --c4: #f472b0; --c5: #a3d14f; --warn: #3a2e12;
  --warn-ink: #ffdb94; --inner: rgba(0, 0, 0, .45); --shade: rgba(0, 0, 0, .6); } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 20px 16px 48px; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 8px 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 0 0 2px; }
p { margin: 0 0 10px; }
.soft, .card > p, footer { color: var(--soft); font-size: .9rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 18px 0; }
.tile, .card { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; }
.tile { padding: 12px 14px; }
.tile b { display: block; font-size: 1.5rem; line-height: 1.25; font-weight: 650; font-variant-numeric: tabular-nums; }
.tile.first b { color: var(--ours); }
.tile span { color: var(--soft); font-size: .85rem; }
.notes { background: var(--warn); color: var(--warn-ink); border-radius: 10px;
  padding: 10px 14px 10px 32px; margin: 0 0 16px; }
.notes li { overflow-wrap: anywhere; }
.grid2 { column-gap: 16px; column-count: 1; }
.card { padding: 16px; margin: 0 0 16px; break-inside: avoid; min-width: 0; }
@media (min-width: 900px) { .grid2 { column-count: 2; } .card { padding: 20px 24px; }
  .wide { column-span: all; margin-top: 16px; } }
.verdict { border-left: 4px solid var(--ours); } .verdict h2 { font-size: 1.2rem; line-height: 1.35; }
.reasons { margin: 8px 0 0; padding-left: 20px; } .reasons li { margin: 3px 0; overflow-wrap: anywhere; }
svg { display: block; width: 100%; max-width: 520px; height: auto; margin: 8px auto 0; overflow: visible; }
svg text { font-size: 12px; fill: var(--ink); font-variant-numeric: tabular-nums; }
@media (min-width: 900px) { svg text { font-size: 9.5px; } }
svg text.name { fill: var(--soft); } svg text.mine { font-weight: 650; }
.ghost { fill: none; stroke: var(--bar); stroke-width: 1.25; }
.bar { fill: var(--bar); } .bar.ours { fill: var(--ours); } .inner { fill: var(--inner); }
.whisker { stroke: var(--ink); stroke-width: 1.5; opacity: .75; } .tip { fill: transparent; }
svg .grid { stroke: var(--rule); stroke-width: 1; fill: none; } .tick { stroke: var(--ink); stroke-width: 2.5; }
.line { fill: none; stroke-width: 2.25; stroke-linejoin: round; } .dashed { stroke-dasharray: 5 5; stroke-width: 1.5; }
.line.ours { stroke: var(--ours); } .line.ideal, .line.roof { stroke: var(--soft); } .line.link { stroke: var(--bar); }
.line.c1 { stroke: var(--c1); } .line.c2 { stroke: var(--c2); } .line.c3 { stroke: var(--c3); }
.line.c4 { stroke: var(--c4); } .line.c5 { stroke: var(--c5); }
.mark { stroke: var(--card); stroke-width: 1.5; fill: var(--bar); } .mark.ours { fill: var(--ours); }
.mark.c1 { fill: var(--c1); } .mark.c2 { fill: var(--c2); } .mark.c3 { fill: var(--c3); }
.mark.c4 { fill: var(--c4); } .mark.c5 { fill: var(--c5); }
.mark.hollow { fill: var(--card); stroke: var(--ours); stroke-width: 2; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 4px 16px; padding: 0;
  margin: 10px 0 0; font-size: .85rem; }
.legend li { display: flex; align-items: center; gap: 6px; }
.swatch { width: 12px; height: 12px; border-radius: 3px; background: var(--bar); display: inline-block; }
.swatch.ours { background: var(--ours); } .swatch.c1 { background: var(--c1); } .swatch.c2 { background: var(--c2); }
.swatch.c3 { background: var(--c3); } .swatch.c4 { background: var(--c4); } .swatch.c5 { background: var(--c5); }
.swatch.ideal, .swatch.roof { background: none; border-top: 2px dashed var(--soft); height: 0; }
.swatch.hollow { background: var(--card); border: 2px solid var(--ours); border-radius: 50%; }
.swatch.ghost { background: none; border: 1.5px solid var(--bar); }
.swatch.tick { width: 3px; background: var(--ink); } .swatch.inner { background: var(--ours); opacity: .45; }
.scroll { overflow-x: auto; margin: 10px -16px 0; padding: 0 16px; }
.scroll.wider { background: linear-gradient(to left, var(--shade), transparent) right / 28px 100% no-repeat; }
.scroll.wider.end { background: none; }
.scroll.wider::before { content: "\\2194\\a0 more columns: scroll sideways"; position: sticky; left: 0; display: block;
  width: max-content; color: var(--soft); font-size: .8rem; padding-bottom: 4px; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 6px 8px; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th:first-child, td:first-child, .left { text-align: left; }
td:first-child { position: sticky; left: 0; background: var(--card); font-weight: 550; }
td:first-child, td.left:last-child { overflow-wrap: anywhere; }
td:first-child { min-width: 11.5rem; max-width: 15rem; white-space: normal; }
td.left:last-child { white-space: normal; min-width: 20rem; max-width: 46rem; }
@media (max-width: 600px) { td:first-child { max-width: 8.5rem; min-width: 7rem; } }
tr.ours td:first-child { color: var(--ours); }
th button { all: unset; cursor: pointer; color: var(--soft); font-weight: 600; }
th button:focus-visible { outline: 2px solid var(--ours); border-radius: 3px; }
th[aria-sort] button { color: var(--ink); }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
details { margin-top: 12px; } summary { cursor: pointer; color: var(--soft); }
code { font-size: .85em; overflow-wrap: anywhere; }
footer { margin-top: 24px; }
"""

SCRIPT = """
for (const button of document.querySelectorAll("th button")) button.onclick = () => {
  const th = button.parentNode, table = th.closest("table"), at = th.cellIndex;
  const down = th.getAttribute("aria-sort") === "descending", body = table.tBodies[0];
  for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
  th.setAttribute("aria-sort", down ? "ascending" : "descending");
  const key = row => row.cells[at].dataset.v ?? row.cells[at].textContent;
  const order = (a, b) => { const [x, y] = [key(a), key(b)], d = x - y; return isNaN(d) ? x.localeCompare(y) : d; };
  body.append(...[...body.rows].sort((a, b) => down ? order(a, b) : order(b, a)));
};
const hint = () => { for (const box of document.querySelectorAll(".scroll")) {
  box.classList.toggle("wider", box.scrollWidth > box.clientWidth + 1);
  box.classList.toggle("end", box.scrollLeft + box.clientWidth >= box.scrollWidth - 1);
} };
for (const box of document.querySelectorAll(".scroll")) box.onscroll = hint;
for (const one of document.querySelectorAll("details")) one.ontoggle = hint;
onresize = hint;
hint();
"""
