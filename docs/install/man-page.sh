#!/usr/bin/env bash
# Writes the manual page of a program from its --help: man-page.sh NAME SECTION "what it is" PROGRAM... > NAME.SECTION
# A line of options ("  --flag …", "  -f FILE …") or of commands becomes a tagged paragraph, so the page cannot differ
# from the help.
set -euo pipefail
name=$1 section=$2 what=$3
shift 3
date=$(date -u -d "@${SOURCE_DATE_EPOCH:-$(date +%s)}" +%Y-%m-%d)
help=$("$@" --help 2>&1 || true) # mk-docker-opts ends with 1 here, as flannel's does
awk -v name="$name" -v section="$section" -v what="$what" -v date="$date" '
  function roff(text) {
    gsub(/\\/, "\\e", text)
    gsub(/-/, "\\-", text)
    sub(/^[.\x27]/, "\\\\\\&&", text)
    return text
  }
  BEGIN {
    printf ".TH %s %s %s twill\n.SH NAME\n%s \\- %s\n", toupper(roff(name)), section, date, roff(name), roff(what)
  }
  NR == 1 {
    sub(/^[Uu]sage: */, "")
    print ".SH SYNOPSIS\n.nf\n" roff($0) "\n.fi\n.SH DESCRIPTION"
    next
  }
  /^ *$/ { print ".PP"; tagged = 0; next }
  # A tag with its text on the same line, two spaces or more between them.
  match($0, /^  [^ ]+( [^ ]+)*   */) && RLENGTH < length($0) {
    tag = substr($0, 1, RLENGTH)
    rest = substr($0, RLENGTH + 1)
    gsub(/^ +| +$/, "", tag)
    print ".TP\n.B " roff(tag) "\n" roff(rest)
    next
  }
  /^  [^ ]/ { sub(/^ +/, ""); print ".TP\n.B " roff($0); next }
  { sub(/^ +/, ""); print roff($0) }
  END {
    print ".SH SEE ALSO\n.BR twilld (8),\n.BR twill (1),\n.BR mk\\-docker\\-opts (1)"
    print ".PP\nThe whole documentation is in /usr/share/doc/twill/docs."
  }
' <<< "$help"
