"""`cesar completion`: the script with which a shell completes the arguments of `cesar`."""

from __future__ import annotations

import sys

import click
from click.shell_completion import get_completion_class

from cesar.cli import COMPLETION_VARIABLE, group
from cesar.cli.transcription.reporters import write_stderr
from cesar.cli.transcription.writing import write_stdout

INSTALLATION = {
    "bash": """echo 'eval "$(cesar completion bash)"' >> ~/.bashrc""",
    "zsh": """echo 'eval "$(cesar completion zsh)"' >> ~/.zshrc""",
    "fish": "mkdir -p ~/.config/fish/completions && cesar completion fish > ~/.config/fish/completions/cesar.fish",
}
"""The command that enables completion in every new shell, by shell."""
_HEADER = "#compdef cesar\n"
"""Lets zsh load the script from a file in `fpath`."""
_BEFORE = """\
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }
"""
"""Unless .zshrc does so, zsh has not initialised its completion system."""
_AFTER = """\
    _cesar_completion_again() {
        compdef _cesar_completion cesar
        precmd_functions=(${precmd_functions:#_cesar_completion_again})
    }
    precmd_functions+=(_cesar_completion_again)
"""
"""A later compinit in .zshrc discards earlier registrations, so register again at the first prompt."""


@click.command("completion")
@click.argument("shell", type=click.Choice(tuple(INSTALLATION)))
def command(shell: str) -> None:
    """Print the script that lets a shell complete commands.

    For this shell only, paste it, or in bash and zsh: eval "$(cesar completion SHELL)". For all new shells, run once:

    \b
    bash:
      echo 'eval "$(cesar completion bash)"' >> ~/.bashrc
    zsh:
      echo 'eval "$(cesar completion zsh)"' >> ~/.zshrc
    fish:
      mkdir -p ~/.config/fish/completions
      cesar completion fish > ~/.config/fish/completions/cesar.fish
    """  # noqa: D301 - click's mark, not a backslash: it keeps the lines that follow unwrapped
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    write_stdout(script(shell, is_pasted=is_terminal))
    if is_terminal:
        write_stderr(f"For all new {shell} shells, run once: {INSTALLATION[shell]}")


def script(shell: str, *, is_pasted: bool) -> str:
    """Return the script. One for pasting has no comments: an interactive zsh runs them as commands."""
    kind = get_completion_class(shell)
    assert kind is not None
    text = kind(group, {}, "cesar", COMPLETION_VARIABLE).source()
    if shell != "zsh":
        return f"{text.rstrip()}\n"
    registering = "    compdef _cesar_completion cesar\n"
    text = text.replace(registering, _BEFORE + registering + _AFTER)
    lines = [line for line in text.splitlines(keepends=True) if not line.lstrip().startswith("#")]
    return "".join(lines) if is_pasted else _HEADER + "".join(lines)
