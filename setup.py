"""Package metadata; tools are configured in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

version = {}
exec((HERE / "sktorch" / "_version.py").read_text(encoding="utf-8"), version)

plot = ["matplotlib"]
images = ["pillow"]
distributed = ["accelerate", "dask", "distributed"]
safe = ["skops"]
bench = ["asv", "psutil", "virtualenv"]
test = [
    *bench,
    *plot,
    *safe,
    *images,
    *distributed,
    "hypothesis",
    "polars",
    "pytest",
    "rich",
    "ruff",
]

setup(
    name="sktorch",
    version=version["__version__"],
    description="scikit-learn estimators that train any torch.nn.Module",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="BSD-3-Clause",
    packages=find_packages(include=["sktorch", "sktorch.*"]),
    python_requires=">=3.10",
    install_requires=[
        "torch>=2.6",
        "scikit-learn>=1.7",
        "skorch>=1.0",
        "torchinfo>=1.8",
        "torchmetrics>=1.0",
        "pandas>=2.0",
        "joblib>=1.3",
        "cloudpickle>=3.0",
        "safetensors>=0.5",
        "tqdm>=4.60",
    ],
    extras_require={
        "plot": plot,
        "images": images,
        "distributed": distributed,
        "safe": safe,
        "test": test,
        "bench": bench,
    },
)
