"""Extraction of photographs into a data folder: its content, a second run, interruptions and errors."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import made
from commands import launched
from regard.boxes import RELATION_CLASSES
from regard.data import Split, check
from regard.data.rows import Shards
from regard.extract.colours import Colours
from regard.extract.extraction import extract, render_report
from regard.extract.extractor import ComposedExtractor, Regions
from regard.extract.options import Options, fingerprint
from regard.extract.store import Store
from regard.files import InputError
from regard.photographs import decode_photograph
from regard.relations.predictor import fit

SHADES = {"red": (200, 20, 20), "green": (20, 160, 40), "blue": (30, 40, 200), "grey": (128, 128, 128)}


def draw(path: Path, shade: str, number: int = 0, size: tuple[int, int] = (60, 40)) -> None:
    """Write a photograph of a shade with one white pixel, whose position depends on `number`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, SHADES[shade])
    image.putpixel((number % size[0], number // size[0]), (255, 255, 255))
    image.save(path)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    for number, shade in enumerate(SHADES):
        draw(folder / f"{shade}.png", shade, number)
    return folder


@pytest.fixture
def table(tmp_path, photos):
    path = tmp_path / "captions.csv"
    rows = [f"{shade}.png,a man in {shade} clothes rides a horse" for shade in SHADES]
    path.write_text("\n".join(["file,sentence", *rows, *rows[:1]]) + "\n")
    return path


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_becomes_a_split(photos, tmp_path):
    out = tmp_path / "data"
    report = extract(photos, out, {"regions": 9})
    assert report.splits == {"test": (4, 0)}
    assert report.extracted == 4
    assert not check(out).errors
    split = Split.open(out, "test")
    assert list(split.ids) == ["blue.png", "green.png", "grey.png", "red.png"]
    assert split.sizes.tolist() == [[60, 40]] * 4
    assert split.fields == {"boxes", "relations"}
    images = split.images([3, 1])
    assert images.features.dtype == torch.float16
    for row, name in enumerate(["red", "green"]):
        data = (photos / f"{name}.png").read_bytes()
        want = Options(regions=9).extractor("cpu")([decode_photograph("a", data)[0]])[0]
        assert np.allclose(images.features[row], want.features, atol=1e-3)
        assert np.allclose(images.boxes[row], want.boxes)
    assert report.skipped == {}
    assert re.fullmatch(
        r"4 photographs extracted in .* s, \d+ ms each\n  test   4 photographs, 0 sentences\nNext: .*",
        render_report(report, out),
    )


def test_captions_make_splits_and_relations_of_words(photos, table, tmp_path):
    out = tmp_path / "data"
    report = extract(photos, out, captions=table, split="train")
    assert report.splits == {"train": (4, 5)}
    split = Split.open(out, "train")
    rows = {name: (split.image_of_text == row).sum() for row, name in enumerate(split.ids)}
    assert rows == {"red.png": 2, "green.png": 1, "blue.png": 1, "grey.png": 1}
    assert split.captions[0] == "a man in blue clothes rides a horse"
    assert "roles" in split.fields
    assert not check(out).errors


def test_splits_are_those_of_the_table_or_by_the_photograph(photos, table, tmp_path):
    for number in range(60):
        draw(photos / f"more/{number}.png", "grey", number + 100)
    text = "file,sentence\n" + "".join(f"{number}.png,picture {number}\n" for number in range(60))
    table.write_text(text)
    out = tmp_path / "data"
    report = extract(photos, out, {"regions": 1}, captions=table)
    assert set(report.splits) == {"train", "dev", "test", "rest"}
    assert report.splits["rest"] == (4, 0)  # these have no sentence
    assert 35 <= report.splits["train"][0] <= 57
    before = {split: set(Split.open(out, split).ids) for split in report.splits}
    draw(photos / "more/a.png", "red", 77)
    table.write_text(text + "more/a.png,another\nmore/a.png,one more\n")
    report = extract(photos, out)  # the table is remembered
    assert report.extracted == 1
    after = {split: set(Split.open(out, split).ids) for split in report.splits}
    assert all(before[split] <= after[split] for split in before)
    assert sum(len(after[split] - before[split]) for split in before) == 1

    rows = ["red.png,a,train", "green.png,b,val", "blue.png,c,test", "grey.png,d,restval"]
    table.write_text("\n".join(["file,sentence,split", *rows]) + "\n")
    report = extract(photos, out)
    assert report.extracted == 0
    assert {name: count for name, (count, _) in report.splits.items()} == {"train": 2, "dev": 1, "test": 1, "rest": 61}
    table.write_text("\n".join(["file,sentence,split", *rows, "red.png,e,test"]) + "\n")
    with pytest.raises(
        InputError, match=r"red.png is in the splits test and train: expected one for all its sentences"
    ):
        extract(photos, out)
    shutil.rmtree(photos / "more")
    table.write_text("\n".join(["file,sentence,split", *rows]) + "\n")
    assert set(extract(photos, out).splits) == {"train", "dev", "test"}
    assert not list(out.glob("rest_*"))


def test_a_second_run_extracts_only_new_photographs(photos, tmp_path, monkeypatch):
    out = tmp_path / "data"
    extract(photos, out, {"regions": 5})
    before = files(out)
    made = []
    monkeypatch.setattr(Options, "extractor", lambda self, device: made.append(self) or ComposedExtractor(None, None))
    assert extract(photos, out).extracted == 0
    assert files(out) == before
    assert made == []  # no model is loaded where nothing is new
    monkeypatch.undo()

    first = Split.open(out, "test").images([3]).features
    draw(photos / "a new one.png", "red", 9)
    (photos / "red.png").rename(photos / "renamed.png")
    (photos / "blue.png").unlink()
    report = extract(photos, out)
    assert report.extracted == 1
    split = Split.open(out, "test")
    assert list(split.ids) == ["a new one.png", "green.png", "grey.png", "renamed.png"]
    assert torch.equal(split.images([3]).features, first)
    assert len(list((out / "photographs").glob("*.npy"))) == 2
    assert isinstance(split.features, Shards)
    assert not check(out).errors


def test_a_sentence_moves_to_another_photograph(photos, table, tmp_path):
    out = tmp_path / "data"
    table.write_text("file,sentence\nblue.png,one\nblue.png,two\nred.png,three\n")
    extract(photos, out, captions=table, split="test")
    table.write_text("file,sentence\nblue.png,one\nred.png,two\nred.png,three\n")
    extract(photos, out)
    split = Split.open(out, "test")
    assert split.captions[:] == ["one", "two", "three"]
    assert split.image_of_text.tolist() == [0, 1, 1]


def test_a_changed_photograph_is_extracted_again(photos, tmp_path):
    out = tmp_path / "data"
    extract(photos, out)
    before = Split.open(out, "test").images([0]).features
    draw(photos / "blue.png", "green", 5)
    assert extract(photos, out).extracted == 1
    assert not torch.equal(Split.open(out, "test").images([0]).features, before)


def test_relations_are_kept_until_the_photographs_or_the_source_change(photos, tmp_path):
    out = tmp_path / "data"
    extract(photos, out, relations="none")
    assert not (out / "test_relations.npz").exists()
    extract(photos, out, relations="boxes")
    assert Split.open(out, "test").predicates == RELATION_CLASSES
    (out / "test_relations.npz").write_bytes(b"mine")
    extract(photos, out, relations="boxes")
    extract(photos, out)
    assert (out / "test_relations.npz").read_bytes() == b"mine"
    draw(photos / "new.png", "red", 9)
    extract(photos, out)
    assert Split.open(out, "test").predicates == RELATION_CLASSES
    with pytest.raises(InputError, match="--relations 'all': expected boxes, none, or a file that"):
        extract(photos, out, relations="all")
    with pytest.raises(InputError, match="is not a predictor of relations"):
        extract(photos, out, relations=str(photos / "red.png"))


def test_files_with_the_same_content_are_one_photograph(photos, table, tmp_path):
    shutil.copy(photos / "red.png", photos / "again.png")
    (photos / "link.png").symlink_to(photos / "red.png")
    table.write_text("file,sentence\nagain.png,one\nred.png,two\nlink.png,three\n")
    out = tmp_path / "data"
    report = extract(photos, out, captions=table, split="test")
    assert report.extracted == 4
    assert report.skipped == {
        "link.png": "link.png is the same photograph as again.png.",
        "red.png": "red.png is the same photograph as again.png.",
    }
    split = Split.open(out, "test")
    assert list(split.ids) == ["again.png"]
    assert sorted(split.captions) == ["one", "three", "two"]


def test_unreadable_files_are_reported_and_skipped(photos, tmp_path):
    (photos / "empty.jpg").touch()
    (photos / "broken.jpg").write_bytes((photos / "red.png").read_bytes()[:60])
    (photos / "text.png").write_text("hello")
    (photos / "dangling.jpg").symlink_to(photos / "gone.jpg")
    (photos / "two\nlines.png").write_bytes((photos / "red.png").read_bytes())
    os.close(os.open(os.fsencode(photos) + b"/caf\xe9.png", os.O_CREAT))
    draw(photos / "東京 é.png", "red", 30)
    draw(photos / "dot.png", "red", 0, (1, 1))
    out = tmp_path / "data"
    report = extract(photos, out)
    assert report.splits == {"test": (6, 0)}
    assert report.skipped["empty.jpg"] == "empty.jpg is empty: copy it again."
    assert report.skipped["text.png"] == "text.png cannot be read: it is not an image of a known format."
    assert report.skipped["dangling.jpg"] == "dangling.jpg cannot be read: No such file or directory."
    assert report.skipped["two\nlines.png"] == (
        r"'two\nlines.png': expected a name in UTF-8, of one line, without spaces around it. Rename the file."
    )
    assert len(report.skipped) == 6
    lines = (out / "skipped.tsv").read_text("utf-8").splitlines()
    assert len(lines) == 6
    assert "empty.jpg\tempty.jpg is empty: copy it again." in lines
    assert "東京 é.png" in list(Split.open(out, "test").ids)
    assert "6 files skipped" in render_report(report, out)
    (photos / "empty.jpg").write_bytes((photos / "dot.png").read_bytes() + b"\0")  # mended
    assert extract(photos, out).extracted == 1
    assert not check(out).errors


def test_no_readable_photograph_is_an_error(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    with pytest.raises(InputError, match=r"None of 1 photographs could be read. The first: a.jpg is empty"):
        extract(tmp_path / "photos", tmp_path / "data")


def test_input_that_does_not_match_the_folder_is_refused(photos, table, tmp_path):
    out = tmp_path / "data"
    extract(photos, out, {"regions": 5})
    with pytest.raises(
        InputError, match="was extracted with --regions 5, not 6: leave the option out, or use a new folder"
    ):
        extract(photos, out, {"regions": 6})
    extract(photos, out, {"regions": 5})
    with pytest.raises(InputError, match="exists and contains something else: expected a new folder"):
        extract(photos, photos)
    table.write_text("file,sentence\nother.png,one\n")
    with pytest.raises(InputError, match="none of them is a photograph of the folder"):
        extract(photos, tmp_path / "new", captions=table)
    assert not (tmp_path / "new").exists()
    (out / "photographs" / "settings.json").write_text("{")
    with pytest.raises(InputError, match=r"settings.json is not JSON"):
        extract(photos, out)


def test_missing_models_and_bad_numbers_are_refused(photos, tmp_path):
    for options, message in [
        ({"detector": "gone.onnx"}, "gone.onnx is not there: expected the path of a file"),
        ({"features": "gone.onnx"}, "gone.onnx is not there: expected the path of a file"),
        ({"project": "gone.npz"}, "gone.npz is not there"),
        ({"classes": "gone.txt"}, "gone.txt is not there"),
        ({"regions": 200}, r"num_regions \(--regions\) is 200: expected 1 to 100"),
        ({"side": 3}, "--side 3: expected 64 pixels or more"),
        ({"detector": str(tmp_path)}, "is not a complete model"),
    ]:
        with pytest.raises(InputError, match=message):
            extract(photos, tmp_path / "data", options)
    assert not (tmp_path / "data" / "test_rows.npy").exists()


def test_a_projection(photos, tmp_path):
    random = np.random.default_rng(0)
    mean, components = random.normal(size=240), random.normal(size=(7, 240))
    np.savez(tmp_path / "p.npz", mean=mean, components=components)
    extract(photos, tmp_path / "plain", {"regions": 3})
    extract(photos, tmp_path / "data", {"regions": 3, "project": str(tmp_path / "p.npz")})
    plain = Split.open(tmp_path / "plain", "test").images([0, 1]).features.double().numpy()
    found = Split.open(tmp_path / "data", "test").images([0, 1]).features.double().numpy()
    assert np.allclose(found, (plain - mean) @ components.T, atol=0.05)
    np.savez(tmp_path / "p.npz", mean=mean[:5], components=components)
    with pytest.raises(
        InputError, match=r"contains mean \[5\] and components \[7, 240\]: expected \[240\] and \[any, 240\]"
    ):
        extract(photos, tmp_path / "new", {"project": str(tmp_path / "p.npz")})
    draw(photos / "new.png", "red", 9)
    np.savez(tmp_path / "p.npz", mean=mean + 1, components=components)
    with pytest.raises(InputError, match=r"has changed since .* was started: restore it"):
        extract(photos, tmp_path / "data")


def test_features_beyond_float16_are_refused(photos, tmp_path):
    np.savez(tmp_path / "p.npz", mean=np.zeros(240), components=np.full((2, 240), 1e9))
    with pytest.raises(InputError, match=r"NaN, infinity or values beyond float16 \(65,504\)"):
        extract(photos, tmp_path / "data", {"project": str(tmp_path / "p.npz")})


def test_a_custom_extractor(photos, tmp_path):
    made = Options(regions=2).extractor("cpu")
    extract(photos, tmp_path / "data", extractor=lambda options: made)
    assert Split.open(tmp_path / "data", "test").num_regions == 2


def test_shards_are_read_like_one_array(tmp_path):
    parts = [np.random.default_rng(number).normal(size=(number, 2, 3)).astype(np.float16) for number in (4, 1, 3)]
    paths = [tmp_path / f"{number}.npy" for number in range(3)]
    for path, part in zip(paths, parts, strict=True):
        np.save(path, part)
    index = np.array([7, 0, 4, 4, 5])
    shards = Shards(paths, index)
    whole = np.concatenate(parts)
    assert np.array_equal(shards.all(), whole[index])
    assert np.array_equal(shards.take(np.array([3, 0])).read(np.array([1, 1, 0])), whole[[7, 7, 4]])
    assert shards.read(np.zeros(0, np.int64)).shape == (0, 2, 3)
    with pytest.raises(InputError, match=r"Row 8 was requested from .*, which has 8 rows"):
        Shards(paths, np.array([8]))
    np.save(paths[1], parts[1].astype(np.float32))
    with pytest.raises(InputError, match=r"contain float16 \[2, 3\] and float32 \[2, 3\]: expected one"):
        Shards(paths, index)
    with pytest.raises(InputError, match="contain no file: expected one"):
        Shards([], index)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "regard", "extract", *map(str, arguments)]


def many(folder: Path, count: int) -> Path:
    random = np.random.default_rng(0)
    folder.mkdir()
    for number in range(count):
        pixels = random.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04}.png")
    return folder


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_run_is_continued(tmp_path, sent):
    photos, out = many(tmp_path / "photos", 220), tmp_path / "data"
    run = command(photos, "--out", out, "--regions", 40, "--workers", 1, "--split", "train", "--relations", "none")
    process = subprocess.Popen(
        run, stderr=subprocess.PIPE, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    )
    until = time.monotonic() + 120
    while not list((out / "photographs").glob("*.npy")):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(sent)
    err = process.communicate(timeout=60)[1].decode()
    if sent == signal.SIGINT:
        assert process.returncode == 2
        assert err == f"regard: Stopped. What was extracted is kept in {out}; run the same command to continue.\n"
    kept = len(Store(out / "photographs").row_of)
    assert 128 <= kept < 220
    assert not list(out.glob("*_rows.npy"))
    report = extract(photos, out)
    assert report.extracted == 220 - kept
    assert report.splits == {"train": (220, 0)}  # also what the interrupted command chose
    assert not list(out.glob("*_relations.npz"))
    assert not list(out.rglob("*.tmp"))
    again = extract(photos, tmp_path / "again", {"regions": 40}, split="train")
    assert again.extracted == 220
    one, other = (Split.open(folder, "train").images(range(220)) for folder in (out, tmp_path / "again"))
    assert torch.equal(one.features, other.features)


def test_several_processes_share_the_work(tmp_path):
    photos, out = many(tmp_path / "photos", 31), tmp_path / "data"
    shutil.copy(photos / "0000.png", photos / "copy.png")
    done = launched(2, "-m", "regard", "extract", photos, "--out", out, "--regions", 4)
    assert done.returncode == 0, done.stderr
    assert "test   31 photographs" in done.stdout
    shards = sorted(path.name for path in (out / "photographs").glob("*.npy"))
    assert sorted(name[-5] for name in shards) == ["0", "1"]
    assert {len(np.load(out / "photographs" / name)) for name in shards} <= {15, 16}
    extract(photos, tmp_path / "alone", {"regions": 4})
    one, other = (Split.open(folder, "test") for folder in (out, tmp_path / "alone"))
    assert list(one.ids) == list(other.ids)
    assert torch.equal(one.images(range(31)).features, other.images(range(31)).features)


def test_like_uses_the_options_of_another_folder(photos, tmp_path):
    extract(photos, tmp_path / "data", {"regions": 5, "windows": False}, relations="none", split="train")
    report = extract(photos, tmp_path / "other", like=tmp_path / "data")
    assert report.splits == {"test": (4, 0)}
    assert Split.open(tmp_path / "other", "test").num_regions == 5
    assert not (tmp_path / "other" / "test_relations.npz").exists()
    with pytest.raises(InputError, match="was extracted with --regions 5, not 6"):
        extract(photos, tmp_path / "third", {"regions": 6}, like=tmp_path / "data")
    with pytest.raises(InputError, match="expected a folder that `regard extract` wrote"):
        extract(photos, tmp_path / "third", like=photos)
    assert not (tmp_path / "third").exists()


def test_a_second_command_at_the_same_time_is_refused(photos, tmp_path):
    store = Store(tmp_path / "data" / "photographs")
    with (
        store.locked(),
        pytest.raises(InputError, match=r"Another process is extracting into .*: wait"),
    ):
        extract(photos, tmp_path / "data")
    assert extract(photos, tmp_path / "data").extracted == 4


def test_more_shards_than_their_names_can_order_are_refused(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("regard.extract.store.MAX_SHARDS", 1)
    monkeypatch.setattr("regard.extract.extraction.SHARD", 2)
    monkeypatch.setattr("regard.extract.extraction.BATCH", 2)
    with pytest.raises(InputError, match=r"has 1 shards, the most that a data folder may have: extract the rest into"):
        extract(photos, tmp_path / "data")
    assert len(list((tmp_path / "data" / "photographs").glob("*.npy"))) == 1


def test_settings_contain_what_a_second_run_needs(photos, table, tmp_path):
    out = tmp_path / "data"
    extract(photos, out, {"regions": 5}, captions=table, split="dev", relations="none")
    settings = json.loads((out / "photographs" / "settings.json").read_text("utf-8"))
    assert settings["photographs"] == str(photos)
    assert settings["options"]["regions"] == 5
    assert (settings["captions"], settings["split"], settings["relations"]) == (str(table), "dev", "none")
    assert settings["classes"] == ["none"]


def test_the_precision_of_the_first_run_is_kept(photos, tmp_path):
    """On another device too, and in folders that were extracted before there was the option, which are in float32."""
    assert Options().with_precision("cuda").precision == "bfloat16"
    out = tmp_path / "data"
    path = out / "photographs" / "settings.json"
    for stored, device in (("bfloat16", "cpu"), (None, "cuda")):
        extract(photos, out)
        settings = json.loads(path.read_text("utf-8"))
        assert settings["options"].pop("precision") == "float32"
        settings["options"] |= {"precision": stored} if stored else {}
        path.write_text(json.dumps(settings))
        extract(photos, out, device=device, extractor=lambda options: ComposedExtractor(None, Colours()))
        assert json.loads(path.read_text("utf-8"))["options"]["precision"] == (stored or "float32")
        with pytest.raises(InputError, match=r"was extracted with --precision"):
            extract(photos, out, {"precision": "float32" if stored else "bfloat16"})
        shutil.rmtree(out)


def test_the_latest_record_of_a_file_counts(photos, tmp_path):
    out = tmp_path / "data"
    (photos / "blue.png").write_text("junk")
    assert "blue.png" in extract(photos, out).skipped
    (out / "photographs" / "files-0.jsonl").rename(out / "photographs" / "files-1.jsonl")  # another process's
    draw(photos / "blue.png", "blue", 5)
    draw(photos / "red.png", "green", 6)
    assert extract(photos, out).extracted == 2
    assert extract(photos, out).skipped == {}
    want = Options().extractor("cpu")([decode_photograph("a", (photos / "red.png").read_bytes())[0]])[0]
    assert np.allclose(Split.open(out, "test").images([3]).features[0], want.features, atol=1e-3)


def test_sentences_of_an_unreadable_photograph_are_skipped(photos, table, tmp_path):
    draw(photos / "dogs" / "1.png", "red", 11)
    (photos / "cats").mkdir()
    (photos / "cats" / "1.png").write_text("junk")
    table.write_text("file,sentence\ncats/1.png,a cat sleeps\ndogs/1.png,a dog runs\nbirds/1.png,a bird\n")
    report = extract(photos, tmp_path / "data", captions=table, split="test")
    assert Split.open(tmp_path / "data", "test").captions[:] == ["a dog runs"]
    assert report.unmatched == ["cats/1.png", "birds/1.png"]
    assert (
        "2 sentences skipped, because their photograph is missing or cannot be read, such as cats/1.png"
        in render_report(report, tmp_path)
    )


def test_an_interrupted_change_of_relations_is_completed_by_the_next_run(photos, table, tmp_path, monkeypatch):
    out = tmp_path / "data"
    table.write_text("file,sentence,split\nred.png,a,train\nblue.png,b,dev\n")
    extract(photos, out, captions=table)

    def fails(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["regard.extract.split_writer"], "_write_split", fails)
    with pytest.raises(KeyboardInterrupt):
        extract(photos, out, relations="none")
    monkeypatch.undo()
    extract(photos, out)
    assert not list(out.glob("*[!t]_relations.npz"))
    assert (out / "train_text_relations.npz").exists()


def test_a_predictor_of_other_classes_is_refused_and_changes_nothing(photos, tmp_path):
    out = tmp_path / "data"
    extract(photos, out)
    fit(made.annotated(60)).save(tmp_path / "predicates.safetensors")
    before = files(out)
    with pytest.raises(InputError, match=r"knows no class of these regions: expected .* Use --relations boxes"):
        extract(photos, out, relations=str(tmp_path / "predicates.safetensors"))
    assert files(out) == before
    extract(photos, out)


def test_a_photograph_with_features_that_are_not_finite_is_skipped(photos, tmp_path):
    class Sometimes:
        classes, feature_dim, num_regions = ("none",), 2, 1

        def __call__(self, photographs):
            value = [np.nan if photograph.getpixel((30, 20))[0] == 200 else 1.0 for photograph in photographs]
            box, none = np.array([[0, 0, 1, 1]], np.float32), np.zeros(1)
            return [Regions(box, none.astype(int), none, np.array([[each, 1.0]])) for each in value]

    report = extract(photos, tmp_path / "data", extractor=lambda _: Sometimes())
    assert report.skipped == {
        "red.png": "red.png: its features contain NaN, infinity or values beyond float16 (65,504)."
    }
    assert report.splits == {"test": (3, 0)}


def test_options_are_fixed_after_the_first_photograph(photos, tmp_path):
    out = tmp_path / "data"
    with pytest.raises(ZeroDivisionError):
        extract(photos, out, {"regions": 10}, extractor=lambda _: 1 / 0)
    extract(photos, out, {"regions": 20})
    extract(photos, out, split="dev")
    assert extract(photos, out, split="none").splits == {"test": (4, 0)}


def test_pipes_bad_split_names_other_folders_and_damaged_shards(photos, tmp_path):
    os.mkfifo(photos / "pipe.jpg")
    report = extract(photos, tmp_path / "data", workers=-3)
    assert report.skipped == {"pipe.jpg": "pipe.jpg is not a file."}
    for split in ("../evil", "a b", "x*"):
        with pytest.raises(InputError, match="expected letters, digits, - and _"):
            extract(photos, tmp_path / "new", split=split)
    (tmp_path / "own").mkdir()
    photos.rename(tmp_path / "own" / "photographs")
    with pytest.raises(InputError, match="exists and contains something else"):
        extract(tmp_path / "own" / "photographs", tmp_path / "own")
    shard = next((tmp_path / "data" / "photographs").glob("*.npy"))
    shard.with_suffix(".npz").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"and its .npz are not a complete shard \(.*\): remove both"):
        extract(tmp_path / "own" / "photographs", tmp_path / "data")


@pytest.mark.parametrize(
    ("options", "message"), [({"pool": "map"}, "--pool map applies to"), ({"pixels": "raw"}, "--pixels raw")]
)
def test_options_that_do_not_apply_are_refused(photos, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        extract(photos, tmp_path / "data", options)


def test_the_fingerprint_notices_a_replaced_model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"one")
    before = fingerprint(folder)
    (folder / "model.safetensors").write_bytes(b"two")
    assert fingerprint(folder) != before
    (tmp_path / "a.onnx").write_bytes(b"x")
    before = fingerprint(tmp_path / "a.onnx")
    (tmp_path / "preprocessor_config.json").write_text("{}")
    assert fingerprint(tmp_path / "a.onnx") != before


def test_bad_rows_and_sentences_in_other_languages_are_reported(photos, tmp_path):
    table = tmp_path / "german.csv"
    rows = [f"{name},ein kleiner Junge fährt mit dem roten Fahrrad" for name in ("red.png", "blue.png", "green.png")]
    table.write_text("\n".join(["file,sentence", *rows, "spoilt"]), "utf-8")
    report = extract(photos, tmp_path / "out", {"regions": 3}, captions=table, split="test")
    assert report.unparsed == ["test"]
    assert not (tmp_path / "out" / "test_text_relations.npz").exists()
    printed = render_report(report, tmp_path / "out")
    assert "The sentences of test do not look like English, and are not parsed." in printed
    assert "1 row of the table skipped, such as line 5: 'spoilt', 1 columns: expected 2 columns" in printed
