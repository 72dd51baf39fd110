import io
import json
import os
import re
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from tqdm import tqdm

from lhc_ref import blas, checkpoint, cli, data, modelfile, runs
from lhc_ref.config import read_toml, resolve
from lhc_ref.errors import CheckpointError, ConfigError
from lhc_ref.evaluate import evaluate
from lhc_ref.training import DivergedError, Trainer
from tests.lhc_ref.test_kills import PATIENCE_S, ROOT
from tests.lhc_ref.training_cases import bars, small_config
from tests.tolerances import assert_exact


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return bars(tmp_path_factory.mktemp("data") / "bars.npz")


@pytest.fixture(scope="module")
def folder(images, tmp_path_factory):
    """A run that is done."""
    folder = tmp_path_factory.mktemp("runs") / "done"
    runs.train(small_config(images), folder, show=False)
    return folder


def test_a_folder_tells_the_whole_story(folder, images):
    assert sorted(p.name for p in folder.iterdir()) == [
        "checkpoint.safetensors",
        "config.toml",
        "log.jsonl",
        "masks",
        "result.json",
    ]
    assert resolve(read_toml(folder / "config.toml")) == small_config(images)
    run = runs.load(folder)
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert log == run.trainer.progress.history
    assert len(log) == 7
    result = json.loads((folder / "result.json").read_text())
    assert result["weights_hash"] == run.trainer.net.weights_hash()
    assert result["seconds"] >= 0


def test_a_folder_in_use_is_never_overwritten(folder, images, tmp_path):
    before = {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(ConfigError, match="expected a new or empty folder, got one in use"):
        runs.train(small_config(images), folder)
    assert {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="expected a new or empty folder"):
        runs.train(small_config(images), tmp_path / "file")


def test_a_folder_with_nothing_but_a_killed_processs_leftovers_is_new(images, folder, tmp_path):
    (tmp_path / ".config.toml.0123456789abcdef.tmp").write_text("da")
    result = runs.train(small_config(images), tmp_path, show=False)
    assert result["weights_hash"] == json.loads((folder / "result.json").read_text())["weights_hash"]
    assert not list(tmp_path.glob(".*"))


def test_a_run_that_is_done_gives_its_result_again(folder):
    before = (folder / "checkpoint.safetensors").read_bytes()
    assert runs.resume(folder, show=False) == json.loads((folder / "result.json").read_text())
    assert (folder / "checkpoint.safetensors").read_bytes() == before


def test_resume_cleans_up_and_rewrites_the_log(images, folder, tmp_path, monkeypatch):
    """Stopped after the log's line but before the checkpoint of an epoch, with a half-written file left over."""
    config = small_config(images)
    saves = []

    def failing(path, arrays, value):
        if len(saves) == 3:
            raise KeyboardInterrupt
        saves.append(path)
        save(path, arrays, value)

    save = checkpoint.save
    monkeypatch.setattr(checkpoint, "save", failing)
    with pytest.raises(KeyboardInterrupt):
        runs.train(config, tmp_path / "r", show=False)
    monkeypatch.undo()
    (tmp_path / "r" / ".checkpoint.safetensors.0123456789abcdef.tmp").write_bytes(b"half")
    with open(tmp_path / "r" / "log.jsonl", "a") as f:
        f.write('{"stage": "coarse", "epo')
    result = runs.resume(tmp_path / "r", show=False)
    assert result["weights_hash"] == json.loads((folder / "result.json").read_text())["weights_hash"]
    assert not list((tmp_path / "r").glob(".*"))
    assert (tmp_path / "r" / "log.jsonl").read_text() == (folder / "log.jsonl").read_text()


def test_divergence_keeps_the_last_good_state(images, tmp_path, monkeypatch):
    """The loss is spoilt in the third epoch: the checkpoint is that of the end of the second."""
    step = Trainer.step

    def spoiling(trainer):
        if trainer.progress.epoch == 2 and trainer.progress.step == 5:
            trainer.net.weights["stem.kernel"][...] = np.nan
        return step(trainer)

    monkeypatch.setattr(Trainer, "step", spoiling)
    with pytest.raises(
        DivergedError, match=r"epoch 2, step 5.* the last good state is kept in .*checkpoint\.safetensors"
    ):
        runs.train(small_config(images), tmp_path / "r", show=False)
    kept = runs.load(tmp_path / "r").trainer
    assert (kept.progress.epoch, kept.progress.step) == (2, 0)
    assert all(np.isfinite(w).all() for w in kept.net.weights.values())


def test_ctrl_c_saves_says_how_to_go_on_and_goes_on(images, folder, tmp_path):
    """A real process and a real signal, in the middle of an epoch."""
    config = tmp_path / "r" / "config.toml"
    config.parent.mkdir()
    config.write_bytes((folder / "config.toml").read_bytes())
    code = (
        "import sys; from lhc_ref import cli, training\n"
        "step = training.Trainer.step\n"
        "def telling(trainer):\n"
        "    record = step(trainer); print('step', flush=True); return record\n"
        "training.Trainer.step = telling\n"
        "sys.argv = ['lhc-ref', 'train', '--resume', sys.argv[1]]\n"
        "sys.exit(cli.entry())"
    )
    command = [sys.executable, "-c", code, str(config.parent)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:
        for _ in range(15):
            process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert f"Go on with: lhc-ref train --resume {config.parent}" in errors
    progress = runs.load(config.parent).trainer.progress
    assert progress.epoch * 11 + progress.step >= 15
    result = runs.resume(config.parent, show=False)
    assert result["weights_hash"] == json.loads((folder / "result.json").read_text())["weights_hash"]


def test_training_leaves_signal_handlers_as_they_were_and_works_in_a_thread(images, tmp_path):
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    config = small_config(images, epochs_coarse=3, epochs_fine=0)
    results = [runs.train(config, tmp_path / "main", show=False)]
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
    thread = threading.Thread(target=lambda: results.append(runs.train(config, tmp_path / "thread", show=False)))
    thread.start()
    thread.join()
    assert results[0]["weights_hash"] == results[1]["weights_hash"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Eager(tqdm):
    """Writes its line at every step."""

    def __init__(self, **options):
        super().__init__(mininterval=0, **options)


def test_80_columns_tell_loss_accuracy_rate_and_density(images, tmp_path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(runs, "tqdm", Eager)
    runs.train(small_config(images), tmp_path / "r")
    told = r" *\d+% \d\d:\d\d, coarse 2: loss \d\.\d\d, acc \d+\.\d%, rate 0\.\d+, last density \d\.\d{3}"
    lines = [found for line in terminal.getvalue().split("\r") if (found := re.match(told, line))]
    assert lines
    assert max(found.end() for found in lines) < 80


def test_what_is_no_run(folder, tmp_path, images):
    with pytest.raises(CheckpointError, match=r"expected the folder of a run, got none with config\.toml"):
        runs.load(tmp_path)
    (tmp_path / "config.toml").write_bytes((folder / "config.toml").read_bytes())
    with pytest.raises(CheckpointError, match="expected a checkpoint, got no such file"):
        runs.load(tmp_path)
    checkpoint.save(tmp_path / "checkpoint.safetensors", *Trainer(small_config(images), data.load(images)).capture())
    with pytest.raises(CheckpointError, match="expected a run that is done, got one in its coarse stage"):
        runs.to_spec(tmp_path)


def test_the_exported_net_classifies_as_the_run_says(folder):
    spec, run = runs.to_spec(folder), runs.load(folder)
    result, dataset = run.trainer.progress.result, run.trainer.dataset
    probabilities = evaluate(spec, {"image": dataset.normalised("test")})[spec.outputs[0]]
    assert (probabilities.argmax(axis=1) == dataset.y["test"]).mean() == result["test_accuracy"]
    assert spec.metadata["density"] == str(result["density"])
    assert spec.metadata["seed"] == "0"
    assert spec.metadata["data"] == "bars.npz"
    assert spec.classes == ("lying", "standing", "slanted")
    assert_exact(np.float32(spec.preprocessing["subtract"]), dataset.subtract)
    assert_exact(np.float32(spec.preprocessing["divide"]), dataset.divide)


# --- The command -----------------------------------------------------------------------------------------------------


def test_the_command_trains_shows_evaluates_and_exports(images, folder, tmp_path, capsys):
    run = str(tmp_path / "run")
    options = tmp_path / "options.toml"
    options.write_text((folder / "config.toml").read_text().replace("seed = 0", "seed = 7"))
    assert cli.main(["train", "--out", run, "--config", str(options), "--seed", "0", "--quiet"]) == 0
    assert json.loads((folder / "result.json").read_text())["weights_hash"] in capsys.readouterr().out
    assert cli.main(["show", run]) == 0
    assert "fine: epoch" in capsys.readouterr().out
    assert cli.main(["evaluate", run, "--split", "test"]) == 0
    assert "test: 24 images, accuracy" in capsys.readouterr().out
    assert cli.main(["export", run, str(tmp_path / "net.lhc")]) == 0
    assert modelfile.load(tmp_path / "net.lhc").classes == ("lying", "standing", "slanted")
    assert cli.main(["data", str(images), str(tmp_path / "test.npz")]) == 0
    with np.load(tmp_path / "test.npz") as split:
        assert_exact(split["x"], data.load(images).x["test"])
        assert split["classes"].tolist() == ["lying", "standing", "slanted"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--groups", "16"], "groups: expected 2 integers"),
        (["--groups", "a,b"], "expected integers as in 16,16"),
        (["--seed", "x"], "invalid int value: 'x'"),
        (["--lr", "nan"], "lr: expected a finite number"),
        (["--data", "none.npz"], "got no such file"),
        (["--model", "vgg"], "model: expected one of"),
        (["--config", "none.toml"], "none.toml: expected a readable file"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(argv, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lhc-ref", "train", "--out", str(tmp_path / "run"), *argv])
    try:
        status = cli.entry()
    except SystemExit as e:
        status = e.code
    assert status == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "run").exists()


def test_resume_takes_no_other_options(folder):
    with pytest.raises(ConfigError, match="--resume: expected no other options, got seed, lr"):
        cli.main(["train", "--resume", str(folder), "--lr", "0.1", "--seed", "1"])


def test_a_resume_under_another_number_of_blas_threads_says_so(images, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(blas, "threads", lambda: 3)
    steps = []

    def stopping(trainer):
        if len(steps) == 20:
            raise KeyboardInterrupt
        steps.append(trainer)
        return step(trainer)

    step = Trainer.step
    monkeypatch.setattr(Trainer, "step", stopping)
    with pytest.raises(KeyboardInterrupt):
        runs.train(small_config(images), tmp_path / "r", show=False)
    monkeypatch.setattr(Trainer, "step", step)
    monkeypatch.setattr(blas, "threads", lambda: 5)
    result = runs.resume(tmp_path / "r")
    text = "".join(capsys.readouterr())
    assert "This run has used 3 BLAS threads and goes on with 5" in text
    assert "OPENBLAS_NUM_THREADS=3" in text
    assert result["blas_threads"] == [3, 5]
    assert runs.resume(tmp_path / "r") == result
    assert "BLAS" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("count", [1, 2])
def test_blas_threads_are_those_that_were_asked_for(count):
    environment = {**os.environ, **dict.fromkeys(blas.VARIABLES, str(min(count, os.cpu_count())))}
    code = "from lhc_ref import blas; print(blas.threads())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=True)
    assert int(done.stdout) == min(count, os.cpu_count())


def test_a_run_by_the_authors_preset_and_flags(images, tmp_path, capsys):
    small = [
        "--model",
        "golden",
        "--groups",
        "4,4",
        "--epochs-coarse",
        "2",
        "--enable-epochs",
        "1",
        "--epochs-fine",
        "1",
    ]
    where = ["--out", str(tmp_path / "r"), "--data", str(images), "--batch", "32", "--no-flip"]
    assert cli.main(["train", "--preset", "authors", *small, *where, "--quiet"]) == 0
    assert "the epoch that the coarse stage chose does not qualify" in capsys.readouterr().out
    config = runs.load(tmp_path / "r").config
    assert (config.validation, config.normalisation, config.flip, config.shift) == ("test", "authors", False, 4)
    assert (config.lr, config.decay, config.model) == (0.1, "plateau", "golden")
