# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Scripts of faults for the model of the API."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.unit.plugins.plugin_utils.rotation_model import Fault, Model, Step

FAULTS = st.sampled_from(sorted(Fault, key=lambda fault: fault.value))
STEP = st.builds(Step, st.one_of(st.just(Fault.NONE), FAULTS), st.sampled_from([False] * 9 + [True]))


@st.composite
def calls(draw: st.DrawFn) -> list[tuple[list[Step], Fault, dict[str, Any]]]:
    """Several calls for one intent: by the same run, or by others that name the key."""
    found = []
    for _call in range(draw(st.integers(1, 4))):
        script = draw(st.lists(STEP, max_size=8))
        after = draw(st.sampled_from([Fault.NONE, Fault.NONE, Fault.STALE, Fault.LOST_BEFORE, Fault.TOKEN_REJECTED]))
        options = {
            "same_run": draw(st.booleans()),
            "verify": draw(st.booleans()),
            "proven": draw(st.booleans()),
            "settle_timeout": draw(st.sampled_from([0.2, 5.0])),
            "locks_after": draw(st.one_of(st.none(), st.none(), st.none(), st.integers(0, 8))),
        }
        found.append((script, after, options))
    return found


def meets(model: Model, script: list[Step], after: Fault, options: dict[str, Any]) -> None:
    """Script the calls to come."""
    model.will(*script, for_ever=after)
    if options["locks_after"] is not None:
        model.lock_at = len(model.calls) + options["locks_after"]


def lies_twice(model: Model, scripted: list[tuple[list[Step], Fault, dict[str, Any]]]) -> bool:
    """Claims without a change, and besides older reads or nothing accepted: that cannot be seen through."""
    claims = any(step.fault is Fault.CLAIMED for script, *dummy in scripted for step in script)
    return claims and (len(model.keys) > 1 or any(options["locks_after"] is not None for *dummy, options in scripted))
