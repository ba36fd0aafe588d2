"""Small random inputs and models that the tests share."""

import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from regard.batch import Images, Texts
from regard.cli import main
from regard.data import Split
from regard.layers.encoders import GRUEncoder
from regard.layers.similarity import AffineByPlace
from regard.matcher import Matcher
from regard.models import MODELS
from regard.models.tvrn import SpatialAttention
from regard.relations.annotations import Annotations
from regard.training.config import build, override
from regard.training.recipe import Recipe
from regard.training.trained_run import write_data_folder
from regard.training.weights import build_model, save_model
from regard.words import ROLES, Vocabulary
from regard.words.vocabulary import END, START

FEATURE_DIM, DIM, NUM_PREDICATES = 12, 16, 5
VOCABULARY = Vocabulary.build([" ".join(f"w{i}" for i in range(40))], min_count=1)


def images(count: int = 5, regions: int = 6, seed: int = 0) -> Images:
    """Images of 1 to `regions` regions (the first has all), with boxes, labels and relations; padding is zero."""
    random = torch.Generator().manual_seed(seed)
    counts = torch.randint(1, regions + 1, (count,), generator=random)
    counts[0] = regions
    mask = torch.arange(regions) < counts[:, None]
    corners = torch.rand(count, regions, 2, 2, generator=random).sort(2).values
    boxes = corners.flatten(2) + torch.tensor([0.0, 0.0, 0.05, 0.05])
    both = mask[:, :, None] & mask[:, None, :]
    relations = torch.randint(1, NUM_PREDICATES + 1, both.shape, generator=random)
    relations = relations * (torch.rand(both.shape, generator=random) < 0.3) * both
    return Images(
        features=torch.randn(count, regions, FEATURE_DIM, generator=random) * mask[..., None],
        mask=mask,
        boxes=boxes * mask[..., None],
        labels=torch.randint(1, 9, mask.shape, generator=random) * mask,
        relations=relations,
    )


def texts(count: int = 7, words: int = 9, seed: int = 0) -> Texts:
    """Sentences of 1 to `words` words between <start> and <end> (the first has all), with relations between words."""
    random = torch.Generator().manual_seed(seed + 1)
    counts = torch.randint(1, words + 1, (count,), generator=random).tolist()
    counts[0] = words
    picks = [torch.randint(0, 40, (length,), generator=random).tolist() for length in counts]
    numbers = VOCABULARY([" ".join(f"w{word}" for word in pick) for pick in picks])
    inner = numbers.mask & ~numbers.tokens.eq(VOCABULARY.number(START)) & ~numbers.tokens.eq(VOCABULARY.number(END))
    both = inner[:, :, None] & inner[:, None, :] & ~torch.eye(inner.shape[1], dtype=torch.bool)
    relations = torch.randint(1, len(ROLES), both.shape, generator=random)
    return replace(numbers, relations=relations * (torch.rand(both.shape, generator=random) < 0.2) * both)


def model(name: str, seed: int = 0, **options: Any) -> Matcher:
    """A small model in eval mode in which every part has an effect: no scale is zero, no running mean is trivial.

    Options in nested tables have dotted names, such as `graph.spatial`.
    """
    torch.manual_seed(seed)
    settings = override({}, [f"{key}={json.dumps(value)}" for key, value in {"dim": DIM, **options}.items()])
    config = build(MODELS[name].Config, settings, name)
    built = MODELS[name](config, FEATURE_DIM, GRUEncoder(VOCABULARY, DIM, word_dim=10))
    with torch.no_grad():
        for module in built.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.1)
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
            if isinstance(module, AffineByPlace):
                module.scale.uniform_(0.5, 1.5)
                module.shift.normal_(0, 0.1)
            if isinstance(module, SpatialAttention) and module.released:
                module.query.bias.normal_(0, 0.1)
                module.key.bias.normal_(0, 0.1)
        for parameter in built.parameters():
            if parameter.ndim == 2 and parameter.abs().max() < 1:
                parameter.mul_(2)  # strong enough that a missing term shows
    return built.eval()


def exact(name: str, options: dict[str, Any], count: int = 5, sentences: int = 7) -> tuple[Matcher, Images, Texts]:
    """`model`, `images` and `texts` in float64, where rounding differs between processors by 1e-15, not by 1e-6.

    The model is built once and shared, so a test must not change it. A test that trains builds its own.
    """
    inputs = images(count).to(torch.float64), texts(sentences).to(torch.float64)
    return _shared(MODELS[name], name, tuple(options.items())), *inputs


@cache
def _shared(kind: type[Matcher], name: str, options: tuple[tuple[str, Any], ...]) -> Matcher:
    """`kind` is part of the key because a test may register its own class under a name."""
    return model(name, **dict(options)).double().requires_grad_(False)


# Tolerances for float64 numbers of order 1. Measured rounding errors are below 1e-13; a missing or wrong term changes a
# number by more than 1e-6.
EXACT = {"atol": 1e-10, "rtol": 1e-10}
# For float64 numbers that were rounded to float32 once, as `score_all` returns them: twice the largest rounding error.
ROUNDED = {"atol": 1e-10, "rtol": torch.finfo(torch.float32).eps}


# Configurations in which mostly one option differs from its default. Each must pass the laws and equal its oracle.
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    (name, options) for name in MODELS for options in import_module(f"reference.{name}").VARIANTS
]
NAMES = ["-".join([name, *(f"{key}={value}" for key, value in options.items())]) for name, options in VARIANTS]


def folder(path: Path, seed: int = 0) -> Path:
    """A data folder with splits train and dev of 12 images each, in the compact form, with all optional files.

    An image has 2 to 5 regions of 8 classes, with 8 features each, and two sentences that name some of the classes, so
    that a model can learn to match them. Images 0 and 7, and images 3 and 4, are declared as twins.
    """
    path.mkdir(parents=True)
    random = np.random.default_rng(seed)
    looks = random.normal(size=(9, 8))  # of each class
    for split in ("train", "dev"):
        labels = np.array([random.permutation(8)[:5] + 1 for _ in range(12)])
        counts = np.array([5, *random.integers(2, 6, 11).tolist()])
        real = np.arange(5) < counts[:, None]
        features = (looks[labels] + 0.1 * random.normal(size=(12, 5, 8))) * real[..., None]
        corners = np.sort(random.uniform(0, 0.9, (12, 5, 2, 2)), 2) + np.array([[0.0], [0.1]])
        sentences = [
            f"w{a} near w{b}, w{kinds[2]} w{kinds[3]}" for kinds in labels for a, b in (kinds[:2], kinds[1::-1])
        ]
        image, subject = np.nonzero(real)
        arrays = {
            "ims": features.astype(np.float16),
            "num_regions": counts.astype(np.int16),
            "boxes": (corners.reshape(12, 5, 4) * real[..., None]).astype(np.float32),
            "labels": (labels * real).astype(np.int16),
            "image_of_text": np.arange(12, dtype=np.int32).repeat(2),
        }
        for name, array in arrays.items():
            np.save(path / f"{split}_{name}.npy", array)
        np.savez(
            path / f"{split}_relations.npz",
            image=image.astype(np.int32),
            subject=subject.astype(np.int16),
            object=((subject + 1) % counts[image]).astype(np.int16),
            predicate=(1 + labels[image, subject] % 3).astype(np.int16),
            confidence=np.ones(len(image), np.float16),
            predicates=np.array(["none", "on", "near", "holding"]),
        )
        text = np.arange(24, dtype=np.int32).repeat(2)
        np.savez(
            path / f"{split}_text_relations.npz",
            text=text,
            head=np.tile(np.int16([1, 1]), 24),
            dependent=np.tile(np.int16([0, 2]), 24),
            label=np.tile(np.int16([1, 2]), 24),
            labels=np.array(ROLES),
        )
        pairs = {"first": np.int32([0, 3]), "second": np.int32([7, 4])}
        np.savez(path / f"{split}_twins.npz", **pairs, kind=np.array(["relation", "attribute"]))
        (path / f"{split}_caps.txt").write_text("".join(f"{line}\n" for line in sentences), "utf-8")
        (path / f"{split}_ids.txt").write_text("".join(f"{split}{row}\n" for row in range(12)), "utf-8")
    (path / "labels.txt").write_text("".join(f"class {kind}\n" for kind in range(1, 9)), "utf-8")
    return path


ANNOTATED_CLASSES = ("none", "man", "dog", "hat", "box")
ANNOTATED_PREDICATES = ("none", "left of", "right of", "wearing", "near")


def annotated(count: int, seed: int = 0, regions: tuple[int, int] = (2, 5), parts: float = 0.4) -> Annotations:
    """Images with random boxes and classes. A share of the pairs that are close in y are related.

    A man is related to a hat by `wearing`, and sometimes also by `near`; any other pair is related by `left of` or
    `right of`, according to the centres.
    """
    random = np.random.default_rng(seed)
    sizes = random.integers(regions[0], regions[1] + 1, count)
    total = int(sizes.sum())
    corners = random.uniform(0, 0.7, (total, 2))
    boxes = np.concatenate([corners, corners + random.uniform(0.1, 0.3, (total, 2))], 1).astype(np.float32)
    labels = random.integers(1, len(ANNOTATED_CLASSES), total)
    bounds = np.append(0, sizes.cumsum())
    relations = []
    for image, first in enumerate(bounds[:-1]):
        for s in range(sizes[image]):
            for o in range(sizes[image]):
                (xs, ys), (xo, yo) = ((boxes[first + i, :2] + boxes[first + i, 2:]) / 2 for i in (s, o))
                if s == o or abs(ys - yo) > 0.3 or random.random() > parts:
                    continue
                worn = labels[first + s] == 1 and labels[first + o] == 3
                relations.append((image, s, o, 3 if worn else 1 if xs < xo else 2))
                if worn and random.random() < 0.3:
                    relations.append((image, s, o, 4))
    ids = tuple(f"image {row}" for row in range(count))
    table = np.array(relations, np.int64).reshape(-1, 4)
    return Annotations(ids, bounds, boxes, labels, table, ANNOTATED_CLASSES, ANNOTATED_PREDICATES)


SMALL = ["words.word_dim=6", "words.min_count=1", "train.batch_size=6", "train.epochs=2", "train.log_every=1"]
PLAIN = ["train.precision=32-true", "train.warmup_steps=0", "train.schedule=constant", "train.learning_rate=0.01"]


def recipe(name: str = "scan-f8k", *settings: str) -> Recipe:
    """A recipe of the package, made small and in float32, then changed by `settings`."""
    return Recipe.read(name, [f"{Recipe.read(name).model}.dim={DIM}", *SMALL, *PLAIN, *settings])


def run(path: Path, data: Path, name: str = "cmsei-f8k", seed: int = 0) -> Path:
    """The folder of a run of a recipe with random weights, for the data folder `data`."""
    torch.manual_seed(seed)
    split, settings = Split.open(data, "train"), recipe(name)
    vocabulary = Vocabulary.build(split.captions, 1)
    path.mkdir(parents=True)
    (path / "recipe.toml").write_text(settings.to_toml(), "utf-8")
    write_data_folder(path, data)
    vocabulary.save(path)
    save_model(
        build_model(settings, split.feature_dim, vocabulary), settings.model, split.feature_dim, path, split.names
    )
    return path


def command(arguments: list[str], errors: Path, dies_at: int = 0) -> None:
    """Run the command line in this process, with its errors in a file. `dies_at` kills the process at a file's rename.

    An even `dies_at` kills it before that rename, an odd one after it. Between these moments, the files of a run may be
    inconsistent.
    """
    torch.set_num_threads(1)
    rename, renames = os.replace, 0

    def replace(source: Any, target: Any) -> None:
        nonlocal renames
        renames += 1
        if renames == dies_at and dies_at % 2 == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)
        if renames == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace
    # Open until the process ends.
    sys.argv, sys.stdout = ["regard", *arguments], open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = open(errors, "w")  # noqa: SIM115
    main()


def embedding_models(folder: Path) -> Path:
    """Write small random CLIP and SigLIP models into `folder`/CLIP and `folder`/Siglip, with all that they read."""
    transformers = pytest.importorskip("transformers", reason="an embedding model requires transformers")
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    words = {word: number for number, word in enumerate(["<pad>", "<unk>", "<s>", "</s>", "a", "red", "blue", "thing"])}
    tokenizer = Tokenizer(WordLevel(words, "<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "</s>", "bos_token": "<s>"}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"vocab_size": 8, "max_position_embeddings": 12, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    for kind in ("CLIP", "Siglip"):
        torch.manual_seed(0)
        config = getattr(transformers, f"{kind}Config")(
            text_config={**text, **small}, vision_config={"image_size": 32, "patch_size": 16, **small}
        )
        path = folder / kind
        getattr(transformers, f"{kind}Model")(config).save_pretrained(path)
        fast.save_pretrained(path)
        size = {"height": 32, "width": 32}
        processor = getattr(transformers, f"{kind}ImageProcessor")
        (processor(size=size, crop_size=size) if kind == "CLIP" else processor(size=size)).save_pretrained(path)
    return folder


def photographs(folder: Path, names: Sequence[str] = tuple(f"{number}.png" for number in range(6))) -> Path:
    """Write random photographs of 50 by 40 pixels, by default 0.png to 5.png."""
    random = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for name in names:
        Image.fromarray(random.integers(0, 255, (40, 50, 3), np.uint8)).save(folder / name)
    return folder
