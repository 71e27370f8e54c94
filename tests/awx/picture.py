# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What there is in the stand-in, to be compared with what there is in another one."""

from __future__ import annotations

import json

from .resources import RESOURCES
from .store import Store


def named(store: Store, key: int) -> str:
    """Return the name of an object."""
    (one,) = (table[key] for table in store.objects.values() if key in table)
    return str(one.get("name") or one.get("username") or one.get("identifier"))


def picture(store: Store) -> set[str]:
    """Return all there is of the objects that the role makes, with names in place of ids."""
    found = set()
    for path, table in store.objects.items():
        resource = RESOURCES[path]
        for key, one in table.items():
            fields = {
                name: named(store, one[name]) if name in resource.links and one[name] else one[name]
                for name in resource.fields
            }
            if "description" in fields:  # who has got what is noted by the role alone
                fields["description"] = fields["description"].partition(" [gave ")[0]
            if "extra_vars" in fields:
                fields["extra_vars"] = json.loads(fields["extra_vars"] or "{}")
            below = {name: sorted(named(store, other) for other in store.associations.get((key, name), []))
                     for name in resource.associations}  # fmt: skip
            found.add(json.dumps([path, fields, below, store.surveys.get(key)], sort_keys=True))
    return found
