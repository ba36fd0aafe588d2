"""The loops over captions, with which `regard bench` compares, return the same scores as the models."""

import pytest
import torch

import made
from regard.bench.loops import LOOPS


@pytest.mark.parametrize(("name", "options"), made.VARIANTS, ids=made.NAMES)
@torch.no_grad()
def test_a_loop_over_captions_gives_the_same_scores(name, options):
    model, images, texts = made.exact(name, options)
    images, texts = model.encode_images(images), model.encode_texts(texts)
    # The loops guard cosines against division by zero with 1e-8, `score` with less: scores differ by 3e-9.
    torch.testing.assert_close(LOOPS[type(model)](model, images, texts), model.score(images, texts), atol=1e-7, rtol=0)
