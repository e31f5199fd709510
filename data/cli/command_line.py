"""One command line: a table of commands, each a module that is loaded when its command is asked for.

Such a module has `add_arguments(parser)`, which adds what the command takes, and `run(args)`, which carries it out
and returns the exit code. Nothing else of the project is loaded to list the commands, so that a command which is in
a hurry waits for its own imports alone.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import argcomplete

from data.cli import process_hooks
from data.cli.terminal import run_cli, stdout_is_gone

_DISTRIBUTION = "rayscore"
_OPTIONS = ("-h", "--help", "--version")


class Command(NamedTuple):
    """One command: what is typed, the dotted name of its module, and what it does in one line."""

    name: str
    module: str
    help: str


class CommandGroup(NamedTuple):
    """Commands that are listed together."""

    title: str
    commands: tuple[Command, ...]


class CommandLine:
    """The commands under one program name."""

    def __init__(
        self, prog: str, description: str, groups: Sequence[CommandGroup], epilog: str, default: str | None = None
    ) -> None:
        """`prog`: as the user types it; `default`: the command that is meant where none is named."""
        self.commands = {command.name: command for group in groups for command in group.commands}
        self._prog, self._description, self._groups = prog, description, groups
        self._epilog, self._default = epilog, default

    def main(self, argv: Sequence[str]) -> int:
        """Run one command and return its exit code; without one, list them.

        Raises:
            RayscoreError: the command could not do what it was asked for.
            SystemExit: with code 2 when the command or an option is wrong, 0 after help.
        """
        words = self._named(argv)
        asked = _command_in(words)
        parser = self.parser(asked)
        if not words:
            parser.print_help()
            return 0
        if asked and asked not in self.commands:
            parser.error(self._unknown(asked))
        args = parser.parse_args(words)
        run: Callable[[argparse.Namespace], int] = args.run
        return run(args)

    def execute(self) -> int:
        """Be the process's command: complete a word for a shell, or run what was typed and return the exit code."""
        # A service manager and `ray job stop` send SIGTERM: what Ctrl-C ends well, they must end as well.
        signal.signal(signal.SIGTERM, _interrupt)
        process_hooks.install()
        code = run_cli(self._complete_or_run, sys.argv[1:])
        stdout_is_gone()
        process_hooks.leave_at_once_on_interrupt()
        return code

    def parser(self, asked: str | None = None) -> argparse.ArgumentParser:
        """Return the parser of all commands, with the options of the one that is asked for."""
        top = argparse.ArgumentParser(
            self._prog,
            usage=f"{self._prog} [-h] [--version] COMMAND ...",
            description=f"{self._description}\n\n{self._listing()}",
            epilog=self._epilog,
            formatter_class=_Help,
        )
        top.add_argument("--version", action=_Version, help="show the version and exit")
        # The listing above tells of them by group, which argparse cannot.
        commands = top.add_subparsers(prog=self._prog, metavar="COMMAND", help=argparse.SUPPRESS, required=True)
        for command in self.commands.values():
            one = commands.add_parser(command.name, help=command.help, description=_sentence(command.help))
            if command.name == asked:
                module = importlib.import_module(command.module)
                one.formatter_class = _Help
                one.set_defaults(run=module.run)
                module.add_arguments(one)
        return top

    def _complete_or_run(self, argv: Sequence[str]) -> int:
        completed = os.environ.get("COMP_LINE", "").split()[1:]
        argcomplete.autocomplete(self.parser(_command_in(completed)))
        return self.main(argv)

    def _named(self, argv: Sequence[str]) -> list[str]:
        """The words with the default command named, where there is one and they name none."""
        words = list(argv)
        if self._default and (not words or (words[0].startswith("-") and words[0] not in _OPTIONS)):
            return [self._default, *words]
        return words

    def _listing(self) -> str:
        width = max(map(len, self.commands))
        groups = (
            "\n".join([f"{group.title}:", *(f"  {each.name:<{width}}  {each.help}" for each in group.commands)])
            for group in self._groups
        )
        return "\n\n".join(groups)

    def _unknown(self, word: str) -> str:
        close = difflib.get_close_matches(word, self.commands, n=1)
        meant = f"did you mean '{close[0]}'? " if close else ""
        return f"unknown command '{word}'; {meant}`{self._prog} --help` lists them all"


class _Help(argparse.HelpFormatter):
    """Keeps texts of several lines, such as examples, as they are, and fills the others."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


class _Version(argparse.Action):
    """Looks the version up only when it is asked for: that reads the metadata of the installed package."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, dest=argparse.SUPPRESS, default=argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *given: Any) -> None:
        try:
            found = version(_DISTRIBUTION)
        except PackageNotFoundError:
            found = "(run from its sources, not installed)"
        sys.stdout.write(f"{_DISTRIBUTION} {found}\n")
        parser.exit()


def _command_in(words: Sequence[str]) -> str | None:
    """The first word that is no option: no option before a command takes a value."""
    return next((word for word in words if not word.startswith("-")), None)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
