"""The part of the docstrings that the estimators share."""

__all__ = ["SHARED_ATTRIBUTES", "SHARED_PARAMETERS"]

SHARED_PARAMETERS = """\
optimizer : str or class, default="adam"
    Name of an optimizer of torch.optim in lower case, or a class. Its arguments are set as
    ``optimizer__<argument>``.
lr : float or dict, default=1e-3
    Learning rate; 0 trains nothing. A dict ``{"encoder.*": 1e-4, "*": 1e-3}`` gives each parameter
    that of the first shell pattern its name matches.
weight_decay : float, dict or callable, default=0.0
    The optimizer's decay. A number decays weight matrices and spares biases and the parameters of
    norms; a dict of patterns, or a callable ``(name, parameter) -> float``, spares none. Except
    in plain SGD it is not the same as ``l2``.
lr_scheduler : str, class or None, default=None
    Name of a schedule of torch.optim.lr_scheduler in lower case, "lr" and underscores being
    optional ("onecycle", "step_lr", "cosine", "plateau"), or a class; "warmup_cosine" rises for
    a tenth of the steps and falls to zero. Arguments are set as ``lr_scheduler__<argument>``;
    the length of the fit is filled in. "plateau" goes by ``monitor``.
l1 : float, dict or callable, default=0.0
    Adds ``l1 * sum(abs(w))`` to the objective of each update, over parameters without "bias" in
    their name; a dict or callable as for ``weight_decay``. Recorded losses are without it.
l2 : float, dict or callable, default=0.0
    Adds ``l2 / 2 * sum(w**2)``, likewise.
grad_clip_norm : float or None, default=None
    Largest norm of all gradients together; longer ones are scaled down to it.
grad_accumulation_steps : int, default=1
    Batches whose gradients make one update, as if they were one batch.
ema_decay : float or None, default=None
    Share that an exponential average of the weights keeps at each step, in (0, 1), such as 0.999.
    The average is what is validated, and what the fit ends with.
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
    Column of ``history_`` to watch: the loss or a metric, of training or validation.
mode : {"auto", "min", "max"}, default="auto"
    Whether less or more of ``monitor`` is better; "auto" knows it of the loss and of most metrics.
min_delta : float or "auto", default="auto"
    A gain no larger than this does not end the waiting. "auto" is 0 for validation data and 1e-4
    for the training loss.
restore_best : bool, default=True
    Whether early stopping leaves the net with the weights of ``best_epoch_`` instead of the last.
metrics : str, Metric, list, dict or None, default=None
    What to record beside the loss, for training and validation, over all samples of an epoch: names
    of ``sktorch.metrics.METRICS``, objects of torchmetrics, or scorers of scikit-learn by name,
    which are computed on the CPU; a dict gives them names. Values are in the units of y. Weights
    of samples do not enter.
callbacks : list or None, default=None
    Objects of ``sktorch.callbacks.Callback`` whose hooks run during ``fit``; copied for each fit.
    Callbacks of skorch too, as objects, classes or pairs ``(name, callback)``; what they record
    becomes columns of ``history_``.
verbose : int, default=0
    0 is silent; 1 shows a progress bar on standard error; 2 prints a line for each epoch.
device : str or torch.device, default="auto"
    Where to compute; "auto" is an accelerator if there is one.
data_source : {"auto", "resident", "streamed"}, default="auto"
    Whether X lies on the device as a whole, which is faster, or is read while the fit runs.
    "auto" streams what lies on disk, what is sparse, a Dataset, and what does not fit in a share
    of the device's free memory. Both give the same bits.
num_workers : int, default=0
    Processes that read streamed data; with none, a thread does. A DataLoader has its own.
accelerator : "auto", accelerate.Accelerator or None, default=None
    Train in the processes that ``accelerate launch`` or ``torchrun`` started, as one net;
    "auto" makes an Accelerator. ``batch_size`` is for each process: two with 32 end where one with
    64 ends. ``device`` is the accelerator's. Needs ``pip install "sktorch[distributed]"``.
dtype : {"auto", "float16", "bfloat16", "float32", "float64"}, default="auto"
    What the net computes in. "auto" leaves a net of yours as it is built; the built-in one follows
    X, float32 or float64, on a CPU and is float32 on an accelerator.
precision : {"tf32", "bfloat16", "float16"} or None, default=None
    Compute the forward of training in half precision where it is safe (torch's autocast); with
    "float16" the loss is scaled so that small gradients survive. "tf32" multiplies matrices in
    TF32 on a CUDA device while the fit lasts, and in float32 elsewhere; torch has one such setting
    for all threads of a process. All are for a net of float32.
compile : bool or "auto", default=False
    Train with a step compiled as one graph by torch's inductor, which needs a C++ compiler; on a
    GPU it needs Triton, and each fit replays the step as a CUDA graph. Compiling takes seconds,
    once for each net, batch size, loss and optimizer; fits of one process share it, whatever their
    numbers such as ``lr``. It pays for small nets and long fits; "auto" does it
    after the first epoch where the rest saves more than it costs. Results are those of the plain
    step to rounding, with the same random numbers. Where it cannot be done the plain step runs,
    and a warning says why.
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
data_source_ : DataSource
    ``kind``, "resident" or "streamed", and ``reason``.
history_ : DataFrame of shape (n_iter_, n_columns)
    ``epoch, train_loss, train_<metric>, val_loss, val_<metric>, lr, epoch_time`` (seconds); those
    of validation with validation data only. ``train_loss`` is the mean over the epoch's steps, each
    before its update. ``lr`` is that of the epoch's first step; with rules there is a column
    ``lr[pattern]`` for each."""
