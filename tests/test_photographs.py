"""Listing photographs, and decoding files of many formats to upright RGB images."""

import io
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from regard.files import InputError
from regard.photographs import decode_photograph, list_photographs


def encoded(image: Image.Image, form: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def halves(width: int = 40, height: int = 20) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), (255, 0, 0))
    image.paste((0, 0, 255), (width // 2, 0, width, height))
    return image


def colour(image: Image.Image, x: float, y: float) -> tuple[int, ...]:
    return image.getpixel((int(x * image.width), int(y * image.height)))


def near(one, other) -> bool:
    return bool(np.abs(np.subtract(one, other)).max() < 20)


def test_photographs_of_a_folder(tmp_path):
    for name in ("b.JPG", "a/c.png", "a/b/é 東京.webp", "notes.txt", ".hidden.jpg", ".git/x.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "a" / "again").symlink_to(tmp_path / "a")  # a loop
    (tmp_path / "link.jpg").symlink_to(tmp_path / "b.JPG")
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "self.jpg").symlink_to(tmp_path / "self.jpg")
    names = ["a/b/é 東京.webp", "a/c.png", "b.JPG", "broken.jpg", "link.jpg", "self.jpg"]
    assert list_photographs(tmp_path) == names


def test_folders_without_photographs_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"contains no photographs: expected files that end in .jpg, .jpeg, .png"):
        list_photographs(tmp_path)
    with pytest.raises(InputError, match=r"is not a folder"):
        list_photographs(tmp_path / "gone")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_file_formats(form):
    image, size = decode_photograph("a", encoded(halves(), form))
    assert (image.mode, image.size, size) == ("RGB", (40, 20), (40, 20))
    assert near(colour(image, 0.2, 0.5), (255, 0, 0))
    assert near(colour(image, 0.8, 0.5), (0, 0, 255))


def test_heic():
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif, which writes the test's file, is not installed")
    heif.register_heif_opener()
    image, size = decode_photograph("a.HEIC", encoded(halves(64, 64), "HEIF"))
    assert size == (64, 64)
    assert near(colour(image, 0.2, 0.5), (255, 0, 0))


def test_heic_libraries_are_used_without_being_registered(monkeypatch):
    data = b"\0\0\0\x18ftypheic" + bytes(8)
    for library in ("pi_heif", "pillow_heif"):
        monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=r"a.HEIC is a HEIC file, which needs another library: pip install pi-heif"):
        decode_photograph("a.HEIC", data)
    made = SimpleNamespace(HeifImageFile=lambda stream, name: halves() if stream.read() == data else None)
    monkeypatch.setitem(sys.modules, "pillow_heif", made)
    before = dict(Image.OPEN)
    assert decode_photograph("a.HEIC", data)[1] == (40, 20)
    assert before == Image.OPEN
    assert decode_photograph("a.heic", encoded(halves(), "JPEG"))[1] == (40, 20)  # a file that was only renamed


@pytest.mark.parametrize(
    ("orientation", "is_rotated", "red"),
    [
        *((value, False, (0.1, 0.5)) for value in (1, 9, 200)),  # the last two mean nothing
        (3, False, (0.9, 0.5)),
        (6, True, (0.5, 0.1)),
        (8, True, (0.5, 0.9)),
    ],
)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF"])
def test_exif_orientation(form, orientation, is_rotated, red):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for side in (0, 20):
        image, size = decode_photograph("a", encoded(halves(), form, exif=exif), side)
        assert size == ((20, 40) if is_rotated else (40, 20))
        assert max(image.size) == (side or 40)
        assert near(colour(image, *red), (255, 0, 0))


def test_a_large_jpeg_is_scaled_down_while_it_is_decoded():
    image, size = decode_photograph("a.jpg", encoded(halves(2000, 1000), "JPEG"), side=100)
    assert (image.size, size) == ((100, 50), (2000, 1000))
    assert near(colour(image, 0.4, 0.5), (255, 0, 0))


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "LAB"])
def test_modes_of_eight_bits(mode):
    grey = Image.new("L", (8, 8), 255).convert(mode) if mode != "LAB" else Image.new("LAB", (8, 8), (255, 128, 128))
    image, _ = decode_photograph("a", encoded(grey, "TIFF"))
    assert near(colour(image, 0.5, 0.5), (255, 255, 255))


def test_cmyk_jpeg():
    image, _ = decode_photograph("a.jpg", encoded(halves().convert("CMYK"), "JPEG"))
    assert near(colour(image, 0.2, 0.5), (255, 0, 0))


def test_sixteen_bits_are_scaled_and_not_clipped():
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    image, _ = decode_photograph("a.png", encoded(Image.fromarray(ramp)))
    assert np.abs(np.asarray(image)[..., 0].astype(float) - ramp / 257).max() <= 1
    dark, _ = decode_photograph("a.png", encoded(Image.fromarray(np.full((8, 8), 200, np.uint16))))
    assert np.asarray(dark).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparent_pixels_become_white(mode):
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    form = "PNG" if mode != "PA" else "GIF"
    image, _ = decode_photograph("a", encoded(clear.convert(mode) if mode != "PA" else clear, form))
    assert colour(image, 0.5, 0.5) == (255, 255, 255)


def test_the_first_frame_of_an_animation_is_used():
    frames = [Image.new("RGB", (8, 8), shade) for shade in ("red", "green")]
    image, _ = decode_photograph("a.gif", encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert near(colour(image, 0.5, 0.5), (255, 0, 0))


def test_one_pixel():
    image, size = decode_photograph("a.png", encoded(Image.new("RGB", (1, 1), "red")), 1024)
    assert (image.size, size) == ((1, 1), (1, 1))


def test_twenty_thousand_pixels_square():
    huge = Image.new("L", (20_000, 20_000))
    with pytest.raises(
        InputError, match=r"a.png has 20000 x 20000 pixels: expected at most 180 million, unless it is a JP"
    ):
        decode_photograph("a.png", encoded(huge, compress_level=1), 1024)
    image, size = decode_photograph("a.jpg", encoded(huge, "JPEG"), 1024)
    assert (max(image.size), size) == (1024, (20_000, 20_000))


def test_the_limit_of_a_plugin_is_reported_as_ours(monkeypatch):
    """Pillow's plugin of WebP applies Pillow's limit itself."""

    def refuse(*given):
        raise Image.DecompressionBombError("Image size exceeds limit")

    monkeypatch.setitem(Image.OPEN, "PNG", (refuse, Image.OPEN["PNG"][1]))
    with pytest.raises(InputError, match=r"a.png has too many pixels: expected at most 180 million, unless it is a JP"):
        decode_photograph("a.png", encoded(halves()))


def test_unreadable_files_are_reported_in_one_line():
    whole = encoded(halves(200, 200), "JPEG")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for data, message in [
        (b"", "is empty: copy it again"),
        (b"hello", "cannot be read: it is not an image of a known format"),
        (whole[: len(whole) // 2], "cannot be read: "),
        (encoded(Image.fromarray(noise))[:2000], "cannot be read: "),
    ]:
        with pytest.raises(InputError, match=rf"^a.jpg {message}[^\n]*$"):
            decode_photograph("a.jpg", data)


def test_a_decompression_bomb_is_refused():
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "x" * (PngImagePlugin.MAX_TEXT_CHUNK + 10), zip=True)
    with pytest.raises(InputError, match=r"a.png cannot be read"):
        decode_photograph("a.png", encoded(halves(), pnginfo=text))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_folders_without_read_permission(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0)
    assert list_photographs(tmp_path) == ["a.jpg", "locked/"]
    locked.chmod(0o755)
