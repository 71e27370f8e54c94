# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""The doctor: what still works, how account and fleet stand, and the next safe command. It changes nothing.

No HTTP, no Ansible, no I/O: the caller tries the credentials and inspects the files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._api.account import Trial
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.host_vars import READERS
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.next_command import deploy, rotate
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.plan import (
    AccountState,
    Refusals,
    Wanted,
    make_plan,
    pending_rotation,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.state import Consumer, State
from ansible_collections.multicart.keys.plugins.plugin_utils._times import utc_now


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor found.

    :ivar lines: everything worth telling, a line each.
    :ivar advice: the next safe command, or what to do where no command helps.
    :ivar live: the live key, where a credential could read it.
    :ivar consumers: how each consumer stands, by name.
    """

    lines: list[str]
    advice: str
    live: ApiKey | None
    consumers: dict[str, str]


_DEPLOYED_TO = (State.OUT_OF_DATE, State.MISSING, State.RESTART_DUE)
_CONFIRMED = Wanted(confirmed=True)
_NO_REFUSALS = Refusals()


def diagnose(
    trials: Sequence[Trial],
    fleet: Sequence[Consumer],
    waits: str | None = None,
    wanted: Wanted = _CONFIRMED,
    refusals: Refusals = _NO_REFUSALS,
) -> Diagnosis:
    """Say what is the case and what to do next.

    :param trials: every credential that was given, tried.
    :param fleet: the consumers, inspected where that was possible.
    :param waits: why no new rotation may be started now, and when; None: it may.
    :param wanted: what a rotation would be asked for, apart from its hours.
    :param refusals: what speaks against one before any consumer is inspected.
    """
    live = next((trial.key for trial in trials if trial.key), None)
    consumers = {consumer.name: _stands(consumer, live) for consumer in fleet}
    lines = [_told(trial) for trial in trials] or ["No credential was given."]
    if live is not None:
        lines.append(f"The live key is {live.masked} {live.fingerprint}.")
    lines += [f"{name}: {state}" for name, state in consumers.items()] or ["No consumer was inspected."]
    refused = _refused(fleet, live, wanted, refusals) if live is not None else None
    return Diagnosis(lines, _advice(trials, fleet, live, waits, refused), live, consumers)


def _told(trial: Trial) -> str:
    if trial.error is not None:
        return f"{trial.name}: {trial.error.reason.value}: {trial.error.what}"
    limit = "" if trial.outlives_rotation else ", but it cannot read the key that replaces it"
    return f"{trial.name}: works, account {trial.account}{limit}."


def _stands(consumer: Consumer, live: ApiKey | None) -> str:
    if live is not None:
        return consumer.standing(live.fingerprint).words
    held = sorted({key for file in consumer.files for key in file.holds})
    if consumer.failure or not held:
        return consumer.what_is_wrong or "holds no key"
    return "; ".join(filter(None, [f"holds {', '.join(held)}", consumer.what_is_wrong]))


def _advice(
    trials: Sequence[Trial], fleet: Sequence[Consumer], live: ApiKey | None, waits: str | None, refused: str | None
) -> str:
    if live is None:
        return _advice_without_key(trials)
    if len({trial.account for trial in trials if trial.account}) > 1:
        return "The credentials belong to different accounts: run again with those of one account."
    rotates = any(trial.outlives_rotation for trial in trials)
    states = {consumer.standing(live.fingerprint).state for consumer in fleet}
    behind = [each for each in fleet if each.standing(live.fingerprint).state in _DEPLOYED_TO]
    pending = pending_rotation(fleet, live.fingerprint)
    if pending is not None and rotates:
        return f"The rotation that retired {pending} was not finished; to finish it: {rotate(pending)}"
    if {State.UNREACHABLE, State.UNREADABLE} & states:
        return f"Fix the consumers that cannot be inspected, then: {deploy()}"
    if behind:
        wrong = [each for each in behind if each.problems]
        names = ", ".join(each.name for each in wrong)
        fails = all(map(_is_hindered, wrong))
        if fails and len(wrong) == len(behind):
            return f"Fix what is named of {names}, then deploy the live key; this does not rotate: {deploy()}"
        how = "fails" if fails else "may fail"
        until = f", and {how} for {names} until what is named there is fixed" if wrong else ""
        return f"Deploy the live key to every consumer; this does not rotate{until}: {deploy()}"
    if State.PROCESS_OUT_OF_DATE in states:
        return f"Restart the processes that are named, in the right way, then: {deploy()}"
    fine = f"A rotation would be refused. {refused}" if refused else "Nothing is broken."
    if not rotates:
        return (
            f"{fine} An API key alone cannot rotate without locking you out: before you rotate, get a session token, "
            "or email and password."
        )
    return fine if refused else f"{fine}{f' But {waits}.' if waits else ''} To rotate: {rotate()}"


def _is_hindered(consumer: Consumer) -> bool:
    """Tell whether what is wrong with a consumer makes a deployment fail there for certain.

    What is to read a first key may be installed after it: of that, a unit of systemd may be lacking.
    """
    is_first = not consumer.holds_key and READERS.path not in [file.path for file in consumer.files]
    return not is_first or consumer.failure is not None or any(file.problem for file in consumer.files)


def _refused(fleet: Sequence[Consumer], live: ApiKey, wanted: Wanted, refusals: Refusals) -> str | None:
    """Say why a rotation of this fleet would be refused, and the remedy; None: it would not."""
    try:
        make_plan(fleet, AccountState(live.fingerprint), wanted, utc_now(), refusals)
    except MulticartError as error:
        advice = error.advice.removeprefix("Nothing was rotated. ").removeprefix("Nothing was changed. ")
        return f"{error.what} {advice}"
    return None


def _advice_without_key(trials: Sequence[Trial]) -> str:
    reasons = {trial.error.reason for trial in trials if trial.error}
    if not trials:
        return "Give what you have: MULTICART_SESSION_TOKEN, MULTICART_EMAIL and MULTICART_PASSWORD, MULTICART_API_KEY."
    if Reason.CREDENTIALS_REJECTED in reasons or Reason.REFUSED in reasons:
        return (
            "No credential that was given works. The dashboard shows the live key (Profile, About you, the eye icon). "
            f"With your login in MULTICART_EMAIL and MULTICART_PASSWORD, this deploys it to all: {deploy()}"
        )
    advice = " ".join(dict.fromkeys(trial.error.advice for trial in trials if trial.error))
    return f"The API could not be asked, so nothing is known of the credentials. {advice}"
