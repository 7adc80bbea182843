//! What the kernel does to routes without a word.
use std::fs;

use crate::harness::*;

/// Routes over both of two cables, in the main table and in one of their own, and with a source.
fn routes_over_two_cables() {
    ip_batch(
        "link add north type veth peer name south\n\
         link set north addrgenmode none\n\
         link set south addrgenmode none\n\
         link set south up\n\
         link set north up\n\
         addr add 10.6.0.2/24 dev north\n\
         addr add 10.6.0.22/24 dev north\n\
         addr add 2001:db8:6::2/64 dev north nodad\n\
         route add default via 10.7.0.1 metric 7\n\
         route add default via 10.6.0.1 metric 6 src 10.6.0.22\n\
         route add default via 10.7.0.1 table 700 src 10.7.0.2\n\
         route add default via 10.6.0.1 table 600 src 10.6.0.22\n\
         route add 192.0.2.0/24 nexthop via 10.7.0.1 dev east nexthop via 10.6.0.1 dev north\n\
         route add default via 2001:db8:7::1 table 700 src 2001:db8:7::2\n\
         route add default via 2001:db8:6::1 table 600 src 2001:db8:6::2\n\
         route add 2001:db8:5::/48 nexthop via 2001:db8:7::1 dev east nexthop via 2001:db8:6::1 dev north\n",
    );
}

/// After each of these the kernel removes or changes routes without a word, some of them at least.
#[test]
fn what_the_kernel_does_silently_is_told() {
    let deeds: [&[&str]; 10] = [
        &["link set east down"],
        &["link set north down", "link set east down"],
        &["link set north down", "link set north up", "link set east down"],
        &["link del north"],
        &["link set north down", "link del north"],
        &["addr del 10.7.0.2/24 dev east"],
        &["addr del 10.6.0.22/24 dev north"],
        &["addr del 10.6.0.2/24 dev north"],
        &["-4 addr flush dev north", "-4 addr flush dev east"],
        &["addr del 2001:db8:7::2/64 dev east", "addr del 2001:db8:6::2/64 dev north"],
    ];
    for quiet_ipv6 in [false, true] {
        for deed in deeds {
            in_namespace(|| async move {
                cable();
                routes_over_two_cables();
                if quiet_ipv6 {
                    fs::write("/proc/sys/net/ipv6/route/skip_notify_on_dev_down", "1").unwrap();
                }
                let mut observer = Observer::start().await;
                for step in deed {
                    ip(step);
                    observer.agrees().await;
                }
                observer.all().await;
                observer.agrees().await;
            });
        }
    }
}

/// Without an IPv6 route or an address that goes too, of which the kernel tells.
#[test]
fn an_ipv4_route_goes_with_the_device_of_one_next_hop() {
    in_namespace(|| async {
        cable();
        routes_over_two_cables();
        ip("-6 route flush table main");
        ip("-6 route flush table 600");
        ip("link set north down");
        ip("-4 addr flush dev north");
        let mut observer = Observer::start().await;
        ip("link del north");
        observer.agrees().await;
        observer.all().await;
        observer.agrees().await;
    });
}
