"""What predictions cost, for many rows and for one, beside the bare forward."""

import numpy as np
import torch

from .workloads import WORKLOADS, sktorch


class Predict:
    """Seconds for ``n_rows`` rows, in a net that was fitted before."""

    param_names = ("workload", "n_rows")
    params = ([*WORKLOADS], [1, 5_000])

    def setup(self, workload, n_rows):
        work = WORKLOADS[workload]
        self.est = sktorch(work, epochs=1).__self__
        self.X = np.random.default_rng(0).normal(size=(n_rows, *work.shape)).astype(np.float32)

    def time_predict(self, workload, n_rows):
        self.est.predict(self.X)

    def time_bare_forward(self, workload, n_rows):
        with torch.inference_mode():
            self.est.net_(torch.from_numpy(self.X)).numpy()
