"""Tables of captions: separators, headers, and the photograph of each row."""

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


def test_bad_tables_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"line 3 is 'b.jpg', 1 columns: expected 2 columns"):
        read(tmp_path, "file,sentence\na.jpg,one\nb.jpg\n")
    for head in ("file,sentence\n", ""):
        with pytest.raises(InputError, match=r"3 columns: expected 2 columns; put sentences with commas in quotation"):
            read(tmp_path, head + "a.jpg,a bear sits, and looks\n")
    with pytest.raises(InputError, match=r"after line 2: .* Is a quotation mark not closed"):
        read(tmp_path, 'file,sentence\na.jpg,one\nb.jpg,"two\nc.jpg,three\n')
    with pytest.raises(InputError, match=r"line 2: the split is '../up'; expected letters"):
        read(tmp_path, "file,sentence,split\na.jpg,one,../up\n")
    with pytest.raises(InputError, match="contains no sentences"):
        read(tmp_path, "file,sentence\n")
    with pytest.raises(InputError, match=r"gone.csv is not there"):
        Captions.read(tmp_path / "gone.csv")
    (tmp_path / "latin.csv").write_bytes("file,sentence\na.jpg,café\n".encode("latin-1"))
    with pytest.raises(InputError, match="cannot be read as UTF-8"):
        Captions.read(tmp_path / "latin.csv")
