"""The field's way of scoring, which `regard bench` measures against, gives our scores."""

import pytest
import torch

import made
from regard.bench.loops import LOOPS


@pytest.mark.parametrize(("name", "options"), made.VARIANTS, ids=made.NAMES)
@torch.no_grad()
def test_a_loop_over_captions_gives_the_same_scores(name, options):
    model = made.model(name, **options)
    images, texts = model.encode_images(made.images()), model.encode_texts(made.texts())
    torch.testing.assert_close(
        LOOPS[type(model)](model, images, texts), model.score(images, texts), atol=2e-5, rtol=1e-4
    )
