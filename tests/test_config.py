"""One way to configure, and nonsense is refused with the way out."""

import re
import sys
from pathlib import Path

import pytest

from defocus_ds.config import BuildConfig, config_from_dict, load_config
from defocus_ds.errors import ConfigError

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))  # where the page's tables are made

from configuration import with_tables  # noqa: E402

PAGE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


def test_later_sources_win(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('preset = "paper"\nseed = 3\n[register]\niterations = 100\nsampling = 1\n')
    config = load_config(None, file, ["register.iterations=50"], seed=9)
    assert config.preset == "paper"
    assert config.register.iterations == 50
    assert config.register.sampling == 1.0
    assert config.seed == 9


def test_preset_option_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('preset = "paper"\n')
    assert load_config("accurate", file).preset == "accurate"


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("colour.sample=5000", "did you mean 'samples'"),
        ("colour.samples=many", "samples needs int"),
        ("colour.samples=true", "samples needs int"),
        ("colour.samples=5", "colour.samples = 5: it must lie in"),
        ("develop.demosaic=AHDD", "one of AHD"),
        ("develop=1", "develop is a section"),
        ("tile.min_std=nan", "tile.min_std = nan"),
        ("nonsense", "write section.key=value"),
    ],
)
def test_nonsense_is_refused_with_the_way_out(setting: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected.replace("[", r"\[")):
        load_config(settings=[setting])


def test_broken_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "broken.toml"
    file.write_text("a = [")
    with pytest.raises(ConfigError, match=r"broken\.toml"):
        load_config(path=file)


def test_digest_names_what_decides_the_images() -> None:
    base = BuildConfig()
    assert load_config(settings=["colour.iterations=21"]).digest() != base.digest()
    assert load_config(seed=1).digest() != base.digest()
    assert load_config(settings=["limits.decode_timeout_s=10"]).digest() == base.digest()
    assert load_config(settings=["tile.size=64"]).digest("tile") != base.digest("tile")


def test_dict_round_trip() -> None:
    config = load_config("paper", settings=["tile.size=64"], seed=4)
    assert config_from_dict(config.as_dict()) == config


def test_the_page_has_every_key_as_the_code_has_it() -> None:
    """Otherwise run: python benchmarks/configuration.py docs/configuration.md."""
    assert with_tables(PAGE) == PAGE
    wrong = PAGE.replace("| size | `128` |", "| size | `127` |")
    assert wrong != PAGE
    assert with_tables(wrong) == PAGE
    keys = re.findall(r"^\| (\w+) \| `", PAGE, re.M)
    table = BuildConfig().as_dict()
    assert len(keys) == sum(len(v) if isinstance(v, dict) else 1 for v in table.values())


def test_the_example_of_the_page_is_read(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.M | re.S)
    (tmp_path / "mine.toml").write_text(example)
    config = load_config(path=tmp_path / "mine.toml")
    assert (config.seed, config.tile.size, config.develop.demosaic) == (7, 64, "DHT")
