"""What predictions cost, for many rows and for one, beside the bare forward."""

import numpy as np
import torch

from .workloads import WORKLOADS, sktorch


class Predict:
    """Seconds for ``n_rows`` rows of the tiny net."""

    param_names = ("n_rows",)
    params = ([1, 1_000, 100_000],)

    def setup(self, n_rows):
        predict = sktorch(WORKLOADS["20-100-2, batch 64"], epochs=1)
        self.clf = predict.__self__
        self.X = np.random.default_rng(0).normal(size=(n_rows, 20)).astype(np.float32)

    def time_predict(self, n_rows):
        self.clf.predict(self.X)

    def time_bare_forward(self, n_rows):
        with torch.inference_mode():
            self.clf.net_(torch.from_numpy(self.X)).numpy()
