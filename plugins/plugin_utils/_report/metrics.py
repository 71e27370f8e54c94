# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""What a run did, as metrics in Prometheus' text format: one file for all accounts. No I/O.

The library is imported when there is something to write, so that nobody else needs it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from ansible_collections.multicart.keys.plugins.plugin_utils._api.rotation import Outcome
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.state import UNKNOWN, State
from ansible_collections.multicart.keys.plugins.plugin_utils._report.data import Report

SINCE = "multicart_key_since_timestamp_seconds"
CONSUMERS = "multicart_consumers"
SUCCESS = "multicart_last_success_timestamp_seconds"
OUTAGE = "multicart_last_outage_seconds"

METRICS = {
    SINCE: ("Since when the live key is live, by the records of the consumers.", ("account",)),
    CONSUMERS: ("Number of consumers in each state.", ("account", "state")),
    SUCCESS: ("When a run last succeeded.", ("account", "run")),
    OUTAGE: ("Seconds from the last rotation until the last consumer was restarted.", ("account",)),
}
"""The description of each metric, and its labels."""

_COMMENT = re.compile(rf"# (HELP|TYPE) ({'|'.join(METRICS)}) ")

Samples = dict[tuple[str, tuple[str, ...]], float]
"""Values, by metric and values of its labels."""


class ForeignMetrics(ValueError):
    """A file holds something else than metrics of this collection."""


def merged(report: Report, before: bytes) -> bytes:
    """Return the file after a run: metrics of other accounts, and what this run has learnt nothing of, stay.

    :param before: what the file held.
    :raises ForeignMetrics: it held something other than metrics of this collection.
    """
    samples = _read(before)
    account = report.account
    if report.new_key is not None:
        samples.pop((SINCE, (account,)), None)
        if report.key_since is not None:
            samples[SINCE, (account,)] = report.key_since.timestamp()
    if report.lines:
        samples.update(_consumers(report))
    if report.reason is None:
        samples[SUCCESS, (account, report.run)] = report.made_at.timestamp()
    if report.outcome == Outcome.ROTATED.value:
        samples.pop((OUTAGE, (account,)), None)
        if report.outage is not None:
            samples[OUTAGE, (account,)] = report.outage
    return _written(samples)


def _consumers(report: Report) -> Iterator[tuple[tuple[str, tuple[str, ...]], float]]:
    """Count the consumers in each state, also where there are none: a metric that is missing raises no alarm."""
    known = report.new_key is not None
    states = [line.state if known else UNKNOWN for line in report.lines]
    for state in (*(each.value for each in State), UNKNOWN):
        yield (CONSUMERS, (report.account, state)), float(states.count(state))


def _read(content: bytes) -> Samples:
    parser: Any = import_module("prometheus_client.parser")
    samples: Samples = {}
    try:
        text = content.decode()
        # The parser skips comments, and a file may hold nothing else.
        if any(line.lstrip().startswith("#") and not _COMMENT.match(line) for line in text.split("\n")):
            raise ForeignMetrics
        for family in parser.text_string_to_metric_families(text):
            labels = METRICS[family.name][1]
            for each in family.samples:
                if set(each.labels) != set(labels):
                    raise ForeignMetrics
                samples[family.name, tuple(each.labels[name] for name in labels)] = each.value
    except Exception:  # pylint: disable=broad-except  # whatever a parser makes of any text
        raise ForeignMetrics from None
    return samples


def _written(samples: Samples) -> bytes:
    client: Any = import_module("prometheus_client")
    registry = client.CollectorRegistry()
    gauges = {name: client.Gauge(name, told, labels, registry=registry) for name, (told, labels) in METRICS.items()}
    for (name, labels), value in sorted(samples.items()):
        gauges[name].labels(*labels).set(value)
    written: bytes = client.generate_latest(registry)
    return written
