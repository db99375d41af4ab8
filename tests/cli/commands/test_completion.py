"""The scripts of `cesar completion`, run in their shells."""

import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cesar.cli.commands.completion import INSTALLATION, command, script

pytestmark = pytest.mark.slow
WITHIN_S = 60.0


def needs(shell):
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not installed")


@pytest.fixture
def home(environ, tmp_path, monkeypatch):
    """A home folder with a `cesar` command that runs this checkout."""
    program = tmp_path / "bin" / "cesar"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m cesar "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TERM", "xterm")
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "ZDOTDIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def output_of(*arguments):
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=WITHIN_S)
    assert done.stderr == ""
    return done.stdout


class Terminal:
    """An interactive shell."""

    def __init__(self, home, *arguments):
        self.screen = b""
        spawn = [sys.executable, "-c", "import pty, sys; pty.spawn(sys.argv[1:])", *arguments]
        self._process = subprocess.Popen(spawn, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, cwd=home)
        assert self._process.stdin
        assert self._process.stdout
        self._keyboard, self._output = self._process.stdin, self._process.stdout

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()  # the terminal hangs up and ends the shell
        self._process.communicate()

    def sends(self, text):
        self._keyboard.write(text.encode())

    def types(self, text, *, until):
        """Type the text and wait for the expected output."""
        self.sends(text)
        start, deadline = len(self.screen), time.monotonic() + WITHIN_S
        while until.encode() not in self.screen[start:]:
            assert time.monotonic() < deadline, self.screen.decode()
            if select.select([self._output], [], [], 1)[0]:
                self.screen += self._output.read(65536)


@needs("bash")
def test_bash_completes(home):
    typed = 'COMP_WORDS=(cesar transcribe --beam); COMP_CWORD=2; _cesar_completion cesar; echo "${COMPREPLY[@]}"'
    assert output_of("bash", "--norc", "-c", f'eval "$(cesar completion bash)"; {typed}') == "--beam-size\n"


@needs("fish")
def test_fish_completes_after_installation_into_a_home_without_the_folder(home):
    assert not (home / ".config").exists()
    output_of("fish", "-c", INSTALLATION["fish"])
    assert (home / ".config" / "fish" / "completions" / "cesar.fish").is_file()
    assert output_of("fish", "-c", 'complete -C "cesar jobs li"').startswith("list")


@needs("zsh")
@pytest.mark.parametrize(
    "lines",
    [
        ['eval "$(cesar completion zsh)"'],
        ["autoload -Uz compinit; compinit -i", 'eval "$(cesar completion zsh)"'],
        ['eval "$(cesar completion zsh)"', "autoload -Uz compinit; compinit -i"],
    ],
    ids=["without compinit", "after compinit", "before compinit"],
)
def test_zsh_completes_wherever_the_line_is_in_zshrc(lines, home):
    (home / ".zshrc").write_text("\n".join(["PS1='> '", *lines, ""]), encoding="utf-8")
    with Terminal(home, "zsh", "-i") as shell:
        shell.types("echo $((40 + 2))ready\n", until="42ready")
        shell.types("cesar jobs wa\t", until="watch")
    assert b"not found" not in shell.screen


@needs("zsh")
def test_zsh_completes_when_the_script_is_pasted_into_a_shell_without_settings(home):
    with Terminal(home, "zsh", "-f", "-i") as shell:
        shell.types("PS1='> '; echo $((40 + 2))ready\n", until="42ready")
        for line in script("zsh", is_pasted=True).splitlines():
            shell.sends(f"{line}\n")
        shell.types("echo $((41 + 2))pasted\n", until="43pasted")
        shell.types("cesar jobs wa\t", until="watch")
    assert b"not found" not in shell.screen


@needs("zsh")
def test_zsh_loads_the_script_from_its_function_path(home):
    (home / "functions").mkdir()
    (home / "functions" / "_cesar").write_text(script("zsh", is_pasted=False), encoding="utf-8")
    (home / ".zshrc").write_text("PS1='> '\nfpath+=~/functions\nautoload -Uz compinit; compinit -i\n", encoding="utf-8")
    with Terminal(home, "zsh", "-i") as shell:
        shell.types("echo $((40 + 2))ready\n", until="42ready")
        shell.types("cesar jobs wa\t", until="watch")


def test_the_help_and_the_reference_say_how_to_install_it():
    reference = (Path(__file__).parents[3] / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    for line in INSTALLATION.values():
        assert line in reference
        assert all(part.strip() in (command.help or "") for part in line.split("&&"))
