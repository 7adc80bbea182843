#!/bin/sh
# Runs as root in a tree that was booted with the package installed: the daemon has been started with everything else.
set -eu
. /root/accesses.sh

step "booted with the package, the daemon runs, and the doctor says what is missing"
[ "$(systemctl is-active mptcp-pm)" = active ] || fail "not started"
! doctor || fail "the doctor is content without any access"
echo "$said" | grep -q 'no interface leads to the Internet' || fail "the doctor says: $said"
two_accesses
await "a content doctor" is_ready
