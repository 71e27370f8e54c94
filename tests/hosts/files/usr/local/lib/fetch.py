# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Print the key that a server of Vault holds, by /etc/app/store.json; or the one in a copy, /etc/app/copy."""

import http.client
import json
import os
from urllib.parse import urlsplit

if os.path.exists("/etc/app/copy"):
    with open("/etc/app/copy", encoding="utf-8") as file:
        print(file.read().strip())
else:
    with open("/etc/app/store.json", encoding="utf-8") as file:
        store = json.load(file)
    place = urlsplit(store["url"])
    connection = http.client.HTTPConnection(place.netloc, timeout=5)
    connection.request("GET", place.path, headers={"X-Vault-Token": store["token"]})
    print(json.load(connection.getresponse())["data"]["data"]["MULTICART_API_KEY"])
