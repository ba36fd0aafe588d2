"""Tables of captions: separators, headers, and the photograph of each row."""

import json
import subprocess

import pytest

from regard.data.captions import Captions
from regard.files import InputError


def read(tmp_path, text: str) -> Captions:
    path = tmp_path / "captions.csv"
    path.write_text(text, "utf-8")
    return Captions.read(path)


@pytest.mark.parametrize(
    "text",
    [
        'file,sentence\na.jpg,"a man, and a dog"\nb/c.jpg,two  dogs\n',
        '\ufefffile,sentence\r\na.jpg,"a man, and a dog"\r\n\r\nb/c.jpg,two dogs\r\n',
        'id,Caption,Image\n1,"a man, and a dog",a.jpg\n2,two dogs,b/c.jpg\n',
        "a.jpg\ta man, and a dog\nb/c.jpg\ttwo dogs\n",
        "a.jpg#0\ta man, and a dog\nb/c.jpg#4\ttwo dogs\n",
        "image_name| comment_number| comment\na.jpg| 0| a man, and a dog\nb/c.jpg| 1| two dogs\n",
        "a.jpg| 0| a man, and a dog\nb/c.jpg| 1| two dogs\n",
        "image,caption\na.jpg,a man, and a dog\nb/c.jpg,two dogs\n",
        "caption,image,number\na man, and a dog,a.jpg,0\ntwo dogs,b/c.jpg,1\n",
        ",filepath,title\r0,a.jpg,'a man, and a dog'\r1,b/c.jpg,two dogs\r".replace("'", '"'),
        "title;filepath\na man, and a dog;a.jpg\ntwo dogs;b/c.jpg\n",
        'a.jpg,"a man, and\ta dog"\nb/c.jpg,"two\ndogs"\n',
        "a.jpg#zhm#0 a man, and a dog\nb/c.jpg#zhm#1 two dogs\n",
        json.dumps([{"image": "a.jpg", "caption": ["a man, and a dog"]}, {"image": "b/c.jpg", "caption": "two dogs"}]),
        '{"image": "a.jpg", "caption": "a man, and a dog"}\n{"image": "b/c.jpg", "caption": "two dogs"}\n',
        '{"a.jpg": "a man, and a dog", "b/c.jpg": ["two dogs"]}',
        '{"a.jpg": {"caption": "a man, and a dog"}, "1": {"filename": "b/c.jpg", "captions": ["two dogs"]}}',
        json.dumps(
            {
                "images": [{"id": 5, "file_name": "b/c.jpg"}, {"id": 7, "file_name": "a.jpg"}],
                "annotations": [
                    {"image_id": 7, "caption": "a man, and a dog"},
                    {"image_id": 5, "caption": "two dogs\n"},
                ],
            }
        ),
    ],
)
def test_tables_of_many_kinds(tmp_path, text):
    table = read(tmp_path, text)
    assert table.files == ["a.jpg", "b/c.jpg"]
    assert table.sentences == ["a man, and a dog", "two dogs"]
    assert table.splits is None


def test_splits_and_quotation_marks(tmp_path):
    table = read(tmp_path, 'file\tsentence\tsplit\na.jpg\t"Stop" says the sign\ttrain\nb.jpg\tan "x\ttest\n')
    assert table.sentences == ['"Stop" says the sign', 'an "x']
    assert table.splits == ["train", "test"]
    table = read(tmp_path, 'file\tsentence\tsplit\na\t"a ""big"" dog"\tVal\nb\tone\u2028line\tTRAIN\n')
    assert table.sentences == ['a "big" dog', "one line"]
    assert table.splits == ["dev", "train"]


def test_rows_find_their_photographs(tmp_path):
    table = read(tmp_path, "file,sentence\na.jpg,one\nx/b.jpg,two\nc,three\nd.jpg,four\ngone.jpg,five\na.jpg,six\n")
    names = ["a.jpg", "x/b.jpg", "y/b.jpg", "z/c.png", "p/d.jpg", "q/d.jpg"]
    assert table.rows_of(names) == {"a.jpg": [0, 5], "x/b.jpg": [1], "z/c.png": [2]}  # d.jpg might be either
    other = read(tmp_path, "file,sentence\nimages/x/b.jpg,one\nw/a.jpg,two\nx/a.jpg,three\nA.JPG,four\nx\\b,five\n")
    assert other.rows_of([*names[1:], "x/a.jpg"]) == {"x/b.jpg": [0, 4], "x/a.jpg": [2, 3]}  # w/a.jpg is not there
    with pytest.raises(InputError, match=r"names 'a.jpg' and others, and none of them is a photograph of the folder"):
        table.rows_of(["other.jpg"])


def test_several_sentences_in_one_row(tmp_path):
    table = read(tmp_path, "image,caption_0,caption_1,split\na.jpg,one,two,val\nb.jpg,three,four,test\n")
    assert table.files == ["a.jpg", "a.jpg", "b.jpg", "b.jpg"]
    assert table.sentences == ["one", "two", "three", "four"]
    assert table.splits == ["dev", "dev", "test", "test"]
    table = read(tmp_path, 'raw,filename,id\n"[""it\'s one"", ""two""]",a.jpg,7\n"[\'three\']",b.jpg,8\n')
    assert table.sentences == ["it's one", "two", "three"]
    assert table.others == {"id": ["7", "7", "8"]}


def test_quotation_marks_in_a_sentence_are_not_around_a_cell(tmp_path):
    table = read(tmp_path, 'image,caption\na.jpg,"Wow" says the man\nb.jpg,"A", says "B", and\n')
    assert table.sentences == ['"Wow" says the man', '"A", says "B", and']
    assert read(tmp_path, '{"image": "a.jpg", "caption": "one"}').files == ["a.jpg"]


def test_karpathys_splits(tmp_path):
    images = [
        {"filepath": "val2014", "filename": "a.jpg", "split": split, "sentences": [{"raw": "one"}, {"raw": "two"}]}
        for split in ("restval", "val", "test")
    ]
    table = read(tmp_path, json.dumps({"images": images, "dataset": "coco"}))
    assert table.splits == ["train", "train", "dev", "dev", "test", "test"]
    assert table.files == ["val2014/a.jpg"] * 6
    assert table.sentences == ["one", "two"] * 3
    assert table.others == {}


def test_utf_16_is_read(tmp_path):
    (tmp_path / "c.csv").write_bytes("file\tsentence\na.jpg\tcafé\n".encode("utf-16"))
    assert Captions.read(tmp_path / "c.csv").sentences == ["café"]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("b.jpg", "line 3: 'b.jpg', 1 columns: expected 2 columns"),
        ('b.jpg,"two', "line 3: 'b.jpg,\"two', with quotation marks that do not fit: expected 2 columns"),
    ],
)
def test_a_bad_row_is_skipped_and_named(tmp_path, bad, why):
    table = read(tmp_path, f'file,sentence\na.jpg,one\n{bad}\nc.jpg,three\nc.jpg,the 10" pizza\n')
    assert table.sentences == ["one", "three", 'the 10" pizza']
    assert [": ".join(row) for row in table.skipped] == [why]


def test_photographs_are_found_by_their_number(tmp_path):
    table = read(tmp_path, "file,sentence\n391895,one\nCOCO_val2014_000000000007.jpg,two\n8,three\n")
    names = ["COCO_val2014_000000391895.jpg", "7.jpg", "x_8.jpg", "y_8.jpg"]
    assert table.rows_of(names) == {names[0]: [0], "7.jpg": [1]}  # 8 might be either


def test_bad_tables_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"line 2 is 'a.jpg', 1 columns: .* 2 rows cannot be read; this is the first"):
        read(tmp_path, "file,sentence\na.jpg\nb.jpg\nc.jpg,one\n")
    with pytest.raises(InputError, match=r"line 2: the split is '../up'; expected letters"):
        read(tmp_path, "file,sentence,split\na.jpg,one,../up\n")
    for empty in ("file,sentence\n", "", "\n\n", "[]", "{}"):
        with pytest.raises(InputError, match="contains no sentences"):
            read(tmp_path, empty)
    with pytest.raises(InputError, match=r"record 0 is \{'x': 1\}: expected an image and its caption"):
        read(tmp_path, '[{"x": 1}, null]')
    with pytest.raises(InputError, match="begins like JSON and is not"):
        read(tmp_path, '[{"x": 1},')
    with pytest.raises(InputError, match=r"begins like JSON and is not \(it is nested too deep\)"):
        read(tmp_path, "[" * 5000)
    with pytest.raises(InputError, match=r"gone.csv is not there"):
        Captions.read(tmp_path / "gone.csv")


def test_the_advice_on_encodings_works(tmp_path):
    path = tmp_path / "latin.csv"
    path.write_bytes("file,sentence\na.jpg,café\n".encode("latin-1"))
    with pytest.raises(InputError, match="cannot be read as UTF-8") as refused:
        Captions.read(path)
    advice = str(refused.value).partition(" by ")[2].rstrip(".").split()
    path.write_bytes(subprocess.run(advice, cwd=tmp_path, capture_output=True, check=True).stdout)
    assert Captions.read(path).sentences == ["café"]
