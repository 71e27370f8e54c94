# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small program that uses the key, in all the ways in which an init system can start it. It calls nothing.

``serve NAME`` notes the key's fingerprint in /run/app/NAME.json and answers at /run/app/NAME.sock until it is ended;
``note NAME`` notes it and ends; ``health NAME`` fails unless that server answers.
"""

import argparse
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

RUN = "/run/app"
STATE = "/var/lib/app"
VARIABLE = "MULTICART_API_KEY"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("act", choices=["serve", "note", "health"])
    parser.add_argument("name")
    parser.add_argument("--file", help="read the key from this file, not from the environment")
    parser.add_argument("--credential", help="read it from what systemd passed on under this name")
    parser.add_argument("--notify", action="store_true", help="tell systemd when it is ready")
    parser.add_argument("--one-key", action="store_true", help="end at once with another key than the first one")
    parser.add_argument("--hang", action="store_true", help="do not end when asked to")
    parser.add_argument("--child", action="store_true", help="start a child that is not ended with it")
    options = parser.parse_args()
    os.umask(0o022)
    if options.act == "health":
        return health(options.name)
    key = key_of(options)
    if options.one_key and not is_first(options.name, key):
        return 1
    note(options.name, key, 0)
    if options.act == "serve":
        serve(options, key)
    return 0


def key_of(options: argparse.Namespace) -> str:
    if options.credential:
        options.file = os.path.join(os.environ["CREDENTIALS_DIRECTORY"], options.credential)
    if not options.file:
        return os.environ.get(VARIABLE, "")
    with open(options.file, encoding="utf-8") as file:
        return file.read().strip().rpartition("=")[2]


def fingerprint(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:16] if key else ""


def note(name: str, key: str, reloads: int) -> None:
    told = {"pid": os.getpid(), "fingerprint": fingerprint(key), "reloads": reloads, "at": time.time()}
    path = os.path.join(RUN, name + ".json")
    with open(path + "." + str(os.getpid()), "w", encoding="utf-8") as file:
        json.dump(told, file)
    os.replace(file.name, path)


def is_first(name: str, key: str) -> bool:
    path = os.path.join(STATE, name + ".first")
    try:
        with open(path, encoding="utf-8") as file:
            return file.read() == fingerprint(key)
    except FileNotFoundError:
        with open(path, "w", encoding="utf-8") as file:
            file.write(fingerprint(key))
        return True


def serve(options: argparse.Namespace, key: str) -> None:
    reloads = 0

    def reload(_number: int, _frame: object) -> None:
        nonlocal key, reloads
        key, reloads = key_of(options), reloads + 1
        note(options.name, key, reloads)

    signal.signal(signal.SIGHUP, reload)
    if options.hang:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if options.child:
        subprocess.Popen(["sleep", "infinity"], start_new_session=True)
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        server = socket.socket(fileno=3)
    else:
        path = os.path.join(RUN, options.name + ".sock")
        if os.path.exists(path):
            os.unlink(path)
        server = socket.socket(socket.AF_UNIX)
        server.bind(path)
        server.listen()
    if options.notify:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1))
    while True:
        client = server.accept()[0]
        with client:
            client.sendall(b"ok " + fingerprint(key).encode())


def health(name: str) -> int:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        try:
            client.connect(os.path.join(RUN, name + ".sock"))
            return 0 if client.recv(100).startswith(b"ok ") else 1
        except OSError:
            return 1


if __name__ == "__main__":
    sys.exit(main())
