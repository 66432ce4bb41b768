"""What the rule `joinfence` rests on: corosync lets a sender read its own last message that nobody else ever gets."""

import pytest

from tests.real.corosync.cluster import Settings
from tests.real.corosync.lastword import measure, report

pytestmark = [pytest.mark.process, pytest.mark.long]


@pytest.mark.parametrize("transport", ["udpu", "knet"])
def test_a_sender_reads_what_nobody_else_gets(transport: str) -> None:
    cuts = measure(20, Settings(transport="knet" if transport == "knet" else "udpu"), 1, one_way=True)
    print(report(cuts))
    assert any(cut.alone for cut in cuts)
    # And those who stay together have the same: that much the engine does promise.
    assert all(cut.agreed for cut in cuts)
