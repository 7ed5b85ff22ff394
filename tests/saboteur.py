"""Run `defocus-ds` and do harm at a fixed moment: ``python tests/saboteur.py build shoot -o d``.

The environment says which: ``SABOTAGE="DEED PATH"`` strikes where a file whose path ends in PATH
is about to take its name; ``SABOTAGE="DEED MODULE:CLASS.METHOD N"`` at the N-th call.  DEED is
``kill-all`` (the build and its workers), ``kill-main``, ``kill-self``, or the name of an errno;
with ``late-`` before it, it is done when the file has its name.
With ``SABOTAGE_ONCE=FILE`` it happens once, which FILE then shows.  Worker processes import this
file again, as their main module, so it strikes in them too.
"""

from __future__ import annotations

import errno
import importlib
import itertools
import os
import signal
from pathlib import Path
from typing import Any

DEED, PLACE, *NUMBER = os.environ["SABOTAGE"].split()
LATE, DEED = DEED.startswith("late-"), DEED.removeprefix("late-")


def strike(*path: str) -> None:
    if once := os.environ.get("SABOTAGE_ONCE"):
        try:
            os.close(os.open(once, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
    if DEED == "kill-all":
        os.killpg(0, signal.SIGKILL)
    elif DEED == "kill-self":
        os.kill(os.getpid(), signal.SIGKILL)
    elif DEED == "kill-main":
        os.kill(os.getppid(), signal.SIGKILL)
        signal.alarm(60)  # a worker that outlives its build dies by this, and the test fails
        signal.pause()
    else:
        number = getattr(errno, DEED)
        raise OSError(number, os.strerror(number), *path)


def at_rename() -> None:
    replace = Path.replace

    def replace_or_strike(self: Path, target: Path) -> Path:
        struck = str(target).endswith(PLACE)
        if struck and not LATE:
            strike(str(self))
        there = replace(self, target)
        if struck and LATE:
            strike(str(target))
        return there

    Path.replace = replace_or_strike  # type: ignore[method-assign, assignment]


def at_call(number: int) -> None:
    module, _, names = PLACE.partition(":")
    of, name = names.split(".")
    owner = getattr(importlib.import_module(module), of)
    original, calls = getattr(owner, name), itertools.count(1)

    def call_or_strike(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == number:
            strike()
        return original(*args, **kwargs)

    setattr(owner, name, call_or_strike)


if ":" in PLACE:
    at_call(int(NUMBER[0]))
else:
    at_rename()

if __name__ == "__main__":
    from defocus_ds_cli.main import main

    main()
