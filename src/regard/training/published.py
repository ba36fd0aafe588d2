"""Make a run of a checkpoint that the authors of a model published, so that every verb takes it like a run of ours."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from regard.files import InputError, nearest, replacing
from regard.models import MODELS
from regard.training.config import build, override
from regard.training.published_files import PublishedCheckpoint, read_checkpoint, read_vocabulary
from regard.training.published_models import SOURCES, ImportedModel, PublishedSource
from regard.training.recipe import Recipe
from regard.training.trained_run import ORIGIN, RECIPE, write_data_folder
from regard.training.weights import build_model, save_model
from regard.words import Pieces, Vocabulary, WordsConfig


def import_checkpoint(
    source: str,
    path: Path,
    vocab: Path,
    out: Path,
    data: Path | None = None,
    settings: Sequence[str] = (),
    ignore: Sequence[str] = (),
) -> ImportedModel:
    """Write the run `out` of a checkpoint of `source` (of SOURCES), and return what was read.

    `settings` are arguments of the authors' training script, `name=value`, that replace those in the file. `data` is
    the data folder that the run will name as its own. `ignore` names arguments in the file that change no score, of
    those that are not known. Raises InputError for anything that our model does not have.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} already exists: name another --out.")
    if data is not None and not data.is_dir():
        raise InputError(f"{data} is not a folder: expected a data folder.")
    checkpoint, given = read_checkpoint(path), override({}, list(settings))
    imported = SOURCES[source].map(replace(checkpoint, arguments=checkpoint.arguments | given))
    for name in given.keys() - imported.arguments.keys():
        raise InputError(f"{source} has no argument {name!r}. {nearest(name, imported.arguments)}")
    if unknown := [name for name in imported.unknown if name not in ignore]:
        named = ", ".join(f"{name}={imported.unknown[name]!r}" for name in unknown)
        raise InputError(
            f"{path} has arguments that Regard does not know: {named}. If they change no score, give "
            f"--ignore {' '.join(unknown)}."
        )
    tokenizer, where = _tokenizer(imported, vocab), f"{path} [{imported.model}]"
    recipe = Recipe(
        model=imported.model,
        options=build(MODELS[imported.model].Config, imported.options, where),
        words=build(WordsConfig, imported.words, where),
    )
    model = build_model(recipe, imported.weights["project.weight"].shape[1], tokenizer, pretrained=False)
    _load(model, imported.weights, checkpoint, SOURCES[source])
    with replacing(out) as temporary:
        temporary.mkdir()
        (temporary / RECIPE).write_text(recipe.to_toml(), "utf-8")
        tokenizer.save(temporary)
        save_model(model, imported.model, model.feature_dim, temporary)
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        origin = {"source": source, "file": path.name, "sha256": digest, "arguments": imported.arguments}
        (temporary / ORIGIN).write_text(json.dumps(origin, indent=2) + "\n", "utf-8")
        if data is not None:
            write_data_folder(temporary, data)
    return imported


def _tokenizer(imported: ImportedModel, vocab: Path) -> Vocabulary | Pieces:
    if imported.words.get("encoder") != "pretrained":
        size = len(imported.weights["words.embedding.weight"])
        return read_vocabulary(vocab, size, imported.appended)
    imported.words["path"] = str(vocab)
    if vocab.is_dir():
        return Pieces(str(vocab), None, "pieces")  # the authors cut no caption
    if not vocab.is_file():
        raise InputError(f"{vocab} is not there: expected BERT's vocab.txt, or the folder of the model.")
    bert = {name.removeprefix("words.backbone."): tensor.shape for name, tensor in imported.weights.items()}
    pieces, hidden = bert["embeddings.word_embeddings.weight"]
    layers = {name.split(".")[2] for name in bert if name.startswith("encoder.layer.")}
    configuration = {
        "model_type": "bert",
        "vocab_size": pieces,
        "hidden_size": hidden,
        "num_hidden_layers": len(layers),
        "num_attention_heads": imported.arguments["num_attention_heads"],
        "intermediate_size": bert["encoder.layer.0.intermediate.dense.weight"][0],
        "max_position_embeddings": bert["embeddings.position_embeddings.weight"][0],
        "type_vocab_size": bert["embeddings.token_type_embeddings.weight"][0],
    }
    tokenizer = Pieces.of_word_pieces(vocab, configuration)
    if len(tokenizer) != pieces:
        raise InputError(f"{vocab} has {len(tokenizer)} pieces, and the checkpoint has {pieces}: give its own file.")
    return tokenizer


def _load(
    model: torch.nn.Module, weights: dict[str, Tensor], checkpoint: PublishedCheckpoint, source: PublishedSource
) -> None:
    """Load the weights into our model. Raises InputError if one is missing, of another shape, or not finite."""
    own, reason = model.state_dict(), None
    for name, tensor in own.items():
        if name.endswith("num_batches_tracked"):
            weights.setdefault(name, tensor)  # absent before torch 0.4.1
    if absent := sorted(own.keys() - weights.keys()):
        reason = f"no tensor becomes our {absent[0]}"
    for name, tensor in weights.items():
        if name not in own or tensor.shape != own[name].shape:
            expected = f"expected {list(own[name].shape)}" if name in own else "it does not exist"
            reason = f"our {name} would have the shape {list(tensor.shape)}: {expected}"
        elif not tensor.isfinite().all():
            raise InputError(f"{checkpoint.path} contains NaN or infinity in what becomes {name}: copy it again.")
    if reason:
        raise checkpoint.layout_error(source.title, source.expected, reason)
    model.load_state_dict(weights)
