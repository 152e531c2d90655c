"""What importing costs, in a process of its own."""

# What setup.py lists as required, without what sktorch imports only where it is used.
DEPENDENCIES = "import joblib, pandas, scipy.special, sklearn, torch, torchmetrics, tqdm"


def timeraw_sktorch():
    return "import sktorch"


def timeraw_what_it_depends_on():
    return DEPENDENCIES


def timeraw_torch():
    return "import torch"
