# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Environment files that are changed, with what they become, and ones that are refused, with the line to blame."""

from __future__ import annotations

from hypothesis import strategies as st

NAME = "KEY"
NEW = b"173axcs.new"

CHANGED: dict[str, tuple[bytes, bytes | None]] = {
    "plain": (b"A=1\nKEY=p.old\nB=2\n", b"A=1\nKEY=173axcs.new\nB=2\n"),
    "missing last newline": (b"KEY=p.old", b"KEY=173axcs.new"),
    "export": (b"\texport  KEY=p.old\n", b"\texport  KEY=173axcs.new\n"),
    "double quotes": (b'KEY="p.old"\n', b'KEY="173axcs.new"\n'),
    "single quotes": (b"KEY='p.old'\n", b"KEY='173axcs.new'\n"),
    "backticks": (b"KEY=`p.old`\n", b"KEY=`173axcs.new`\n"),
    "white space around =": (b"KEY = 'p.old' \n", b"KEY = '173axcs.new' \n"),
    "trailing comment": (b'KEY=p.old # it\'s "ours"\n', b'KEY=173axcs.new # it\'s "ours"\n'),
    "nothing but a comment": (b"KEY= # fill in\n", b"# fill in\nKEY=173axcs.new\n"),
    "empty": (b"KEY=\n", b"KEY=173axcs.new\n"),
    "empty quotes": (b'KEY=""\n', b'KEY="173axcs.new"\n'),
    "placeholder": (b"KEY=<your key>\n", None),
    "placeholder in one word": (b"KEY=<key>\n", b"KEY=173axcs.new\n"),
    "placeholder that a shell stops at": (
        b"A=1\nKEY=<key>\nB=2\nexport KEY\n",
        b"A=1\nKEY=173axcs.new\nB=2\nexport KEY\n",
    ),
    "CRLF": (b"A=1\r\nKEY=p.old\r\n", b"A=1\r\nKEY=173axcs.new\r\n"),
    "BOM": (b"\xef\xbb\xbfKEY=p.old\n", b"\xef\xbb\xbfKEY=173axcs.new\n"),
    "undecodable bytes": (b"# caf\xe9\nKEY=p.old\n\xff=1\n", b"# caf\xe9\nKEY=173axcs.new\n\xff=1\n"),
    "every assignment": (b"KEY=a\n#KEY=b\nexport KEY='c'\n", b"KEY=173axcs.new\n#KEY=b\nexport KEY='173axcs.new'\n"),
    "text in quotes": (b"A='\nKEY=p.old\n'\nKEY=x\n", b"A='\nKEY=p.old\n'\nKEY=173axcs.new\n"),
    "longer names": (b"MY_KEY=1\nKEY_2=2\nKEY=3\n", b"MY_KEY=1\nKEY_2=2\nKEY=173axcs.new\n"),
    "lone apostrophe elsewhere": (b"A=it's\nKEY=p.old\n", b"A=it's\nKEY=173axcs.new\n"),
    "JSON elsewhere": (b'A={"a": "b c"}\nKEY=p.old\n', b'A={"a": "b c"}\nKEY=173axcs.new\n'),
    "script": (b"set -a\nif true; then\n  KEY=p.old\nfi\n", b"set -a\nif true; then\n  KEY=173axcs.new\nfi\n"),
    "exported afterwards": (b"KEY=p.old\nexport KEY\n", b"KEY=173axcs.new\nexport KEY\n"),
    "tested by a command": (b'KEY=p.old\n[ -n "$KEY" ] || exit 1\n', b'KEY=173axcs.new\n[ -n "$KEY" ] || exit 1\n'),
    "given to a command": (b'KEY=p.old\necho "${KEY}"\n', b'KEY=173axcs.new\necho "${KEY}"\n'),
    "named to a command": (b"KEY=p.old\necho '$KEY'\n", b"KEY=173axcs.new\necho '$KEY'\n"),
    "used elsewhere": (b"KEY=p.old\nA=${KEY}/x\n", b"KEY=173axcs.new\nA=${KEY}/x\n"),
    "appended": (b"A=1\n", b"A=1\nKEY=173axcs.new\n"),
    "appended without newline": (b"A=1", b"A=1\nKEY=173axcs.new\n"),
    "appended to CRLF": (b"A=1\r\nB=2", b"A=1\r\nB=2\nKEY=173axcs.new\n"),
    "appended to whole CRLF": (b"A=1\r\n", b"A=1\r\nKEY=173axcs.new\n"),
    "appended to comment": (b"#KEY=p.old\n", b"#KEY=p.old\nKEY=173axcs.new\n"),
    "first key beside a comment": (b"A=1\r\nKEY=changeme # ours\r\n", b"A=1\r\n# ours\r\nKEY=173axcs.new\n"),
    "first keys beside comments": (
        b"KEY=x # one\nA=1\nexport KEY='' # two\nKEY=p.old # three",
        b"# one\nKEY=173axcs.new\nA=1\n# two\nexport KEY='173axcs.new'\nKEY=173axcs.new # three",
    ),
    "first key before a blank": (b"KEY= \nB=1\n", b"KEY=173axcs.new\nB=1\n"),
    "first key before blanks, others there": (b"KEY=   # needed\nB=1\n", b"# needed\nKEY=173axcs.new\nB=1\n"),
    "first key between blanks": (b"KEY= changeme \n", b"KEY=173axcs.new\n"),
    "semicolon": (b'export KEY="p.old";\n', b'export KEY="173axcs.new";\n'),
    "semicolon without quotes": (b"KEY=p.old; # ours\n", b"KEY=173axcs.new; # ours\n"),
    "exported with more blanks": (
        b'KEY=p.old\nexport  KEY ="p.old";\n',
        b'KEY=173axcs.new\nexport  KEY ="173axcs.new";\n',
    ),
    "declared": (b'declare -x KEY="p.old"\n', b'declare -x KEY="173axcs.new"\n'),
    "<< in another value": (b"A=ab<<cd\nKEY=p.old\n", b"A=ab<<cd\nKEY=173axcs.new\n"),
    "<< in a quoted value": (b"A='ab<<cd'\nKEY=p.old\n", b"A='ab<<cd'\nKEY=173axcs.new\n"),
    "added before blank lines": (b"A=1\n \n\t\n\n", b"A=1\nKEY=173axcs.new\n \n\t\n\n"),
    "added to blank lines": (b" \n\n", b"KEY=173axcs.new\n \n\n"),
    "added before set +a": (b"set -a\nA=1\nset +a\n", b"set -a\nA=1\nKEY=173axcs.new\nset +a\n"),
    "new file": (b"", b"KEY=173axcs.new\n"),
}

REFUSED = {
    "after a continued line": (b"A=1 \\\nKEY=p.old\n", 1),
    "after a continued comment": (b"# \\\nKEY=p.old\n", 1),
    "appended to a continued line": (b"A=1\\", 1),
    "appended into open quotes": (b"A='1\n", 1),
    "in quotes for some": (b'A="1\\"\nKEY=p.old\n"\n', 1),
    "between apostrophes": (b"A=it's\nKEY=p.old\nB=that's\n", 1),
    "array": (b"KEY=(p.old)\n", 1),
    "array element": (b"A=1\nKEY[0]=p.old\n", 2),
    "added to": (b"KEY+=p.old\n", 1),
    "several lines": (b"KEY='p.\nold'\n", 1),
    "substitution": (b"KEY=$(cat /k)\n", 1),
    "command in backticks": (b"KEY=`cat /k`\n", 1),
    "reference": (b'KEY="${OTHER}"\n', 1),
    "escape": (b"KEY=p\\.old\n", 1),
    "pieces": (b"KEY='p'.old\n", 1),
    "for one command": (b"KEY=p.old run\n", 1),
    "two on a line": (b"A=1 KEY=p.old\n", 1),
    "two commands": (b"KEY=p.old;B=2\n", 1),
    "quoted name": (b"'KEY'=p.old\n", 1),
    "old line ends": (b"A=1\rKEY=p.old\n", 1),
    "here-document": (b"cat <<END\nKEY=p.old\nEND\n", 1),
    "first key beside a comment behind a BOM": (b"\xef\xbb\xbfKEY=x # one\n", 1),
    "here-document as the value": (b"A=\nKEY=<<d\n'", 2),
    "value with << and its end": (b"A=ab<<cd\ncd\nKEY=p.old\n", 1),
    "here-document after a value": (b"A=1 <<cd\nKEY=p.old\n", 1),
    "in an array": (b"A=(\nKEY=p.old\n)\n", 1),
    "declared to stay with a value": (b'declare -rx KEY="p.old"\n', 1),
    "exported on two lines": (b"KEY=p.old\nexpor\\\nt KEY=p.old\n", 3),
    "named on two lines": (b"KEY=p.old\nKE\\\nY=p.old\n", 2),
    "behind an empty value with a blank": (b"A= \nKEY=p.old\n", 1),
    "behind a line without a name": (b"A=1\n =x\nKEY=p.old\n", 2),
    "exported in quotes": (b'KEY=p.old\nexport "KEY=p.old"\n', 2),
    "exported behind another": (b"KEY=p.old\nA=1 export KEY=p.old\n", 2),
    "exported by a command in a variable": (b"KEY=p.old\n${EXPORT} KEY=p.old\n", 2),
    "exported by a built-in command": (b"KEY=p.old\ncommand export KEY=p.old\n", 2),
    "another variable in its place": (b"export KEY= 'A=1'\n", 1),
    "behind a redirection": (b'KEY=p.old\n</dev/null\tKEY="p.old" \n', 2),
    "first key that lets a shell go on to a command": (b"A=''\nKEY=>\nunset A\n", 2),
    "first key that lets a shell go on to another value": (b"A=1\nKEY=<key>\nA=2\n", 2),
    "first key behind a pipe, before set +a": (b"set -a\nA=1 |\n# x\n\nset +a\n", 3),
    "first key before a CR that a shell takes for a command": (b"KEY=p.old\nKEY=\t\r\n", 2),
    "behind another and a redirection": (b"KEY=p.old\nA=>/dev/null KEY=p.old\n", 2),
    "behind one of a descriptor": (b"KEY=p.old\n2>>/dev/null KEY=p.old\n", 2),
    "behind one that may overwrite": (b"KEY=p.old\n>|/dev/null KEY=p.old\n", 2),
    "exported by a composed name": (b"KEY=p.old\nexport ${K}KEY=p.old\n", 2),
    "exported by a program": (b"KEY=p.old\nexport $(cat more)\n", 2),
    "declared to stay": (b"readonly KEY\n", 1),
    "declared in other words": (b"KEY=p.old\ndeclare -r KEY\n", 2),
    "behind a quote in backticks": (b"`'`export KEY=p.old\t\n'\n", 1),
    "in the name of a command": (b"KEY=p.old\ne${KEY}xport A=1\n", 2),
}

# Pieces that mean something to at least one reader; text of random characters would hardly ever do.
PIECES = st.sampled_from(
    ["A", "KEY", "=", "=", "p.old", " ", "\t", "'", '"', "`", "\\", "\n", "\n", "#", " #", "$", "(", ")", ";", "&"]
    + ["export ", "\r\n", "\r", "+=", "<", "\xe9", "KEY=p.old\n", "A=1\n", "B='x\n", "\nKEY='p.old'\n", "set -a\n"]
)
FILES = st.lists(PIECES, max_size=25).map(lambda pieces: "".join(pieces).encode())
