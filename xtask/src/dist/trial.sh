#!/bin/sh
# Runs as root in a booted tree that has /root/old.deb and /root/new.deb: a machine with two accesses and a connection that
# talks all the time. Says what it looks at, and ends with an error at the first thing that is not right.
set -eu

. /root/accesses.sh
subflows() { ss -Htin state established | grep -B1 tcp-ulp-mptcp | grep -o '10\.[12]\.0\.2[^ ]*:[0-9]*' | sort; }
two_subflows() { [ "$(subflows | wc -l)" = 2 ]; }
goes_on() { counted=$(cat /root/count); await "the connection goes on" sh -c "[ \$(cat /root/count) -gt $((counted + 20)) ]"; }
works() { [ "$(mptcp-pm status --json | grep -c '"settled": true')" = 1 ]; }
manager() { cat /proc/sys/net/mptcp/path_manager; }
handed_over() { journalctl --no-pager --unit mptcp-pm | grep -c 'handing over'; }
main_pid() { systemctl show --property MainPID --value mptcp-pm; }

step "two accesses and a server behind them"
two_accesses
# Both ends say a byte in turn; 262 is IPPROTO_MPTCP. /root/count says how often.
ip netns exec there perl -MSocket -e '
    socket(L, PF_INET, SOCK_STREAM, 262) and bind(L, sockaddr_in(4711, INADDR_ANY)) and listen(L, 9) or die $!;
    while (accept(C, L)) { if (!fork) { syswrite(C, $b) while sysread(C, $b, 1); exit } close(C) }' &

step "installed, the daemon is started and does everything"
dpkg --install /root/old.deb >/dev/null 2>&1 || fail "not installed"
[ "$(systemctl is-active mptcp-pm)" = active ] || fail "not started"
is_ready || fail "the doctor says: $said"
step "the doctor says: $said"
printf 'profile = "heavy"\nmanager = "daemon"\n' > /etc/mptcp-pm/mptcp-pm.toml
systemctl reload mptcp-pm || fail "not reloaded"
await "the daemon is in charge" grep -q userspace /proc/sys/net/mptcp/path_manager
! mptcp-pm status | grep -q absent || fail "$(mptcp-pm status)"
perl -MSocket -e '
    socket(S, PF_INET, SOCK_STREAM, 262) and connect(S, sockaddr_in(4711, inet_aton("10.1.0.1"))) or die $!;
    for ($n = 1; ; $n++) {
        syswrite(S, "x") == 1 and sysread(S, $b, 1) == 1 or die "ended";
        open(F, ">", "/root/new") and print(F "$n\n") and close(F) and rename("/root/new", "/root/count");
        select(undef, undef, undef, 0.01) }' &
talker=$!
await "a connection" test -s /root/count
await "two subflows" two_subflows
mptcp-pm doctor || fail "the doctor is not content"
before=$(subflows)

step "members of the group ask it, over its socket and over D-Bus; others may not, and only root sets"
useradd --user-group --groups mptcp-pm member
useradd --user-group stranger
as() { user=$1; shift; setpriv --reuid "$user" --regid "$user" --init-groups "$@"; }
ask="busctl call mptcp_pm.Daemon1 /mptcp_pm/Daemon1 mptcp_pm.Daemon1"
token=$(mptcp-pm status --json | grep -o '"token": [0-9]*' | head -n 1 | cut -d ' ' -f 2)
$ask GetService u "$token" >/dev/null || fail "root may not ask"
$ask SetService us "$token" aggregate >/dev/null || fail "root may not set"
as member $ask GetStatus >/dev/null || fail "a member may not ask on the bus"
as member mptcp-pm status >/dev/null || fail "a member may not ask on the socket"
! as member $ask SetService us "$token" single 2>/dev/null || fail "a member may set"
! as stranger $ask GetStatus 2>/dev/null || fail "a stranger may ask on the bus"
! as stranger mptcp-pm status 2>/dev/null || fail "a stranger may ask on the socket"

step "a command and a unit are put into slices, and the unit's file stays as it is"
mptcp-pm slice run single -- perl -MSocket -e '
    socket(S, PF_INET, SOCK_STREAM, 262) and connect(S, sockaddr_in(4711, inet_aton("10.1.0.1"))) or die $!;
    sleep 1000' &
sliced=$!
by_slice() { mptcp-pm status --json | grep -q '"by": "slice"'; }
await "a connection whose slice decides" by_slice
grep -q '/mptcp.slice/mptcp-single.slice/' "/proc/$sliced/cgroup" || fail "$(cat "/proc/$sliced/cgroup")"
kill "$sliced"
unit=/usr/lib/systemd/system/sample.service
printf '[Service]\nExecStart=/bin/sleep 1000\n' > "$unit"
sum=$(cksum < "$unit")
systemctl daemon-reload
mptcp-pm slice unit sample.service aggregate >/dev/null || fail "no slice for a unit"
systemctl start sample
slice_of() { systemctl show --property Slice --value sample; }
[ "$(slice_of)" = mptcp-aggregate.slice ] || fail "the unit is in $(slice_of)"
mptcp-pm slice list | grep -q '^sample.service: aggregate$' || fail "$(mptcp-pm slice list)"
mptcp-pm slice remove sample.service >/dev/null || fail "the unit stays in its slice"
systemctl restart sample
[ "$(slice_of)" = system.slice ] || fail "the unit is in $(slice_of)"
[ "$(cksum < "$unit")" = "$sum" ] || fail "the unit's file has changed"
systemctl stop sample
await "two subflows" two_subflows

step "upgraded, the connection keeps its subflows"
old=$(main_pid)
dpkg --install --force-confold /root/new.deb >/dev/null 2>&1 || fail "not upgraded"
[ "$(main_pid)" != "$old" ] || fail "the upgrade has not restarted the daemon"
await "the daemon is in charge" grep -q userspace /proc/sys/net/mptcp/path_manager
await "all as wanted" works
[ "$(subflows)" = "$before" ] || fail "subflows before: $before; after: $(subflows)"
goes_on

step "killed, it comes back and the connection keeps its subflows"
old=$(main_pid)
counted=$(handed_over)
kill -KILL "$old"
restarted() { [ "$(main_pid)" != "$old" ] && [ "$(main_pid)" != 0 ] && works; }
await "another daemon" restarted
[ "$(handed_over)" -gt "$counted" ] || fail "nobody gave new connections back to the kernel meanwhile"
[ "$(subflows)" = "$before" ] || fail "subflows before: $before; after: $(subflows)"
goes_on
# A connection may end while a subflow for it is under way.
complaints() { journalctl --no-pager --unit mptcp-pm | grep 'cannot\|refused\|denied' | grep -v ENOTCONN; }
! complaints || fail "the log has complaints"

step "removed, it leaves nothing"
kill "$talker"
dpkg --remove mptcp-pm >/dev/null 2>&1 || fail "not removed"
[ "$(manager)" = kernel ] || fail "the path manager is still $(manager)"
! ip rule | grep -q '3050[01]' || fail "rules are left: $(ip rule)"
[ -z "$(ip mptcp endpoint)" ] || fail "endpoints are left: $(ip mptcp endpoint)"
[ -z "$(systemctl list-units --failed --plain --no-legend)" ] || fail "$(systemctl --failed)"
