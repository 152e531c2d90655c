"""Texts in a Pipeline: words to numbers, an embedding, convolutions.

Run with ``python examples/texts.py``; it takes some seconds on two cores.
"""

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from torch import nn

from sktorch import TorchClassifier
from sktorch.preprocessing import SequenceVectorizer

GOOD = ["moving", "brilliant", "charming", "a joy", "worth every minute", "beautifully shot"]
BAD = ["dull", "clumsy", "a bore", "far too long", "badly lit", "a waste of an evening"]
THINGS = ["the film", "the plot", "the acting", "the music", "the ending", "every scene"]
FILLERS = ["I saw it on Sunday", "my brother chose it", "it was sold out", "we sat in front"]


def reviews(n_reviews, rng):
    """Return invented reviews, and whether each praises; a word like "not" turns it round."""
    texts, labels = [], []
    for _ in range(n_reviews):
        good = bool(rng.integers(2))
        sentences = [str(rng.choice(FILLERS)) for _ in range(rng.integers(1, 4))]
        for _ in range(rng.integers(1, 4)):
            turned = rng.random() < 0.3
            words = rng.choice(GOOD if good != turned else BAD)
            sentences.append(f"{rng.choice(THINGS)} was {'never ' if turned else ''}{words}")
        rng.shuffle(sentences)
        texts.append(". ".join(sentences).capitalize() + ".")
        labels.append("praise" if good else "blame")
    return texts, np.array(labels)


class TextCNN(nn.Module):
    """Word numbers of shape (n, length) to ``n_outputs`` logits."""

    def __init__(self, n_outputs, n_words=10_000, width=3):
        super().__init__()
        self.embedding = nn.Embedding(n_words, width, padding_idx=1)
        self.convolutions = nn.Sequential(
            nn.Conv1d(width, 16, kernel_size=5), nn.ReLU(), nn.AdaptiveMaxPool1d(1), nn.Flatten()
        )
        self.head = nn.Linear(16, n_outputs)

    def forward(self, ids):
        return self.head(self.convolutions(self.embedding(ids).transpose(1, 2)))


def main():
    """Print some words and their numbers, and the score on reviews that were not trained on."""
    texts, labels = reviews(2000, np.random.default_rng(0))
    train, test, y_train, y_test = train_test_split(texts, labels, random_state=0)
    pipe = Pipeline(
        [
            ("ids", SequenceVectorizer(max_features=10_000, max_len=60)),
            ("clf", TorchClassifier(TextCNN, lr=0.01, max_epochs=40, random_state=0)),
        ]
    ).fit(train, y_train)
    print(test[0], y_test[0], sep="\n")
    print(pipe["ids"].transform(test[:1])[0, :30])
    print("commonest words:", ", ".join([*pipe["ids"].vocabulary_][2:8]))
    score = pipe.score(test, y_test)
    print(f"accuracy on {len(test)} reviews: {score:.3f}")
    assert pipe["clf"].net_.embedding.weight[1].eq(torch.zeros(3)).all(), "padding stays zero"
    assert score > 0.95


if __name__ == "__main__":
    main()
