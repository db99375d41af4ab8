"""`cesar completion`: the script that makes a shell complete what `cesar` takes."""

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
"""What makes each new shell complete, as a command for that shell."""
_HEADER = "#compdef cesar\n"
"""Lets zsh load the script from a file in `fpath`."""
_BEFORE = """\
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }
"""
"""Without a line of one's own in .zshrc, zsh has not begun to complete anything."""
_AFTER = """\
    _cesar_completion_again() {
        compdef _cesar_completion cesar
        precmd_functions=(${precmd_functions:#_cesar_completion_again})
    }
    precmd_functions+=(_cesar_completion_again)
"""
"""A compinit that comes later in .zshrc forgets what was there; the first prompt comes after it."""


@click.command("completion")
@click.argument("shell", type=click.Choice(tuple(INSTALLATION)))
def command(shell: str) -> None:
    """Print the script that lets a shell complete commands.

    For this shell only, paste it, or in bash and zsh: eval "$(cesar completion SHELL)". For every new shell, run once:

    \b
    bash:
      echo 'eval "$(cesar completion bash)"' >> ~/.bashrc
    zsh:
      echo 'eval "$(cesar completion zsh)"' >> ~/.zshrc
    fish:
      mkdir -p ~/.config/fish/completions
      cesar completion fish > ~/.config/fish/completions/cesar.fish
    """  # noqa: D301 - click's mark, not a backslash: it keeps the lines that follow as they are
    is_for_people = sys.stdout is not None and sys.stdout.isatty()
    write_stdout(script(shell, is_pasted=is_for_people))
    if is_for_people:
        write_stderr(f"For every new {shell}, run once: {INSTALLATION[shell]}")


def script(shell: str, *, is_pasted: bool) -> str:
    """Return the script. One to be pasted has no comments: an interactive zsh takes them for commands."""
    kind = get_completion_class(shell)
    assert kind is not None
    text = kind(group, {}, "cesar", COMPLETION_VARIABLE).source()
    if shell != "zsh":
        return f"{text.rstrip()}\n"
    registering = "    compdef _cesar_completion cesar\n"
    text = text.replace(registering, _BEFORE + registering + _AFTER)
    lines = [line for line in text.splitlines(keepends=True) if not line.lstrip().startswith("#")]
    return "".join(lines) if is_pasted else _HEADER + "".join(lines)
