"""Text encoders, from sentences to one vector per word: a GRU, or a pretrained encoder."""

from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from regard.batch import Fragments, Texts, extent, host, on_both, to_device
from regard.draws import ItemDropout
from regard.files import InputError
from regard.layers.recurrent import run_gru
from regard.pretrained import transformers_for
from regard.words import Pieces, Vocabulary, WordsConfig, word_vectors
from regard.words.pieces import model_source


def build_words(config: WordsConfig, tokenizer: Vocabulary | Pieces, dim: int, *, weights: bool = True) -> nn.Module:
    """Build the text encoder of `config` over `tokenizer`. It encodes Texts to Fragments of `dim`.

    With `weights=False`, neither pretrained weights nor word vectors are read, because a checkpoint will bring them.
    Raises InputError if the tokenizer belongs to another encoder, or if the word vectors do not have `config.word_dim`
    numbers.
    """
    if config.encoder == "pretrained" and isinstance(tokenizer, Pieces):
        return PretrainedEncoder(tokenizer, dim, frozen=config.frozen, head=config.head, weights=weights)
    if config.encoder == "gru" and isinstance(tokenizer, Vocabulary):
        vectors = None
        if config.vectors and weights:
            vectors, _ = word_vectors(config.vectors, tokenizer)
            if vectors.shape[1] != config.word_dim:
                raise InputError(
                    f"{config.vectors} has vectors of {vectors.shape[1]} numbers, word_dim is {config.word_dim}: "
                    f"set word_dim to {vectors.shape[1]}."
                )
        return GRUEncoder(
            tokenizer,
            dim,
            word_dim=config.word_dim,
            num_layers=config.num_layers,
            dropout=config.dropout,
            bidirectional=config.bidirectional,
            vectors=vectors,
        )
    raise InputError(f"The {config.encoder} text encoder cannot use a {type(tokenizer).__name__}.")


class GRUEncoder(nn.Module):
    """Word vectors through a GRU, averaged over its two directions (SCAN's text side; not normalised).

    `dropout` applies to the word vectors. `vectors` [word, word_dim] are their initial values (see `word_vectors`); by
    default they are uniform in +-0.1. They are trained in both cases. If it is not `bidirectional`, the GRU reads
    forwards only.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        dim: int,
        *,
        word_dim: int = 300,
        num_layers: int = 1,
        dropout: float = 0.0,
        bidirectional: bool = True,
        vectors: Float[Tensor, "word word_dim"] | None = None,
    ) -> None:
        super().__init__()
        self.tokenizer = vocabulary
        self.embedding = nn.Embedding(len(vocabulary), word_dim, padding_idx=0)
        with torch.no_grad():
            self.embedding.weight[1:].uniform_(-0.1, 0.1)
            if vectors is not None:
                self.embedding.weight[1:] = vectors[1:]
        self.dropout = ItemDropout(dropout)
        self.gru = nn.GRU(word_dim, dim, num_layers, batch_first=True, bidirectional=bidirectional)

    def forward(self, texts: Texts) -> Fragments:
        """Encode [text word] numbers to [text word dim] vectors, as wide as the longest text; padding is zero."""
        width = max(1, int(extent(host(texts.mask)).max()))
        mask, tokens = (on_both(lambda t: t[:, :width], field) for field in (texts.mask, texts.tokens))
        words = self.dropout(self.embedding(tokens), mask, texts.draws)
        with torch.autocast("cpu", enabled=False):  # bfloat16 makes its many small products slower
            outputs, _ = run_gru(self.gru, words, mask)
        return Fragments(outputs.unflatten(2, (-1, self.gru.hidden_size)).mean(2), mask)

    def pretrained_parameters(self) -> list[nn.Parameter]:
        """Return no parameters: see PretrainedEncoder."""
        return []


class PretrainedEncoder(nn.Module):
    """The last layer of a Hugging Face encoder, averaged over the pieces of each word and mapped to `dim`.

    The output is not normalised. `head` is one linear map, or convolutions over the words beside it (DIME; Qu et al.,
    SIGIR 2021). A `frozen` encoder stays in eval mode and gets no gradients. With `weights=False`, its weights are
    random until a checkpoint fills them.
    """

    def __init__(
        self,
        pieces: Pieces,
        dim: int,
        *,
        frozen: bool = False,
        head: Literal["linear", "conv"] = "linear",
        weights: bool = True,
    ) -> None:
        super().__init__()
        self.tokenizer = pieces
        self.frozen = frozen
        self.backbone = _backbone(pieces, weights).requires_grad_(not frozen)
        width = self.backbone.config.hidden_size
        self.head = nn.Linear(width, dim) if head == "linear" else ConvHead(width, dim)
        self.train()

    def train(self, mode: bool = True) -> "PretrainedEncoder":
        super().train(mode)
        self.backbone.train(mode and not self.frozen)
        return self

    def forward(self, texts: Texts) -> Fragments:
        """Encode [text token] pieces to [text word dim] vectors, as wide as the most words; padding is zero.

        Raises InputError for texts of a tokenizer without word pieces.
        """
        if texts.words is None:
            raise InputError("These texts have no word pieces: make them with the encoder's own tokenizer, a Pieces.")
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            states = self.backbone(input_ids=texts.tokens, attention_mask=texts.mask.long()).last_hidden_state

        word_of = host(texts.words).masked_fill(~host(texts.mask), 0)
        number = torch.arange(1, int(word_of.max()) + 1)
        is_piece = to_device(number[:, None] == word_of[:, None, :], states.device)  # [text word token]
        words = is_piece.to(states.dtype) @ states / is_piece.sum(2, keepdim=True).clamp(min=1)

        mask = on_both(partial(torch.any, dim=2), is_piece)
        return Fragments(self.head(words).masked_fill(~mask[..., None], 0), mask)

    def pretrained_parameters(self) -> list[nn.Parameter]:
        """Return the encoder's parameters, which train at a learning rate of their own; none if it is frozen."""
        return [parameter for parameter in self.backbone.parameters() if parameter.requires_grad]


class ConvHead(nn.Module):
    """DIME's head: convolutions over 1, 2 and 3 words, mapped together, plus a linear map of each word."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv1d(width, dim, size) for size in (1, 2, 3))
        self.joint = nn.Linear(3 * dim, dim)
        self.linear = nn.Linear(width, dim)

    def forward(self, words: Float[Tensor, "text word width"]) -> Float[Tensor, "text word dim"]:
        """`words` must be zero on padding, which then acts like the end of the sentence."""
        sequence = words.mT
        outputs = []
        for size, convolution in enumerate(self.convolutions, 1):
            outputs.append(F.relu(convolution(F.pad(sequence, ((size - 1) // 2, size // 2)))))
        return self.joint(torch.cat(outputs, 1).mT) + self.linear(words)


def _backbone(pieces: Pieces, weights: bool) -> Any:
    with transformers_for(pieces.path) as transformers:
        if not weights:
            model = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(**pieces.model))
        else:
            model, loading = transformers.AutoModel.from_pretrained(
                model_source(pieces.path),
                use_safetensors=True,  # the other format is a pickle
                ignore_mismatched_sizes=True,  # refused below, in one line
                output_loading_info=True,
            )
            unfit = {*loading["missing_keys"], *(name for name, *_ in loading["mismatched_keys"])}
            unfit -= {name for name in unfit if name.startswith("pooler.")}
            if unfit:
                raise InputError(f"{pieces.path} has no weights that fit {min(unfit)} (of {len(unfit)}): expected all.")
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # it computes a sentence vector that is not used
    return model
