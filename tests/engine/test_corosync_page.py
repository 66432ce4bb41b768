"""The page on corosync: its snippets are one program, which runs on a node and prints what stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.adapters import no_corosync
from tests.real.corosync.cluster import Cluster

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "corosync.md"
MARK = "---- the next snippet"
_SNIPPET = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:```text\n(?P<said>.*?)^```\n)?", re.MULTILINE | re.DOTALL)


def test_the_snippets_print_what_stands_there() -> None:
    if why := no_corosync():
        pytest.skip(why)
    snippets = [(m["code"], m["said"] or "") for m in _SNIPPET.finditer(PAGE.read_text())]
    assert len(snippets) == PAGE.read_text().count("```python\n") > 5
    program = f"print({MARK!r}, flush=True)\n".join(code for code, _ in snippets)
    with Cluster.up(3) as cluster:
        done = subprocess.run(
            [*cluster.prefix(1), sys.executable, "-W", "ignore::ResourceWarning", "-"],
            input=program,
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=False,
        )
    assert done.stderr == ""
    assert done.stdout.split(MARK + "\n") == [said for _, said in snippets]
