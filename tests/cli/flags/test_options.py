"""The flags for the options of a transcription: one for each declared option, made from its declaration alone."""

from __future__ import annotations

import click
import pytest

from cesar.cli.commands import transcribe
from cesar.cli.commands.jobs import submit
from cesar.cli.flags.options import transcribe_options
from cesar.options import OPTIONS, TranscribeOptions


@pytest.mark.parametrize("command", [transcribe.command, submit], ids=["transcribe", "jobs submit"])
def test_a_command_has_a_flag_for_every_option_with_its_help(command: click.Command):
    flags = {param.name: param for param in command.params if isinstance(param, click.Option)}
    for name, declared in OPTIONS.items():
        if declared.is_library_only:
            assert name not in flags
        else:
            wanted = declared.flag.help if declared.flag else declared.help.removesuffix(".")
            assert (flags[name].help or "").startswith(wanted)


def test_a_flag_that_is_not_given_leaves_the_default():
    seen: list[TranscribeOptions] = []

    @click.command()
    @transcribe_options
    def command(options: TranscribeOptions) -> None:
        seen.append(options)

    command.main([], standalone_mode=False)
    command.main(["--translate", "--start", "1:00", "--word-timestamps"], standalone_mode=False)
    assert seen == [TranscribeOptions(), TranscribeOptions(task="translate", start=60.0, word_timestamps=True)]
