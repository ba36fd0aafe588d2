"""What a user writes with the public API. mypy checks this file with the package; it is not run."""

from pathlib import Path
from typing import assert_type

import numpy as np
from torch import Tensor

import regard
from regard.batch import Images, Texts
from regard.matcher import Matcher
from regard.metrics import Recalls
from regard.search.gallery import Gallery, GalleryHit


def evaluate_and_search(folder: Path) -> list[list[GalleryHit]]:
    run = regard.TrainedRun(folder)
    model, split = run.model, run.open_split("test")
    assert_type(model, Matcher)
    assert_type(regard.load(folder), Matcher)
    assert_type(regard.load("hf://user/name@v1"), Matcher)
    assert_type(split, regard.Split)
    assert_type(run.fingerprint, str)
    assert_type(run.names, dict[str, list[str]])

    recalls = regard.evaluate(model, split)
    assert_type(recalls, Recalls)
    assert_type(recalls.rsum, float)
    scores = regard.scores_of(model, split, precision="bfloat16")
    assert_type(scores, Tensor)
    assert_type(regard.recalls(np.zeros((1, 1)), split.image_of_text), Recalls)

    images, texts = split.images([0]), split.texts([0], model.tokenizer)
    assert_type(images, Images)
    assert_type(texts, Texts)
    assert_type(regard.score_all(model, model.encode_images(images), model.encode_texts(texts)), Tensor)
    return Gallery.of_split(model, split).search_sentences(["a dog runs after a man"])
