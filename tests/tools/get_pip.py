# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stands in for the ``get-pip.py`` that ``ansible-test`` would download for every environment it makes.

It does the same with the pip that comes with Python and a package index, so that only the index must be reachable.
"""

import subprocess
import sys

# In a process of its own, as it makes the process that it runs in forget how pip is configured.
subprocess.check_call([sys.executable, "-m", "ensurepip"], stdout=subprocess.DEVNULL)
OPTIONS = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
subprocess.check_call([sys.executable, "-m", "pip", "install", *OPTIONS])
