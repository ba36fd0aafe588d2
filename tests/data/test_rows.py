import numpy as np
import pytest

from regard.data.rows import Rows, read_header
from regard.files import InputError

HEADER = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"


def npy(header, numbers=bytes(24)):
    text = header + b" " * (63 - (10 + len(header)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + numbers


@pytest.mark.parametrize("dtype", ["?", "u1", "<i8", ">i4", "<f2", "<f8", "<c8", "<U5", "|S3", "O"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (3, 4), (2, 0, 5)])
def test_headers_are_read_as_numpy_reads_them(tmp_path, dtype, shape):
    for order in "CF":
        np.save(tmp_path / "a.npy", np.zeros(shape, dtype, order), allow_pickle=True)
        with open(tmp_path / "a.npy", "rb") as file, open(tmp_path / "a.npy", "rb") as expected:
            np.lib.format.read_magic(expected)
            assert read_header(file) == np.lib.format.read_array_header_1_0(expected)
            assert file.tell() == expected.tell()


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_is_read(tmp_path, version):
    with open(tmp_path / "a.npy", "w+b") as file:
        np.lib.format.write_array(file, np.zeros((2, 3), np.float32), version)
        size = file.tell()
        file.seek(0)
        assert read_header(file) == ((2, 3), False, np.float32)
        assert file.tell() == size - 24


def test_a_file_of_python_2_is_read_without_a_warning(tmp_path):
    numbers = np.arange(6, dtype=np.float32).reshape(2, 3)
    (tmp_path / "a.npy").write_bytes(npy(HEADER.replace(b"(2, 3)", b"(2L, 3L)"), numbers.tobytes()))
    np.testing.assert_array_equal(Rows(tmp_path / "a.npy").all(), numbers)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"(2, 3)", b"(-2, 3)"),
        (b"(2, 3)", b"(2or 3)"),
        (b"(2, 3)", b"((2), 3)"),
        (b"'<f4'", b"[('a', '<f4'), ('b', '<f4')]"),
        (b"'<f4'", b"'<f3'"),
        (b"'descr'", b"'\\descr'"),
        (b"False", b"None"),
    ],
)
def test_damaged_headers_are_refused_in_one_line(tmp_path, old, new):
    path = tmp_path / "a.npy"
    path.write_bytes(npy(HEADER.replace(old, new)))
    with pytest.raises(InputError, match=r"a\.npy is not a complete \.npy file \(.*\)\. Copy it again\."):
        Rows(path)


@pytest.mark.parametrize("size", [5, 9, 40])
def test_a_cut_header_is_refused(tmp_path, size):
    (tmp_path / "a.npy").write_bytes(npy(HEADER)[:size])
    with pytest.raises(InputError, match="is not a complete"):
        Rows(tmp_path / "a.npy")
