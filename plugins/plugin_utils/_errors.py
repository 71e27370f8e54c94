# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""The one error of the controller side, and the closed list of reasons a failure can have."""

from __future__ import annotations

import enum
import re
import sys


class Reason(str, enum.Enum):
    """Why something failed: stable, machine-readable, the value of ``reason`` in every failed result."""

    INVALID_OPTION = "invalid_option"
    NO_CREDENTIALS = "no_credentials"
    READBACK_IMPOSSIBLE = "readback_impossible"
    INSECURE_URL = "insecure_url"
    URL_NOT_BOUND = "url_not_bound"
    REQUESTS_MISSING = "requests_missing"
    PROMETHEUS_CLIENT_MISSING = "prometheus_client_missing"
    UNREACHABLE = "unreachable"
    CERTIFICATE_INVALID = "certificate_invalid"
    REDIRECT_REFUSED = "redirect_refused"
    NOT_AN_ENVELOPE = "not_an_envelope"
    ANSWER_TOO_LARGE = "answer_too_large"
    CREDENTIALS_REJECTED = "credentials_rejected"
    REFUSED = "refused"
    RATE_LIMITED = "rate_limited"
    MALFORMED_KEY = "malformed_key"
    ACCOUNT_MISMATCH = "account_mismatch"
    NEW_KEY_UNREADABLE = "new_key_unreadable"
    KEY_DID_NOT_CHANGE = "key_did_not_change"
    NEW_KEY_REJECTED = "new_key_rejected"
    OLD_KEY_STILL_VALID = "old_key_still_valid"
    RUN_CACHE_UNUSABLE = "run_cache_unusable"
    INTERNAL_ERROR = "internal_error"
    # Of the fleet: why a playbook or role refused, or did not end green.
    NO_CONSUMERS = "no_consumers"
    NO_FILES = "no_files"
    HOSTS_DIFFER = "hosts_differ"
    LEFT_OUT = "left_out"
    TOO_FEW_HOSTS = "too_few_hosts"
    OUTSIDE_HOURS = "outside_hours"
    NOT_CONFIRMED = "not_confirmed"
    NOT_READY = "not_ready"
    UNCOVERED_PROCESS = "uncovered_process"
    RETIRE_UNKNOWN = "retire_unknown"
    OTHER_ACCOUNT = "other_account"
    NOT_PREPARED = "not_prepared"
    NOT_WHOLE = "not_whole"
    NOT_RUN = "not_run"
    FACTS_REFUSED = "facts_refused"
    BUSY = "busy"
    BROKEN_OFF = "broken_off"
    CAUGHT_UP = "caught_up"
    NOT_UP_TO_DATE = "not_up_to_date"
    REJECTION_UNSEEN = "rejection_unseen"
    KEY_KEEPS_CHANGING = "key_keeps_changing"


ADVICE: dict[Reason, str] = {
    Reason.INVALID_OPTION: "Nothing was changed; correct the option and run again.",
    Reason.NO_CREDENTIALS: (
        "Set session_token, or email and password (variables multicart_session_token, multicart_email, "
        "multicart_password; environment MULTICART_SESSION_TOKEN, MULTICART_EMAIL, MULTICART_PASSWORD)."
    ),
    Reason.READBACK_IMPOSSIBLE: (
        "An API key cannot read the key that replaces it, so this would lock you out. Add session_token, or email "
        "and password. In an emergency, multicart_key_revoke revokes the key without reading the new one."
    ),
    Reason.INSECURE_URL: "Use an https:// URL; http:// is accepted for a loopback address only.",
    Reason.URL_NOT_BOUND: (
        "A credential from the environment goes only where the environment says: set MULTICART_API_URL, "
        "MULTICART_VALIDATE_CERTS and MULTICART_CA_PATH there too, or give the credential as a variable or option."
    ),
    Reason.REQUESTS_MISSING: f"Install it where Ansible runs: {sys.executable} -m pip install requests",
    Reason.PROMETHEUS_CLIENT_MISSING: (
        f"Nothing was changed. Install it where Ansible runs: {sys.executable} -m pip install prometheus_client"
    ),
    Reason.UNREACHABLE: "Check api_url, the network and any proxy of the control node, then run again.",
    Reason.CERTIFICATE_INVALID: (
        "Check that api_url names the right host; name a private certificate authority with ca_path."
    ),
    Reason.REDIRECT_REFUSED: "Credentials never follow a redirect. Set api_url to the address of the API itself.",
    Reason.NOT_AN_ENVELOPE: "Check that api_url ends in /api/v1 and that no proxy answers in its place.",
    Reason.ANSWER_TOO_LARGE: "Check that api_url is the address of the API.",
    Reason.CREDENTIALS_REJECTED: (
        "Check what was given. A session token expires, and logging in gives a new one; email and password do that in "
        "each run."
    ),
    Reason.REFUSED: "Read the API's message, if there is one, and the account's state in the dashboard.",
    Reason.RATE_LIMITED: "There were too many requests, perhaps by others. Wait some minutes, then run again.",
    Reason.MALFORMED_KEY: "Nothing was written. Check the key in the dashboard.",
    Reason.ACCOUNT_MISMATCH: "Make sure that session_token, email and api_key belong to the same account.",
    Reason.NEW_KEY_UNREADABLE: (
        "The old key is revoked. Run again with working credentials: the live key is read back and deployed without "
        "another rotation. The dashboard shows it too."
    ),
    Reason.KEY_DID_NOT_CHANGE: "Read the key later with multicart_key_info and compare fingerprints, then run again.",
    Reason.NEW_KEY_REJECTED: "Run again: the live key is read again and deployed.",
    Reason.OLD_KEY_STILL_VALID: "Treat the old key as valid; ask the API's support, and run again later.",
    Reason.RUN_CACHE_UNUSABLE: "Check that Ansible's local temporary directory (local_tmp) is private and has space.",
    Reason.INTERNAL_ERROR: "This is a defect of multicart.keys: please report it with this sentence.",
    Reason.NO_CONSUMERS: (
        "Nothing was changed. Put the hosts into the group multicart_consumers, or name them with "
        "-e multicart_hosts=PATTERN, and give each its multicart_deploy_files. If these are labelled with an account, "
        "give that label with -e multicart_account=LABEL."
    ),
    Reason.NO_FILES: "Nothing was changed there. Set multicart_deploy_files for it, or leave it out of the play.",
    Reason.HOSTS_DIFFER: (
        "Nothing was changed. Plays cannot see an inventory variable in hosts:, so multicart_hosts works as an extra "
        "variable only: -e multicart_hosts=PATTERN. Remove it from the inventory."
    ),
    Reason.LEFT_OUT: (
        "A consumer that is left out is locked out by a rotation. Nothing was changed; drop --limit, or exclude hosts "
        "on purpose with -e 'multicart_hosts=multicart_consumers:!HOST'."
    ),
    Reason.TOO_FEW_HOSTS: "Nothing was changed. Check the inventory, or lower multicart_rotate_min_hosts.",
    Reason.OUTSIDE_HOURS: (
        "Nothing was rotated. Run again then; in an emergency, -e multicart_rotate_allowed_hours= lifts the limit for "
        "one run."
    ),
    Reason.NOT_CONFIRMED: (
        "The old key is revoked at once, and every consumer fails until it has the new one. Nothing was changed; "
        "confirm with -e multicart_rotate_confirm=true, or see first what would happen, with --check."
    ),
    Reason.NOT_READY: (
        "Nothing was rotated. Make them ready; or leave out one that is gone for good with "
        "-e 'multicart_hosts=multicart_consumers:!HOST'."
    ),
    Reason.UNCOVERED_PROCESS: (
        "Nothing was rotated. Name their services in multicart_deploy_services, or a command that restarts them in "
        "multicart_deploy_commands; leave out what may keep the old key with multicart_deploy_ignore_processes. "
        "multicart_rotate_uncovered=warn rotates all the same."
    ),
    Reason.RETIRE_UNKNOWN: (
        "Nothing was changed. It may be a typo: compare multicart_rotate_retire with what multicart.keys.audit shows."
    ),
    Reason.OTHER_ACCOUNT: (
        "Nothing was changed. Use the credentials of the account whose key it is. If it was a key of this account, run "
        "multicart.keys.deploy, which writes the live key."
    ),
    Reason.NOT_PREPARED: (
        "Nothing was rotated. A rotation needs every consumer: run the role multicart.keys.multicart_rotate, or the "
        "playbook multicart.keys.rotate, on all of them, without conditions or tags that skip a host."
    ),
    Reason.NOT_WHOLE: "Nothing was changed. Run it as multicart.keys.rotate does, or use that playbook.",
    Reason.NOT_RUN: (
        "The task that does the work was skipped for this run: look for when, tags, --start-at-task or run_once around "
        "the role, and run it as a whole."
    ),
    Reason.FACTS_REFUSED: (
        "Facts of a host must not set variables of this collection. Find out what returned them there, and clear the "
        "fact cache; or exclude the host with -e 'multicart_hosts=multicart_consumers:!HOST'."
    ),
    Reason.BUSY: "Nothing was changed by this run. Wait until the other one has ended, then run again.",
    Reason.BROKEN_OFF: "Nothing was rotated. Run again.",
    Reason.REJECTION_UNSEEN: (
        "Try that key yourself; if the API rejects it, say so with -e multicart_rotate_assume_rejected=FINGERPRINT."
    ),
    Reason.CAUGHT_UP: (
        "Every consumer is up to date now; run again to rotate. multicart_rotate_force=true rotates even while "
        "consumers are behind."
    ),
    Reason.NOT_UP_TO_DATE: "Fix what is named, then run multicart.keys.deploy: it finishes them without a rotation.",
    Reason.KEY_KEEPS_CHANGING: "Somebody else is rotating this account at the same time. Agree on one, then run again.",
}
"""What to do next, a sentence or two for each reason."""


_LONGEST_TEXT = 1000


def clean(text: str) -> str:
    """Return a foreign text fit to be shown: one line, without what a terminal obeys or braces that are a template."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text[: _LONGEST_TEXT + 1])
    shown = re.sub(r"\{(?=[{%#])", "{ ", shown)
    return shown if len(shown) <= _LONGEST_TEXT else f"{shown[:_LONGEST_TEXT]}…"


def shown_name(name: object) -> str:
    """Return the name of an option or field that is not known, if it looks like one: a secret in its place does not."""
    return str(name) if re.fullmatch(r"[A-Za-z_][A-Za-z_-]{0,28}[0-9]{0,2}", str(name)) else "(not shown)"


class MulticartError(Exception):
    """Something failed for a known reason. Its text is safe to show: it never holds a secret.

    :param reason: one of the closed list.
    :param what: what happened, a sentence; text from the API must have been cleaned before.
    :param advice: what to do next, where the reason's own advice does not fit.
    """

    def __init__(self, reason: Reason, what: str, advice: str | None = None) -> None:
        self.reason = reason
        self.what = what
        self.advice = ADVICE[reason] if advice is None else advice
        super().__init__(f"{self.what} {self.advice}".strip())


def unexpected(error: BaseException) -> MulticartError:
    """Describe a defect by type and place only: the text of a foreign exception may hold anything."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f" at {place.tb_frame.f_code.co_name}:{place.tb_lineno}" if place is not None else ""
    return MulticartError(Reason.INTERNAL_ERROR, f"Unexpected {type(error).__name__}{where}.")
