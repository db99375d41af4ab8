"""The three examples of `docs/howto/leave-openai.md`, run as printed except for the port."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.openai.support import SPEECH, TEXT
from tests.acceptance.service import PATIENCE_S, Service
from tests.support.pages import blocks

pytestmark = pytest.mark.slow

GUIDE = Path(__file__).parents[3] / "docs" / "howto" / "leave-openai.md"


def printed(language: str, begins: str, program: list[str], service: Service, folder: Path) -> str:
    """Run the example that begins so; give what it prints."""
    [example] = [block for block in blocks(GUIDE, language) if block.startswith(begins)]
    shutil.copy(SPEECH, folder / "talk.mp3")
    code = example.replace("http://127.0.0.1:5000", service.url)
    done = subprocess.run(
        [*program, code], cwd=folder, capture_output=True, encoding="utf-8", timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_guides_python_example_runs(service, tmp_path):
    assert printed("python", "from openai", [sys.executable, "-c"], service, tmp_path) == TEXT


def test_the_guides_node_example_runs(service, npm_folder):
    node = ["node", "--input-type=module", "--eval"]
    assert printed("js", "import OpenAI", node, service, npm_folder) == TEXT


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_guides_curl_example_runs(service, tmp_path):
    assert json.loads(printed("sh", "curl", ["sh", "-c"], service, tmp_path))["text"] == TEXT
