//! The lab proves itself on the running kernel.

use anyhow::Result;
use tests::traffic::{self, Options, Protocol, Server, Spoken};
use tests::{Family, Lab, Scenario};

#[test]
fn starts() -> Result<()> {
    for family in Family::ALL {
        let lab = Lab::start(&Scenario::load("two-providers")?, family)?;
        let server = Server::start(lab.host("server"), Protocol::Mptcp)?;
        let client = lab.host("client");
        for run in [traffic::bulk_up, traffic::bulk_down] {
            let report = run(client, &server, Options::bytes(3 << 20))?;
            assert!(report.intact());
            assert_eq!(report.spoken, Spoken::Mptcp);
            println!("{:?} {:.1} Mbit/s stall {:?}", report.duration, report.rate() / 1e6, report.stall);
        }
        let report = traffic::request_response(client, &server, Options::messages(10, 200, 300))?;
        assert!(report.intact());
        println!("{:?}", report.latencies);
    }
    Ok(())
}
