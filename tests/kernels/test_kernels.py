"""Compiled kernels: every model scores as it does in Python. They are built here, in half a minute, by the compiler."""

import os
import shutil
from pathlib import Path

import pytest
import torch

import made
from regard import kernels
from regard.files import InputError
from regard.layers.pooling import unit
from regard.score import score_all

pytestmark = pytest.mark.skipif(
    not shutil.which("c++") or not shutil.which("ninja"), reason="the kernels cannot be built: no C++ compiler or ninja"
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The kernels of this process: a library cannot be unloaded, so that all tests of a process share one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.delenv(kernels.SWITCH)
        path = kernels.build()
        assert path == kernels.library_path()
        assert os.listdir(path.parent) == [path.name]  # no lock and no object files
        assert kernels.in_use()
        yield path
    kernels._loaded.cache_clear()


def in_python(work):
    """Return `work()`, computed without kernels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "_loaded", lambda: None)
        return work()


@pytest.mark.parametrize(("name", "options"), made.VARIANTS, ids=made.NAMES)
@torch.no_grad()
def test_scores_are_those_of_python(name, options, built):
    model = made.model(name, **options)
    images, texts = made.images(9), made.texts(40)
    images = model.for_scoring(in_python(lambda: model.encode_images(images)))
    texts = model.for_scoring(in_python(lambda: model.encode_texts(texts)))
    few = images[:5], texts[:8]  # a block for each length of a text, and two of images
    for score in (lambda: model.score(images, texts), lambda: score_all(model, *few, block=(4, 33))):
        torch.testing.assert_close(score(), in_python(score), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_widths_that_no_vector_register_divides(built):
    for dim in (1, 7, 33, 100):
        vectors = torch.randn(5, dim)
        torch.testing.assert_close(unit(vectors), in_python(lambda vectors=vectors: unit(vectors)))
    tiny = torch.tensor([[1e-20, 0.0], [0.0, 0.0], [3e30, 4e30]])
    torch.testing.assert_close(unit(tiny), torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.6, 0.8]]))


def test_they_compute_what_needs_no_gradient_and_is_float32_only(built):
    vectors = torch.randn(3, 8)
    assert kernels.fused(vectors) is None  # gradients are enabled
    with torch.no_grad():
        assert kernels.fused(vectors) is not None
        for other in (vectors.double(), vectors.bfloat16(), vectors.T, vectors.to("meta")):
            assert kernels.fused(vectors, other) is None


def test_a_second_build_takes_nothing(built, monkeypatch):
    monkeypatch.setattr(torch.utils.cpp_extension, "load", pytest.fail)
    before = built.stat().st_mtime_ns
    assert kernels.build() == built
    assert built.stat().st_mtime_ns == before


def test_a_failed_build_is_one_line_and_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kernels, "FLAGS", ["-no-such-flag"])
    with pytest.raises(
        InputError, match=r"cannot be built \(.*no-such-flag.*\): this requires a C\+\+ compiler and ninja"
    ):
        kernels.build()
    assert not list(Path(tmp_path).rglob("*.so"))
