#!/bin/sh
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# In place of the ssh program: no network and no host, only what the control node has to do for each. The program of a
# host session is not started: its requests are answered from $STUB/session, where one host's answers lie. What a module
# answers is found out once, by running it here, and repeated for all others. The time of $STUB/hosts/HOST is that of the
# host's write, or of its module.
set -eu
for argument do host=${command-} command=$argument; done # ssh OPTION ... HOST COMMAND


case $command in
*zlib.decompress*)
    read -r size
    head -c "$size" >/dev/null # the program itself
    while read -r request; do
        tag=${request#*\"tag\": \"} phase=${request#*\"phase\": \"} live=${request#*\"live\": \"}
        tag=${tag%%\"*} phase=${phase%%\"*} live=${live%%\"*}
        if [ "$phase" = deploy ]; then
            : >"$STUB/hosts/$host"
            echo "$tag {\"event\": \"written\", \"at\": 0}"
        fi
        read -r answer <"$STUB/session/$phase"
        before=${answer%%LIVE*}
        while [ "$before" != "$answer" ]; do
            answer=$before$live${answer#*LIVE}
            before=${answer%%LIVE*}
        done
        echo "$tag $answer"
    done
    exit
    ;;
*python*) ;;
*) # only opens the connection
    sleep "$STUB_SECONDS"
    exit
    ;;
esac
: >"$STUB/hosts/$host"
answer=$STUB/answer
if mkdir "$answer.lock" 2>/dev/null; then
    /bin/sh -c "$command" >"$answer.new"
    mv "$answer.new" "$answer"
else
    cat >/dev/null
    while [ ! -e "$answer" ]; do sleep 0.05; done
    sleep "$STUB_SECONDS"
fi
exec cat "$answer"
