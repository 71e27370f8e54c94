# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rows for modules and the lookup, in plays of the user's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.integration.harness import Run
from tests.leaks.scenario import FOR_EVER, Act, Fault, Scenario
from tests.leaks.watched import Watched

KEY = "lookup('multicart.keys.multicart_key')"
ON_OLD_CORE = "ansible_version.full is version('2.19', '<')"


def play(tasks: str, content: str | None = "{key}", variables: Mapping[str, str] | None = None) -> Act:
    """A play of these tasks on one host; secrets in its variables are named as in a fault."""

    def act(fleet: Watched) -> Run:
        host = fleet.add("web1", content)
        account = fleet.account
        known = {"token": fleet.sandbox.token(fleet.email), "key": account["api_key"], "password": account["password"]}
        given = {name: known[secret] for name, secret in (variables or {}).items()}
        host.variables.update(given, login=fleet.email)
        fleet.holders |= {host.folder / name for name in ("other.env", "config")}
        return fleet.play(tasks)

    return act


def module(name: str, **options: Any) -> str:
    return f"- multicart.keys.{name}: {json.dumps(options)}\n"


def read(fault: str, times: int = FOR_EVER, **more: Any) -> Fault:
    return {"on": "read", "fault": fault, "times": times, **more}


def rotate(fault: str, times: int = FOR_EVER, **more: Any) -> Fault:
    return {"on": "rotate", "fault": fault, "times": times, **more}


INFO = play(module("multicart_key_info", timeout=1))
ROTATE = play(module("multicart_key_rotate", timeout=1, settle_timeout=1))
WRITE = play(
    module("multicart_key_rotate")
    + module("multicart_env_file", path="{{ home }}/app.env", value="{{ " + KEY + " }}")
    + module("multicart_env_file", path="{{ home }}/other.env", value="{{ " + KEY + " }}")
    + module("multicart_env_file_info", path="{{ home }}/app.env")
    + module("multicart_env_file", path="{{ home }}/app.env", state="absent"),
    "A=1\nexport MULTICART_API_KEY='{key}' # ours\nB=2\n",
)
REVEAL = play(
    f"""
    - multicart.keys.multicart_key_info: {{reveal: true}}
      register: one
    - multicart.keys.multicart_key_info: {{reveal: true}}
      register: several
      loop: [1, 2]
      no_log: "{{{{ {ON_OLD_CORE} }}}}"
    - multicart.keys.multicart_key_rotate: {{reveal: true}}
      register: new
    - ansible.builtin.assert:
        that: (item.api_key | hash('sha256'))[:16] == item.key_fingerprint
      loop: "{{{{ [one, new] + several.results }}}}"
      no_log: true
    """
)
REVOKE = play(
    module("multicart_key_revoke", api_key="{{ key }}", retire="{{ (key | hash('sha256'))[:16] }}"),
    variables={"key": "key"},
)
REVEAL_FAILS = play(module("multicart_key_rotate", reveal=True, timeout=1, settle_timeout=1))
# The user's own templates; what they make is for the key, and the task says that nobody may see it.
TEMPLATES = play(
    f"""
    - ansible.builtin.copy: {{content: "key={{{{ {KEY} }}}}", dest: "{{{{ home }}}}/config", mode: "0600"}}
      no_log: true
    - ansible.builtin.debug:
        msg: "{{{{ ({KEY} | hash('sha256'))[:16] }}}} {{{{ lookup('multicart.keys.multicart_key', 'key_masked') }}}}"
    - ansible.builtin.command: 'true'
      when: {KEY} is match('none')
      loop: [1]
    """
)
LOOKUP = "- ansible.builtin.debug: {{msg: \"{{{{ lookup('multicart.keys.multicart_key'{more}) }}}}\"}}"


def failing_lookup(more: str = "") -> Act:
    return play(LOOKUP.format(more=more))


def write(content: str | None = "{key}", **options: Any) -> Act:
    return play(
        module("multicart_env_file", **{"path": "{{ home }}/app.env", "value": "{{ key }}", **options}),
        content,
        {"key": "key", "token": "token", "password": "password"},
    )


def wrong(name: str, **options: Any) -> Act:
    """A slip of the hand: a secret where it does not belong."""
    return play(module(name, **options), variables={"key": "key", "token": "token", "password": "password"})


VARIABLES = frozenset({"variables"})

TASKS = {
    # --- it goes well
    "key-info": Scenario(INFO),
    "key-info-by-login": Scenario(INFO, has="login"),
    "key-info-by-key": Scenario(INFO, has="key"),
    "rotate": Scenario(ROTATE),
    "rotate-by-login": Scenario(ROTATE, has="login"),
    "revoke-by-key": Scenario(REVOKE, has="key", shown=VARIABLES, quick=True),
    "rotate-and-write": Scenario(WRITE, has="both", quick=True),
    "reveal": Scenario(REVEAL, shown=VARIABLES, quick=True),
    "lookup-in-templates": Scenario(TEMPLATES, shown=frozenset({"tasks given to callbacks"}), quick=True),
    "credentials-from-variables": Scenario(
        play(
            module("multicart_key_info") + module("multicart_key_rotate"),
            variables={"multicart_session_token": "token"},
        ),
        shown=VARIABLES,
    ),
    "credentials-from-options": Scenario(
        play(
            module(
                "multicart_key_info", session_token="{{ token }}", api_url="{{ lookup('env', 'MULTICART_API_URL') }}"
            )
            + module("multicart_key_info", email="{{ login }}", password="{{ password }}", api_key="{{ key }}"),
            variables={"token": "token", "password": "password", "key": "key"},
        ),
        shown=VARIABLES,
        quick=True,
    ),
    # --- the API fails
    **{
        f"info-{fault['fault']}-{number}": Scenario(
            INFO, reason, (fault,), has="both" if fault["on"] == "login" else "token"
        )
        for number, (reason, fault) in enumerate(
            (
                ("refused", read("echo_secret")),
                ("credentials_rejected", read("http_401")),
                ("not_an_envelope", read("http_500")),
                ("not_an_envelope", read("html")),
                ("redirect_refused", read("redirect", to="http://{token}:{key}@127.0.0.1:1/?key={key}")),
                ("malformed_key", read("key_newline")),
                ("malformed_key", read("key_malformed", value='{key}"$(id)')),
                ("not_an_envelope", read("wrong_data_type", value="{key} {token}")),
                ("unreachable", read("truncated")),
                ("answer_too_large", read("oversized")),
                ("not_an_envelope", read("gzip_bomb")),
                ("refused", read("status_zero")),
                ("not_an_envelope", read("status_string")),
                ("unreachable", read("reset_before")),
                (None, read("cookie", value="key={key}; token={token}")),
            )
        )
    },
    "login-repeats-the-password": Scenario(
        INFO, "credentials_rejected", ({"on": "login", "fault": "echo_secret", "times": FOR_EVER},), has="login"
    ),
    "rotate-repeats-the-key": Scenario(ROTATE, "refused", (rotate("echo_secret"),), quick=True),
    "rotate-forbidden": Scenario(ROTATE, "credentials_rejected", (rotate("http_403"),)),
    "rotate-claims": Scenario(ROTATE, "key_did_not_change", (rotate("claimed", value="{key} {token}"),)),
    "rotate-lost": Scenario(ROTATE, "unreachable", (rotate("answer_lost_before_commit"),)),
    "rotate-and-token-dies": Scenario(
        REVEAL_FAILS, "new_key_unreadable", settings={"tokens_die_with_rotation": True}, quick=True
    ),
    # Why it failed is hidden together with the key.
    "rotate-and-new-key-refused": Scenario(REVEAL_FAILS, "", (read("http_401", credential="key"),), shown=VARIABLES),
    "lookup-repeats-the-token": Scenario(failing_lookup(), "", (read("echo_secret"),), quick=True),
    "lookup-of-a-malformed-key": Scenario(failing_lookup(), "", (read("key_malformed", value="{key}`"),)),
    "lookup-with-a-wrong-term": Scenario(failing_lookup(", " + KEY), ""),
    "lookup-with-a-wrong-option": Scenario(failing_lookup(", timeout=" + KEY), ""),
    "lookup-in-a-failing-template": Scenario(
        play(f'- ansible.builtin.debug: {{msg: "{{{{ {KEY} | no_such_filter }}}}"}}'), ""
    ),
    "lookup-in-a-failing-condition": Scenario(
        play(f"- ansible.builtin.debug: {{msg: hello}}\n  when: {KEY}.nothing.at_all"), ""
    ),
    # --- the hosts fail
    "write-to-a-folder": Scenario(write(path="{{ home }}"), "path_is_directory", shown=VARIABLES),
    "write-into-no-folder": Scenario(write(path="{{ home }}/gone/env"), "no_such_directory", shown=VARIABLES),
    "write-into-ambiguity": Scenario(
        write("MULTICART_API_KEY='{key}\nMULTICART_API_KEY=\"$OTHER{key}\n"), "ambiguous", shown=VARIABLES, quick=True
    ),
    "write-over-binary": Scenario(write("MULTICART_API_KEY={key}\0\n"), "not_text", shown=VARIABLES),
    "write-no-key": Scenario(write(value="{{ password }}"), "malformed_key", shown=VARIABLES, quick=True),
    "write-again-until": Scenario(
        play(
            "- multicart.keys.multicart_env_file: {path: '{{ home }}/gone/env', value: '{{ key }}'}\n"
            "  register: done\n  until: done is success\n  retries: 1\n  delay: 0\n  loop: [1]\n",
            variables={"key": "key"},
        ),
        "",
        shown=VARIABLES,
    ),
    # --- the user errs
    "a-key-for-a-fingerprint": Scenario(
        wrong("multicart_key_rotate", retire="{{ key }}"), "invalid_option", shown=VARIABLES
    ),
    "a-token-for-a-number": Scenario(
        wrong("multicart_key_info", timeout="{{ token }}"), "invalid_option", shown=VARIABLES
    ),
    "a-token-in-the-url": Scenario(
        wrong("multicart_key_info", api_url="https://{{ token }}@127.0.0.1/api/v1", session_token="{{ token }}"),
        "invalid_option",
        shown=VARIABLES,
    ),
    "a-mistyped-option": Scenario(
        wrong("multicart_key_info", sesion_token="{{ token }}"), "invalid_option", shown=VARIABLES
    ),
    "a-mistyped-option-of-a-file": Scenario(
        wrong("multicart_env_file", path="{{ home }}/app.env", valu="{{ key }}"), "invalid_option", shown=VARIABLES
    ),
    "a-key-for-a-boolean": Scenario(wrong("multicart_key_info", reveal="{{ key }}"), "invalid_option", shown=VARIABLES),
}
