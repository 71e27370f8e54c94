# -*- coding: utf-8 -*-
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later


class ModuleDocFragment:
    """The connection options, described once; C(plugins) adds what only plugin documentation can say."""

    DOCUMENTATION = r"""
options:
  api_url:
    description:
      - Base URL of the API, with or without a trailing slash.
      - V(http://) is accepted for a loopback address only.
      - A credential from the environment goes only to a URL, and under TLS options, from the environment or the
        default.
      - Also read from the variable C(multicart_api_url) and the environment variable E(MULTICART_API_URL).
    type: str
    default: https://multicartapi.com/api/v1
  session_token:
    description:
      - A session token. It takes precedence over O(email) and O(password), and over O(api_key).
      - Also read from the variable C(multicart_session_token) and the environment variable E(MULTICART_SESSION_TOKEN).
    type: str
  email:
    description:
      - Email address to log in with, once in a run; needs O(password).
      - Also used when O(session_token) is rejected, if both are from the same source, which is the task, variables or
        the environment.
      - Also read from the variable C(multicart_email) and the environment variable E(MULTICART_EMAIL).
    type: str
  password:
    description:
      - Password to log in with; needs O(email).
      - Also read from the variable C(multicart_password) and the environment variable E(MULTICART_PASSWORD).
    type: str
  api_key:
    description:
      - The account's API key. It can read the account, but it cannot read the key that replaces it.
      - Also read from the variable C(multicart_api_key) and the environment variable E(MULTICART_API_KEY).
    type: str
  validate_certs:
    description:
      - Whether the API's certificate must be valid.
      - Also read from the variable C(multicart_validate_certs) and the environment variable
        E(MULTICART_VALIDATE_CERTS).
    type: bool
    default: true
  ca_path:
    description:
      - File or directory on the control node with the PEM certificates to trust, instead of the system's store.
      - Also read from the variable C(multicart_ca_path) and the environment variable E(MULTICART_CA_PATH).
    type: path
  timeout:
    description:
      - Seconds that one request may take, and within which a failing read is retried; at most 3600.
      - Also read from the variable C(multicart_timeout) and the environment variable E(MULTICART_TIMEOUT).
    type: float
    default: 10.0
notes:
  - An empty value counts as unset. Environment variables are read on the control node; the task's C(environment) is
    not.
requirements:
  - requests 2.28 or later, in the Python that runs Ansible
"""

    PLUGINS = r"""
options:
  api_url:
    env:
      - name: MULTICART_API_URL
    vars:
      - name: multicart_api_url
  session_token:
    env:
      - name: MULTICART_SESSION_TOKEN
    vars:
      - name: multicart_session_token
  email:
    env:
      - name: MULTICART_EMAIL
    vars:
      - name: multicart_email
  password:
    env:
      - name: MULTICART_PASSWORD
    vars:
      - name: multicart_password
  api_key:
    env:
      - name: MULTICART_API_KEY
    vars:
      - name: multicart_api_key
  validate_certs:
    env:
      - name: MULTICART_VALIDATE_CERTS
    vars:
      - name: multicart_validate_certs
  ca_path:
    env:
      - name: MULTICART_CA_PATH
    vars:
      - name: multicart_ca_path
  timeout:
    env:
      - name: MULTICART_TIMEOUT
    vars:
      - name: multicart_timeout
"""
