"""What a fit takes beside its data."""

import numpy as np
from torch import nn

from sktorch import TorchClassifier


class Memory:
    """Peak memory of the process, with and without a fit on the data."""

    param_names = ("megabytes",)
    params = ([64, 256],)

    def setup(self, megabytes):
        n_samples = megabytes * 2**20 // (4 * 64)
        self.X = np.ones((n_samples, 64), dtype=np.float32)
        self.y = np.arange(n_samples) % 2

    def peakmem_data(self, megabytes):
        pass

    def peakmem_fit(self, megabytes):
        clf = TorchClassifier(nn.Linear(64, 2), max_epochs=1, batch_size=4096, early_stopping=False)
        clf.fit(self.X, self.y)
