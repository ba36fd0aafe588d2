"""Help, version and completion: what they print, and that they do not wait for torch."""

import os
import re
import subprocess
import sys

import cyclopts
import pytest

from commands import loaded_by, regard
from regard import __version__
from regard.cli import app

SHELLS = ("bash", "zsh", "fish", "powershell")


def verbs_of(app: cyclopts.App) -> list[str]:
    """The verbs of an app and, after each, its own verbs."""
    found = []
    for name, verb in app.resolved_commands().items():
        if not name.startswith("-"):
            found += [name, *(f"{name} {each}" for each in verbs_of(verb))]
    return found


VERBS = verbs_of(app)


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_every_verb_helps(verb):
    help_ = regard(*verb.split(), "--help")
    assert (help_.code, help_.err) == (0, "")
    assert help_.out.startswith(f"Usage: regard {verb}".rstrip())


def test_the_root_help_summarizes_every_verb_in_a_line():
    """In a fresh process, in which no verb has been imported before."""
    command, narrow = [sys.executable, "-m", "regard"], {**os.environ, "COLUMNS": "80"}
    for arguments in ([], ["--help"]):
        shown = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True, env=narrow).stdout
        for verb in VERBS:
            if " " not in verb:
                assert re.search(rf"^│ {verb} +[A-Z].*\. *│$", shown, re.M), verb


def test_the_version():
    assert regard("--version").out.strip() == __version__
    shown = subprocess.run([sys.executable, "-m", "regard", "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == __version__


def running(*commands: list[str]) -> str:
    """Code that runs each command line in turn."""
    return f"""
from regard.cli import main
for arguments in {[list(command) for command in commands]}:
    sys.argv = ["regard", *arguments]
    try: main()
    except SystemExit as end: assert end.code == 0, (arguments, end.code)
"""


def test_the_root_help_imports_nothing_heavy():
    assert loaded_by("import regard.cli") == set()
    assert loaded_by(running(["--help"], ["--version"]), also={"rich.markdown"}) == set()


def test_the_help_of_every_verb_imports_nothing_heavy():
    assert loaded_by(running(*([*verb.split(), "--help"] for verb in VERBS))) == set()


def test_completion_scripts_name_the_verbs_and_import_nothing_heavy(tmp_path):
    """The installed files are in the home folder, and bash loads its script."""
    commands = [["--install-completion", "--shell", shell] for shell in SHELLS]
    home = {**os.environ, "HOME": str(tmp_path)} | dict.fromkeys(("ZSH", "ZSH_CUSTOM"), "")
    assert loaded_by(running(*commands), home) == set()
    written = {
        path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*") if path.is_file()
    }
    assert {".bashrc", ".zshrc", ".local/share/bash-completion/completions/regard"} <= written.keys()
    scripts = [text for text in written.values() if "evaluate" in text]
    assert len(scripts) == len(SHELLS)
    for verb in VERBS:
        assert all(word in script for script in scripts for word in verb.split())
    bash = ["bash", "--norc", "-c", f"set -e; source {tmp_path}/.bashrc; complete -p regard"]
    assert "regard" in subprocess.run(bash, capture_output=True, text=True, check=True).stdout
