"""The scores of published checkpoints: the equations of each authors' code, for one pair, in float64.

Each function takes the state dicts of the code (of images, texts and pairs), the arguments of its training script, the
features of an image and the numbers of a caption's tokens. Only one image is scored at a time, so that TVRN's code
expands a text with what it attends to in the image of its pair.
"""

import math

import torch
from torch import Tensor, nn


def unit(x: Tensor) -> Tensor:
    return x / (x.norm(dim=-1, keepdim=True) + 1e-8)


def linear(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    weight, bias = state[f"{name}.weight"].double(), state.get(f"{name}.bias")
    return x @ weight.T if bias is None else x @ weight.T + bias.double()


def gru(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """The outputs for a sequence; the mean of both directions if there are two."""
    own = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
    both, layers = any("reverse" in key for key in own), sum("weight_ih" in key for key in own)
    inputs, hidden = own["weight_ih_l0"].shape[1], own["weight_hh_l0"].shape[1]
    layer = nn.GRU(inputs, hidden, layers // (1 + both), batch_first=True, bidirectional=both)
    layer.load_state_dict(own)
    outputs = layer.double()(x[None])[0][0]
    return (outputs[:, :hidden] + outputs[:, hidden:]) / 2 if both else outputs


def regions_of(state: dict[str, Tensor], opt: dict, features: Tensor) -> Tensor:
    if "fc.weight_g" in state:
        v = state["fc.weight_v"].double()
        regions = features @ (state["fc.weight_g"].double() * v / v.norm()).T + state["fc.bias"].double()
    else:
        regions = linear(state, "fc", features)
    return regions if opt.get("no_imgnorm") else unit(regions)


def words_of(state: dict[str, Tensor], opt: dict, numbers: list[int], name: str) -> Tensor:
    words = gru(state, name, state["embed.weight"].double()[numbers])
    return words if opt.get("no_txtnorm") else unit(words)


def attend(similarity: Tensor, norm: str, smooth: float) -> Tensor:
    """The weight of each context fragment (a row) for each query (a column)."""
    if norm.startswith("clipped"):
        similarity = torch.where(similarity > 0, similarity, 0.1 * similarity)
    if norm.endswith("l2norm"):
        similarity = unit(similarity)
    if norm.endswith("l1norm"):
        similarity = similarity / (similarity.abs().sum(1, keepdim=True) + 1e-8)
    if norm == "softmax":
        similarity = similarity.softmax(1)
    return (smooth * similarity).softmax(0)


def scan(states, opt: dict, features: Tensor, numbers: list[int]) -> float:
    regions, words = regions_of(states[0], opt, features), words_of(states[1], opt, numbers, "rnn")
    queries, context = (words, regions) if opt["cross_attn"] == "t2i" else (regions, words)
    weights = attend(context @ queries.T, opt["raw_feature_norm"], opt["lambda_softmax"])
    attended = weights.T @ context
    cosine = (queries * attended).sum(1) / (queries.norm(dim=1) * attended.norm(dim=1)).clamp(min=1e-8)
    if opt["agg_func"] == "LogSumExp":
        return float(torch.log(torch.exp(opt["lambda_lse"] * cosine).sum()) / opt["lambda_lse"])
    return float({"Mean": cosine.mean, "Max": cosine.max, "Sum": cosine.sum}[opt["agg_func"]]())


def norm_of(state: dict[str, Tensor], name: str, x: Tensor, axis: int) -> Tensor:
    """Batch normalisation in eval mode, of the places or the features on `axis`."""
    shape = [-1 if each == axis else 1 for each in range(x.ndim)]
    weight, bias, mean, variance = (
        state[f"{name}.{key}"].double().view(shape) for key in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias


def whole_of(state: dict[str, Tensor], name: str, fragments: Tensor, normalised: bool) -> Tensor:
    local = linear(state, f"{name}.embedding_local.0", fragments)
    whole = linear(state, f"{name}.embedding_global.0", fragments.mean(0))
    if normalised:
        local = norm_of(state, f"{name}.embedding_local.1", local, 0)  # of places
        whole = norm_of(state, f"{name}.embedding_global.1", whole, 0)  # of features
    weights = linear(state, f"{name}.embedding_common.0", local.tanh() * whole.tanh()).softmax(0)
    return unit((weights * fragments).sum(0))


def head(state: dict[str, Tensor], nodes: Tensor) -> float:
    if "SAF_module.attn_sim_w.weight" in state:
        gates = norm_of(state, "SAF_module.bn", linear(state, "SAF_module.attn_sim_w", nodes), 1).sigmoid()
        vector = unit((gates / (gates.sum() + 1e-8) * nodes).sum(0))
    else:
        step = 0
        while f"SGR_module.{step}.graph_query_w.weight" in state:
            queries, keys = (linear(state, f"SGR_module.{step}.graph_{kind}_w", nodes) for kind in ("query", "key"))
            edges = (queries @ keys.T).softmax(1)
            nodes = linear(state, f"SGR_module.{step}.sim_graph_w", edges @ nodes).relu()
            step += 1
        vector = nodes[0]
    return float(linear(state, "sim_eval_w", vector).sigmoid())


def sgraf(states, opt: dict, features: Tensor, numbers: list[int]) -> float:
    regions, words = regions_of(states[0], opt, features), words_of(states[1], opt, numbers, "cap_rnn")
    state = states[2]
    attended = unit(attend(regions @ words.T, "clipped_l2norm", 9.0).T @ regions)
    local = unit(linear(state, "sim_tranloc_w", (attended - words) ** 2))
    wholes = whole_of(state, "v_global_w", regions, True), whole_of(state, "t_global_w", words, False)
    whole = unit(linear(state, "sim_tranglo_w", (wholes[0] - wholes[1]) ** 2))
    return head(state, torch.cat([whole[None], local]))


def tvrn(states, opt: dict, features: Tensor, numbers: list[int], overlaps: Tensor) -> float:
    """`overlaps` [region, region] is 1 where boxes overlap enough."""
    regions, words = regions_of(states[0], opt, features), words_of(states[1], opt, numbers, "cap_rnn")
    state = states[2]

    def scan_attention(queries: Tensor, context: Tensor) -> Tensor:
        similarity = linear(state, "scan_attention.fck", context) @ linear(state, "scan_attention.fcq", queries).T
        return unit(attend(similarity, "clipped_l2norm", 9.0).T @ context)

    keys, queries = linear(state, "fck", regions), linear(state, "fcq", regions)
    relation = (keys @ queries.T) / (queries.norm(dim=1) * keys.norm(dim=1))  # both lengths by the column
    placed = unit(attend(overlaps * relation, "clipped_l2norm", 9.0).T @ regions)
    context = unit((scan_attention(regions, regions) + placed) / 2)
    joint = regions * context
    joint = unit(torch.where(joint > 0, joint, 0.1 * joint))
    unified = unit(gru(state, "img_rnn", torch.cat([regions, joint])) + torch.cat([regions, regions]))

    expanded = torch.cat([words, scan_attention(scan_attention(words, words), context)])
    refined = unit(gru(state, "cap_rnn", expanded) + torch.cat([words, words]))
    weights = attend(unified @ refined.T, "clipped_l2norm", 9.0)
    if opt["focal_type"] == "equal":
        kept = (weights * len(weights) - weights.sum(0)) > 0
        weights = weights * kept / (weights * kept).sum(0)
    if opt["focal_type"] == "prob":
        roots = weights.sqrt()
        kept = (weights * roots.sum(0) - (weights * roots).sum(0)) > 0
        weights = weights * kept / (weights * kept).sum(0)
    local = unit(linear(state, "sim_tranloc_w", (unit(weights.T @ unified) - refined) ** 2))
    wholes = whole_of(state, "v_global_w", unified, True), whole_of(state, "t_global_w", refined, False)
    whole = unit(linear(state, "sim_tranglo_w", (wholes[0] - wholes[1]) ** 2))
    if opt.get("nodes") == "global":
        return float(linear(state, "sim_eval_w", whole).sigmoid())
    return head(state, torch.cat([whole[None], local]))


def gpo(state: dict[str, Tensor], fragments: Tensor) -> Tensor:
    places = torch.arange(len(fragments), dtype=torch.float64)[:, None]
    rates = torch.exp(torch.arange(0, 32, 2, dtype=torch.float64) * -(math.log(10000.0) / 32))
    codes = torch.zeros(len(fragments), 32, dtype=torch.float64)
    codes[:, 0::2], codes[:, 1::2] = torch.sin(places * rates), torch.cos(places * rates)
    weights = (linear(state, "gpool.linear", gru(state, "gpool.gru", codes)) / 0.1).softmax(0)
    return (fragments.sort(dim=0, descending=True).values * weights).sum(0)


def vse_infinity(states, opt: dict, features: Tensor, numbers: list[int], bert=None) -> float:
    images, texts = states
    regions = linear(images, "fc", features)
    if "mlp.layers.0.weight" in images:
        hidden = norm_of(images, "mlp.bns.0", linear(images, "mlp.layers.0", features), 1).relu()
        regions = regions + linear(images, "mlp.layers.1", hidden)
    if bert is None:
        words = gru(texts, "rnn", texts["embed.weight"].double()[numbers])
    else:
        words = linear(texts, "linear", bert(torch.tensor([numbers])).last_hidden_state[0])
    image, text = gpo(images, regions), gpo(texts, words)
    image, text = image if opt.get("no_imgnorm") else unit(image), text if opt.get("no_txtnorm") else unit(text)
    return float(image @ text)
