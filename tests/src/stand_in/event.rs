//! One line for an event, as `pm_nl_ctl events` writes it.
use mptcp_pm::netlink::mptcp_wire::event::{Attribute, Event, Flags};

/// The attributes in the kernel's order; on which side the connection was accepted comes last.
pub fn line(event: &Event) -> String {
    let mut line = format!("type:{}", event.kind.number());
    for attribute in &event.attributes {
        line += &match attribute {
            Attribute::Token(token) => format!(",token:{token}"),
            Attribute::Family(family) => format!(",family:{family}"),
            Attribute::LocId(id) => format!(",loc_id:{id}"),
            Attribute::RemId(id) => format!(",rem_id:{id}"),
            Attribute::Saddr4(addr) => format!(",saddr4:{addr}"),
            Attribute::Saddr6(addr) => format!(",saddr6:{addr}"),
            Attribute::Daddr4(addr) => format!(",daddr4:{addr}"),
            Attribute::Daddr6(addr) => format!(",daddr6:{addr}"),
            Attribute::Sport(port) => format!(",sport:{}", port.0),
            Attribute::Dport(port) => format!(",dport:{}", port.0),
            Attribute::Backup(backup) => format!(",backup:{backup}"),
            Attribute::Error(error) => format!(",error:{error}"),
            Attribute::Flags(flags) if Flags::from_bits_retain(*flags).contains(Flags::DENY_JOIN_ID0) => {
                ",deny_join_id0:1".to_owned()
            }
            _ => String::new(),
        };
    }
    if event.flags().contains(Flags::SERVER_SIDE) {
        line += ",server_side:1";
    }
    line
}

#[cfg(test)]
mod tests {
    use mptcp_pm::netlink::mptcp_wire::event::{BigEndian, Kind};

    use super::*;

    #[test]
    fn the_side_comes_last() {
        let attributes = vec![
            Attribute::Token(1703156579),
            Attribute::Flags(3),
            Attribute::Family(2),
            Attribute::Saddr4("10.0.1.1".parse().unwrap()),
            Attribute::Sport(BigEndian(5000)),
        ];
        assert_eq!(
            line(&Event { kind: Kind::Created, attributes }),
            "type:1,token:1703156579,deny_join_id0:1,family:2,saddr4:10.0.1.1,sport:5000,server_side:1"
        );
    }
}
