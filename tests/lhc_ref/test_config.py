from dataclasses import fields

import pytest

from lhc_ref.config import TrainConfig, read_toml, resolve, to_toml
from lhc_ref.errors import ConfigError


def test_toml_brings_a_configuration_back(tmp_path):
    config = resolve({"data": 'a "b"\\c é.npz', "groups": [8, 4], "lr": 1e-5, "lr_fine": 1, "seed": 2**62})
    (tmp_path / "c.toml").write_text(to_toml(config), encoding="utf-8")
    assert resolve(read_toml(tmp_path / "c.toml")) == config
    assert config.groups == (8, 4)
    assert isinstance(config.lr_fine, float)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sed": 1}, "got 'sed'. Did you mean 'seed'?"),
        ({"xyzzy": 1}, "got 'xyzzy'. Known are preset, data, model"),
        ({"seed": "1"}, "seed: expected an integer, got '1'"),
        ({"seed": True}, "seed: expected an integer, got True"),
        ({"seed": 1.5}, "seed: expected an integer, got 1.5"),
        ({"flip": 1}, "flip: expected true or false, got 1"),
        ({"preset": "theirs"}, "preset: expected one of sound, authors, got 'theirs'"),
        ({"enabling": "x"}, "enabling: expected one of independent, nested, got 'x'"),
        ({"normalisation": "x"}, "normalisation: expected one of deviation, authors, got 'x'"),
        ({"validation": "x"}, "validation: expected one of split, test, got 'x'"),
        ({"selection": "x"}, "selection: expected one of qualified, accuracy, got 'x'"),
        ({"model": "vgg"}, "model: expected one of digits-cnn, .*, got 'vgg'"),
        ({"width": 0}, "width: expected a number above 0"),
        ({"crop": -1}, "crop: expected at least 0"),
        ({"data": 3}, "data: expected text, got 3"),
        ({"lr": float("nan")}, "lr: expected a finite number, got nan"),
        ({"lr": 0}, "lr: expected a number above 0, got 0.0"),
        ({"groups": [16]}, r"groups: expected 2 integers, got \[16\]"),
        ({"groups": 16}, "groups: expected 2 integers, got 16"),
        ({"groups": [16, 1.5]}, "groups: expected an integer, got 1.5"),
        ({"groups": [0, 1]}, "groups: expected two integers of at least 1"),
        ({"conv": "lhc"}, "conv: expected one of standard, lhc-free, lhc-rigid, .*, got 'lhc'"),
        ({"decay": "step"}, "decay: expected one of constant, plateau, cosine"),
        ({"dtype": "float16"}, "dtype: expected one of float32, float64"),
        ({"target_density": 0}, "target_density: expected a share above 0 and at most 1"),
        ({"target_density": 1.01}, "target_density: expected a share above 0 and at most 1"),
        ({"momentum": 1}, "momentum: expected a number in"),
        ({"batch": 0}, "batch: expected at least 1"),
        ({"seed": -1}, "seed: expected at least 0"),
        ({"epochs_coarse": 6, "enable_epochs": 6}, "epochs_coarse: expected more than enable_epochs, got 6"),
    ],
)
def test_what_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        resolve(values)


def test_an_ordinary_net_needs_no_warm_up():
    assert resolve({"conv": "standard", "epochs_coarse": 1}).epochs_coarse == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"seed = ", "expected a TOML file"), (b"\xff", "expected a TOML file"), (None, "readable")],
)
def test_files_that_are_not_toml(tmp_path, content, message):
    path = tmp_path / "c.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_toml(path)


def test_every_field_says_what_it_means():
    assert all(f.metadata["help"] for f in fields(TrainConfig))


def test_a_preset_is_where_options_start_from():
    authors = resolve({"preset": "authors", "epochs_fine": 3})
    assert (authors.model, authors.groups, authors.batch, authors.epochs_coarse) == ("vgg16", (32, 16), 256, 100)
    assert (authors.enable_epochs, authors.ramp_epochs, authors.lr, authors.lr_fine) == (20, 20, 0.1, 0.01)
    assert (authors.target_density, authors.decay, authors.stop, authors.flip) == (0.1, "plateau", 20, True)
    assert (authors.validation, authors.normalisation, authors.selection) == ("test", "authors", "accuracy")
    assert authors.epochs_fine == 3
    assert "preset" not in to_toml(authors)
    assert resolve({"preset": "sound"}) == resolve({})
