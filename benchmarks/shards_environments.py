"""Environments for readers that cannot live beside our own dependencies, made once and kept.

Each lies on top of the running one: what that has (torch, numpy, webdataset) is not installed again, and what a
reader needs in another version goes into its own folder alone.

- Megatron-Energon asks for `s3fs`, whose newest release asks for an older botocore than our boto3.
- MosaicML Streaming asks for torchvision, whose wheels follow torch's builds, and for older numpy and transformers;
  it imports of torchvision a base class and a function, which stand in for it here.
"""

import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1] / "build" / "peers"
"""Where they are kept; removed by `make clean`."""


@dataclass(frozen=True)
class Environment:
    """What to install. Packages of `bare` bring no dependencies; `stubs` are files by their path and their text."""

    name: str
    packages: tuple[str, ...]
    bare: tuple[str, ...] = ()
    stubs: tuple[tuple[str, str], ...] = ()

    def python(self, root: Path = ROOT) -> Path:
        """Its interpreter; makes the environment where it is not there. Raises CalledProcessError if pip cannot."""
        name = sha256(repr((self, sys.version, sysconfig.get_path("purelib"))).encode()).hexdigest()[:12]
        folder = root / f"{self.name}-{name}"
        if not (folder / "ready").exists():
            shutil.rmtree(folder, ignore_errors=True)
            self._make(folder)
            (folder / "ready").touch()
        return folder / "bin" / "python"

    def _make(self, folder: Path) -> None:
        _call(sys.executable, "-m", "venv", "--without-pip", folder)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        own = folder / "lib" / version / "site-packages"
        (own / "beneath.pth").write_text(sysconfig.get_path("purelib") + "\n")
        for path, text in self.stubs:
            (own / path).parent.mkdir(parents=True, exist_ok=True)
            (own / path).write_text(text)
        install = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--quiet")
        if self.packages:
            _call(*install, *self.packages)
        if self.bare:
            _call(*install, "--no-deps", *self.bare)


def _call(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True)  # noqa: S603


ENERGON = Environment("energon", ("megatron-energon==7.4.1",))
STREAMING = Environment(
    "streaming",
    ("numpy<2.2", "brotli", "zstd", "python-snappy", "xxhash<4", "catalogue", "tqdm", "requests", "cramjam",
     "transformers<5"),
    ("mosaicml-streaming==0.13.0",),
    (
        ("torchvision/__init__.py", ""),
        ("torchvision/datasets/__init__.py", "class VisionDataset: ...\n"),
        ("torchvision/transforms/__init__.py", ""),
        ("torchvision/transforms/functional.py", "def to_tensor(picture): raise NotImplementedError\n"),
    ),
)  # fmt: skip
