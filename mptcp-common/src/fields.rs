//! The members of kernel structures that the eBPF programs read, by name; where they are is found out before loading.
//!
//! rustc emits no CO-RE relocations. So a program looks up each offset in a table in its `.rodata`, which the loader
//! fills from the running kernel's BTF and the kernel freezes: to the verifier it is a constant.

/// Declares the fields with the places where the kernel has them.
macro_rules! fields {
    ($($field:ident = $structure:literal $member:literal;)*) => {
        /// A member of a kernel structure: its index in the table of offsets.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Field {
            $(#[doc = concat!("`", $structure, ".", $member, "`")] $field,)*
        }

        impl Field {
            /// All of them, in the table's order.
            pub const ALL: &[Self] = &[$(Self::$field,)*];

            /// Its structure and its name; a dot leads into a structure inside.
            pub const fn name(self) -> (&'static str, &'static str) {
                match self {
                    $(Self::$field => ($structure, $member),)*
                }
            }
        }
    };
}

fields! {
    Family = "sock_common" "skc_family";
    State = "sock_common" "skc_state";
    BoundTo = "sock_common" "skc_bound_dev_if";
    LocalPort = "sock_common" "skc_num";
    RemotePort = "sock_common" "skc_dport";
    LocalV4 = "sock_common" "skc_rcv_saddr";
    RemoteV4 = "sock_common" "skc_daddr";
    LocalV6 = "sock_common" "skc_v6_rcv_saddr";
    RemoteV6 = "sock_common" "skc_v6_daddr";
    Flags = "sock_common" "skc_flags";
    Namespace = "sock_common" "skc_net.net";
    Cookie = "sock_common" "skc_cookie";
    Locked = "sock" "sk_lock.slock";
    Owned = "sock" "sk_lock.owned";
    Queued = "sock" "sk_wmem_queued";
    PacingRate = "sock" "sk_pacing_rate";
    User = "sock" "sk_uid";
    Cgroup = "sock" "sk_cgrp_data.cgroup";
    CgroupsOfThread = "task_struct" "cgroups";
    DefaultCgroup = "css_set" "dfl_cgrp";
    CgroupNode = "cgroup" "kn";
    NodeId = "kernfs_node" "id";
    NamespaceCookie = "net" "net_cookie";
    ThreadLeader = "task_struct" "group_leader";
    ProcessId = "task_struct" "tgid";
    ProcessName = "task_struct" "comm";
    Namespaces = "task_struct" "nsproxy";
    NetworkNamespace = "nsproxy" "net_ns";
    Credentials = "task_struct" "cred";
    FileUser = "cred" "fsuid";
    ReceivedBy = "sock" "sk_rx_dst_ifindex";
    OnItsWay = "sock" "tcp_rtx_queue.rb_node";
    TreeLeft = "rb_node" "rb_left";
    PacketNode = "sk_buff" "rbnode";
    PacketSent = "sk_buff" "skb_mstamp_ns";
    CongestionOps = "inet_connection_sock" "icsk_ca_ops";
    CongestionState = "inet_connection_sock" "icsk_ca_state";
    LastReceived = "inet_connection_sock" "icsk_ack.lrcvtime";
    UlpData = "inet_connection_sock" "icsk_ulp_data";
    CongestionPrivate = "inet_connection_sock" "icsk_ca_priv";
    CongestionName = "tcp_congestion_ops" "name";
    OwnPace = "tcp_congestion_ops" "cong_control";
    BytesSent = "tcp_sock" "bytes_sent";
    BytesAcked = "tcp_sock" "bytes_acked";
    BytesReceived = "tcp_sock" "bytes_received";
    BytesRetransmitted = "tcp_sock" "bytes_retrans";
    SegmentsOut = "tcp_sock" "segs_out";
    SegmentsIn = "tcp_sock" "segs_in";
    DataSegmentsOut = "tcp_sock" "data_segs_out";
    DataSegmentsIn = "tcp_sock" "data_segs_in";
    SegmentsRetransmitted = "tcp_sock" "total_retrans";
    Delivered = "tcp_sock" "delivered_mstamp";
    RateDelivered = "tcp_sock" "rate_delivered";
    RateInterval = "tcp_sock" "rate_interval_us";
    Rtt = "tcp_sock" "srtt_us";
    RttDeviation = "tcp_sock" "mdev_us";
    RttMin = "tcp_sock" "rtt_min";
    Window = "tcp_sock" "snd_cwnd";
    WindowCounted = "tcp_sock" "snd_cwnd_cnt";
    WindowClamp = "tcp_sock" "snd_cwnd_clamp";
    WindowBefore = "tcp_sock" "prior_cwnd";
    IsWindowLimited = "tcp_sock" "is_cwnd_limited";
    MostInFlight = "tcp_sock" "max_packets_out";
    Threshold = "tcp_sock" "snd_ssthresh";
    SegmentSize = "tcp_sock" "mss_cache";
    InFlight = "tcp_sock" "packets_out";
    Sacked = "tcp_sock" "sacked_out";
    Lost = "tcp_sock" "lost_out";
    Repeated = "tcp_sock" "retrans_out";
    Unacknowledged = "tcp_sock" "snd_una";
    NextToSend = "tcp_sock" "snd_nxt";
    AnswerReceived = "tcp_sock" "rcv_tstamp";
    ReceiverRtt = "tcp_sock" "rcv_rtt_est.rtt_us";
    CalledAt = "tcp_sock" "bpf_sock_ops_cb_flags";
    IsMptcp = "tcp_sock" "is_mptcp";
    Unsent = "tcp_sock" "notsent_lowat";
    Token = "mptcp_sock" "token";
    ChosenControl = "mptcp_sock" "ca_name";
    DefaultControl = "net" "ipv4.tcp_congestion_control";
    Subflows = "mptcp_sock" "conn_list";
    SubflowNode = "mptcp_subflow_context" "node";
    SubflowSocket = "mptcp_subflow_context" "tcp_sock";
    Connection = "mptcp_subflow_context" "conn";
    MpCapable = "mptcp_subflow_context" "mp_capable";
    MpJoin = "mptcp_subflow_context" "mp_join";
    RequestMptcp = "mptcp_subflow_context" "request_mptcp";
    RequestJoin = "mptcp_subflow_context" "request_join";
    BackupByUs = "mptcp_subflow_context" "request_bkup";
    BackupByPeer = "mptcp_subflow_context" "backup";
    LocalId = "mptcp_subflow_context" "local_id";
    RemoteId = "mptcp_subflow_context" "remote_id";
}

/// How many there are.
pub const COUNT: usize = Field::ALL.len();

/// Stands in the table for a field that this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_is_at_its_own_index() {
        for (index, field) in Field::ALL.iter().enumerate() {
            assert_eq!(*field as usize, index);
        }
    }
}
