from __future__ import annotations

from tests.integration.awx.job import Awx
from tests.integration.harness import Fleet


def test_a_rotation(fleet: Fleet, awx: Awx) -> None:
    old = fleet.live_fingerprint
    answers = {"multicart_rotate_confirm": "yes", "multicart_rotate_retire": old}
    job = awx.launch("rotate.yml", answers, verbosity=4, fact_cache=True, diff=True)
    assert (job.status, job.green) == ("successful", True), job
    print(job)
    assert (fleet.rotations, fleet.stale) == (1, [])
