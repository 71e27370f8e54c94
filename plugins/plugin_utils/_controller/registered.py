# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The names under which the roles register what their tasks found on a host; a test holds them against the roles."""

from __future__ import annotations

SEEN = "__multicart_deploy_seen"
REHEARSED = "__multicart_rotate_rehearsed"
OPENED = "__multicart_rotate_opened"
PLAN = "__multicart_rotate_plan"
ROTATION = "__multicart_rotate_rotation"
WRITTEN = "__multicart_deploy_written"
HEALTH = "__multicart_deploy_health"
CONFIRMED = "__multicart_deploy_confirmed"
PROOF = "__multicart_rotate_proof"
READ = "__multicart_rotate_read"
CLOSED = "__multicart_deploy_closed"
REPORT = "__multicart_report_written"
