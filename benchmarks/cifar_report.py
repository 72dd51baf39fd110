"""The page about the trainings on CIFAR-10, made from the logs of the runs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import runtime
from benchmarks import patterns
from lhc_ref import data, export, extras, modelfile, runs
from lhc_ref.config import read_toml
from lhc_ref.files import atomic_write, atomic_write_text
from lhc_ref.runs import CONFIG, LOG, RESULT
from runtime.bench import machine
from runtime.bench.timing import interleaved, median

DENSE, COMPARED = "dense", "lhc20"
LEAST_ACCURACY, LARGEST_GAP = 0.80, 0.02  # what we want: of every dense net, and between it and LHC at .2
TIMED_BATCH, TIMING_S = 64, 3.0
CHUNK = 1000  # images of the test split that the runtime gets at once
COLOURS = {"dense": "#444444", "lhc20": "#17406d", "lhc10": "#c2571a"}


RECIPE = (
    "epochs_coarse", "epochs_fine", "enable_epochs", "ramp_epochs", "batch", "lr", "lr_fine", "momentum", "crop",
    "flip", "groups",
)  # fmt: skip
"""What the configuration of a run has in common with that of the others."""


@dataclass(frozen=True)
class RunLog:
    """What is known of a run; nothing where it has not begun."""

    folder: Path | None  # None where only the log of all runs is left of it
    kind: str
    seed: int
    config: dict[str, Any]
    history: list[dict[str, Any]]
    result: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.seed}"

    @property
    def done(self) -> bool:
        return bool(self.result)

    @property
    def epochs(self) -> int:
        """That it is to have."""
        return int(self.config.get("epochs_coarse", 0)) + int(self.config.get("epochs_fine", 0))

    @property
    def state(self) -> str:
        if self.done:
            return "done"
        return f"not finished: {len(self.history)} of {self.epochs} epochs" if self.config else "not begun"


def read(folder: Path, kind: str, seed: int, log_of_all: Path) -> RunLog:
    """The run in a folder; where there is none, what the log of all runs kept of a finished one."""
    if not (folder / CONFIG).exists() and log_of_all.exists():
        stored = _stored(log_of_all, kind, seed)
        if stored.done:
            return stored
    log, result = folder / LOG, folder / RESULT
    return RunLog(
        folder,
        kind,
        seed,
        read_toml(folder / CONFIG) if (folder / CONFIG).exists() else {},
        [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else [],
        json.loads(result.read_text()) if result.exists() else {},
    )


def _stored(log_of_all: Path, kind: str, seed: int) -> RunLog:
    """What `write` has kept of a run."""
    records = [json.loads(line) for line in log_of_all.read_text().splitlines()]
    mine = [
        {key: value for key, value in record.items() if key != "run"}
        for record in records
        if record["run"] == f"{kind}-{seed}"
    ]
    named = {key: record[key] for record in mine for key in ("recipe", "result") if key in record}
    history = [record for record in mine if "epoch" in record]
    return RunLog(None, kind, seed, named.get("recipe", {}), history, named.get("result", {}))


def write(logs: Sequence[RunLog], page: Path, log: Path, speed: Path) -> None:
    """Write the page with its pictures beside it, and all epochs as JSON lines; `note.md` beside them is part of it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"run": run.name, **record}) for run in logs for record in run.history]
    for run in logs:
        if run.done:
            recipe = {key: run.config[key] for key in RECIPE if key in run.config}
            lines += [
                json.dumps({"run": run.name, what: said}) for what, said in (("recipe", recipe), ("result", run.result))
            ]
    atomic_write_text(log, "".join(f"{line}\n" for line in lines))
    page.parent.mkdir(parents=True, exist_ok=True)
    pictures = []
    if any(run.history for run in logs):
        curves(logs, page.with_name("cifar10-curves.png"))
        pictures.append("![Validation accuracy and density by epoch](cifar10-curves.png)")
    stored = log.with_name("patterns.json")
    learned = next((run for run in sorted(logs, key=lambda run: not run.done) if _draws(run)), None)
    if learned:
        atomic_write_text(stored, json.dumps(_patterns(learned), indent=1) + "\n")
    if stored.exists():
        drawn = json.loads(stored.read_text())
        kernels = patterns.from_json(drawn["layers"])
        patterns.draw(kernels, page.with_name("cifar10-patterns.png"), drawn["title"], dpi=80)
        pictures.append("![The patterns of the LHC layers](cifar10-patterns.png)")
    measured = json.loads(speed.read_text()) if speed.exists() else {}
    note = log.with_name("note.md")
    parts = [
        _text(logs, log),
        *([note.read_text()] if note.exists() else []),
        *([_speed_text(measured)] if measured else []),
        *(f"{picture}\n" for picture in pictures),
    ]
    atomic_write_text(page, "\n".join(parts))


def _draws(run: RunLog) -> bool:
    """Whether it is there, a net whose patterns are to be shown, and every channel uses its mask by now."""
    return (
        run.folder is not None
        and run.kind == COMPARED
        and (run.done or (bool(run.history) and run.history[-1]["all_enabled"]))
    )


PAGE = """# Trained on CIFAR-10

VGG16 with batch norm at a quarter of its width, with ordinary and with learnable heterogeneous convolutions. This page
is written by the command below from the logs of its runs; what is not finished is listed as such.

    python -m benchmarks.cifar cifar-10-batches-bin             # trains, or goes on; one process a core
    python -m benchmarks.cifar cifar-10-batches-bin --report    # this page again, from what is there

All runs have one recipe, written down before the first of them:

{recipe}.

Epochs are chosen by the validation split, a tenth of the training images; the test images are looked at once, at the
end of a run. Each run has one BLAS thread.

| run | seed | epochs | best validation | test | density | weights kept | time |
|---|---|---|---|---|---|---|---|
{rows}

{verdicts}

Every epoch of every run is a line of `{log}`; a finished run whose folder is gone is reported from there, and
the picture of patterns is drawn from `patterns.json` beside it.
"""


def _text(logs: Sequence[RunLog], log: Path) -> str:
    """What was done, the table, and whether it is what we want."""
    config = next((run.config for run in logs if run.config), {})
    recipe = ", ".join(f"`{name} = {config.get(name)}`" for name in RECIPE)
    rows = "\n".join(map(_row, logs))
    return PAGE.format(recipe=recipe, rows=rows, verdicts="\n".join([*verdicts(logs), means(logs)]).strip(), log=log)


def _row(run: RunLog) -> str:
    best = max((r["validation_accuracy"] for r in run.history), default=None)
    last = run.result or (run.history[-1] if run.history else {})
    cells = [
        run.kind,
        str(run.seed),
        f"{len(run.history)} of {run.epochs}" if run.config else "none",
        f"{best:.2%}" if best is not None else "",
        f"{run.result['test_accuracy']:.2%}" if run.done else run.state,
        f"{last['density']:.4f}" if last else "",
        f"{run.result['kept']:,} of {run.result['total']:,}" if run.result.get("total") else "",
        f"{run.result['seconds'] / 60:.0f} min" if run.done else "",
    ]
    return f"| {' | '.join(cells)} |"


def verdicts(logs: Sequence[RunLog]) -> list[str]:
    """What we want, and whether it is so."""
    by_name = {(run.kind, run.seed): run for run in logs}
    lines = []
    for seed in sorted({run.seed for run in logs}):
        dense, lhc = by_name[DENSE, seed], by_name[COMPARED, seed]
        wanted = f"- Seed {seed}, dense at least {LEAST_ACCURACY:.0%}: "
        accuracy = dense.result.get("test_accuracy")
        lines.append(
            wanted + (_met(accuracy >= LEAST_ACCURACY, f"{accuracy:.2%}") if dense.done else dense.state) + "."
        )
        wanted = f"- Seed {seed}, LHC at .2 within {100 * LARGEST_GAP:g} points of dense: "
        if dense.done and lhc.done:
            gap = accuracy - lhc.result["test_accuracy"]
            # Why more: accuracies are counts over a count, and 0.82 - 0.80 > 0.02.
            lines.append(wanted + _met(gap <= LARGEST_GAP + 1e-9, f"{100 * gap:.2f} points below") + ".")
        else:
            lines.append(f"{wanted}{(dense if not dense.done else lhc).state}.")
    return lines


def means(logs: Sequence[RunLog]) -> str:
    """The mean of each kind of net over its seeds, with the gap to dense; empty while a run is missing."""
    if not all(run.done for run in logs):
        return ""
    accuracies: dict[str, list[float]] = {}
    for run in logs:
        accuracies.setdefault(run.kind, []).append(run.result["test_accuracy"])
    of_kind = {kind: sum(found) / len(found) for kind, found in accuracies.items()}
    gaps = {kind: 100 * (of_kind[DENSE] - mean) for kind, mean in of_kind.items() if kind != DENSE}
    texts = [f"{DENSE} {of_kind[DENSE]:.2%}"]
    texts += [f"{kind} {of_kind[kind]:.2%}, {gap:.2f} points below" for kind, gap in gaps.items()]
    return f"- Mean over {len(accuracies[DENSE])} seeds: {'; '.join(texts)}."


def _met(ok: bool, figure: str) -> str:
    return f"{'met' if ok else 'NOT met'}, {figure}"


SPEED = """## In the runtime

The finished nets, exported, on {threads} threads ({cpu}), batch {batch}, in turns. Only ratios of times mean much.

| net | test accuracy | by the reference | executed MACs an image | file, bytes | a batch, ms | times faster |
|---|---|---|---|---|---|---|
{rows}
"""


def _speed_text(measured: dict[str, Any]) -> str:
    """What the runtime makes of the finished nets."""
    nets, rows = measured["nets"], []
    for name, net in nets.items():
        dense = nets.get(f"{DENSE}-{name.rpartition('-')[2]}", {}).get("times_s")
        cells = [
            name,
            f"{net['test_accuracy']:.2%}",
            f"{net['test_accuracy_of_reference']:.2%}",
            f"{net['macs_executed']:,}",
            f"{net['file_bytes']:,}",
            f"{1e3 * median(net['times_s']):.2f}",
            f"{median(dense) / median(net['times_s']):.2f}" if dense else "",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    machine_facts = measured["machine"]
    return SPEED.format(
        threads=machine_facts["threads"], cpu=machine_facts["cpu"], batch=measured["batch"], rows="\n".join(rows)
    )


def curves(logs: Sequence[RunLog], path: Path) -> None:
    """A PNG: validation accuracy and density of every run by epoch."""
    figure = extras.plots().Figure(figsize=(9, 4), dpi=110, layout="constrained")
    accuracy, density = figure.subplots(1, 2)
    for run in logs:
        if run.history:
            style = {"color": COLOURS[run.kind], "linestyle": "-" if run.seed == 0 else "--", "label": run.name}
            epochs = range(1, len(run.history) + 1)
            accuracy.plot(epochs, [100 * r["validation_accuracy"] for r in run.history], **style)
            density.plot(epochs, [r["density"] for r in run.history], **style)
    for axes, what in ((accuracy, "validation accuracy, %"), (density, "density of the layers that learn it")):
        axes.set_xlabel("epoch, coarse and then fine")
        axes.set_ylabel(what)
        axes.grid(alpha=0.3)
    density.set_ylim(0, 1.05)
    accuracy.legend(fontsize=8)
    atomic_write(path, lambda file: figure.savefig(file, format="png"))


def _patterns(run: RunLog) -> dict[str, Any]:
    """The patterns that a run has learned so far, for a picture that can be drawn when its net is gone."""
    assert run.folder is not None
    net, dataset = runs.load(run.folder).trainer.net, data.load(run.config["data"])
    spec = export.to_spec(net, preprocessing=None, classes=dataset.classes, metadata={})
    figure = f"test accuracy {run.result['test_accuracy']:.2%}" if run.done else run.state
    title = f"CIFAR-10, {run.name}: density {(run.result or run.history[-1])['density']:.3f}, {figure}"
    return {"title": title, "layers": patterns.to_json(patterns.masked_kernels(spec))}


def measure_speed(logs: Sequence[RunLog], source: str, path: Path) -> None:
    """Export the finished nets, find the runtime's accuracy, and time the nets in turns."""
    there = [(run, run.folder) for run in logs if run.done and run.folder is not None]
    if not there:
        return
    dataset = data.load(source)
    images, labels = dataset.normalised("test"), dataset.y["test"]
    models: dict[str, runtime.Model] = {}
    measured: dict[str, dict[str, Any]] = {}
    for run, folder in there:
        file = folder / "net.lhc"
        modelfile.save(file, runs.to_spec(folder, softmax=False))
        model = models[run.name] = runtime.load(file)
        logits = np.concatenate([model.run(images[i : i + CHUNK]) for i in range(0, len(images), CHUNK)])
        rows = model.explain(TIMED_BATCH).rows
        measured[run.name] = {
            "test_accuracy": float((logits.argmax(axis=1) == labels).mean()),
            "test_accuracy_of_reference": run.result["test_accuracy"],
            "macs_nominal": sum(row.macs_nominal for row in rows),
            "macs_executed": sum(row.macs_executed for row in rows),
            "file_bytes": file.stat().st_size,
        }
    batch = images[:TIMED_BATCH]
    samples = interleaved({name: (lambda m=model: m.run(batch)) for name, model in models.items()}, TIMING_S)
    for name, times in samples.items():
        measured[name]["times_s"] = times
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine.facts(), "busy_cores": machine.busy_cores(), "batch": TIMED_BATCH, "nets": measured}
    atomic_write_text(path, json.dumps(report, indent=1) + "\n")
