"""Recipes: the published rows as stated, one way to change them, nonsense refused."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from defocus_ds.errors import ConfigError
from defocus_ds_train.recipe import EXECUTION_KEYS, Recipe, load_recipe, recipe_names
from defocus_ds_train.recipe import recipe_differences as differences

PUBLISHED = {
    "synthetic-l1": (0.0, 100),
    "synthetic-q-0.001": (0.001, 100),
    "synthetic-q-0.01": (0.01, 100),
    "synthetic-q-0.05": (0.05, 100),
    "synthetic-q-0.1": (0.1, 100),
    "real-l1": (0.0, 100),
    "real-q": (0.1, 55),
}


def test_one_recipe_a_published_row() -> None:
    assert set(recipe_names()) == {*PUBLISHED, "smoke", "toy-l1", "toy-q"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_rows_are_as_the_paper_states_them(name: str) -> None:
    recipe = load_recipe(name)
    beta, epochs = PUBLISHED[name]
    assert (recipe.beta, recipe.epochs, recipe.batch) == (beta, epochs, 32)
    assert (recipe.first_rate, recipe.last_rate) == (1e-4, 1e-12)
    assert (recipe.filters, recipe.size) == ((16, 32, 64, 128), 128)
    assert recipe.start == ("best" if beta else "scratch")
    if name.startswith("synthetic"):
        assert recipe.images * recipe.crops_per_image == 134_400
        assert (recipe.source, recipe.blur, recipe.blur_px) == ("images", "average", 5)
    else:
        assert (recipe.source, recipe.level, recipe.crops) == ("dataset", "low", 77_000)
    assert recipe.hold_epochs == (35 if name == "real-q" else 0)


@pytest.mark.parametrize("name", recipe_names())
def test_names_no_key_that_is_the_default_of_another_name(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert load_recipe(name) == recipe


def test_settings_win_and_are_judged_together() -> None:
    recipe = load_recipe("real-q", ["epochs=3", "hold_epochs=1", "blur_px=2", "name=mine"])
    assert (recipe.epochs, recipe.hold_epochs, recipe.blur_px, recipe.name) == (3, 1, 2.0, "mine")
    assert load_recipe("real-l1", ["epochs=3", "epochs=4"]).epochs == 4
    swapped = load_recipe("real-l1", ["source=images", "blur=disk", "blur_px=3.5"])
    assert (swapped.source, swapped.blur, swapped.blur_px) == ("images", "disk", 3.5)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("epoch=3", "unknown key 'epoch'; did you mean 'epochs'"),
        ("lr=1", "unknown key 'lr'"),
        ("epochs=many", "epochs needs int, got 'many'"),
        ("batch=true", "batch needs int"),
        ("batch=0", "batch = 0: it must lie in"),
        ("first_rate=nan", "first_rate = nan"),
        ("last_rate=1", "last_rate = 1.0 exceeds first_rate"),
        ("fall=step", "one of cosine, exponential, linear"),
        ("blur=disk", "set blur = none"),
        ("source=images", "give blur = average"),
        ("accumulate=5", "does not divide batch = 32"),
        ("hold_epochs=100", "leaves none of 100 epochs"),
        ("name=../up", "letters, digits"),
        ("nonsense", "write key=value"),
    ],
)
def test_nonsense_is_refused_with_the_way_out(setting: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        load_recipe("real-l1", [setting])


def test_a_box_of_even_width_is_refused() -> None:
    with pytest.raises(ConfigError, match="odd 1 to 31"):
        load_recipe("synthetic-l1", ["blur_px=4"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [("real-11", "did you mean real-l1"), ("zzz", "known: "), ("absent.toml", "cannot be read")],
)
def test_an_unknown_recipe_names_the_nearest(name: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        load_recipe(name)


def test_a_file_is_a_recipe(tmp_path: Path) -> None:
    file = tmp_path / "wide.toml"
    file.write_text("width = 32\nfirst_rate = 1\n")
    recipe = load_recipe(file)
    assert (recipe.name, recipe.filters) == ("wide", (32, 64, 128, 256))
    assert recipe.first_rate == 1.0
    file.write_text("width = ")
    with pytest.raises(ConfigError, match=r"wide\.toml"):
        load_recipe(file)
    file.write_text("widht = 2")
    with pytest.raises(ConfigError, match=r"wide\.toml: unknown key 'widht'; did you mean 'width'"):
        load_recipe(file)


@given(
    rate=st.floats(1e-20, 1e-2),
    beta=st.floats(0, 1),
    epochs=st.integers(1, 1000),
    augment=st.booleans(),
    blur=st.sampled_from(["average", "disk", "gaussian"]),
)
def test_the_snapshot_reads_back_equal(
    rate: float, beta: float, epochs: int, augment: bool, blur: str
) -> None:
    recipe = Recipe(
        first_rate=rate,
        last_rate=rate / 2,
        beta=beta,
        epochs=epochs,
        augment=augment,
        source="images",
        blur=blur,
        blur_px=3.0,
    )
    assert Recipe(**tomllib.loads(recipe.as_toml())) == recipe


def test_the_digest_names_what_is_learned() -> None:
    recipe = load_recipe("smoke")
    table = recipe.as_dict()
    changed = {
        "precision": "bf16",
        "channels_last": False,
        "compile": "off",
        "log_every": 7,
        "save_every": 7,
    }
    assert set(changed) == set(EXECUTION_KEYS)
    same = Recipe(**(table | changed | {"name": "other"}))
    assert same.digest() == recipe.digest()
    assert differences(recipe, same) == []
    other = Recipe(**(table | {"seed": 1, "beta": 0.5}))
    assert other.digest() != recipe.digest()
    assert differences(recipe, other) == ["seed: 0 -> 1", "beta: 0.0 -> 0.5"]
