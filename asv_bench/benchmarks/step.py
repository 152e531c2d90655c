"""What one update costs: an epoch of each loop, fixed costs shared by many steps."""

from .workloads import LOOPS, WORKLOADS, require

EPOCHS = 3


class Step:
    """Seconds of three epochs; the same data, net, batches and optimizer for every loop."""

    param_names = ("loop", "workload", "device")
    params = ([*LOOPS], [*WORKLOADS], ["cpu", "cuda"])
    timeout = 300

    def setup(self, loop, workload, device):
        require(device)
        self.work = WORKLOADS[workload]

    def time_three_epochs(self, loop, workload, device):
        LOOPS[loop](self.work, EPOCHS, device)

    def track_accuracy(self, loop, workload, device):
        X, y = self.work.data()
        return float((LOOPS[loop](self.work, EPOCHS, device)(X) == y).mean())
