"""Where a result came from: versions, device, precision, the commit and whether the tree was clean, the command.

Taken before a run, so that what the run writes can't make a clean tree look dirty.
"""

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import jax

from .. import compiler

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy", "xarray", "h5netcdf", "matplotlib", "matfree")


def provenance() -> dict:
    """Everything a reader needs in order to run this again, as plain data (strings, numbers, lists, dicts).

    Errors: RuntimeError where the compiler is known to sum wrongly; see `compiler`.
    """
    compiler.check()
    device = jax.devices()[0]
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": _command(),
        "gradflow": importlib.metadata.version("gradflow-jax"),
        "gradflow_source": commit(Path(__file__).parent),
        "working_directory": commit(Path(".")),
        "versions": {
            "python": platform.python_version(),
            **{p: importlib.metadata.version(p) for p in PACKAGES},
        },
        "device": f"{device.platform}: {device.device_kind}",
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "x64": bool(jax.config.values["jax_enable_x64"]),
        "matmul_precision": str(jax.config.values["jax_default_matmul_precision"] or "default"),
    }


def _command() -> str:
    """The words this process was started with; bytes that are not UTF-8 as escapes, which every file can hold."""
    words = [*(Path(word).name for word in sys.argv[:1]), *sys.argv[1:]]
    return shlex.join(words).encode("utf-8", "backslashreplace").decode()


def commit(folder: Path) -> dict:
    """`{"commit": …, "clean": …}` of the git tree around `folder`; commit None where there is none."""

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    head = git("rev-parse", "HEAD")
    status = git("status", "--porcelain")
    return {"commit": head, "clean": None if status is None else status == ""}
