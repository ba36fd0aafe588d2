"""Sentences to one vector a word: a bidirectional GRU over our own vocabulary, or any pretrained encoder."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from regard.batch import Fragments, Texts
from regard.words import Vocabulary


class GRUEncoder(nn.Module):
    """Word vectors through a bidirectional GRU, the mean of its two directions (SCAN's text side; no normalisation).

    `dropout` falls on the word vectors. `vectors` [word, word_dim] start the word vectors (see `word_vectors`), which
    are otherwise uniform in +-0.1; they are trained in either case.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        dim: int,
        *,
        word_dim: int = 300,
        num_layers: int = 1,
        dropout: float = 0.0,
        vectors: Float[Tensor, "word word_dim"] | None = None,
    ) -> None:
        super().__init__()
        self.tokenizer = vocabulary
        self.embedding = nn.Embedding(len(vocabulary), word_dim, padding_idx=0)
        with torch.no_grad():
            self.embedding.weight[1:].uniform_(-0.1, 0.1)
            if vectors is not None:
                self.embedding.weight[1:] = vectors[1:]
        self.dropout = nn.Dropout(dropout)
        self.gru = nn.GRU(word_dim, dim, num_layers, batch_first=True, bidirectional=True)

    def forward(self, texts: Texts) -> Fragments:
        """[text word] numbers to [text word dim] vectors, as wide as the longest text; padding is zero."""
        lengths = texts.mask.sum(1).cpu()
        words = self.dropout(self.embedding(texts.tokens))
        packed, _ = self.gru(pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False))
        both, _ = pad_packed_sequence(packed, batch_first=True)
        vectors = both.unflatten(2, (2, -1)).mean(2)
        return Fragments(vectors, texts.mask[:, : vectors.shape[1]])

    def pretrained_parameters(self) -> list[nn.Parameter]:
        """None: what a trainer gives a learning rate of its own."""
        return []
