"""The option --install-completion."""

from pathlib import Path
from typing import Literal

from regard.cli.common import console
from regard.files import InputError


def install_completion(
    *, shell: Literal["bash", "zsh", "fish", "powershell"] | None = None, output: Path | None = None
) -> None:
    """Install completion for your shell.

    Writes a completion script, and adds a line that loads it to the startup file of bash, zsh or PowerShell.

    Parameters
    ----------
    shell
        The shell. Default: the one that runs this command.
    output
        The file of the completion script. Default: a file in the shell's own folder for such scripts.
    """
    from cyclopts.completion.detect import ShellDetectionError, detect_shell

    from regard.cli import app

    try:
        shell = shell or detect_shell()
    except ShellDetectionError:
        raise InputError("Cannot detect the shell: name it with --shell bash, zsh, fish or powershell.") from None
    path = app.install_completion(shell=shell, output=output)
    console.print(f"Wrote {path}. Start a new {shell} to use it.")
