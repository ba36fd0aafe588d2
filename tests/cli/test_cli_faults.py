"""Faults of disks, processes and terminals: one line, and nothing is left behind."""

import io
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from commands import damage, interrupted, refused, regard, room_for, training
from regard.console import PlainConsole
from regard.files import InputError, locked, replacing, visible
from regard.relations.predictor import Predictor

HOSTILE = "a [/red] [bold]dog[/bold] :smile: \x1b[31mred\x07 \u202etxt \udcff"


def test_text_is_printed_as_it_is_without_control_characters():
    out = io.StringIO()
    PlainConsole(file=out, force_terminal=False).print(HOSTILE)
    assert out.getvalue() == "a [/red] [bold]dog[/bold] :smile: \\x1b[31mred\\x07 \\u202etxt \\udcff\n"
    assert visible("two\nlines\tand a tab, é 犬 👍🏽") == "two\nlines\tand a tab, é 犬 👍🏽"
    with PlainConsole(file=io.StringIO(), force_terminal=True).status(HOSTILE):
        pass  # markup that does not match would raise


def test_paths_in_messages_are_escaped():
    assert refused("data", "check", "[/red]\x1b[31m") == "[/red]\\x1b[31m is not a folder. Give the folder that " \
        "contains train_ims.npy and similar files."  # fmt: skip


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_command_with_one_line_and_nothing_is_left(by, tmp_path):
    def begun():
        """Whether pictures are written: while modules are imported, one of them may swallow the interruption."""
        return any(path.stat().st_size > 10**5 for path in tmp_path.rglob("*_ims.npy"))

    code, errors = interrupted(begun, "data", "scenes", "--out", tmp_path / "data", "--train", 4000, by=by)
    assert (code, errors) == (2, "regard: Interrupted.\n")
    assert list(tmp_path.iterdir()) == []


def test_temporary_files_of_dead_processes_are_removed(data):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    host, process = platform.node(), int(dead.stdout)
    (data / f".dev_ims.npy.{host}.{process}.tmp").write_text("part")
    (data.parent / f".data.{host}.{process}.tmp").mkdir()
    kept = [f".dev_ims.npy.{host}.{os.getpid()}.tmp", f".a.elsewhere{host}.{process}.tmp", ".mine.tmp"]
    for name in kept:
        (data / name).write_text("of a process that is alive, of another machine, or of the user")
    assert regard("data", "check", data).code == 0
    assert {path.name for path in data.glob(".*")} == set(kept)
    assert not list(data.parent.glob(".*"))


def test_a_killed_process_leaves_what_the_next_removes(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from regard.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as temporary:\n    temporary.write_text('part'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "table.json"], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    regard("metrics", tmp_path / "scores.npy", tmp_path / "map.npy")
    assert list(tmp_path.iterdir()) == []


def test_what_no_reader_expected_is_one_line_with_a_saved_traceback(monkeypatch, tmp_path):
    def fail():
        raise ZeroDivisionError("by\x1b zero")

    monkeypatch.setattr("regard.training.recipe.recipe_names", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = regard("recipes")
    assert result.code == 1
    found = re.fullmatch(
        r"regard: Unexpected ZeroDivisionError: by\\x1b zero\. The details are in (\S+); please report them\.\n",
        result.err,
    )
    assert "in fail\n" in Path(found[1]).read_text("utf-8")


def test_a_run_has_one_trainer(world, data):
    out = data.parent / "run"
    assert regard(*training(data)).code == 0
    with locked(out, "the test has it"):
        message = f"Another process is training in {out}: wait until it ends, or name another --out."
        assert refused(*training(data), "--resume") == message
        with pytest.raises(InputError, match="twice"), locked(out, "twice"):
            pass
    assert regard(*training(data), "--resume").code == 0


def test_a_full_disk_is_an_error_of_the_system(tmp_path):
    predictor = Predictor(("none", "dog"), ("none", "on"), torch.zeros(0, dtype=torch.long), torch.zeros(0),
                          torch.ones(2, 2), torch.ones(2), torch.zeros(9, 2))  # fmt: skip
    with room_for(100), pytest.raises(OSError, match="File too large"):
        predictor.save(tmp_path / "predictor.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_circular_link_is_replaced(tmp_path):
    link = tmp_path / "scores.json"
    link.symlink_to(link)
    with replacing(link) as temporary:
        temporary.write_text("new")
    assert link.read_text() == "new"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocabulary.json", b'{"entries": 1, "boundaries": true, "max_words": 64}', "vocabulary.json, entries"),
        ("vocabulary.json", b"[" * 9999, "vocabulary.json is not JSON"),
        ("recipe.toml", b"model = []", "recipe.toml names the model"),
        ("recipe.toml", b"model = " + b"[" * 9999, "recipe.toml is not valid TOML"),
        ("last.pt", b"not a checkpoint", "last.pt is cut short"),
        ("model.safetensors", b"\xff" * 80, "model.safetensors"),
    ],
)
def test_each_damaged_file_of_a_run_is_named(name, content, message, world, tmp_path):
    run = shutil.copytree(world / "scan", tmp_path / "run")
    assert regard("verify", run).code == 0
    (run / name).write_bytes(content)
    result = regard("verify", run)
    assert (result.code, result.err) == (1, "")
    assert message in result.out


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("boxes.npy", lambda array: array.astype(str), "boxes.npy contains <U"),
        ("image_of_text.npy", lambda array: array + 0.5, "image_of_text.npy contains numbers that are not whole"),
        ("image_of_text.npy", lambda array: array.astype(str), "image_of_text.npy has shape"),
        ("labels.npy", lambda array: array + 5000, "expected 0 to"),
    ],
)
def test_arrays_of_other_contents_are_named(name, change, message, world, data):
    damage(data / f"test_{name}", change)
    assert message in refused("evaluate", world / "cmsei", "--data", data)
