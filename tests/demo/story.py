# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the demo shows, act by act, and whether what it claims is true."""

from __future__ import annotations

import shlex
from pathlib import Path

from .consumer import Service, fingerprint_of
from .fleet import Consumer, masked
from .screen import Screen
from .stage import Stage

PREDICT = "ansible-playbook -i inventory.yml multicart.keys.rotate --check"
ROTATE = "ansible-playbook -i inventory.yml multicart.keys.rotate -e multicart_rotate_confirm=true"
AUDIT = "ansible-playbook -i inventory.yml multicart.keys.audit"


class Story:
    """The acts, in order. What they claim is kept for the last one."""

    def __init__(self, stage: Stage, screen: Screen) -> None:
        self._stage = stage
        self._sandbox = stage.sandbox
        self._consumers = stage.consumers
        self._screen = screen
        self._old = self._live()
        self._claims: list[tuple[str, bool]] = []

    def tell(self, collection: Path) -> bool:
        """Show everything, and tell whether every claim holds."""
        self._introduce()
        self._stage.prepare(collection)
        self._show_before()
        self._predict()
        self._rotate()
        self._show_after()
        self._show_that_the_old_key_is_rejected()
        self._audit()
        return self._conclude()

    def _introduce(self) -> None:
        self._screen.heading("1. The stage")
        self._screen.say(
            f"A stand-in for MultiCartAPI listens on {self._sandbox.url}.",
            f"It has one account with one API key, and {len(self._consumers)} small programs use it: each reads it",
            "from a file of its own when it starts, and calls the API with it five times a second.",
            "",
            f"Until the end, everything is in {self._stage.folder}:",
        )
        self._screen.table(
            ("inventory.yml", "the programs as hosts of Ansible, with their files and how they are restarted"),
            (
                ("ansible.cfg", "where the collection is, and how Ansible prints"),
                ("env.sh", "the login, as MULTICART_API_URL, MULTICART_EMAIL and MULTICART_PASSWORD"),
                ("collections/", "the collection, built from this checkout and installed"),
                ("hosts/NAME/", "the file and the logs of one program"),
                ("consumer", "restarts a program, or asks it for its health"),
                ("ssh", "stands in for ssh, since all the hosts are this machine"),
            ),
        )
        self._screen.say("", "What follows a '$' below is really run: in that directory, after")
        self._screen.command(f"cd {shlex.quote(str(self._stage.folder))}")
        self._screen.command(". ./env.sh")

    def _show_before(self) -> None:
        self._screen.heading("2. Before: one key in files of every shape")
        self._show_files(self._old)
        self._screen.say(
            "",
            f"All hold the live key. Its fingerprint, 16 digits of its SHA-256, is {fingerprint_of(self._old)}.",
        )

    def _predict(self) -> None:
        self._screen.heading("3. What would a rotation do? Check mode tells, and changes nothing")
        green = self._stage.play(PREDICT, self._screen) == 0
        untouched = all(one.differs_only_in(self._old) for one in self._consumers)
        self._claim("check mode is green", green)
        self._claim("it changed nothing, neither at the API nor in a file", untouched and self._rotations() == 0)

    def _rotate(self) -> None:
        self._screen.heading("4. The rotation")
        self._screen.say(
            "The API lets nobody choose a key and never accepts two: a rotation revokes the old key at once, and every",
            "program is refused until it has the new one. So all that can be done before is done before: each host is",
            "armed, which means that a program waits there for the key, before the API is asked to replace it.",
            "",
        )
        seen = self._sandbox.journal()[-1]["seq"]
        green = self._stage.play(ROTATE, self._screen) == 0
        calls = [call for call in self._sandbox.journal(seen) if str(call["user_agent"]).startswith("multicart.keys/")]
        told = [f"{call['endpoint']} ({'accepted' if call['accepted'] else 'refused'})" for call in calls]
        self._screen.say("", f"Its calls of the API: {', '.join(told) or 'none'}.")
        self._show_how_it_went()
        self._claim("the rotation is green", green)
        self._claim("every host was armed, and got the key once the old one was revoked", self._waited())
        self._claim("the API rotated exactly once", self._rotations() == 1)

    def _show_how_it_went(self) -> None:
        """Show what the run itself has measured, by its report."""
        self._screen.say("", "Its report says when each step happened, from the request that revoked the old key:", "")
        events = ("armed", "released", "written", "restarted", "healthy")
        hosts = self._stage.report().get("hosts", [])
        self._screen.table(
            ("consumer", *events),
            [(host["name"], *(_seconds(host["seconds"].get(event), sign="+") for event in events)) for host in hosts],
        )
        self._screen.say("", self._in_short())

    def _in_short(self) -> str:
        report = self._stage.report()
        if not report:
            return "There is no report."
        counts = report["consumers"]
        released, written, restarted = (
            _seconds(report[f"{name}_seconds"]) for name in ("last_release", "last_write", "outage")
        )
        armed = f"{counts['armed']} of {counts['total']} armed"
        return f"{armed}; released after {released}; last file after {written}; outage of the fleet {restarted}."

    def _waited(self) -> bool:
        """Tell whether every program on a host waited for the key, and had it only after the request to rotate."""
        hosts = [host["seconds"] for host in self._stage.report().get("hosts", [])]
        waited = [at.get("armed", 0) < 0 < at.get("released", 0) for at in hosts]
        return len(waited) == len(self._consumers) and all(waited)

    def _show_after(self) -> None:
        new = self._live()
        self._screen.heading("5. After: another key, and nothing else has changed")
        self._show_files(new)
        self._screen.say()
        healthy = {one.name: one.do("health") for one in self._consumers}
        hosts = {host["name"]: host["outage_seconds"] for host in self._stage.report().get("hosts", [])}
        self._screen.table(
            ("consumer", "key before", "key now", "calls refused", "outage", "by the report", "healthy"),
            [self._measured(one, hosts.get(one.name), healthy[one.name]) for one in self._consumers],
        )
        self._screen.say(
            "",
            "The outage is what the programs noticed: from the first refused call to the next accepted one.",
            "By the report, it is from the request to rotate until the restart had ended.",
        )
        belongs = sorted(one.file for one in self._consumers)
        for claim, holds in (
            ("the key is another", new != self._old),
            ("every consumer holds the live key", all(one.holds(new) for one in self._consumers)),
            ("no other byte of their files has changed", all(one.differs_only_in(new) for one in self._consumers)),
            ("every consumer is healthy again", all(healthy.values())),
            ("the report and the programs agree", all(_agree(one, hosts.get(one.name)) for one in self._consumers)),
            ("the old key is in no file any more", not self._stage.files_with(self._old)),
            ("the new key is in no other file", sorted(self._stage.files_with(new)) == belongs),
        ):
            self._claim(claim, holds)

    def _show_that_the_old_key_is_rejected(self) -> None:
        self._screen.heading("6. Is the old key rejected?")
        keys = {"old": self._old, "new": self._live()}
        answers = {age: Service(self._sandbox.url, key, "proof").call() for age, key in keys.items()}
        settled = answers == {"old": "refused", "new": "accepted"}
        self._screen.table(
            ("a call with", "", "fingerprint", "is"),
            [(f"the {age} key", masked(key), fingerprint_of(key), answers[age]) for age, key in keys.items()],
        )
        self._claim("the API rejects the old key and accepts the new", settled)

    def _audit(self) -> None:
        self._screen.heading(
            "7. The audit, as monitoring would run it: it changes nothing, and fails if any is out of date"
        )
        self._claim("the audit is green", self._stage.play(AUDIT, self._screen) == 0)

    def _conclude(self) -> bool:
        self._claim("no key, token or password was printed", not self._screen.shows_any_of(self._sandbox.secrets()))
        self._screen.heading("8. In short: what was checked")
        for claim, holds in self._claims:
            self._screen.say(f"  {'ok   ' if holds else 'FALSE'}  {claim}")
        self._screen.say("", self._in_short())
        return all(holds for dummy, holds in self._claims)

    def _show_files(self, key: str) -> None:
        self._screen.table(
            ("consumer", "file", "", "the line that holds the key, masked here"),
            [(one.name, one.shape.file, one.shape.remark, one.masked_line(key)) for one in self._consumers],
        )

    def _measured(self, consumer: Consumer, reported: float | None, healthy: bool) -> tuple[str, ...]:
        outage = consumer.outage()
        return (
            consumer.name,
            fingerprint_of(self._old),
            fingerprint_of(consumer.key()),
            str(outage.refused),
            _seconds(outage.seconds),
            _seconds(reported),
            "yes" if healthy else "NO",
        )

    def _claim(self, claim: str, holds: bool) -> None:
        self._claims.append((claim, holds))

    def _live(self) -> str:
        return self._sandbox.account()["api_key"]

    def _rotations(self) -> int:
        return self._sandbox.rotations()


def _seconds(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.2f} s"


def _agree(consumer: Consumer, reported: float | None) -> bool:
    """Tell whether two clocks that measure one outage from two sides, five times a second, say the same."""
    return reported is not None and abs(consumer.outage().seconds - reported) < 1.0 + reported / 4
