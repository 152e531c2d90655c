"""What others take for the same work: data, net, batches, optimizer, epochs.

Each of ``PEERS`` is a loop as in ``workloads``, and the package it needs.
"""

import contextlib
import io
import logging
import os
import tempfile
import warnings

import torch

from .workloads import WORKLOADS, predictor, require_package, sktorch


def script(work, epochs, device="cpu"):
    """Train as tutorials do: a DataLoader, a metric and two numbers read at each step."""
    from torch.utils.data import DataLoader, TensorDataset

    loader = DataLoader(TensorDataset(*work.tensors()), work.batch_size, shuffle=True)
    net, loss_function = work.net().to(device), work.loss()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    metric = metric_of(work).to(device)
    history = []
    for _ in range(epochs):
        net.train()
        total = 0.0
        for X, y in loader:
            X, y = X.to(device), y.to(device)
            optimizer.zero_grad()
            outputs = net(X)
            loss = loss_function(outputs, y)
            loss.backward()
            optimizer.step()
            total += loss.item()
            metric(outputs, y).item()
        history.append({"loss": total / len(loader), "metric": metric.compute().item()})
        metric.reset()
    return predictor(work, net, device)


def metric_of(work):
    """Return what a tutorial would watch."""
    import torchmetrics

    if work.n_classes:
        return torchmetrics.Accuracy(task="multiclass", num_classes=work.n_classes)
    return torchmetrics.MeanSquaredError()


def skorch(work, epochs, device="cpu"):
    """Train with skorch."""
    from skorch import NeuralNetClassifier, NeuralNetRegressor

    X, y = work.data()
    est = (NeuralNetClassifier if work.n_classes else NeuralNetRegressor)(
        work.net,
        criterion=type(work.loss()),
        optimizer=torch.optim.Adam,
        lr=1e-3,
        batch_size=work.batch_size,
        max_epochs=epochs,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        device=device,
    )
    return est.fit(X, y if work.n_classes else y.reshape(-1, 1)).predict


def scikit_learn(work, epochs, device="cpu"):
    """Train with the MLP of scikit-learn."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    est = (MLPClassifier if work.n_classes else MLPRegressor)(
        hidden_layer_sizes=work.hidden,
        batch_size=work.batch_size,
        max_iter=epochs,
        tol=0,
        n_iter_no_change=epochs + 1,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice to train longer
        return est.fit(*work.data()).predict


def torchkeras(work, epochs, device="cpu"):
    """Train with torchkeras, without its plots."""
    from torch.utils.data import DataLoader, TensorDataset
    from torchkeras import KerasModel

    loader = DataLoader(TensorDataset(*work.tensors()), work.batch_size, shuffle=True)
    net = work.net()
    model = KerasModel(
        net, loss_fn=work.loss(), optimizer=torch.optim.Adam(net.parameters(), lr=1e-3)
    )
    quiet = contextlib.redirect_stdout(io.StringIO())
    with tempfile.TemporaryDirectory() as folder, quiet:
        model.fit(
            loader,
            epochs=epochs,
            ckpt_path=os.path.join(folder, "checkpoint"),
            monitor="train_loss",
            mode="min",
            patience=epochs + 1,
            plot=False,
            cpu=device == "cpu",
        )
    return predictor(work, model.net.to("cpu"))


def lightning(work, epochs, device="cpu"):
    """Train with Lightning's Trainer, its bars and loggers off."""
    import lightning
    from torch.utils.data import DataLoader, TensorDataset

    class Lit(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net, self.loss_function = work.net(), work.loss()

        def training_step(self, batch, index):
            X, y = batch
            return self.loss_function(self.net(X), y)

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice on workers and loggers
        trainer = lightning.Trainer(
            max_epochs=epochs,
            accelerator="gpu" if device == "cuda" else "cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        lit = Lit()
        loader = DataLoader(TensorDataset(*work.tensors()), work.batch_size, shuffle=True)
        trainer.fit(lit, loader)
    return predictor(work, lit.net.to("cpu"))


def keras(work, epochs, device="cpu"):
    """Train with Keras on torch."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    layers = [keras.layers.Dense(width, activation="relu") for width in work.hidden]
    model = keras.Sequential([keras.Input(work.shape), *layers, keras.layers.Dense(work.n_outputs)])
    losses = keras.losses
    loss = (
        losses.SparseCategoricalCrossentropy(from_logits=True)
        if work.n_classes
        else losses.MeanSquaredError()
    )
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss=loss)
    X, y = work.data()
    with torch.device(device):
        model.fit(X, y, batch_size=work.batch_size, epochs=epochs, verbose=0)

    def predict(X):
        outputs = model.predict(X, verbose=0)
        return outputs.argmax(1) if work.n_classes else outputs

    return predict


PEERS = {
    "skorch": (skorch, "skorch"),
    "scikit-learn": (scikit_learn, "sklearn"),
    "script": (script, None),
    "torchkeras": (torchkeras, "torchkeras"),
    "Lightning": (lightning, "lightning"),
    "Keras": (keras, "keras"),
}

# Those that are not written for the convolutional net here, or have none.
DENSE_ONLY = ("scikit-learn", "Keras")


class Peers:
    """Seconds of an epoch, and what was learned in it."""

    param_names = ("trainer", "workload")
    params = (["sktorch", *PEERS], [*WORKLOADS])
    timeout = 300

    def setup(self, trainer, workload):
        self.work = WORKLOADS[workload]
        self.loop, package = PEERS.get(trainer, (sktorch, None))
        require_package(package)
        if trainer in DENSE_ONLY and self.work.has_images:
            raise NotImplementedError("dense nets only")
        try:
            self.loop(self.work.start(), 1)
        except ImportError as error:
            raise NotImplementedError(f"{package} lacks a package of its own") from error

    def time_epoch(self, trainer, workload):
        self.loop(self.work, 1)

    def track_quality(self, trainer, workload):
        return self.work.quality(self.loop(self.work, 1))
