from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import made
from regard.batch import FORMAT_VERSION, Fragments, Images, Pooled, Texts, Vectors, host, on_both
from regard.files import InputError


def same(a, b):
    """Whether two batches have the same fields with the same values."""
    first, second = a.tensors(), b.tensors()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_slices_and_positions_take_items_of_every_field():
    images = made.images(5)
    assert len(images) == 5
    assert len(images[1:3]) == 2
    assert same(images[[3, 0, 3]], images[torch.tensor([3, 0, 3])])
    assert same(images[torch.arange(5) == 4], images[4:])
    for name, tensor in images[[3, 0, 3]].tensors().items():
        assert torch.equal(tensor, getattr(images, name)[[3, 0, 3]]), name


@pytest.mark.parametrize("number", [1, np.int64(1), torch.tensor(1)])
def test_a_single_number_is_refused(number):
    """It would drop the axis of items."""
    with pytest.raises(TypeError, match="expected"):
        made.images(5)[number]


def test_what_the_cpu_knows_travels_with_a_batch():
    """On the meta device a tensor has no values, so the numbers below can only come from the CPU."""
    images = made.images(5)
    moved = images.to("meta")
    assert torch.equal(host(moved.mask), images.mask)
    assert torch.equal(host(moved[[3, 0]].relations), images.relations[[3, 0]])
    assert torch.equal(host(Images.cat([moved[:2], moved[2:]]).mask), images.mask)
    assert torch.equal(Fragments(moved.features, moved.mask).lengths(), images.mask.sum(1))
    assert torch.equal(host(on_both(lambda mask: ~mask, moved.mask)), ~images.mask)
    assert Fragments(moved.features, moved.mask)[1:3].trimmed().mask.shape[1] == images.mask[1:3].sum(1).max()
    with pytest.raises(NotImplementedError):  # of another tensor nothing is known
        host(replace(moved, mask=~moved.mask).mask)


def test_absent_fields_stay_absent():
    images = Images(torch.zeros(2, 3, 4), torch.ones(2, 3).bool())
    assert images[:1].boxes is None
    assert Images.cat([images, images]).relations is None
    assert set(images.tensors()) == {"features", "mask"}


def test_parts_join_to_the_whole_padded_to_the_widest():
    wide, narrow = made.images(2, 6), made.images(3, 4, seed=1)
    both = Images.cat([narrow, wide])
    assert both.features.shape == (5, 6, made.FEATURE_DIM)
    assert both.relations.shape == (5, 6, 6)
    assert same(both[3:], wide)
    for name, tensor in narrow.tensors().items():
        cut = tuple(slice(0, size) for size in tensor.shape)
        assert torch.equal(getattr(both, name)[cut], tensor), name
    assert not both.mask[:3, 4:].any()
    assert not both.features[:3, 4:].any()
    assert not both.relations[:3, 4:].any()
    assert not both.relations[:3, :, 4:].any()


def test_parts_with_different_fields_do_not_join():
    """Otherwise boxes would be lost, or an image would silently get the boxes of another."""
    images = made.images(2)
    bare = Images(images.features, images.mask)
    for parts in ([images, bare], [bare, images]):
        with pytest.raises(ValueError, match="boxes"):
            Images.cat(parts)


def test_a_dtype_moves_floating_fields_only():
    images = made.images(2).to(torch.float16)
    assert images.features.dtype == images.boxes.dtype == torch.float16
    assert images.mask.dtype == torch.bool
    assert images.labels.dtype == torch.int64
    assert same(made.images(2).to("cpu"), made.images(2))


@pytest.mark.parametrize("batch", [made.images(3), made.images(3)[1:], made.texts(4), Vectors(torch.randn(3, 4).T)])
def test_a_batch_comes_back_from_disk(batch, tmp_path):
    batch.save(tmp_path / "batch.safetensors")
    assert same(type(batch).load(tmp_path / "batch.safetensors"), batch)


def test_files_that_are_absent_damaged_or_of_another_kind_are_refused(tmp_path):
    path = tmp_path / "batch.safetensors"
    made.images(3).save(path)
    with pytest.raises(InputError, match=r"has class 'Images', expected 'Texts': encode the items again"):
        Texts.load(path)
    Vectors(torch.zeros(2, 3)).save(path)
    with pytest.raises(InputError, match=r"has class 'Vectors', expected 'Fragments'"):
        Fragments.load(path)
    metadata = {"class": "Fragments", "version": FORMAT_VERSION, "fingerprint": ""}
    save_file({"vectors": torch.zeros(2, 3, 4)}, path, metadata)
    with pytest.raises(InputError, match=r"contains \['vectors'\]; Fragments has the fields \['mask', 'vectors'\]"):
        Fragments.load(path)
    save_file({"vectors": torch.zeros(2, 3)}, path, metadata | {"class": "Vectors", "version": "0"})
    with pytest.raises(InputError, match=r"has version '0', expected '1'"):
        Vectors.load(path)
    save_file({"vectors": torch.zeros(2, 3)}, path)
    with pytest.raises(InputError, match=r"has class 'unknown', expected 'Vectors'"):
        Vectors.load(path)
    Vectors(torch.zeros(2, 3)).save(path, "abc")
    assert same(Vectors.load(path, "abc"), Vectors.load(path))
    with pytest.raises(InputError, match=r"has fingerprint 'abc', expected 'def': encode the items again with this"):
        Vectors.load(path, "def")
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match=r"batch\.safetensors (cannot be read|is damaged)"):
        Vectors.load(path)
    with pytest.raises(InputError, match=r"absent\.safetensors cannot be read"):
        Vectors.load(tmp_path / "absent.safetensors")


def test_trimming_cuts_the_fragment_axis_and_no_other():
    """Also if vectors are as wide as the number of fragments, and if the mask has a hole before the last real one."""
    mask = torch.tensor([[True, False, True, False], [True, False, False, False]])
    vectors = torch.randn(2, 4, 4)
    trimmed = Pooled(vectors, mask, torch.randn(2, 4)).trimmed()
    assert torch.equal(trimmed.vectors, vectors[:, :3])
    assert torch.equal(trimmed.mask, mask[:, :3])
    assert trimmed.pooled.shape == (2, 4)
    assert trimmed.lengths().tolist() == [3, 1]


def test_a_summary_is_the_direction_of_the_mean_of_real_fragments():
    vectors = torch.tensor([[[3.0, 0], [0, 3.0], [9.0, 9.0]]])
    summary = Fragments(vectors, torch.tensor([[True, True, False]])).summary()
    torch.testing.assert_close(summary, torch.tensor([[0.5, 0.5]]).sqrt())
    assert not Fragments(vectors, torch.zeros(1, 3).bool()).summary().any()
