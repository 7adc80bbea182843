//! Prints for people, in at most 80 columns wherever the words allow it, and for programs, as JSON.

use serde_json::{Value, json};

use crate::core::world::{Endpoint, Limits};
use crate::interfaces::name;

/// The widest line.
const COLUMNS: usize = 80;

/// One line for each endpoint, or two where one is too long.
pub fn endpoints(endpoints: &[Endpoint]) -> String {
    if endpoints.is_empty() {
        return "no endpoints\n".into();
    }
    endpoints.iter().map(endpoint).collect()
}

/// The endpoints as the help of `endpoint list` documents them.
pub fn endpoints_json(endpoints: &[Endpoint]) -> Value {
    let object = |endpoint: &Endpoint| {
        json!({
            "id": endpoint.id,
            "addr": endpoint.addr,
            "port": endpoint.port,
            "interface": endpoint.ifindex.and_then(name),
            "ifindex": endpoint.ifindex,
            "flags": endpoint.flags,
        })
    };
    endpoints.iter().map(object).collect()
}

/// The limits, one line for each.
pub fn limits(limits: Limits) -> String {
    format!("subflows           {}\nadd-addr-accepted  {}\n", limits.subflows, limits.add_addr_accepted)
}

/// The limits as the help of `limits` documents them.
pub fn limits_json(limits: Limits) -> Value {
    json!({ "subflows": limits.subflows, "add_addr_accepted": limits.add_addr_accepted })
}

/// JSON as it is printed: indented, with an end of line.
pub(super) fn json(value: &Value) -> String {
    format!("{value:#}\n")
}

fn endpoint(endpoint: &Endpoint) -> String {
    let address = match endpoint.port {
        0 => endpoint.addr.to_string(),
        port => std::net::SocketAddr::new(endpoint.addr, port).to_string(),
    };
    let dev = endpoint.ifindex.map(|index| name(index).unwrap_or(format!("#{index}")));
    let line = format!("{:>3}  {address:<24}  {:<15}", endpoint.id, dev.as_deref().unwrap_or("-"));
    let flags = endpoint.flags.to_string();
    match line.chars().count() + 2 + flags.len() <= COLUMNS {
        true => format!("{line}  {flags}\n"),
        false => format!("{}\n     {flags}\n", line.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::world::{EndpointFlags, IfIndex};

    fn endpoint(id: u8, addr: &str, port: u16, ifindex: Option<IfIndex>, flags: EndpointFlags) -> Endpoint {
        Endpoint { id, addr: addr.parse().expect("parses"), port, ifindex, flags }
    }

    #[test]
    fn endpoints_are_lines_of_eighty_columns() {
        let lo = nix::net::if_::if_nametoindex("lo").expect("every namespace has it");
        let both = EndpointFlags::SUBFLOW | EndpointFlags::BACKUP;
        let list = [
            endpoint(1, "192.0.2.1", 0, Some(lo), both),
            endpoint(
                12,
                "192.0.2.2",
                5000,
                None,
                EndpointFlags::SIGNAL | EndpointFlags::from_bits_retain(1 << 9),
            ),
            endpoint(255, "2001:db8:1111:2222:3333:4444:5555:6666", 65535, Some(u32::MAX >> 1), all()),
            endpoint(3, "192.0.2.3", 0, None, EndpointFlags::empty()),
        ];
        let expected = "  1  192.0.2.1                 lo               subflow,backup
 12  192.0.2.2:5000            -                signal,0x200
255  [2001:db8:1111:2222:3333:4444:5555:6666]:65535  #2147483647
     signal,subflow,backup,fullmesh,implicit,laminar
  3  192.0.2.3                 -                -
";
        assert_eq!(endpoints(&list), expected);
        assert_eq!(endpoints(&[]), "no endpoints\n");
    }

    fn all() -> EndpointFlags {
        EndpointFlags::from_bits_retain(0x3f)
    }

    #[test]
    fn json_is_as_documented() {
        let lo = nix::net::if_::if_nametoindex("lo").expect("every namespace has it");
        let list = [endpoint(1, "2001:db8::1", 0, Some(lo), all()), endpoint(2, "192.0.2.1", 5, None, all())];
        let flags = json!(["signal", "subflow", "backup", "fullmesh", "implicit", "laminar"]);
        let expected = json!([
            {"id": 1, "addr": "2001:db8::1", "port": 0, "interface": "lo", "ifindex": lo, "flags": flags},
            {"id": 2, "addr": "192.0.2.1", "port": 5, "interface": null, "ifindex": null, "flags": flags},
        ]);
        assert_eq!(endpoints_json(&list), expected);
        let two = Limits { subflows: 2, add_addr_accepted: 0 };
        assert_eq!(limits_json(two), json!({"subflows": 2, "add_addr_accepted": 0}));
        assert_eq!(limits(two), "subflows           2\nadd-addr-accepted  0\n");
    }
}
