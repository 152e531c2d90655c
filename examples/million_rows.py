"""A million rows: linear regression finds the weights that made the data.

Run with ``python examples/million_rows.py``; it takes about ten seconds on two cores.
"""

import time

import torch
from torch import nn

from sktorch import TorchRegressor


def main():
    """Print the weights that were found, and the seconds that it took."""
    torch.manual_seed(0)
    n_rows, weights, bias, noise = 1_000_000, torch.tensor([2.0, -3.0]), 10.0, 2.0
    X = 10 * torch.rand(n_rows, 2) - 5
    y = X @ weights + bias + noise * torch.randn(n_rows)

    reg = TorchRegressor(
        nn.Linear(2, 1),
        lr=0.1,
        batch_size=n_rows,
        max_epochs=500,
        target_scaling=None,
        early_stopping=False,
        random_state=0,
    )
    started = time.perf_counter()
    reg.fit(X, y)
    seconds = time.perf_counter() - started
    found = [*reg.net_.weight.flatten().tolist(), reg.net_.bias.item()]
    print(f"{reg.n_iter_} updates of {n_rows:,} rows: {seconds:.1f} s")
    print(f"X was {reg.data_source_.kind}: {reg.data_source_.reason}")
    print(f"w = {found[0]:.3f}, {found[1]:.3f}, b = {found[2]:.3f}; made with 2, -3 and 10")
    print(f"R2 {reg.score(X, y):.4f}, loss {reg.history_.train_loss.iloc[-1]:.4f}")
    errors = [abs(a - b) for a, b in zip(found, [2, -3, 10], strict=True)]
    assert max(errors) < 0.02


if __name__ == "__main__":
    main()
