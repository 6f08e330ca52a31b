"""Where a result came from: versions, device, precision, the commit and whether the tree was clean, the command.

Taken before a run, so that what the run writes can't make a clean tree look dirty.
"""

import importlib.metadata
import os
import platform
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import jax

from .. import compiler
from .resources import processor

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy", "xarray", "h5netcdf", "matplotlib", "matfree")


def provenance() -> dict:
    """Returns everything a reader needs in order to run this again, as plain data (strings, numbers, lists, dicts).

    Errors: RuntimeError where the compiler is known to sum wrongly; see `compiler`.
    """
    compiler.check()
    device = jax.devices()[0]
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        versions[package] = importlib.metadata.version(package)
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": _command(),
        "gradflow": importlib.metadata.version("gradflow-jax"),
        "gradflow_source": commit(Path(__file__).parent),
        "working_directory": commit(Path(".")),
        "versions": versions,
        "device": f"{device.platform}: {device.device_kind}",
        "processor": processor(),
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "x64": bool(jax.config.values["jax_enable_x64"]),
        "matmul_precision": str(jax.config.values["jax_default_matmul_precision"] or "default"),
    }


def distributions() -> list[str]:
    """Returns every installed distribution as `name==version`, sorted: what `environment.lock` lists."""
    found = {}
    for one in importlib.metadata.distributions():
        name = one.metadata["Name"]
        if name:
            found[re.sub(r"[-_.]+", "-", name).lower()] = one.version
    return [f"{name}=={number}" for name, number in sorted(found.items())]


def _command() -> str:
    """Returns the words this process was started with; bytes that are not UTF-8 as escapes, which every file can hold."""
    words = list(sys.argv)
    if words:
        words[0] = Path(words[0]).name
    return shlex.join(words).encode("utf-8", "backslashreplace").decode()


def commit(folder: Path) -> dict:
    """Returns `{"commit": …, "clean": …}` of the git tree around `folder`; commit None where there is none."""
    status = _git(folder, "status", "--porcelain")
    clean = None if status is None else status == ""
    return {"commit": _git(folder, "rev-parse", "HEAD"), "clean": clean}


def _git(folder: Path, *words: str) -> str | None:
    """Returns what git prints, or None where it fails or isn't there."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return None
    return done.stdout.strip()
