"""Photographs that are added directly: extracted as the data of the run were, known by their pixels."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

import made
from regard.extract.extraction import extract
from regard.files import InputError
from regard.search.encoder import Encoder
from regard.search.index import Index
from regard.search.query import Query
from regard.training.trained_run import TrainedRun

TABLE = """file,sentence,split,Year,Place of it,id
a.png,w1 near w2,train,2001,here,7
b.png,w3 near w4,train,2005,there,8
b.png,w3,train,2005,there,8
c.jpg,w5,dev,,there,9
d.png,w6,dev,1999,,10
"""


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Four photographs, of which the JPEG has the time at which it was taken, and a table of sentences."""
    folder = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for name in "abd":
        Image.fromarray(random.integers(0, 255, (40, 50, 3), np.uint8)).save(folder / f"{name}.png")
    picture = Image.fromarray(random.integers(0, 255, (60, 30, 3), np.uint8))
    exif = picture.getexif()
    exif.get_ifd(0x8769)[0x9003] = "2024:06:30 17:05:00"
    exif.get_ifd(0x8825)[1] = "N"  # a place, which must not be read
    picture.save(folder / "c.jpg", exif=exif)
    (folder / "table.csv").write_text(TABLE)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, photographs):
    """A run for data that were extracted from these photographs."""
    folder = tmp_path_factory.mktemp("run")
    extract(photographs, folder / "data", {"regions": 6}, captions=photographs / "table.csv")
    return TrainedRun(made.run(folder / "run", folder / "data", "scan-f8k"))


@pytest.fixture
def album(photographs, tmp_path):
    return shutil.copytree(photographs, tmp_path / "album")


def test_photographs_get_the_scores_of_their_data_folder(run, album, tmp_path):
    index = Index.create(tmp_path / "index", Encoder(run))
    report = index.add(album, captions=album / "table.csv")
    assert (report.added, report.unreadable) == (4, [])
    other = Index.create(tmp_path / "other", Encoder(run))
    other.add(run.data)
    for sentence in ("w1 near w2", "w5"):
        mine, others = (each.search([sentence], k=4)[0] for each in (index, other))
        assert [hit.id for hit in mine.hits] == [hit.id for hit in others.hits]
        assert [hit.score for hit in mine.hits] == pytest.approx([hit.score for hit in others.hits], abs=1e-5)
    item = index.item("c.jpg")
    assert (item.width, item.height, item.captions) == (30, 60, ("w5",))
    assert item.payload["taken"] == "2024-06-30 17:05:00"
    assert index.picture("c.jpg") == album / "c.jpg"
    explanation = index.explain("c.jpg", "w5")
    assert explanation.score == pytest.approx(index.search(["w5"], where="id = 'c.jpg'")[0].hits[0].score, abs=1e-3)


def test_columns_of_the_table_are_filtered_by(run, album, tmp_path):
    index = Index.create(tmp_path / "index", Encoder(run))
    index.add(album, captions=album / "table.csv")
    columns = {"year": "integer", "place_of_it": "text", "id_": "integer", "objects": "texts", "taken": "text"}
    assert columns.items() <= index.columns().items()
    for condition, expected in (
        ("year > 2000", {"a.png", "b.png"}),
        ("place_of_it = 'there'", {"b.png", "c.jpg"}),
        ("taken >= '2024-01-01'", {"c.jpg"}),
        ("id_ = 10 OR year IS NULL", {"c.jpg", "d.png"}),
    ):
        assert {hit.id for hit in index.search(["w1"], where=condition)[0].hits} == expected
    more = tmp_path / "more"
    more.mkdir()
    Image.new("RGB", (30, 30), "red").save(more / "e.png")
    (more / "table.csv").write_text("file,sentence,year,new\ne.png,w7,soon,x\n")
    with pytest.raises(InputError, match="column year of this index is integer, and 'soon' is not"):
        index.add(more, captions=more / "table.csv")
    assert len(index) == 4
    (more / "table.csv").write_text("file,sentence,year,new\ne.png,w7,2020,x\n")
    assert index.add(more, captions=more / "table.csv").added == 1
    assert {hit.id for hit in index.search(["w1"], where="new = 'x' AND year = 2020")[0].hits} == {"e.png"}
    assert index.verify() == []


def test_sync_follows_files_that_move(run, album, tmp_path):
    index = Index.create(tmp_path / "index", Encoder(run))
    index.add(album)
    (album / "summer").mkdir()
    os.rename(album / "a.png", album / "summer" / "best.png")
    (album / "b.png").unlink()
    picture = Image.open(album / "d.png")
    picture.save(album / "d.png", pnginfo=None, optimize=True)  # other bytes, the same pixels
    Image.new("RGB", (30, 30), "red").save(album / "e.png")
    shutil.copy(album / "c.jpg", album / "copy.jpg")
    report = index.add(album, mirror=True)
    assert (report.added, report.relinked, report.removed, report.unchanged) == (1, 1, 1, 2)
    assert index.picture("summer/best.png") == album / "summer" / "best.png"
    assert {hit.id for hit in index.search(["w1"])[0].hits} == {"summer/best.png", "c.jpg", "d.png", "e.png"}
    assert index.verify() == []
    os.rename(album, tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is not a folder"):
        index.add(album, mirror=True)
    album.mkdir()
    with pytest.raises(InputError, match="contains no photographs"):
        index.add(album, mirror=True)
    assert len(index) == 4
    moved = index.add(tmp_path / "elsewhere", prefix="now/")
    assert (moved.added, moved.relinked) == (0, 4)
    assert index.picture("d.png") == tmp_path / "elsewhere" / "d.png"


def test_a_picture_outside_the_collection_is_extracted(run, album, photographs, tmp_path):
    index = Index.create(tmp_path / "index", Encoder(run))
    index.add(album, captions=album / "table.csv", texts=True)
    outside = str(photographs / "d.png")
    answer = index.search([Query(image=outside)], k=4)[0]
    assert answer.hits[0].id == "d.png"
    assert answer.hits[0].score == pytest.approx(1, abs=1e-4)
    assert dict(index.sentences_of(outside)) == pytest.approx(dict(index.sentences_of("d.png")), abs=2e-3)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="cannot be read"):
        index.search([Query(image=str(tmp_path / "broken.png"))])


def test_photographs_require_the_extraction_of_the_run(collection, album, run, tmp_path):
    index = Index.create(tmp_path / "index", Encoder(TrainedRun(collection / "cmsei")))
    with pytest.raises(InputError, match=r"was not made by `regard extract`: it is unknown how"):
        index.add(album)
    extract(album, tmp_path / "coarse", {"regions": 3})
    with pytest.raises(InputError, match=r"--regions 3, and the data of .* with 6"):
        Index.create(tmp_path / "second", Encoder(run)).add(tmp_path / "coarse")
