#!/usr/bin/env bash
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Build Pythons with pyenv, where the tests look for them, unless they are there: tests/tools/pythons.sh 3.6 3.7 3.8
set -euo pipefail
root=${PYENV_ROOT:-$HOME/.pyenv}

[[ -x $root/bin/pyenv ]] ||
    git clone --quiet --depth 1 --branch v2.6.30 -c advice.detachedHead=false https://github.com/pyenv/pyenv "$root"
for version; do
    compgen -G "$root/versions/$version.*" >/dev/null || "$root/bin/pyenv" install "$version"
done
