"""The ``defocus-ds`` command: finds the subcommand, turns our errors into one line."""

from __future__ import annotations

import importlib
from typing import Any

import click

__all__ = ["main"]

# command -> module of this package; imported only when the command or its help line is shown
COMMANDS = {
    "simulate": "simulate",
    "scan": "scan",
    "build": "build",
    "status": "status",
    "register": "register",
    "match-colour": "match_colour",
    "crop": "crop",
    "import": "import_images",
    "split": "split",
    "verify": "verify",
    "diff": "diff",
    "release": "release",
    "export": "export",
    "report": "report",
    "score": "score",
    "measure": "measure",
    "weights": "weights",
    "train": "train",
    "restore": "restore",
}


class Commands(click.Group):
    """Imports commands on first use, lists them in pipeline order, makes errors one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"defocus_ds_cli.{COMMANDS[cmd_name]}")
        command: click.Command = module.command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        from defocus_ds.errors import DefocusError, InputError

        try:
            return super().invoke(ctx)
        except DefocusError as error:
            click.echo(f"defocus-ds: {error}", err=True)
            ctx.exit(2 if isinstance(error, InputError) else 1)
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(130)
        except OSError as error:  # a path that cannot be read or written; str() names it
            click.echo(f"defocus-ds: {error}", err=True)
            ctx.exit(2)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with: defocus-ds simulate shoot --size 1488x992 && defocus-ds build shoot -o "
    "dataset",
)
@click.version_option(package_name="defocus-ds", prog_name="defocus-ds")
def cli() -> None:
    """From a raw focus-bracketed shoot to a trustworthy defocus-deblurring dataset.

    Results go to stdout, progress and logs to stderr.  Exit codes: 0 done, 1 something failed
    or was left out (each command says what counts), 2 unusable input or options.
    """


def main() -> None:
    """Entry point of the ``defocus-ds`` script."""
    cli(prog_name="defocus-ds")
