"""The predictor of relations: its smoothing in plain loops, what geometry adds, what it does not know, and its file."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import made
from regard.data.names import renumbering
from regard.files import InputError
from regard.relations.predictor import Predictor, _count, _merge, fit
from regard.relations.recall import measure, measure_held_out


@pytest.fixture(scope="module")
def predictor(images):
    return fit(images)


def plain_counts(images):
    """{(subject class, object class): counts of none and of each predicate}, pair by pair."""
    counts = {}
    told = {}
    for image, s, o, p in images.relations.tolist():
        told.setdefault((image, s, o), []).append(p)
    for image, (first, last) in enumerate(zip(images.bounds, images.bounds[1:], strict=False)):
        for s in range(last - first):
            for o in range(last - first):
                a, b = images.labels[first + s], images.labels[first + o]
                if s != o and a and b:
                    row = counts.setdefault((int(a), int(b)), np.zeros(len(images.predicates)))
                    for p in told.get((image, s, o), [0]):
                        row[p] += 1
    return counts


def plain_prior(counts, a, b, strengths):
    """The docstring's smoothing, for one pair of classes: none or some, and which predicate."""
    zero = np.zeros_like(next(iter(counts.values())))
    levels = [
        counts.get((a, b), zero),
        sum((row for (s, _), row in counts.items() if s == a), zero),
        sum((row for (_, o), row in counts.items() if o == b), zero),
        sum(counts.values()),
    ]
    out = []
    for part, (of_pair, of_class) in zip(
        (lambda c: np.array([c[0], c[1:].sum()]), lambda c: c[1:]), strengths, strict=True
    ):
        pair, subject, target, every = map(part, levels)
        base = (every + 1 / len(every)) / (every.sum() + 1)
        mean = sum((c + of_class * base) / (c.sum() + of_class) for c in (subject, target)) / 2
        out.append((pair + of_pair * mean) / (pair.sum() + of_pair))
    return out


def test_the_prior_is_that_of_plain_loops(images, predictor):
    counts = plain_counts(images)
    strengths = predictor.strengths.tolist()
    classes = range(1, len(images.classes) + 1)  # the last is unknown
    pairs = torch.tensor([(a, b) for a in classes for b in classes])
    related, predicate = (part.exp().numpy() for part in predictor.prior(*pairs.T))
    for row, (a, b) in enumerate(pairs.tolist()):
        expected = plain_prior(counts, a, b, strengths)
        np.testing.assert_allclose(related[row], expected[0], rtol=1e-4)
        np.testing.assert_allclose(predicate[row], expected[1], rtol=1e-4)


def test_counts_of_parts_are_those_of_the_whole(images):
    keys, counts = _count(images, np.arange(len(images)))
    size, names = len(images.predicates), len(images.classes) + 1
    expected = plain_counts(images)
    found = {}
    for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
        pair = key // size
        found.setdefault((pair // names, pair % names), np.zeros(size))[key % size] = count
    assert found.keys() == expected.keys()
    for pair, row in expected.items():
        np.testing.assert_array_equal(found[pair], row)
    parts = _merge([_count(images, rows) for rows in np.array_split(np.arange(len(images)), 4)])
    assert torch.equal(parts[0], keys)
    assert torch.equal(parts[1], counts)


def test_probabilities_sum_to_one_and_are_none_where_there_is_no_pair(images, predictor):
    (block,) = images.blocks(np.arange(20))
    labels = block.labels.clone()
    labels[:, 1] = 0
    labels[-1, 0] = len(images.classes)  # a class that it does not know
    found = predictor.probabilities(block.boxes, labels)
    torch.testing.assert_close(found.sum(-1), torch.ones(found.shape[:-1]))
    assert (found[:, 1, :, 0] == 1).all()
    assert (found[:, :, 1, 0] == 1).all()
    assert (found.diagonal(dim1=1, dim2=2)[:, 0] == 1).all()
    assert (found[-1, 0, 2, 1:] > 0).all()


def test_an_image_beside_others_changes_nothing(images, predictor):
    (block,) = images.blocks(np.arange(20))
    whole = predictor.probabilities(block.boxes, block.labels)
    for row in range(20):
        alone = predictor.probabilities(block.boxes[row : row + 1], block.labels[row : row + 1])
        torch.testing.assert_close(whole[row : row + 1], alone)


def test_a_pair_of_classes_never_seen_backs_off_to_each(images, predictor):
    bare = replace(predictor, keys=torch.zeros(0, dtype=torch.long), counts=torch.zeros(0))
    related, predicate = bare.prior(torch.tensor([1]), torch.tensor([3]))
    torch.testing.assert_close(related.exp(), torch.full((1, 2), 0.5))
    torch.testing.assert_close(predicate.exp(), torch.full((1, 4), 0.25))

    names, size = len(images.classes) + 1, len(images.predicates)
    pair = predictor.keys // size
    without = pair != 1 * names + 3
    unseen = replace(predictor, keys=predictor.keys[without], counts=predictor.counts[without])
    unknown = torch.tensor([names - 1])
    of_man, of_hat, of_any = (
        unseen.prior(s, o)[1].exp()
        for s, o in ((torch.tensor([1]), unknown), (unknown, torch.tensor([3])), (unknown,) * 2)
    )
    both = unseen.prior(torch.tensor([1]), torch.tensor([3]))[1].exp()
    # An unknown object leaves the mean of what the subject does and of what all do.
    torch.testing.assert_close(both, of_man + of_hat - of_any)


def test_geometry_tells_left_from_right(images):
    rows = measure_held_out(images)
    recalls = [rows[name].constrained.total[20] for name in ("pairs of classes", "with the boxes")]
    assert recalls[0] < 75
    assert recalls[1] > 85
    # of 12 pairs, more than are annotated can be looked at; what remains are second relations of a pair
    assert rows["with the boxes"].free.total[100] == 100


def test_relations_drawn_from_a_predictor_are_predicted_with_its_confidence(predictor):
    images, drawn = made.annotated(900, seed=1), []
    random = torch.Generator().manual_seed(0)
    for row in range(len(images)):
        (block,) = images.blocks(np.array([row]))
        (probabilities,) = predictor.probabilities(block.boxes, block.labels)
        outcome = probabilities.flatten(0, 1).multinomial(1, generator=random).view(probabilities.shape[:2])
        drawn += [(row, s, o, int(outcome[s, o])) for s, o in outcome.nonzero().tolist()]
    images = replace(images, relations=np.array(drawn))
    fitted, others = fit(images, np.arange(600)), np.arange(600, 900)
    found = measure(fitted, images, others)
    assert found.related_error < 3
    assert found.predicate_error < 4
    surer = replace(fitted, exponents=3 * fitted.exponents, weights=3 * fitted.weights)
    wrong = measure(surer, images, others)
    assert wrong.related_error > 3 * found.related_error
    assert wrong.predicate_error > 2 * found.predicate_error


def test_fitting_again_gives_the_same(images, predictor):
    again = fit(images, np.arange(len(images)))
    for name in ("keys", "counts", "strengths", "exponents", "weights"):
        assert torch.equal(getattr(again, name), getattr(predictor, name))


def test_a_file_gives_the_same_numbers(images, predictor, tmp_path):
    path = tmp_path / "new" / "relations.safetensors"
    predictor.save(path)
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    loaded = Predictor.load(path)
    assert (loaded.classes, loaded.predicates) == (images.classes, images.predicates)
    (block,) = images.blocks(np.arange(20))
    assert torch.equal(*(each.probabilities(block.boxes, block.labels) for each in (predictor, loaded)))


@pytest.mark.parametrize("content", [b"", b"plainly something else", None])
def test_another_file_is_refused(content, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(content) if content is not None else save_file({"keys": torch.zeros(1)}, path)
    with pytest.raises(
        InputError, match=r"file is not a predictor of relations \(.*\): expected what `regard relations fit` wrote"
    ):
        Predictor.load(path)
    with pytest.raises(InputError, match=r"absent is not there\. `regard relations fit` writes one\."):
        Predictor.load(tmp_path / "absent")


def test_images_are_in_blocks_whole(images):
    for pairs in (1, 40, 10**6):
        blocks = list(images.blocks(np.arange(100), pairs))
        assert sum(len(block.labels) for block in blocks) == 100
        assert sum(len(block.relations) for block in blocks) == (images.relations[:, 0] < 100).sum()
        assert all(len(block.labels) == 1 or block.labels.numel() * block.labels.shape[1] <= pairs for block in blocks)
        assert sum(int((block.labels > 0).sum()) for block in blocks) == images.bounds[100]
        sums = sum(block.boxes.double().sum(dim=(0, 1)) for block in blocks)
        torch.testing.assert_close(sums, torch.from_numpy(images.boxes[: images.bounds[100]]).double().sum(0))


def test_the_most_frequent_names_stay(images):
    kept = images.most_frequent(2, 1)
    counts = np.bincount(images.labels, minlength=5)
    assert set(kept.classes[1:]) == {images.classes[place] for place in np.argsort(-counts)[:2]}
    assert len(kept.predicates) == 2
    labels = [kept.classes[label] for label in kept.labels]
    assert labels == [name if name in kept.classes else "none" for name in (images.classes[k] for k in images.labels)]
    assert (kept.relations[:, 3] == 1).all()
    assert images.most_frequent(None, None, at_least=len(images.labels)).classes == ("none",)
    assert len(images.most_frequent(None, None).relations) == len(images.relations)


def test_names_of_other_lists_are_found_whatever_their_case():
    assert renumbering(["none", "Man ", "horse", "dog"], ["none", "dog", "man"]).tolist() == [0, 2, 0, 1]
    assert renumbering(["none", "horse"], ["none", "dog"], unknown=2).tolist() == [0, 2]
