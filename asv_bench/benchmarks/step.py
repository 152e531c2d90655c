"""What one update costs: epochs of the loop by hand, the plain step and the compiled one."""

from .workloads import LOOPS, WORKLOADS, require_device

EPOCHS = 3


class Step:
    """Seconds of three epochs; the same data, net, batches and optimizer for every loop."""

    param_names = ("loop", "workload", "device")
    params = ([*LOOPS], [*WORKLOADS], ["cpu", "cuda"])
    timeout = 300

    def setup(self, loop, workload, device):
        require_device(device)
        self.work = WORKLOADS[workload]
        if self.work.has_images and loop == "sktorch, compiled":
            raise NotImplementedError("compiling takes longer than all other benchmarks")
        LOOPS[loop](self.work, 1, device)  # what is compiled is compiled here

    def time_three_epochs(self, loop, workload, device):
        LOOPS[loop](self.work, EPOCHS, device)

    def track_quality(self, loop, workload, device):
        return self.work.quality(LOOPS[loop](self.work, EPOCHS, device))
