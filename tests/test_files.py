"""Writing that is whole or absent, and errors that name what was meant."""

import os
import stat
from pathlib import Path

import pytest

from regard.files import nearest, parse_json, replacing


def write(path, *steps):
    with replacing(path) as temporary:
        for step in steps:
            step(temporary)


def interrupt(path: Path) -> None:
    raise KeyboardInterrupt


def listing(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_what_a_killed_process_with_the_same_number_left_is_replaced(tmp_path):
    for _ in range(2):
        with replacing(tmp_path / "made") as temporary:
            temporary.mkdir()
        (tmp_path / "made").rmdir()
        temporary.mkdir()
        (temporary / "junk").touch()
    assert sorted(temporary.iterdir()) == [temporary / "junk"]


def test_a_file_appears_when_it_is_whole(tmp_path):
    with replacing(tmp_path / "new" / "file") as temporary:
        temporary.write_text("first half, ")
        assert not (tmp_path / "new" / "file").exists()
        temporary.write_text("whole")
    assert listing(tmp_path / "new") == {"file": "whole"}


def test_what_was_there_outlives_an_interruption(tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "file", lambda path: path.write_text("half"), interrupt)
    assert listing(tmp_path) == {"file": "old"}


def test_a_failure_before_anything_is_written_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "file", interrupt)
    assert listing(tmp_path) == {}


def test_a_folder_appears_when_it_is_whole(tmp_path):
    (tmp_path / "out").mkdir()  # empty
    with replacing(tmp_path / "out") as temporary:
        temporary.mkdir()
        (temporary / "a").write_text("1")
        assert listing(tmp_path / "out") == {}
    assert listing(tmp_path / "out") == {"a": "1"}
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "other", Path.mkdir, lambda path: (path / "a").write_text("1"), interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_with_something_in_it_is_not_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("kept")
    for make in (Path.mkdir, lambda path: path.write_text("a file")):
        with pytest.raises(OSError, match=f"'{tmp_path / 'out'}'"):
            write(tmp_path / "out", make)
        assert listing(tmp_path / "out") == {"mine": "kept"}
        assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "real").write_text("old")
    (tmp_path / "link").symlink_to("runs/real")
    with replacing(tmp_path / "link") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert listing(tmp_path / "runs") == {"real": "new"}


def test_a_device_and_a_pipe_are_written_as_they_are(tmp_path):
    with replacing("/dev/null") as path:
        path.write_text("lost")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with replacing(tmp_path / "pipe") as path, open(path, "w") as file:
        file.write("through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)


def test_an_error_names_the_path_that_was_asked_for(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError) as failure:
        write(tmp_path / "file" / "in" / "it", lambda path: path.write_text(""))
    assert str(tmp_path / "file") in failure.value.filename
    with pytest.raises(OSError, match="No space left") as failure:
        write(tmp_path / "full", lambda path: path.symlink_to("/dev/full"), lambda path: path.write_text("too much"))
    assert failure.value.filename == str(tmp_path / "full")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_nearest_name_or_all_of_them():
    assert nearest("cmsie", ["scan", "cmsei"]) == "Did you mean 'cmsei'?"
    assert nearest("vgg", {"scan", "cmsei"}) == "Choose one of: cmsei, scan."
    assert nearest("vgg", map(str, range(1000))).endswith("123, 124, …")
    assert nearest("999", map(str, range(100_000))).startswith("Choose one of: 0, 1, 10, ")  # at once


def test_json_that_is_nested_too_deep_is_no_value():
    assert parse_json('{"a": [1, "é"]}') == {"a": [1, "é"]}
    for text in ("[" * 5000, '{"a":' * 5000, b"[" * 5000, "[1,"):
        with pytest.raises(ValueError, match=r"nested too deep|Expecting value"):
            parse_json(text)
