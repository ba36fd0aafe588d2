"""What an index stores of each picture: encodings are the same after they were packed and unpacked."""

import pytest
import torch

from regard.batch import Pooled, Vectors
from regard.files import InputError
from regard.search.entries import pack, unpack


def encoding_of(lengths):
    random = torch.Generator().manual_seed(0)
    mask = torch.arange(6) < torch.tensor(lengths)[:, None]
    vectors = torch.randn(len(lengths), 6, 4, generator=random).half() * mask[..., None]
    return Pooled(vectors, mask, torch.randn(len(lengths), 4, generator=random).half())


def test_pictures_of_different_sizes_come_back_in_their_order():
    encoding = encoding_of([3, 6, 3, 0, 1, 6])
    items = pack(encoding)
    for places in ([0, 1, 2, 3, 4, 5], [5, 3, 0], [2], [3]):
        found, expected = unpack(Pooled, [items[place] for place in places]), encoding[places].trimmed()
        for name, tensor in expected.tensors().items():
            assert torch.equal(getattr(found, name), tensor)
            assert getattr(found, name).dtype == tensor.dtype
    assert isinstance(unpack(Pooled, pack(Vectors(torch.ones(2, 3)))), Vectors)


@pytest.mark.parametrize("damage", [lambda item: item[:-1], lambda item: item[:30], lambda item: b"\xff" * 40])
def test_a_damaged_encoding_is_named(damage):
    items = pack(encoding_of([3, 3, 3]))
    items[1] = damage(items[1])
    with pytest.raises(InputError, match="cannot be read"):
        unpack(Pooled, items)
