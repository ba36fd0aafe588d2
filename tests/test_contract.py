"""The laws, for every model and each of its options.

They are tested in float64, where differences between processors in the order of summation are far below a tolerance.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import made
from regard.batch import Batch, Images, Texts, Vectors
from regard.losses import triplet
from regard.models import MODELS
from regard.score import score_all, score_batch
from regard.search.gallery import Gallery

every_model = pytest.mark.parametrize(("name", "options"), made.VARIANTS, ids=made.NAMES)


def wider(batch: Batch, garbage: bool) -> Batch:
    """The same batch with three more positions of padding, zero or filled with values that must not be read."""
    random = torch.Generator().manual_seed(5)
    mask = batch.mask
    places = mask.shape[1]
    out = {}
    for name, tensor in batch.tensors().items():
        axes = [
            axis for axis in range(1, tensor.ndim) if tensor.shape[axis] == places and (axis < 2 or name == "relations")
        ]
        shape = [size + 3 if axis in axes else size for axis, size in enumerate(tensor.shape)]
        grown = torch.zeros(shape, dtype=tensor.dtype)
        if garbage and name != "mask":
            grown = torch.randint(1, 6, shape, generator=random).to(tensor.dtype)
        real = torch.zeros(shape, dtype=torch.bool)
        real[tuple(slice(0, size) for size in tensor.shape)] = _real(mask, tensor, len(axes))
        inner = torch.zeros(shape, dtype=tensor.dtype)
        inner[tuple(slice(0, size) for size in tensor.shape)] = tensor
        out[name] = torch.where(real, inner, grown)
    return type(batch)(**out)


def _real(mask: torch.Tensor, tensor: torch.Tensor, axes: int) -> torch.Tensor:
    both = mask[:, :, None] & mask[:, None, :] if axes == 2 else mask
    return both.reshape(*both.shape, *[1] * (tensor.ndim - both.ndim)).expand(tensor.shape)


def same_gradients(gradients: dict[str, torch.Tensor | None], want: dict[str, torch.Tensor | None]) -> None:
    """Compare relative to the largest number of each gradient: terms that cancel leave rounding errors of that size."""
    assert gradients.keys() == want.keys()
    for key, gradient in want.items():
        if gradient is None:  # of a loss of its own
            assert gradients[key] is None, key
            continue
        scale = float(gradient.abs().max())
        torch.testing.assert_close(gradients[key], gradient, atol=1e-9 * scale + 1e-9, rtol=1e-9, msg=key)


@every_model
@torch.no_grad()
def test_1_a_score_depends_only_on_its_pair(name, options):
    model, images, texts = made.exact(name, options, 3, 4)
    scores = model(images, texts)
    encoded = [model.encode_images(images[[i]]) for i in range(len(images))]
    sentences = [model.encode_texts(texts[[t]]) for t in range(len(texts))]
    alone = torch.stack([torch.cat([model.score(image, text)[0] for text in sentences]) for image in encoded])
    torch.testing.assert_close(alone, scores, **made.EXACT)


@every_model
@pytest.mark.parametrize("garbage", [False, True], ids=["wider", "garbage"])
@torch.no_grad()
def test_2_and_3_padding_changes_nothing(name, options, garbage):
    model, images, texts = made.exact(name, options)
    padded = model(wider(images, garbage), wider(texts, garbage))
    torch.testing.assert_close(padded, model(images, texts), **made.EXACT)


@every_model
def test_3_padding_changes_no_training_step(name, options):
    """In training mode, batch normalisation must depend neither on values in the padding nor on its amount."""
    images, texts, gradients = made.images(3, 4), made.texts(4, 5), []
    for some_images, some_texts in ((images, texts), (wider(images, True), wider(texts, True))):
        model = made.model(name, **options).double().train()
        model(some_images.to(torch.float64), some_texts.to(torch.float64)).square().sum().backward()
        gradients.append({key: parameter.grad for key, parameter in model.named_parameters()})
    same_gradients(*gradients)


def with_holes(batch: Batch) -> Batch:
    """The same batch with three positions of padding more: at the start, in the middle, and at the end."""
    end = wider(batch, True)
    width = batch.mask.shape[1]
    order = torch.tensor([width, 0, 1, width + 1, *range(2, width), width + 2])
    return moved(end, order)


def moved(batch: Batch, order: torch.Tensor) -> Batch:
    """The batch with the fragments of every item in another order; those that are not in `order` are left out."""
    fields = {name: tensor[:, order] for name, tensor in batch.tensors().items()}
    fields["relations"] = fields["relations"][:, :, order]
    return type(batch)(**fields)


@every_model
@torch.no_grad()
def test_2_a_hole_equals_absence(name, options):
    """Padding before and between real fragments changes no score, also in a model that reads regions in order."""
    model, images, texts = made.exact(name, options)
    scores = model(images, texts)
    torch.testing.assert_close(model(with_holes(images), with_holes(texts)), scores, **made.EXACT)
    encoded, sentences = model.encode_images(images), model.encode_texts(texts)
    align = model.align(model.encode_images(with_holes(images)), model.encode_texts(with_holes(texts)))
    regions, words = images.mask.shape[1], sentences.mask.shape[1]
    at = (torch.tensor([1, 2, *range(4, 2 + count)]) for count in (regions, words))
    region, word = at
    torch.testing.assert_close(align[:, :, region][..., word], model.align(encoded, sentences), **made.EXACT)


@every_model
@torch.no_grad()
def test_2_a_masked_region_equals_its_absence(name, options):
    """What the mask hides in training (`train.region_drop`) is as if it had never been there."""
    model, images, texts = made.exact(name, options)
    mask = images.mask.clone()
    mask[0, [0, 3]] = False
    hidden = replace(images, mask=mask)[:1]
    left = moved(images[:1], torch.tensor([1, 2, 4, 5]))
    torch.testing.assert_close(model(hidden, texts), model(left, texts), **made.EXACT)


@every_model
@torch.no_grad()
def test_4_encoding_in_parts_equals_encoding_at_once(name, options):
    model, images, texts = made.exact(name, options)
    whole = model.score(model.encode_images(images), model.encode_texts(texts))

    # A name for one expression: a def would be four lines.
    def encode(encoder, items):
        return type(encoder(items)).cat([encoder(items[:2]), encoder(items[2:])])

    parts = model.score(encode(model.encode_images, images), encode(model.encode_texts, texts))
    torch.testing.assert_close(parts, whole, **made.EXACT)


@every_model
def test_5_blocks_give_the_scores_and_the_gradient_of_the_whole(name, options):
    images, texts = made.images(3, 4).to(torch.float64), made.texts(4, 5)
    matches = torch.arange(3)[:, None] == torch.tensor([0, 1, 2, 0])
    gradients = []
    for block in ((2, 3), (100, 100)):
        model = made.model(name, **options).double()
        scores = score_batch(model, model.encode_images(images), model.encode_texts(texts), block)
        triplet(scores, matches, negatives="sum").backward()
        gradients.append((scores.detach(), {key: p.grad for key, p in model.named_parameters()}))
    torch.testing.assert_close(gradients[0][0], gradients[1][0], **made.EXACT)
    same_gradients(gradients[0][1], gradients[1][1])


@every_model
def test_5c_in_training_mode_blocks_give_the_whole(name, options):
    """Scores, gradients and running statistics do not depend on the blocks, whatever is normalised or dropped."""
    images, texts = made.images(3, 4).to(torch.float64), made.texts(4, 5).to(torch.float64)
    matches = torch.arange(3)[:, None] == torch.tensor([0, 1, 2, 0])
    found = []
    for block in ((2, 3), (100, 100)):
        model = made.model(name, **options).double().train()
        torch.manual_seed(1)
        encoded, sentences = model.encode_images(images), model.encode_texts(texts)
        scores = score_batch(model, encoded, sentences, block)
        triplet(scores, matches, negatives="sum").backward()
        found.append(
            (scores.detach(), {key: p.grad for key, p in model.named_parameters()}, dict(model.named_buffers()))
        )
    (scores, gradients, buffers), whole = found
    torch.testing.assert_close(scores, whole[0], **made.EXACT)
    same_gradients(gradients, whole[1])
    for key, buffer in buffers.items():
        torch.testing.assert_close(buffer, whole[2][key], **made.EXACT, msg=key)


@every_model
@pytest.mark.parametrize("training", [False, True], ids=["score", "step"])
def test_9_nothing_is_read_from_the_device(name, options, training):
    """On the meta device, tensors have no values: reading one (`.item()`, `.cpu()`, a boolean index) is an error.

    On a GPU each such read would wait for the GPU. This covers scoring, and a whole training step with its losses.
    Items are short, because torch computes the shape of each result in Python. For the same reason, only the defaults
    of each model, and models that normalise pairs over the blocks, are scored in blocks: `score_batch` does the same
    with every other model.
    """
    model = made.model(name, **options).to("meta").train(training)
    images, texts = made.images(3, 2).to("meta"), made.texts(4, 1).to("meta")
    matches = torch.arange(3)[:, None] == torch.tensor([0, 1, 2, 0])
    with torch.set_grad_enabled(training):
        encoded, sentences = model.encode_images(images), model.encode_texts(texts)
        if not training:
            assert model.score(model.for_scoring(encoded), model.for_scoring(sentences)).shape == (3, 4)
            assert model.score(encoded[[2, 0]], sentences[1:].trimmed()).shape == (2, 3)
            return
        block = (2, 4) if not options or model.pair_norm else (100, 100)
        scores = score_batch(model, encoded, sentences, block)
        extra = model.extra_losses(encoded, sentences, scores, matches)
        sum(extra.values(), triplet(scores, matches)).backward()


class CountOperations(TorchDispatchMode):
    """Counts the operations that run within it."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


@every_model
def test_9_the_number_of_operations_does_not_depend_on_the_batch(name, options):
    """A loop over the items of a batch would launch kernels for each item. Forward and backward are counted."""
    counts = []
    for copies in (1, 4):  # of the same items: a GRU takes some operations for each different length
        model = made.model(name, **options).train()
        images, texts = (side[list(range(8)) * copies] for side in (made.images(8, 2), made.texts(8, 1)))
        with CountOperations() as operations:
            scores = model(images, texts)
            triplet(scores, torch.eye(8 * copies).bool(), negatives="sum").backward()
        counts.append(operations.count)
    assert counts[0] == counts[1], counts


@every_model
def test_6_every_parameter_gets_a_gradient(name, options):
    model = made.model(name, **options).train()
    images, texts = model.encode_images(made.images()), model.encode_texts(made.texts())
    scores = model.score(images, texts)
    matches = torch.arange(5)[:, None] == torch.tensor([0, 1, 2, 3, 4, 0, 1])
    (scores.square().sum() + sum(model.extra_losses(images, texts, scores, matches).values())).backward()
    # torch gives the padding row of an embedding no gradient; every parameter as a whole must have one.
    idle = [key for key, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert idle == []


@every_model
@torch.no_grad()
def test_7_an_encoding_comes_back_from_disk(name, options, tmp_path):
    model, images, texts = made.exact(name, options)
    images, texts = model.encode_images(images), model.encode_texts(texts)
    assert (type(images), type(texts)) == (model.image_encoding, model.text_encoding)
    images.save(tmp_path / "images.safetensors", "abc")
    texts.save(tmp_path / "texts.safetensors", "abc")
    loaded = (
        model.image_encoding.load(tmp_path / "images.safetensors", "abc"),
        model.text_encoding.load(tmp_path / "texts.safetensors", "abc"),
    )
    # Tensors from a file have another alignment in memory, which changes the order of some sums.
    torch.testing.assert_close(model.score(*loaded), model.score(images, texts), **made.EXACT)


@every_model
@torch.no_grad()
def test_7b_the_scored_part_of_an_encoding_comes_back_from_disk(name, options, tmp_path):
    """It has the declared type, or is Vectors if the score reads one vector per item; its scores are the same."""
    model, images, texts = made.exact(name, options)
    images, texts = model.encode_images(images), model.encode_texts(texts)
    loaded = []
    for encoding, declared in ((images, model.image_encoding), (texts, model.text_encoding)):
        part = model.for_scoring(encoding)
        assert type(part) in (declared, Vectors)
        part.save(tmp_path / "part.safetensors", "abc")
        loaded.append(type(part).load(tmp_path / "part.safetensors", "abc"))
    torch.testing.assert_close(model.score(*loaded), model.score(images, texts), **made.EXACT)


@every_model
@torch.no_grad()
def test_5b_evaluation_in_blocks_equals_the_whole(name, options):
    """Items are sorted, cut into blocks and trimmed; the scores in the given array are those of the whole."""
    model, images, texts = made.exact(name, options, 3, 4)
    images, texts = model.encode_images(images), model.encode_texts(texts)
    whole = model.score(images, texts)
    for block in ((1, 1), (2, 3), None):
        out = np.full((len(images), len(texts)), np.nan, np.float32)
        scored = []
        score_all(model, images, texts, block=block, out=out, progress=scored.append)
        torch.testing.assert_close(torch.from_numpy(out).double(), whole, **made.ROUNDED)
        assert sum(scored) == out.size


@every_model
@torch.no_grad()
def test_8_search_is_the_sorted_matrix(name, options):
    model, images, texts = made.exact(name, options, 5, 4)
    encoded = model.encode_images(images)
    scores = model.score(encoded, model.encode_texts(texts))
    index = Gallery(model, model.for_scoring(encoded), "abcde")
    for shortlist in (None, 5):
        results = index.search(texts, 4, shortlist)
        ranked = torch.tensor([[hit.score for hit in hits] for hits in results], dtype=torch.float64)
        torch.testing.assert_close(ranked, scores.T.topk(4).values, **made.ROUNDED)
        for text, hits in enumerate(results):
            assert [hit.id for hit in hits] == ["abcde"[hit.image] for hit in hits]
            expected = scores[[hit.image for hit in hits], text]
            torch.testing.assert_close(ranked[text], expected, **made.ROUNDED)


@pytest.mark.parametrize("name", MODELS)
def test_10_it_learns_a_small_split(name):
    """From chance to at least 14 of 16 correct on eight pairs: far above what a broken gradient reaches."""
    torch.manual_seed(0)
    model = made.model(name).train()
    images, texts = made.images(8), made.texts(8)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(60):
        loss = triplet(model(images, texts), torch.eye(8).bool(), negatives="sum" if step < 20 else "hardest")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    scores = model(images, texts)
    right = (scores.argmax(0) == torch.arange(8)).sum() + (scores.argmax(1) == torch.arange(8)).sum()
    assert right >= 14


@every_model
@torch.no_grad()
def test_11_alignments_are_finite_and_zero_on_padding(name, options):
    model, images, texts = made.exact(name, options)
    encoded, sentences = model.encode_images(images), model.encode_texts(texts)
    align = model.align(encoded, sentences)
    assert align.shape == (5, 7, encoded.mask.shape[1], sentences.mask.shape[1])
    assert align.isfinite().all()
    real = encoded.mask[:, None, :, None] & sentences.mask[None, :, None, :]
    assert (align[~real.expand_as(align)] == 0).all()
    assert align.abs().sum() > 0


@every_model
@torch.no_grad()
def test_12_the_order_of_regions_does_not_matter(name, options):
    """Except in a model that reads regions one after another: there, another order must give another score."""
    model, images, texts = made.exact(name, options)
    order = torch.tensor([3, 5, 0, 1, 4, 2])
    moved = Images(
        features=images.features[:, order],
        mask=images.mask[:, order],
        boxes=images.boxes[:, order],
        labels=images.labels[:, order],
        relations=images.relations[:, order][:, :, order],
    )
    encoded, again, sentences = model.encode_images(images), model.encode_images(moved), model.encode_texts(texts)
    scores, others = model.score(encoded, sentences), model.score(again, sentences)
    if model.ordered:
        assert images.mask[0].all()
        assert (others[0] - scores[0]).abs().max() > 1e-4
        return
    torch.testing.assert_close(others, scores, **made.EXACT)
    aligned = model.align(encoded, sentences)[:, :, order]
    torch.testing.assert_close(model.align(again, sentences), aligned, **made.EXACT)


@every_model
@torch.no_grad()
def test_13_the_parts_of_the_score_sum_to_it(name, options):
    """From whole encodings and from what `score` reads of them. What a score would be without something is no part."""
    model, images, texts = made.exact(name, options)
    encoded, sentences = model.encode_images(images), model.encode_texts(texts)
    scores = model.score(encoded, sentences)
    for pair in ((encoded, sentences), (model.for_scoring(encoded), model.for_scoring(sentences))):
        torch.testing.assert_close(sum(model.score_parts(*pair).values()), scores, **made.EXACT)
    for other in model.scores_without(encoded, sentences).values():
        assert other.isfinite().all()
        assert (other - scores).abs().max() > 1e-6
    context = model.word_context(encoded, sentences)
    if context is not None:
        real = sentences.mask.to(context.dtype).expand(len(images), -1, -1)
        torch.testing.assert_close(context.sum(2), real, **made.EXACT)
        assert (context.transpose(1, 2)[~encoded.mask] == 0).all()


def test_one_image_and_one_word_is_a_pair():
    """A `squeeze` without an axis, common in the authors' code, fails here."""
    for name in MODELS:
        scores = made.model(name)(made.images(1, 1), made.texts(1, 1))
        assert scores.shape == (1, 1)
        assert scores.isfinite().all()


def test_the_longest_text_has_nine_words():
    texts = made.texts()
    assert isinstance(texts, Texts)
    assert texts.mask.sum(1).max() == 11  # nine words between <start> and <end>
