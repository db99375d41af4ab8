"""`cesar completion`: the script that makes a shell complete what `cesar` takes."""

from __future__ import annotations

import click

from cesar.cli import COMPLETION_VARIABLE, group

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> int:
    """Print the completion script for a shell.

    bash: put `eval "$(cesar completion bash)"` into ~/.bashrc; zsh: the same with zsh into ~/.zshrc; fish:
    `cesar completion fish > ~/.config/fish/completions/cesar.fish`.
    """
    from click.shell_completion import shell_complete

    return shell_complete(group, {}, "cesar", COMPLETION_VARIABLE, f"{shell}_source")
