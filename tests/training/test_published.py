"""Runs made of published checkpoints: their scores, from captions and features on, are those of the authors' code."""

import argparse
import json
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from commands import contents, refused, regard
from reference import published
from regard.boxes import iou
from regard.data.pickles import read_instance
from regard.files import InputError
from regard.training.checkpoint import load_state
from regard.training.published_files import read_checkpoint
from regard.training.trained_run import TrainedRun

DIM, WORD_DIM, FEATURES, REGIONS, SIMILARITY = 8, 6, 7, 5, 4
CAPTIONS = {  # with their tokens
    'A man\'s red T-shirt says "no".': ["a", "man", "'s", "red", "t-shirt", "says", "``", "no", "''", "."],
    "Two dogs -- one black , one white -- can't run": [
        *("two", "dogs", "--", "one", "black", ",", "one", "white", "--", "ca", "n't", "run")
    ],
    "A dog runs. It is red!": ["a", "dog", "runs", ".", "it", "is", "red", "!"],
    "Unheard-of men (two)": ["<unk>", "men", "(", "two", ")"],
    "dogs": ["dogs"],
    "the dog's white dogs, 3,000 of them": ["the", "dog", "'s", "white", "dogs", ",", "<unk>", "of", "them"],
}
WORDS = sorted({token for tokens in CAPTIONS.values() for token in tokens if token != "<unk>"})
ENTRIES = ["<pad>", "<start>", "<end>", "<unk>", *WORDS]
NUMBERS = [[1, *(ENTRIES.index(token) for token in tokens), 2] for tokens in CAPTIONS.values()]
NUM_IMAGES = 3


@pytest.fixture
def data(tmp_path):
    """Three images with two captions each, as split test."""
    folder, random = tmp_path / "data", np.random.default_rng(0)
    folder.mkdir()
    corners = np.sort(random.uniform(0, 0.9, (NUM_IMAGES, REGIONS, 2, 2)), 2) + np.array([[0.0], [0.1]])
    np.save(folder / "test_ims.npy", random.normal(size=(NUM_IMAGES, REGIONS, FEATURES)).astype(np.float32))
    np.save(folder / "test_boxes.npy", corners.reshape(NUM_IMAGES, REGIONS, 4).astype(np.float32))
    np.save(folder / "test_image_of_text.npy", np.arange(NUM_IMAGES, dtype=np.int32).repeat(2))
    (folder / "test_caps.txt").write_text("".join(f"{caption}\n" for caption in CAPTIONS), "utf-8")
    (folder / "test_ids.txt").write_text("".join(f"image{row}\n" for row in range(NUM_IMAGES)), "utf-8")
    return folder


def state_of(random_seed=0, **modules):
    """The random state dict of modules under the authors' names, with statistics that are not trivial."""
    torch.manual_seed(random_seed)
    state = {}
    for name, module in modules.items():
        for key, value in module.state_dict().items():
            if key.endswith("num_batches_tracked"):
                state[f"{name}.{key}"] = value
            elif key.endswith("running_var") or (isinstance(module, nn.BatchNorm1d) and key == "weight"):
                state[f"{name}.{key}"] = torch.rand(value.shape) + 0.5
            else:
                state[f"{name}.{key}"] = torch.randn(value.shape) * 0.5
    return {key.replace("__", "."): value for key, value in state.items()}


def words_state(gru, bidirectional=True, layers=1, extra=0):
    embed = nn.Embedding(len(ENTRIES) + extra, WORD_DIM)
    rnn = nn.GRU(WORD_DIM, DIM, layers, batch_first=True, bidirectional=bidirectional)
    return state_of(1, embed=embed, **{gru: rnn})


def scan_states(weight_norm=False, **words):
    image = state_of(fc=nn.Linear(FEATURES, DIM))
    if weight_norm:
        image = {"fc.weight_g": torch.tensor(1.7), "fc.weight_v": image["fc.weight"], "fc.bias": image["fc.bias"]}
    return [image, words_state("rnn", **words)]


def similarity_states(reasoning="SGR", steps=3, parts=1, **more):
    pairs = {}
    for pool in ("v_global_w", "t_global_w"):
        pairs[f"{pool}__embedding_local__0"] = nn.Linear(DIM, DIM)
        pairs[f"{pool}__embedding_global__0"] = nn.Linear(DIM, DIM)
        pairs[f"{pool}__embedding_common__0"] = nn.Linear(DIM, 1)
    pairs["v_global_w__embedding_local__1"] = nn.BatchNorm1d(parts * REGIONS)
    pairs["v_global_w__embedding_global__1"] = nn.BatchNorm1d(DIM)
    pairs |= {f"sim_tran{kind}_w": nn.Linear(DIM, SIMILARITY) for kind in ("loc", "glo")}
    pairs["sim_eval_w"] = nn.Linear(SIMILARITY, 1)
    if reasoning == "SGR":
        names = ("graph_query_w", "graph_key_w", "sim_graph_w")
        pairs |= {f"SGR_module__{i}__{n}": nn.Linear(SIMILARITY, SIMILARITY) for i in range(steps) for n in names}
    else:
        pairs |= {"SAF_module__attn_sim_w": nn.Linear(SIMILARITY, 1), "SAF_module__bn": nn.BatchNorm1d(1)}
    return [state_of(fc=nn.Linear(FEATURES, DIM)), words_state("cap_rnn"), state_of(2, **pairs, **more)]


def tvrn_states(reasoning="SGR"):
    more = {
        f"{prefix}{name}": nn.Linear(DIM, DIM) for prefix in ("", "scan_attention__") for name in ("fcq", "fck", "fcv")
    }
    more |= {name: nn.GRU(DIM, DIM, batch_first=True) for name in ("img_rnn", "cap_rnn")}
    return similarity_states(reasoning, parts=2, sim_trancon_w=nn.Linear(DIM, SIMILARITY), **more)


def vse_states(text, mlp=True):
    def gpool():
        return {"gpool__gru": nn.GRU(32, 32, bidirectional=True), "gpool__linear": nn.Linear(32, 1, bias=False)}

    images = {"fc": nn.Linear(FEATURES, DIM), **gpool()}
    if mlp:
        images |= {"mlp__layers__0": nn.Linear(FEATURES, DIM // 2), "mlp__layers__1": nn.Linear(DIM // 2, DIM)}
        images |= {"mlp__bns__0": nn.BatchNorm1d(DIM // 2), "mlp__bns__1": nn.BatchNorm1d(DIM)}
    return [state_of(**images), text | state_of(3, **gpool())]


def save(folder, states, opt, entries=ENTRIES, **options):
    folder.mkdir(exist_ok=True)
    state = {"epoch": 3, "model": states, "best_rsum": np.float64(1.5), "opt": argparse.Namespace(**opt), "Eiters": 7}
    torch.save(state, folder / "model_best.pth.tar", **options)
    vocabulary = {
        "word2idx": {word: number for number, word in enumerate(entries)},
        "idx2word": {str(number): word for number, word in enumerate(entries)},
        "idx": len(entries),
    }
    (folder / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    return folder / "model_best.pth.tar"


def imported(tmp_path, data, source, checkpoint, *more, vocab=None):
    vocab = vocab or checkpoint.parent / "vocab.json"
    result = regard("import", source, checkpoint, "--vocab", vocab, "--out", tmp_path / "run", "--data", data, *more)
    assert result.code == 0, result.err
    return tmp_path / "run", result.out


def scores_of(run):
    result = regard("evaluate", run, "--save-scores", run.parent / "scores.npy")
    assert result.code == 0, result.err
    return np.load(run.parent / "scores.npy")


def expected_scores(data, score, numbers=NUMBERS, overlaps=None):
    features = torch.from_numpy(np.load(data / "test_ims.npy")).double()
    more = [{} if overlaps is None else {"overlaps": overlaps[image]} for image in range(len(features))]
    with torch.no_grad():
        return np.array(
            [[score(image, text, **some) for text in numbers] for image, some in zip(features, more, strict=True)]
        )


SCAN = {"cross_attn": "t2i", "agg_func": "LogSumExp", "raw_feature_norm": "clipped_l2norm"}
SCAN |= {"lambda_softmax": 9.0, "lambda_lse": 6.0, "no_imgnorm": False, "no_txtnorm": False, "margin": 0.2}
SCANS = [
    ({}, {"bidirectional": False}),  # the default of the authors' script
    ({"agg_func": "Mean"}, {}),
    ({"cross_attn": "i2t", "lambda_softmax": 4.0, "lambda_lse": 5.0}, {}),
    ({"agg_func": "Max", "raw_feature_norm": "softmax"}, {}),
    ({"agg_func": "Sum", "raw_feature_norm": "l2norm", "cross_attn": "i2t"}, {}),
    ({"no_imgnorm": True, "agg_func": "Mean"}, {"layers": 2}),
    ({"no_imgnorm": True, "no_txtnorm": True, "agg_func": "Mean", "raw_feature_norm": "no_norm"}, {}),
    ({"no_txtnorm": True, "precomp_enc_type": "weight_norm"}, {"weight_norm": True}),
    ({"raw_feature_norm": "clipped"}, {}),
    ({"raw_feature_norm": "l1norm"}, {}),
    ({"raw_feature_norm": "clipped_l1norm", "cross_attn": "i2t"}, {}),
]


@pytest.mark.parametrize(("opt", "shape"), SCANS, ids=lambda value: "-".join(map(str, value.values())))
def test_scan(tmp_path, data, opt, shape):
    states, opt = scan_states(**shape), SCAN | opt
    run, out = imported(tmp_path, data, "scan", save(tmp_path / "authors", states, opt))
    assert f"cross_attn={opt['cross_attn']}  agg_func={opt['agg_func']}" in out
    want = expected_scores(data, lambda image, text: published.scan(states, opt, image, text))
    np.testing.assert_allclose(scores_of(run), want, atol=1e-5)


SGRAF = {"no_imgnorm": False, "no_txtnorm": False, "module_name": "SGR", "sgr_step": 3, "bi_gru": True}


@pytest.mark.parametrize("opt", [{}, {"no_imgnorm": True, "no_txtnorm": True}], ids=["unit", "raw"])
@pytest.mark.parametrize(("reasoning", "steps"), [("SGR", 3), ("SGR", 2), ("SAF", 0)])
def test_sgraf(tmp_path, data, reasoning, steps, opt):
    states, opt = similarity_states(reasoning, steps), SGRAF | opt
    run, _ = imported(tmp_path, data, "sgraf", save(tmp_path / "authors", states, opt))
    want = expected_scores(data, lambda image, text: published.sgraf(states, opt, image, text))
    np.testing.assert_allclose(scores_of(run), want, atol=1e-5)


TVRN = SGRAF | {"focal_type": "glo"}


@pytest.mark.parametrize(
    ("reasoning", "opt", "settings"),
    [
        ("SGR", {}, []),
        ("SAF", {"focal_type": "equal"}, []),
        ("SGR", {"focal_type": "prob", "no_imgnorm": True}, []),
        ("SGR", {"no_txtnorm": True}, ["iou_threshold=0.1", "nodes=global"]),
    ],
    ids=["glo", "saf-equal", "prob", "global"],
)
def test_tvrn(tmp_path, data, reasoning, opt, settings):
    states, opt = tvrn_states(reasoning), TVRN | opt
    more = [part for setting in settings for part in ("--set", setting)]
    run, _ = imported(tmp_path, data, "tvrn", save(tmp_path / "authors", states, opt), *more)
    opt |= {"nodes": "global"} if "nodes=global" in settings else {}
    near = iou(torch.from_numpy(np.load(data / "test_boxes.npy"))) >= (0.1 if settings else 0.5)
    assert near.double().mean() > 1 / REGIONS  # some overlap
    want = expected_scores(
        data, lambda image, text, overlaps: published.tvrn(states, opt, image, text, overlaps), overlaps=near.double()
    )
    np.testing.assert_allclose(scores_of(run), want, atol=1e-5)


VSE = {"no_imgnorm": False, "no_txtnorm": False, "precomp_enc_type": "basic"}


@pytest.mark.parametrize(
    ("opt", "mlp", "extra"),
    [({}, True, 1), ({"no_imgnorm": True, "no_txtnorm": True}, True, 0), ({}, False, 0)],
    ids=["with <mask>", "raw", "no perceptron"],
)
def test_vse_infinity_with_a_gru(tmp_path, data, opt, mlp, extra):
    """The authors' script appends <mask> to the words of its vocabulary file."""
    states, opt = vse_states(words_state("rnn", extra=extra), mlp), VSE | opt
    run, _ = imported(tmp_path, data, "vse-infinity", save(tmp_path / "authors", states, opt))
    want = expected_scores(data, lambda image, text: published.vse_infinity(states, opt, image, text))
    np.testing.assert_allclose(scores_of(run), want, atol=1e-5)


LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{x}" for x in LETTERS)]
PIECES += ["man", "dog", "##gs", "red", "run", "white", *"'\".-,!()"]


def piece_numbers(caption):
    """WordPiece in plain loops: the longest piece first, within each word or punctuation mark."""
    words, numbers = "".join(x if x.isalnum() or x == " " else f" {x} " for x in caption.lower()).split(), [2]
    for word in words:
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            ends = (end for end in range(len(word), start, -1) if prefix + word[start:end] in PIECES)
            end = next(ends)
            numbers.append(PIECES.index(prefix + word[start:end]))
            start = end
    return [*numbers, 3]


@pytest.mark.parametrize("vocab", ["vocab.txt", "folder"])
def test_vse_infinity_with_bert(tmp_path, data, vocab):
    transformers = pytest.importorskip("transformers", reason='transformers is absent: pip install ".[text]"')
    sizes = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20}
    configuration = transformers.BertConfig(vocab_size=len(PIECES), max_position_embeddings=64, **sizes)
    torch.manual_seed(5)
    bert = transformers.BertModel(configuration).eval()
    with torch.no_grad():
        for parameter in bert.parameters():
            parameter.normal_(0, 0.3)
    text = {f"bert.{name}": tensor.clone() for name, tensor in bert.state_dict().items()}
    text |= {"bert.embeddings.position_ids": torch.arange(64)[None]}  # of older versions
    states = vse_states(text | state_of(4, linear=nn.Linear(12, DIM)))
    checkpoint = save(tmp_path / "authors", states, VSE)
    path = tmp_path / "bert"
    path.mkdir()
    (path / "vocab.txt").write_text("".join(f"{piece}\n" for piece in PIECES), "utf-8")
    if vocab == "folder":
        configuration.save_pretrained(path)
        transformers.BertTokenizerFast(vocab={piece: n for n, piece in enumerate(PIECES)}).save_pretrained(path)
    run, _ = imported(
        *(tmp_path, data, "vse-infinity", checkpoint, "--set", "num_attention_heads=3"),
        vocab=path if vocab == "folder" else path / "vocab.txt",
    )
    numbers = [piece_numbers(caption) for caption in CAPTIONS]
    bert = bert.double()
    want = expected_scores(
        data, lambda image, text: published.vse_infinity([states[0], states[1]], VSE, image, text, bert), numbers
    )
    np.testing.assert_allclose(scores_of(run), want, atol=1e-5)


def test_the_run_is_a_run(tmp_path, data):
    """Other verbs take it; it names what was read; the file's own numbers are those that the model has."""
    states = scan_states()
    file = save(tmp_path / "authors", states, SCAN | {"mystery": 4})
    with pytest.raises(
        AssertionError, match=r"does not know: mystery=4\. If they change no score, give --ignore mystery"
    ):
        imported(tmp_path, data, "scan", file)
    run, out = imported(tmp_path, data, "scan", file, "--ignore", "mystery")
    assert "not read       mystery=4" in out
    assert "not in the file, so by default: precomp_enc_type" not in out
    assert sorted(contents(run)) == [
        *("data.json", "imported.json", "model.safetensors", "recipe.toml", "vocabulary.json")
    ]
    origin = json.loads((run / "imported.json").read_text())
    assert (origin["source"], origin["file"]) == ("scan", "model_best.pth.tar")
    assert origin["arguments"]["agg_func"] == "LogSumExp"
    trained = TrainedRun(run)
    assert torch.equal(trained.model.state_dict()["project.weight"], states[0]["fc.weight"])
    assert trained.tokenizer.words("A dog.") == ["<start>", "a", "dog", ".", "<end>"]
    found = regard("search", run, "a red dog .", "--split", "test", "-k", "2")
    assert found.code == 0, found.err
    assert "image" in found.out
    explained = regard("explain", run, "image1", "a red dog .", "--out", tmp_path / "why.png")
    assert explained.code == 0, explained.err
    assert regard("verify", run).code == 0
    for resume in (True, False):
        with pytest.raises(InputError, match=r"was imported, so it cannot be continued: .* --set train.init="):
            load_state(run, trained.recipe, resume)


def test_arguments_replace_those_of_the_file(tmp_path, data):
    states = scan_states()
    checkpoint = save(tmp_path / "authors", states, {})
    _, out = imported(tmp_path, data, "scan", checkpoint, "--set", "cross_attn=i2t", "--set", "lambda_softmax=4")
    assert "not in the file, so by default: agg_func, lambda_lse, no_imgnorm, no_txtnorm, raw_feature_norm" in out
    options = TrainedRun(tmp_path / "run").recipe.options
    assert (options.direction, options.temperature, options.aggregation) == ("i2t", 4.0, "lse")


def test_older_files_are_read(tmp_path, data):
    """Of torch before 1.6, of several GPUs, in half precision, and with a pickled vocabulary of Python 2."""
    states = similarity_states()
    old = [{f"module.{key}": value for key, value in state.items()} for state in states]
    old[2] = {key: value for key, value in old[2].items() if "num_batches" not in key}
    checkpoint = save(tmp_path / "authors", old, SGRAF, _use_new_zipfile_serialization=False)
    content = {word: number for number, word in enumerate(ENTRIES)}
    lines = [f"V{word}\np{2 + number}\nI{number}\ns" for word, number in content.items()]
    pickled = "ccopy_reg\n_reconstructor\n(cvocab\nVocabulary\nc__builtin__\nobject\nNtR(dp1\nVword2idx\n(d"
    (tmp_path / "f30k_vocab.pkl").write_text(f"{pickled}{''.join(lines)}sb.", "latin1")
    run, _ = imported(tmp_path, data, "sgraf", checkpoint, vocab=tmp_path / "f30k_vocab.pkl")
    want = expected_scores(data, lambda image, text: published.sgraf(states, SGRAF, image, text))
    np.testing.assert_allclose(scores_of(run), want, atol=1e-5)


class Vocabulary:
    """As the authors pickle theirs."""

    def __init__(self, entries):
        self.word2idx = {word: number for number, word in enumerate(entries)}
        self.idx2word = dict(enumerate(entries))
        self.idx = len(entries)


def test_reading_a_checkpoint_leaves_what_torch_may_load(tmp_path):
    path = save(tmp_path / "run", scan_states(), SCAN)
    torch.serialization.add_safe_globals([argparse.Namespace])
    before = torch.serialization.get_safe_globals()
    try:
        read_checkpoint(path)
        assert set(torch.serialization.get_safe_globals()) == set(before)
    finally:
        torch.serialization.clear_safe_globals()


def test_pickled_vocabularies_run_no_code(tmp_path):
    for protocol in range(2, 6):
        (tmp_path / "vocab.pkl").write_bytes(pickle.dumps(Vocabulary(ENTRIES), protocol))
        assert read_instance(tmp_path / "vocab.pkl", "Vocabulary") == vars(Vocabulary(ENTRIES))
    (tmp_path / "vocab.pkl").write_bytes(b"cos\nsystem\n(S'touch /tmp/no'\ntR.")
    with pytest.raises(InputError, match=r"names os\.system, which could run code"):
        read_instance(tmp_path / "vocab.pkl", "Vocabulary")
    (tmp_path / "vocab.pkl").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(InputError, match="is the pickle of a list: expected that of a Vocabulary"):
        read_instance(tmp_path / "vocab.pkl", "Vocabulary")


class Unknown:
    pass


def changed(states, part, name, tensor=None):
    """The states with a tensor replaced, or without it."""
    states = [dict(state) for state in states]
    states[part].pop(name, None)
    if tensor is not None:
        states[part][name] = tensor
    return states


def test_what_cannot_be_imported_is_refused(tmp_path, data):
    states, out = scan_states(), tmp_path / "run"
    good = save(tmp_path / "good", states, SCAN)

    def refusal(states, opt=SCAN, source="scan", vocab=good.parent / "vocab.json", more=()):
        checkpoint = save(tmp_path / "bad", states, opt) if isinstance(states, list) else states
        line = refused("import", source, checkpoint, "--vocab", vocab, "--out", out, "--data", data, *more)
        assert not out.exists()
        return line

    # The layout
    line = refusal(states, source="sgraf")
    assert (
        "is not a checkpoint of SGRAF: it has no cap_rnn.* of texts. Found images: fc.weight [8, 7], images: fc."
        in line
    )
    assert "Expected images: fc.*; texts: embed.weight, cap_rnn.*; pairs: v_global_w.*" in line
    assert "it has the unknown tensors extra.bias of texts" in refusal(changed(states, 1, "extra.bias", torch.ones(2)))
    assert "no tensor becomes our words.gru.bias_hh_l0" in refusal(changed(states, 1, "rnn.bias_hh_l0"))
    assert "our project.bias would have the shape [3]: expected [8]" in refusal(
        changed(states, 0, "fc.bias", torch.ones(3))
    )
    assert "NaN or infinity in what becomes project.bias" in refusal(
        changed(states, 0, "fc.bias", torch.full((8,), torch.nan))
    )
    assert "it has no rnn.* of texts" in refusal([states[0], {"embed.weight": states[1]["embed.weight"]}])
    places = similarity_states()
    wrong = changed(places, 2, "v_global_w.embedding_local.1.bias", torch.ones(3))
    assert "its shapes do not fit each other" in refusal(wrong, SGRAF, "sgraf")
    absent = changed(places, 2, "v_global_w.embedding_global.1.running_mean")
    assert "nothing becomes our image_pool.whole_norm.running_mean" in refusal(absent, SGRAF, "sgraf")
    for shape in ((), (8,)):
        flat = changed(states, 0, "fc.weight", torch.ones(shape))
        assert f"what becomes our project.weight has the shape {shape}, not that of a matrix" in refusal(flat)
    odd = changed(states, 1, "embed.weight", torch.ones(3))
    assert "its shapes do not fit each other" in refusal(odd)
    backbone = [{"backbone.conv.weight": torch.ones(1)}, states[1]]
    assert "it reads the pixels of images (precomp_enc_type=backbone)" in refusal(backbone, {}, "vse-infinity")
    assert "precomp_enc_type='backbone': expected basic" in refusal(
        states, {"precomp_enc_type": "backbone"}, "vse-infinity"
    )
    # The arguments
    assert "agg_func='Median': expected LogSumExp or Mean or Max or Sum" in refusal(
        states, SCAN | {"agg_func": "Median"}
    )
    assert "raw_feature_norm='l3norm': expected clipped_l2norm" in refusal(
        states, SCAN | {"raw_feature_norm": "l3norm"}
    )
    assert "lambda_lse='six': expected a number" in refusal(states, SCAN | {"lambda_lse": "six"})
    assert "cross_attn=['t2i']: expected t2i or i2t" in refusal(states, SCAN | {"cross_attn": ["t2i"]})
    assert "no_imgnorm=2: expected true or false" in refusal(states, SCAN | {"no_imgnorm": 2})
    assert "scan has no argument 'agg_fun'. Did you mean 'agg_func'?" in refusal(good, more=("--set", "agg_fun=Max"))
    # The files
    (tmp_path / "text.pth").write_text("not a checkpoint")
    assert "text.pth is not what torch.save writes" in refusal(tmp_path / "text.pth")
    (tmp_path / "cut.pth").write_bytes(good.read_bytes()[:5000])
    assert "cut.pth cannot be read" in refusal(tmp_path / "cut.pth")
    assert "absent.pth is not a file: expected a checkpoint" in refusal(tmp_path / "absent.pth")
    torch.save({"weights": 3}, tmp_path / "odd.pth")
    assert "odd.pth contains weights (int): expected a dictionary whose entry `model`" in refusal(tmp_path / "odd.pth")
    torch.save({"model": states, "opt": Unknown()}, tmp_path / "class.pth")
    assert "Unknown, which could run code, so it is not read. If you trust it" in refusal(tmp_path / "class.pth")
    # The vocabulary
    short = save(tmp_path / "short", states, SCAN, ENTRIES[:-2]).parent / "vocab.json"
    assert f"has {len(ENTRIES) - 2} words, and the checkpoint has vectors of {len(ENTRIES)}" in refusal(
        good, vocab=short
    )
    assert "absent.json is not a file: expected the vocabulary" in refusal(good, vocab=tmp_path / "absent.json")
    (tmp_path / "odd.json").write_text("[1]")
    assert "odd.json" in refusal(good, vocab=tmp_path / "odd.json")
    # The run
    out.mkdir()
    (out / "file").touch()
    assert "already exists: name another --out" in refused("import", "scan", good, "--vocab", short, "--out", out)


def test_a_run_with_places_needs_as_many_regions(tmp_path, data):
    run, _ = imported(tmp_path, data, "sgraf", save(tmp_path / "authors", similarity_states(), SGRAF))
    np.save(data / "test_num_regions.npy", np.array([5, 4, 5], np.int16))
    line = refused("evaluate", run)
    assert "test has 4 to 5 regions per image, and the model was made for 5, with numbers of its own for each" in line
    (data / "test_num_regions.npy").unlink()
    for name in ("ims", "boxes"):
        np.save(data / f"test_{name}.npy", np.load(data / f"test_{name}.npy")[:, :4])
    assert "test has 4 regions per image, and the model was made for 5" in refused("evaluate", run)
    np.save(data / "test_ims.npy", np.load(data / "test_ims.npy")[:, :, :6])
    assert "has 6 features per region, and the model was trained with 7" in refused("evaluate", run)
