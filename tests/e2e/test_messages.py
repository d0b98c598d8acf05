"""A message says all that is allowed, what the nearest name is, and from where a path counts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
from typed_commands import call

from cryossl.config import NetworkSettings, fields
from cryossl.config_file import build
from cryossl.errors import ConfigError
from cryossl.network.architecture import build as build_network
from cryossl.setting import allowed_text


def refusal(*words: str) -> str:
    done = call(*words)
    assert (done.code, done.err.count("\n")) == (2, 1)
    return done.err.removeprefix("cryossl: error: ").rstrip("\n")


@pytest.mark.parametrize(
    ("setting", "value", "allowed"),
    [
        ("device", "gpu", "`auto`, `cpu`, `cuda`, `mps`"),
        ("architecture", "uent", "`unet`, `unetplusplus`, `fpn`, `manet`, `linknet`"),
        ("batch_size", "abc", "whole number >= 1, <= 65536"),
        ("batch_size", "70000", "whole number >= 1, <= 65536"),
        ("tile_px", "-1", "whole number >= 0, <= 8192"),
        ("ratio", "101", "number > 0, <= 100"),
        ("border", "wide", "`auto` or whole number >= 0, < 2147483648"),
        ("target_particle_ratio", "3", "`measured` or number > 0, < 1"),
        ("audit", "perhaps", "`true`, `false`"),
        ("views", "3", "`1`, `4`, `8`"),
        ("name", "a b", "text that matches `^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`"),
    ],
)
def test_a_refused_value_is_told_all_that_is_allowed_once(setting, value, allowed):
    said = refusal("run", f"--{setting.replace('_', '-')}", value)
    shown = value if setting == "views" else repr(value)
    assert said == f"{setting}: {shown} is not allowed, it may be {allowed}"


def test_every_setting_can_say_what_is_allowed():
    assert all(allowed_text(field) for _, field in fields().values())


def test_an_unknown_strategy_is_told_all_there_are():
    said = refusal("run", "--strategies", "naiv")
    assert all(base in said for base in ("class_balanced", "noisy_student", "supervised_long"))


def test_an_unknown_encoder_is_told_the_nearest_and_how_many_there_are():
    with pytest.raises(ConfigError) as caught:
        build_network(NetworkSettings(encoder="resnet43"), seed=0)
    said = str(caught.value)
    assert said.startswith("there is no encoder 'resnet43'; did you mean resnet")
    shown, others = re.findall(r"there are (.*) and (\d+) others", said)[0]
    known = [name for name in smp.encoders.get_encoder_names() if name[:3] != "tu-"]
    assert set(shown.split(", ")) <= set(known)
    assert len(shown.split(", ")) + int(others) == len(known)
    assert len(said) < 300
    with pytest.raises(ConfigError, match=r"did you mean resnet34.* and tu-NAME for each model"):
        build_network(NetworkSettings(encoder="tu-resnet43"), seed=0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("learning_rte: 3", "unknown setting 'learning_rte'; did you mean learning_rate?"),
        ("trainig:\n  batch_size: 2", "unknown setting 'trainig'; did you mean training or"),
        (
            "training:\n  batchsize: 2\n  zzz: 1",
            "unknown settings 'batchsize', 'zzz'; did you mean batch_size?",
        ),
    ],
)
def test_unknown_settings_of_a_config_file_are_told_the_nearest(text, said, tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    assert refusal("run", "--config", str(file)).startswith(said)


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (("run", "--ratoi", "5"), "--ratio"),  # what `mlflow run -P ratoi=5` types
        (("run", "--learning_rte", "1"), "--learning-rate"),
        (("compare", "--experimnt", "x"), "--experiment"),
        (("compar",), "compare"),
        (("data", "chek"), "check"),
    ],
    ids=str,
)
def test_unknown_options_and_commands_are_told_the_nearest(words, nearest):
    assert nearest in refusal(*words).partition("Did you mean")[2]


def test_a_relative_path_says_from_where_it_counts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = f"(a relative path counts from {Path.cwd()})"
    for words in (
        ("run", "--data", "absent", "--dry-run"),
        ("run", "--config", "absent.yaml"),
        ("data", "show", "absent"),
    ):
        assert here in refusal(*words)
    assert here in call("data", "check", "absent").out
    assert here in call("status").err
    assert "counts from" not in refusal("run", "--data", "/absent", "--dry-run")


def test_an_unknown_setting_of_a_caller_is_told_the_nearest():
    with pytest.raises(ConfigError, match="did you mean seed"):
        build({"sed": 1})
