# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""Times in ISO 8601, as the API, results and records have them."""

from __future__ import annotations

from datetime import datetime, timezone


def utc_now() -> datetime:
    """Return this moment, in UTC."""
    return datetime.now(timezone.utc)


def iso_now() -> str:
    """Return this moment, as :func:`iso_time` shows it."""
    return iso_time(utc_now())


def iso_time(moment: datetime) -> str:
    """Return a moment as results and records show it: UTC, ISO 8601, milliseconds."""
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_time(text: str | None) -> datetime | None:
    """Read a moment in ISO 8601, and return it in UTC.

    None: the text is not one, has no time zone, or is in a year that UTC does not have.
    """
    try:
        moment = datetime.fromisoformat((text or "").replace("Z", "+00:00"))
        return moment.astimezone(timezone.utc) if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None
