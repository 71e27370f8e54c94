#!/bin/sh
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# In place of the ssh program: no network and no host, only the wait. What a module answers is found out once for each
# call of a host, by running it here, and repeated for all others. The time of $STUB/hosts/HOST.N is that of a host's
# Nth call.
set -eu
for argument do host=${command-} command=$argument; done # ssh OPTION ... HOST COMMAND

case $command in
*python*) ;;
*) # only opens the connection
    sleep "$STUB_SECONDS"
    exit ;;
esac
call=1
while [ -e "$STUB/hosts/$host.$call" ]; do call=$((call + 1)); done
: >"$STUB/hosts/$host.$call"
answer=$STUB/answers/$call
if mkdir "$answer.lock" 2>/dev/null; then
    /bin/sh -c "$command" >"$answer.new"
    mv "$answer.new" "$answer"
else
    cat >/dev/null
    while [ ! -e "$answer" ]; do sleep 0.05; done
    sleep "$STUB_SECONDS"
fi
exec cat "$answer"
