# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""The report as one HTML page, which loads nothing and runs no script; the template engine escapes every text in it."""

from __future__ import annotations

import functools
from pathlib import Path

from ansible_collections.multicart.keys.plugins.plugin_utils._report import words
from ansible_collections.multicart.keys.plugins.plugin_utils._report.data import EVENTS, Report
from ansible_collections.multicart.keys.plugins.plugin_utils._report.picture import ROW, picture_of
from ansible_collections.multicart.keys.plugins.plugin_utils._times import iso_time
from jinja2 import Environment, StrictUndefined, Template

TEMPLATE = Path(__file__).with_name("report.html.j2")


@functools.cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        seconds=words.seconds, day=words.day, iso=iso_time, state=words.state, places=words.places
    )
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


def page(report: Report) -> str:
    """Render the page."""
    return _template().render(
        report=report,
        picture=picture_of(report),
        sections=words.sections(report),
        faults=words.faults(report.unfinished),
        checks=list(words.checks(report)),
        headline=words.headline(report),
        old_key=words.old_key(report),
        to_finish=words.to_finish(report),
        moment=words.moment,
        events=EVENTS,
        known=words.is_known(report),
        row_height=ROW,
    )
