"""Images as a Dataset that shifts them at random: a convolutional net on digits.

Run with ``python examples/digits_cnn.py``; it takes about half a minute on two cores.
"""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from sktorch import TorchClassifier
from sktorch.data import DatasetSlice


class Digits(torch.utils.data.Dataset):
    """Digits of 16 x 16 points; with ``shift``, moved by up to so many points at each reading."""

    def __init__(self, shift=0):
        images, self.labels = load_digits(return_X_y=True)
        images = torch.tensor(images / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
        self.images = nn.functional.interpolate(images, scale_factor=2, mode="bilinear")
        self.shift = shift

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        shift = torch.randint(-self.shift, self.shift + 1, (2,)).tolist()
        return torch.roll(self.images[i], shift, dims=(1, 2)), self.labels[i]

    def unaugmented(self):
        """Return what the net is tried on: the digits where they are."""
        return Digits()


def cnn():
    """Two convolutions with pooling, and two linear layers."""
    return nn.Sequential(
        nn.Conv2d(1, 32, kernel_size=3),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, kernel_size=5),
        nn.MaxPool2d(2),
        nn.Dropout2d(0.1),
        nn.AdaptiveMaxPool2d((1, 1)),
        nn.Flatten(),
        nn.Linear(64, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )


def main():
    """Print the layers, the last epochs and the score on digits that were not trained on."""
    data = DatasetSlice(Digits(shift=1))
    train, test = train_test_split(data, stratify=data.y, random_state=0)
    clf = TorchClassifier(
        cnn,
        lr=0.01,
        batch_size=128,
        max_epochs=15,
        early_stopping=True,
        patience=5,
        metrics="accuracy",
        random_state=0,
    ).fit(train)
    print(clf.summary().layers)
    print(clf.history_.tail(3).round(4).to_string(index=False))
    score = clf.score(test)
    print(f"\nbatches were {clf.data_source_.kind}: {clf.data_source_.reason}")
    print(f"accuracy on {len(test)} digits: {score:.3f}")
    assert score > 0.95


if __name__ == "__main__":
    main()
