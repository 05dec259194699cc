"""The ClientApp runs unchanged on Flower's own simulation runtime, which no engine is built on."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import flower_runtime
import pytest
from small_federation import Small

from confide.storage.tensor_files import sha256

TESTS = Path(flower_runtime.__file__).parent


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_flowers_runtime_gives_the_inline_model() -> None:
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    env = os.environ | {
        "PYTHONPATH": path,
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # loopback alone
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        command = [sys.executable, str(TESTS / "flower_runtime.py"), folder]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=500, env=env
        )
    small = Small(*flower_runtime.SETTINGS)
    expected = sha256(small.run(small.inline()).state.params)
    assert done.stdout.split()[-1:] == [expected], done.stderr[-2000:]
