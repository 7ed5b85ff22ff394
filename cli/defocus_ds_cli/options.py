"""Options that mean the same in every command that has them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

__all__ = [
    "config_options",
    "echo_json",
    "existing_file",
    "existing_path",
    "jobs_option",
    "json_option",
    "review_option",
    "settings_options",
]

F = TypeVar("F", bound=Callable[..., Any])

existing_path = click.Path(exists=True, path_type=Path)
existing_file = click.Path(exists=True, dir_okay=False, path_type=Path)


def config_options(function: F) -> F:
    """``--preset --config --set --seed``, the four ways to configure.

    The command receives ``preset``, ``config``, ``settings`` and ``seed``, the arguments of
    `defocus_ds.config.load_config`.
    """
    seed = click.option(
        "--seed",
        type=int,
        metavar="N",
        help="Seed of every random choice; the same seed gives the same bytes.",
    )
    preset = click.option(
        "--preset",
        type=click.Choice(["accurate", "paper"]),
        help="accurate: blur-matched (default). paper: as the MMSP 2024 paper did.",
    )
    return preset(settings_options("register.iterations=500")(seed(function)))


def settings_options(example: str) -> Callable[[F], F]:
    """``--config --set``; the command receives ``config`` and ``settings``.

    Args:
        example: of a setting that matters to the command.
    """
    setting = click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help=f"Override one value, e.g. --set {example}. Repeatable.",
    )
    file = click.option(
        "--config",
        "config",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE.toml",
        help="Configuration file; --set wins over it.",
    )
    return lambda function: file(setting(function))


def jobs_option(function: F) -> F:
    """``--jobs N|auto``; the command receives an int >= 1, or None for auto."""
    return click.option(
        "--jobs",
        default="auto",
        metavar="N|auto",
        show_default=True,
        callback=_parse_jobs,
        help="Worker processes; auto chooses by cores and free memory.",
    )(function)


def review_option(function: F) -> F:
    """``--review FILE.csv``: what a person rejected on the report's page."""
    return click.option(
        "--review",
        type=existing_file,
        metavar="FILE.csv",
        help="Leave out the pairs that a person rejected on the report's page (review.csv).",
    )(function)


def json_option(function: F) -> F:
    """``--json``; the command receives ``as_json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print the result as JSON on stdout."
    )(function)


def echo_json(value: Any) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False))


def _parse_jobs(_context: click.Context, _parameter: click.Parameter, value: str) -> int | None:
    if value == "auto":
        return None
    try:
        jobs = int(value)
    except ValueError:
        jobs = 0
    if jobs < 1:
        raise click.BadParameter(f"{value!r}: give a whole number of at least 1, or auto.")
    return jobs
