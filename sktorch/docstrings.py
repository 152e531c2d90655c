"""The part of the docstrings that the estimators share."""

__all__ = ["SHARED_ATTRIBUTES", "SHARED_PARAMETERS"]

SHARED_PARAMETERS = """\
optimizer : str or class, default="adam"
    Name of an optimizer of torch.optim in lower case, or a class. Its arguments are set as
    ``optimizer__<argument>``.
lr : float, default=1e-3
    Learning rate; 0 trains nothing.
weight_decay : float, default=0.0
    The optimizer's decay of weight matrices; biases and the parameters of norms are spared.
max_epochs : int, default=200
    Passes over the training data.
batch_size : int or "auto", default="auto"
    Rows of a step. "auto" is 200, or all rows where there are fewer, or 512 where there are more
    than 20,000. Rows that fit in one batch are taken in their order.
shuffle : bool, default=True
    Whether each epoch has an order of its own.
early_stopping : bool or "auto", default="auto"
    Whether to stop when ``monitor`` has not improved for ``patience`` epochs. True holds out
    ``validation_fraction`` of the rows unless ``X_val`` is given. "auto" holds rows out only where
    there are at least 10,000; with fewer it watches the training loss instead.
validation_fraction : float or None, default=0.1
    Share of the rows to hold out, in (0, 1), stratified by class. None holds out none.
patience : int, default=10
    Epochs in a row without improvement, a tie being none, after which to stop.
monitor : str, default="val_loss"
    Column of ``history_`` to watch: "val_loss" or "train_loss".
mode : {"auto", "min", "max"}, default="auto"
    Whether less or more of ``monitor`` is better; "auto" knows it of a loss.
min_delta : float or "auto", default="auto"
    A gain no larger than this does not end the waiting. "auto" is 0 for validation data and 1e-4
    for the training loss.
restore_best : bool, default=True
    Whether early stopping leaves the net with the weights of ``best_epoch_`` instead of the last.
device : str or torch.device, default="auto"
    Where to compute; "auto" is an accelerator if there is one.
dtype : {"auto", "float16", "bfloat16", "float32", "float64"}, default="auto"
    What the net computes in. "auto" leaves a net of yours as it is built; the built-in one follows
    X, float32 or float64, on a CPU and is float32 on an accelerator.
warm_start : bool, default=False
    Whether ``fit`` begins with the weights of the fit before. The rest begins anew.
random_state : int, RandomState instance or None, default=None
    Seeds initial weights, held-out rows, order and dropout. The same int gives the same bits on the
    same machine, versions and number of threads. The process's own generators are left alone."""

SHARED_ATTRIBUTES = """\
net_ : nn.Module
    The trained net, in eval mode, on ``device_``.
n_features_in_ : int
    ``X.shape[1]``.
feature_names_in_ : ndarray of shape (n_features_in_,)
    Column names, where X had any.
n_outputs_ : int
    Outputs of the net for one sample.
n_iter_ : int
    Epochs run.
best_epoch_ : int
    The epoch, counted from 1, with the best monitored value.
best_score_ : float
    That value.
device_ : torch.device
    Where ``net_`` is.
history_ : DataFrame of shape (n_iter_, n_columns)
    ``epoch, train_loss, val_loss, lr, epoch_time`` (seconds); ``val_loss`` with validation data
    only. ``train_loss`` is the mean over the epoch's steps, each before its update."""
