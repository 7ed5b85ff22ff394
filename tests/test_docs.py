"""The documentation builds, names every page, and its commands are those of the program."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from defocus_ds_cli.main import cli

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
TEXTS = [ROOT / "README.md", *PAGES]


def commands_in(path: Path) -> Iterator[list[str]]:
    """The words of every `defocus-ds` command in the blocks of code of a page."""
    text = re.sub(r"\\\n\s*", " ", path.read_text(encoding="utf-8"))
    fenced = re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)
    indented = re.findall(r"^    (defocus-ds .*)$", text, re.M)
    for line in [*"\n".join(fenced).splitlines(), *indented]:
        for part in re.split(r"&&|;|\|(?!\w)", line.partition("  #")[0]):
            words = shlex.split(part, comments=True)
            if words[:1] == ["defocus-ds"]:
                yield words[1:]


EXAMPLES = [
    pytest.param(words, id=f"{path.name}: {' '.join(words)}"[:80])
    for path in TEXTS
    for words in commands_in(path)
]


def all_commands(
    group: click.Group, name: str = "defocus-ds"
) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group, info_name=name)
    for key in group.list_commands(context):
        command = group.get_command(context, key)
        assert command is not None
        yield f"{name} {key}", command
        if isinstance(command, click.Group):
            yield from all_commands(command, f"{name} {key}")


def parsed(words: list[str]) -> None:
    """Take the words apart as the program does, without looking at files or running."""
    command: click.Command = cli
    context = click.Context(cli, info_name="defocus-ds")
    while isinstance(command, click.Group):
        name, *words = words
        found = command.get_command(context, name)
        assert found is not None, f"no command {name}"
        if isinstance(found, click.Group):
            context = click.Context(found, info_name=name, parent=context)
        command = found
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(click.Path, "convert", path_as_it_is)
        command.make_context(name, list(words), parent=context)


def path_as_it_is(
    kind: click.Path, value: str, param: click.Parameter | None, context: click.Context | None
) -> object:
    """What `click.Path.convert` gives if there is such a file."""
    return kind.coerce_path_result(value)


def test_the_pages_have_commands_to_check() -> None:
    assert len(EXAMPLES) > 40


@pytest.mark.parametrize("words", EXAMPLES)
def test_a_command_of_the_docs_is_one_of_the_program(words: list[str]) -> None:
    parsed(words)


@pytest.mark.parametrize(
    "words",
    [
        ["crop", "d", "--lvl", "low"],
        ["crop", "a", "b", "c"],
        ["release", "d"],
        ["export", "d", "--to", "nonsense"],
        ["crop", "d", "--train", "many"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_would_be_found(words: list[str]) -> None:
    with pytest.raises((click.UsageError, AssertionError)):
        parsed(words)


@pytest.mark.parametrize(
    ("name", "command"), [pytest.param(*c, id=c[0]) for c in all_commands(cli)]
)
def test_help_has_an_example_that_can_be_typed(name: str, command: click.Command) -> None:
    examples = re.findall(
        r"defocus-ds [a-z][^;&|\n]+?(?=\.? *$|\. [A-Z]|[;&|\n])", command.epilog or ""
    )
    assert examples, name
    for text in examples:
        parsed(shlex.split(text)[1:])


@pytest.mark.parametrize("folder", ["cli", "defocus_ds", "train", "docs"])
def test_an_install_line_names_an_extra_that_exists(folder: str) -> None:
    """There is no package to fetch: extras are those of a copy, with its constraints."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert (ROOT / "constraints.txt").is_file()
    for path in [p for p in (ROOT / folder).rglob("*") if p.suffix in (".py", ".md")]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"defocus-ds\[", text), f"{path}: names a package that is nowhere"
        for line, names in re.findall(r"(pip install[^\n`]*?\.\[([a-z,]+)\])", text):
            assert "-c constraints.txt" in line, f"{path}: {line}"
            assert set(names.split(",")) <= extras.keys(), f"{path}: {line}"


def test_every_page_is_in_the_contents() -> None:
    def files(entries: list[object]) -> Iterator[str]:
        for entry in entries:
            for value in entry.values() if isinstance(entry, dict) else [entry]:
                if isinstance(value, str):
                    yield value
                else:
                    yield from files(value)

    listed = files(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in PAGES}
    assert set(listed) == pages


def test_the_pages_build_without_a_warning(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    done = subprocess.run(
        [*build, "-f", str(ROOT / "mkdocs.yml"), "-d", str(tmp_path / "site")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "index.html").is_file()
