#!/bin/sh
# For the scripts that run in a booted tree: how they speak and wait, and a machine with two accesses and somebody behind them.
step() { echo "  $*"; }
fail() { echo "$*"; journalctl --no-pager --unit mptcp-pm | tail -n 40; exit 1; }
# Waits for a condition, at most half a minute.
await() {
    what=$1; shift
    for _ in $(seq 300); do if "$@" >/dev/null 2>&1; then return; fi; sleep 0.1; done
    fail "not within 30 s: $what"
}
doctor() { said=$(mptcp-pm doctor); }
is_ready() { doctor && [ "${said#ready:}" != "$said" ]; }

two_accesses() {
    ip netns add there
    for n in 1 2; do
        ip link add "way$n" type veth peer name "end$n" netns there
        ip address add "10.$n.0.2/24" dev "way$n"
        ip link set "way$n" up
        ip -n there address add "10.$n.0.1/24" dev "end$n"
        ip -n there link set "end$n" up
        ip route add default via "10.$n.0.1" dev "way$n" metric "$((100 * n))"
    done
    ip -n there link set lo up
}
