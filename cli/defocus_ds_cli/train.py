"""``defocus-ds train``: the group of commands that fit, compare and use networks."""

from __future__ import annotations

import importlib

import click

__all__ = ["command"]

# subcommand -> module of this package; imported only when it or its help line is shown
COMMANDS = {"fit": "train_fit", "bench": "train_bench", "export": "train_export"}


class TrainCommands(click.Group):
    """Imports its commands on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"defocus_ds_cli.{COMMANDS[cmd_name]}")
        command: click.Command = module.command
        return command


@click.group(
    "train",
    cls=TrainCommands,
    epilog="Example: defocus-ds train fit smoke --data dataset",
)
def command() -> None:
    """Train restoration networks and compare them.

    \b
    Needs the extra; in your copy of defocus-ds:
    pip install -c constraints.txt -e '.[train]'
    """
