"""How the checkpoints of authors map onto our models: their tensors onto our weights, their arguments onto our options.

Names of tensors on the left, and names of arguments, are those of the authors' code. The tests compare the scores with
the authors' equations (tests/training/test_published.py).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regard.files import InputError
from regard.training.published_files import PublishedCheckpoint

BATCH_NORM_EPS = 1e-5
# Arguments of the training scripts that change no score, and those that the tensors show.
OF_TRAINING = {
    "data_path", "data_name", "vocab_path", "model_name", "logger_name", "log_step", "val_step", "workers", "resume",
    "reset_start_epoch", "gpu_id", "seed", "num_epochs", "batch_size", "lr_update", "learning_rate", "optim",
    "grad_clip", "margin", "max_violation", "drop", "vse_mean_warmup_epochs", "embedding_warmup_epochs",
    "backbone_warmup_epochs", "backbone_lr_factor", "backbone_source", "backbone_path", "input_scale_factor",
}  # fmt: skip
OF_TENSORS = {
    "img_dim", "word_dim", "embed_size", "sim_dim", "num_layers", "vocab_size", "bi_gru", "sgr_step", "module_name",
    "precomp_enc_type",
}  # fmt: skip


class PublishedModel:
    """A checkpoint while it is mapped: its tensors are moved to weights of ours, its arguments are read."""

    def __init__(self, source: str, expected: str, checkpoint: PublishedCheckpoint) -> None:
        self.source, self.expected, self.checkpoint = source, expected, checkpoint
        self.left = {(part, name): t for part, tensors in checkpoint.parts.items() for name, t in tensors.items()}
        self.weights: dict[str, Tensor] = {}
        self.arguments: dict[str, Any] = {}  # those that decide the scores, as read or by the authors' default

    def layout_error(self, reason: str) -> InputError:
        """Return the error that `reason` is wrong with the tensors."""
        return self.checkpoint.layout_error(self.source, self.expected, reason)

    def has(self, part: str, prefix: str) -> bool:
        """Return whether a part has a tensor that is not moved yet whose name starts with `prefix`."""
        return any(where == part and name.startswith(prefix) for where, name in self.left)

    def take(self, part: str, name: str) -> Tensor:
        """Remove a tensor and return it. Raises InputError if it is absent."""
        if (part, name) not in self.left:
            raise self.layout_error(f"it has no {name} of {part}")
        tensor = self.left.pop((part, name))
        return tensor.float() if tensor.is_floating_point() else tensor

    def move(self, part: str, names: Mapping[str, str]) -> None:
        """Move the tensors whose names start with each key to names of ours. Raises InputError if there are none."""
        for prefix, ours in names.items():
            found = [name for where, name in self.left if where == part and name.startswith(prefix)]
            if not found:
                raise self.layout_error(f"it has no {prefix}* of {part}")
            for name in found:
                self.weights[ours + name.removeprefix(prefix)] = self.take(part, name)

    def drop(self, part: str, *prefixes: str) -> None:
        """Leave out the tensors whose names start with a prefix: they are not used, or they cancel."""
        self.left = {key: t for key, t in self.left.items() if key[0] != part or not key[1].startswith(prefixes)}

    def choice(self, name: str, default: str, ours: Mapping[str, Any]) -> Any:
        """Return our value for an argument. Raises InputError for one that has none."""
        value = self.arguments[name] = self.checkpoint.arguments.get(name, default)
        if not isinstance(value, str) or value not in ours:
            raise InputError(f"{self.checkpoint.path} has the argument {name}={value!r}: expected {' or '.join(ours)}.")
        return ours[value]

    def number(self, name: str, default: float | int) -> float:
        """Return an argument that is a number."""
        value = self.arguments[name] = self.checkpoint.arguments.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise InputError(f"{self.checkpoint.path} has the argument {name}={value!r}: expected a number.")
        return float(value)

    def flag(self, name: str) -> bool:
        """Return an argument that is true or false, by default false."""
        value = self.arguments[name] = self.checkpoint.arguments.get(name, False)
        if not isinstance(value, bool):
            raise InputError(f"{self.checkpoint.path} has the argument {name}={value!r}: expected true or false.")
        return value

    def unknown(self) -> dict[str, Any]:
        """Return the arguments that are not read, and not known to change no score."""
        known = self.arguments.keys() | OF_TRAINING | OF_TENSORS
        return {name: value for name, value in self.checkpoint.arguments.items() if name not in known}


@dataclass
class ImportedModel:
    """One of our models with the options and the weights of a checkpoint."""

    model: str
    options: dict[str, Any]
    words: dict[str, Any]  # settings of WordsConfig
    weights: dict[str, Tensor]
    arguments: dict[str, Any]
    given: frozenset[str]  # the names of those that are in the file
    unknown: dict[str, Any]
    appended: tuple[str, ...]  # words that the training script adds to those of its vocabulary file


@dataclass(frozen=True)
class PublishedSource:
    """A repository whose checkpoints can be imported: our model, its tensors for error messages, and the mapping."""

    title: str
    model: str
    expected: str
    options: Callable[[PublishedModel], tuple[dict[str, Any], dict[str, Any]]]  # of the model, of its words
    appended: tuple[str, ...] = ()

    def map(self, checkpoint: PublishedCheckpoint) -> ImportedModel:
        """Map a checkpoint. Raises InputError for tensors and arguments that our model does not have."""
        published = PublishedModel(self.title, self.expected, checkpoint)
        try:
            options, words = self.options(published)
        except KeyError as error:
            raise published.layout_error(f"nothing becomes our {error.args[0]}") from None
        except (RuntimeError, IndexError, TypeError) as error:  # of torch, for shapes that do not fit each other
            raise published.layout_error(f"its shapes do not fit each other ({str(error).splitlines()[0]})") from None
        if published.left:
            names = [f"{name} of {part}" for part, name in published.left]
            raise published.layout_error(f"it has the unknown tensors {', '.join(names[:5])}{' …' * (len(names) > 5)}")
        options |= {"dim": len(published.weights["project.weight"])}
        return ImportedModel(
            self.model,
            options,
            words,
            published.weights,
            published.arguments,
            frozenset(checkpoint.arguments),
            published.unknown(),
            self.appended,
        )


def _scan(found: PublishedModel) -> tuple[dict[str, Any], dict[str, Any]]:
    _project(found)
    norms = ("clipped_l2norm", "l2norm", "clipped_l1norm", "l1norm", "clipped", "softmax")
    options = {
        "direction": found.choice("cross_attn", "t2i", {"t2i": "t2i", "i2t": "i2t"}),
        "aggregation": found.choice(
            "agg_func", "LogSumExp", {"LogSumExp": "lse", "Mean": "mean", "Max": "max", "Sum": "sum"}
        ),
        "normalisation": found.choice(
            "raw_feature_norm", "clipped_l2norm", {**{norm: norm for norm in norms}, "no_norm": "none"}
        ),
        "temperature": found.number("lambda_softmax", 9.0),
        "lse_temperature": found.number("lambda_lse", 6.0),
    }
    return options | _unit_fragments(found), _gru_words(found, "rnn.")


def _vse_infinity(found: PublishedModel) -> tuple[dict[str, Any], dict[str, Any]]:
    found.choice("precomp_enc_type", "basic", {"basic": "features of regions"})
    if found.has("images", "backbone.") or found.has("images", "image_encoder."):
        raise found.layout_error("it reads the pixels of images (precomp_enc_type=backbone), not features of regions")
    _project(found)
    region_mlp = found.has("images", "mlp.")
    if region_mlp:
        layers = {"layers.0.": "first.", "layers.1.": "second.", "bns.0.": "norm."}
        found.move("images", {f"mlp.{theirs}": f"mlp.{ours}" for theirs, ours in layers.items()})
        found.drop("images", "mlp.bns.1.")
    for part in ("images", "texts"):
        ours = f"pool_{part}."
        found.move(part, {"gpool.gru.": f"{ours}gru.", "gpool.linear.": f"{ours}weigh."})
    options = {
        "region_mlp": region_mlp,
        "unit_images": not found.flag("no_imgnorm"),
        "unit_texts": not found.flag("no_txtnorm"),
    }
    return options, _bert_words(found) if found.has("texts", "bert.") else _gru_words(found, "rnn.")


def _sgraf(found: PublishedModel) -> tuple[dict[str, Any], dict[str, Any]]:
    _project(found)
    words = _gru_words(found, "cap_rnn.") | {"dropout": 0.4}
    places = _global_attention(found, parts=1)
    options = {"places": places} | _similarity_heads(found) | _unit_fragments(found)
    return options, words


def _tvrn(found: PublishedModel) -> tuple[dict[str, Any], dict[str, Any]]:
    _project(found)
    words = _gru_words(found, "cap_rnn.") | {"dropout": 0.4}
    places = _global_attention(found, parts=2)
    names = {"scan_attention.fcq.": "attend.query.", "scan_attention.fck.": "attend.key."}
    names |= {"fcq.": "region_graph.query.", "fck.": "region_graph.key."}
    found.move("pairs", names | {"img_rnn.": "read_regions.gru.", "cap_rnn.": "read_words.gru."})
    found.drop("pairs", "fcv.", "scan_attention.fcv.", "sim_trancon_w.")
    # The file does not tell which nodes the code scored, and the last published version scores the global one alone.
    nodes = found.choice("nodes", "both", {"both": "both", "global": "global"})
    if nodes == "global":
        found.drop("pairs", "sim_tranloc_w.", "SGR_module.", "SAF_module.")
    options = {
        "places": places,
        "nodes": nodes,
        "context": "both",
        "spatial": "released",
        "iou_threshold": found.number("iou_threshold", 0.5),  # of the file of overlaps
        "text_spatial": "none",  # loaded and not used
        "enhancement": found.choice("focal_type", "glo", {"glo": "none", "equal": "equal", "prob": "prob"}),
    }
    return options | _similarity_heads(found, nodes) | _unit_fragments(found), words


SOURCES = {
    "scan": PublishedSource(
        "SCAN", "scan", "images: fc.weight, fc.bias (or fc.weight_g, fc.weight_v); texts: embed.weight, rnn.*", _scan
    ),
    "sgraf": PublishedSource(
        "SGRAF",
        "sgraf",
        "images: fc.*; texts: embed.weight, cap_rnn.*; pairs: v_global_w.*, t_global_w.*, sim_tranloc_w.*, "
        "sim_tranglo_w.*, sim_eval_w.*, SGR_module.* or SAF_module.*",
        _sgraf,
    ),
    "vse-infinity": PublishedSource(
        "VSE-infinity",
        "vse_infinity",
        "images: fc.*, mlp.layers.*, mlp.bns.*, gpool.*; texts: gpool.*, and embed.weight, rnn.* or bert.*, linear.*",
        _vse_infinity,
        ("<mask>",),
    ),
    "tvrn": PublishedSource(
        "TVRN",
        "tvrn",
        "those of SGRAF, and pairs: scan_attention.*, fcq.*, fck.*, img_rnn.*, cap_rnn.*",
        _tvrn,
    ),
}


def _project(found: PublishedModel) -> None:
    """Map the linear map of regions. A map with weight_norm is the direction v, scaled to the length g."""
    names = (
        ("fc.weight_g", "fc.weight_v"),
        ("fc.parametrizations.weight.original0", "fc.parametrizations.weight.original1"),
    )
    for length, direction in names:
        if found.has("images", length):
            g, v = found.take("images", length), found.take("images", direction)
            norm = v.norm() if g.numel() == 1 else v.norm(dim=1, keepdim=True)
            found.weights["project.weight"] = g.reshape(-1, 1) * v / norm
    found.move("images", {"fc.": "project."})
    if "project.weight" not in found.weights:
        raise found.layout_error("it has no fc.weight of images")
    _check_matrix(found, "project.weight")


def _check_matrix(found: PublishedModel, name: str) -> None:
    shape = tuple(found.weights[name].shape)
    if len(shape) != 2:
        raise found.layout_error(f"what becomes our {name} has the shape {shape}, not that of a matrix")


def _unit_fragments(found: PublishedModel) -> dict[str, bool]:
    return {"unit_regions": not found.flag("no_imgnorm"), "unit_words": not found.flag("no_txtnorm")}


def _gru_words(found: PublishedModel, gru: str) -> dict[str, Any]:
    """Map a GRU over word vectors, and return the settings of the words."""
    found.weights["words.embedding.weight"] = embedding = found.take("texts", "embed.weight")
    found.move("texts", {gru: "words.gru."})
    layers = [name for name in found.weights if name.startswith("words.gru.weight_ih_l")]
    is_bidirectional = any(name.endswith("_reverse") for name in layers)
    return {
        "word_dim": embedding.shape[1],
        "num_layers": len(layers) // (1 + is_bidirectional),
        "bidirectional": is_bidirectional,
        "punctuation": True,
    }


def _bert_words(found: PublishedModel) -> dict[str, Any]:
    embeddings = (f"embeddings.{kind}_embeddings.weight" for kind in ("word", "position", "token_type"))
    for name in (*embeddings, "encoder.layer.0.intermediate.dense.weight"):
        if not found.has("texts", f"bert.{name}"):
            raise found.layout_error(f"it has no bert.{name} of texts")
    found.drop("texts", "bert.pooler.", "bert.embeddings.position_ids", "bert.embeddings.token_type_ids")
    found.move("texts", {"bert.": "words.backbone.", "linear.": "words.head."})
    for name in found.weights:
        if name.endswith(("_embeddings.weight", "intermediate.dense.weight", "words.head.weight")):
            _check_matrix(found, name)
    width = found.weights["words.head.weight"].shape[1]
    heads = found.number("num_attention_heads", max(1, width // 64))  # not an argument of theirs: BERT's convention
    found.arguments["num_attention_heads"] = int(heads)
    return {"encoder": "pretrained", "frozen": False, "fragments": "pieces"}


def _global_attention(found: PublishedModel, parts: int) -> int:
    """Map the attentions that make global vectors, and return the number of regions per image.

    The batch normalisation of places becomes an affine map. Fragments are ordered by region here, and there by part.
    """
    pool, ours = "v_global_w.embedding", "image_pool."
    scale, shift = _affine(found, f"{pool}_local.1.")
    places = len(scale) // parts
    for name, values in (("scale", scale), ("shift", shift)):
        found.weights[f"{ours}local_norm.{name}"] = values.view(parts, places).T.reshape(-1)
    bias = found.take("pairs", f"{pool}_global.0.bias")
    names = {f"{pool}_local.0.": f"{ours}local.", f"{pool}_global.0.": f"{ours}whole."}
    found.move("pairs", names | {f"{pool}_global.1.": f"{ours}whole_norm."})
    mean = f"{ours}whole_norm.running_mean"
    found.weights[mean] = found.weights[mean] - bias
    found.drop("pairs", f"{pool}_common.0.bias", "t_global_w.embedding_common.0.bias")  # a softmax cancels them
    pool = "t_global_w.embedding"
    found.move("pairs", {f"{pool}_local.0.": "text_pool.local.", f"{pool}_global.0.": "text_pool.whole."})
    found.move("pairs", {"v_global_w.embedding_common.0.": f"{ours}weigh.", f"{pool}_common.0.": "text_pool.weigh."})
    return places


def _affine(found: PublishedModel, prefix: str) -> tuple[Tensor, Tensor]:
    """Return a batch normalisation in eval mode as a scale and a shift."""
    weight, bias, mean, variance = (
        found.take("pairs", prefix + name) for name in ("weight", "bias", "running_mean", "running_var")
    )
    found.drop("pairs", f"{prefix}num_batches_tracked")
    scale = weight * torch.rsqrt(variance + BATCH_NORM_EPS)
    return scale, bias - mean * scale


def _similarity_heads(found: PublishedModel, nodes: str = "both") -> dict[str, Any]:
    """Map the similarity vectors and the head, and return their options."""
    if nodes == "both":
        found.move("pairs", {"sim_tranloc_w.": "local.map."})
    found.move("pairs", {"sim_tranglo_w.": "whole.map.", "sim_eval_w.": "heads.0.weigh."})
    options: dict[str, Any] = {"similarity_dim": len(found.weights["whole.map.weight"])}
    if found.has("pairs", "SAF_module."):
        bias = found.take("pairs", "SAF_module.attn_sim_w.bias")
        names = {"SAF_module.attn_sim_w.": "heads.0.gather.gate.", "SAF_module.bn.": "heads.0.gather.norm."}
        found.move("pairs", names)
        mean = "heads.0.gather.norm.running_mean"
        found.weights[mean] = found.weights[mean] - bias
        return options | {"reasoning": "saf"}
    steps = 0
    while found.has("pairs", f"SGR_module.{steps}."):
        theirs, ours = f"SGR_module.{steps}.", f"heads.0.gather.rounds.{steps}."
        found.drop("pairs", f"{theirs}graph_key_w.bias")  # a softmax cancels it
        names = {"graph_query_w.": "query.", "graph_key_w.": "key.", "sim_graph_w.": "update."}
        found.move("pairs", {theirs + name: ours + to for name, to in names.items()})
        steps += 1
    if nodes == "both" and not steps:
        raise found.layout_error("it has neither SGR_module.* nor SAF_module.* of pairs")
    return options | ({"reasoning": "sgr", "steps": steps} if steps else {})
