//! What the system refuses the daemon: programs that the verifier does not take, room for its state file. It is told once, by
//! name, and the rest works.
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::daemon::{Daemon, binary};
use tests::kernel;
use tests::running::{Running, goes_on};
use tests::traffic::{Protocol, Server};
use tests::{Family, Lab, Scenario, congestion};

/// Everything that there is to load is wanted.
const ALL: &str = "profile = \"heavy\"\nmanager = \"daemon\"\ncongestion = \"lia\"\n";
const ENDPOINTS: [&str; 2] = ["10.1.0.2 subflow dev wifi0", "10.2.0.2 subflow dev lte0"];

#[test]
fn an_object_that_the_verifier_refuses_is_told_once_and_the_rest_works() -> Result<()> {
    let _turn = congestion::turn()?;
    let mut lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    // One that aya loads, and one of those that it does not.
    for object in ["silence", "coupled"] {
        lab = without(object, lab).with_context(|| object.to_owned())?;
    }
    Ok(())
}

/// The daemon with one object spoilt.
fn without(object: &str, lab: Lab) -> Result<Lab> {
    let client = Arc::clone(lab.host("client"));
    let spoilt = client.scratch().join(format!("mptcp-pm-{object}"));
    spoil(object, &spoilt)?;
    let exec = format!("shift; exec '{}' \"$@\"", spoilt.display());
    let daemon = Daemon::start_in_charge(&client, ALL, &["sh", "-c", &exec, "sh"])?;
    let server = Server::start(lab.host("server"), Protocol::Mptcp)?;
    let run = Running { daemon, server, lab };
    let status = run.await_status("all as wanted", |status| status["findings"] == serde_json::json!([]))?;
    let features = status["ebpf"].as_array().context("no list of objects")?;
    let absent = features.iter().filter(|feature| !feature["absent"].is_null());
    let absent: Vec<&Value> = absent.collect();
    ensure!(absent.len() == 1 && absent[0]["name"] == object, "{features:#?}");
    run.await_endpoints(&ENDPOINTS)?;
    let talk = run.talk()?;
    run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;
    goes_on(&talk)?;
    let told = format!("WARN eBPF object {object} is not");
    let log = run.daemon.log();
    ensure!(log.matches(&told).count() == 1, "not told once:\n{log}");
    let Running { daemon, lab, .. } = run;
    daemon.stop()?;
    fs::remove_file(&spoilt).context("remove the spoilt daemon")?;
    Ok(lab)
}

/// Copies the daemon, but with all ends of functions of an object replaced by an instruction that does not exist.
fn spoil(object: &str, copy: &Path) -> Result<()> {
    const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];
    let daemon = binary()?;
    let file =
        daemon.parent().and_then(Path::parent).context("the daemon lies nowhere")?.join("ebpf").join(object);
    let bytes = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    let mut program = fs::read(daemon)?;
    let place = find(&program, &bytes).with_context(|| format!("{object} is not in the daemon"))?;
    let inside = &mut program[place..place + bytes.len()];
    let exits = inside.chunks_exact_mut(8).filter(|instruction| **instruction == EXIT);
    let spoilt = exits.map(|exit| exit[0] = 0xff).count();
    ensure!(spoilt > 0, "{object} has no function");
    fs::write(copy, program)?;
    fs::set_permissions(copy, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(())
}

fn find(whole: &[u8], part: &[u8]) -> Option<usize> {
    let begin = part.get(..64)?;
    let step = 8;
    (0..whole.len().saturating_sub(part.len()))
        .step_by(step)
        .find(|place| &whole[*place..*place + begin.len()] == begin && whole[*place..].starts_with(part))
}

#[test]
fn without_room_for_the_state_file_the_daemon_goes_on_and_says_so() -> Result<()> {
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    let client = Arc::clone(lab.host("client"));
    let before = kernel::dump(&client)?;
    let folder = Daemon::runtime_dir(&client);
    fs::create_dir_all(&folder)?;
    let mount = format!("mount -t tmpfs -o size=16k none '{}' && exec \"$@\"", folder.display());
    let way = ["unshare", "--mount", "sh", "-c", &mount, "sh"];
    let daemon = Daemon::start_through(&client, "profile = \"heavy\"\n", &way)?;
    let server = Server::start(lab.host("server"), Protocol::Mptcp)?;
    let run = Running { daemon, server, lab };
    run.await_endpoints(&ENDPOINTS)?;
    let disk = Disk::of(&run.daemon, &folder);
    disk.fill()?;
    client.ip("address add 10.1.0.77/24 dev wifi0")?;
    client.ip("address del 10.1.0.2/24 dev wifi0")?;
    client.ip("address replace 10.1.0.77/24 dev wifi0")?;
    client.ip("route replace default via 10.1.0.1 dev wifi0 proto dhcp metric 600")?;
    let told = |status: &Value| {
        let findings = status["findings"].as_array().into_iter().flatten();
        findings.clone().any(|finding| finding.to_string().contains("No space left on device"))
    };
    let look = || run.daemon.status();
    run.daemon.await_that("a finding about the disk", look, told)?;
    // Connections matter more than tidiness.
    run.await_endpoints(&["10.1.0.77 subflow dev wifi0", ENDPOINTS[1]])?;
    let talk = run.talk()?;
    run.await_subflows(&["10.1.0.77", "10.2.0.2"])?;
    ensure!(!disk.state()?.contains("10.1.0.77"), "there was room");
    ensure!(!disk.0.with_file_name("state.new").exists(), "half a file lies about");
    disk.empty()?;
    run.await_status("all as wanted", |status| status["findings"] == serde_json::json!([]))?;
    ensure!(disk.state()?.contains("10.1.0.77"), "{}", disk.state()?);
    goes_on(&talk)?;
    drop(talk);
    client.ip("address del 10.1.0.77/24 dev wifi0")?;
    client.ip("address add 10.1.0.2/24 dev wifi0")?;
    client.ip("route replace default via 10.1.0.1 dev wifi0 proto dhcp metric 600")?;
    run.await_endpoints(&ENDPOINTS)?;
    disk.fill()?;
    let Running { daemon, lab, .. } = run;
    daemon.stop()?;
    ensure!(kernel::dump(&client)? == before, "left behind: {:#?}", kernel::dump(&client)?);
    drop(lab);
    Ok(())
}

/// The file system of a daemon's state file, which only the daemon sees.
struct Disk(PathBuf);

impl Disk {
    fn of(daemon: &Daemon, folder: &Path) -> Self {
        let root = PathBuf::from(format!("/proc/{}/root", daemon.id()));
        Self(root.join(folder.strip_prefix("/").unwrap_or(folder)).join("filling"))
    }

    /// What is written down as the daemon's.
    fn state(&self) -> Result<String> {
        fs::read_to_string(self.0.with_file_name("state.json")).context("read the state file")
    }

    /// Leaves not a byte, nor any at the end of the state file's last page: blank lines there say nothing.
    fn fill(&self) -> Result<()> {
        const PAGE: usize = 4096;
        let mut state = fs::File::options().append(true).open(self.0.with_file_name("state.json"))?;
        let length = state.metadata()?.len() as usize;
        state.write_all(&vec![b'\n'; length.next_multiple_of(PAGE) - length])?;
        let full = fs::write(&self.0, vec![0; 64 << 10]);
        ensure!(
            full.is_err_and(|error| error.kind() == std::io::ErrorKind::StorageFull),
            "there is room left"
        );
        Ok(())
    }

    fn empty(&self) -> Result<()> {
        fs::remove_file(&self.0).context("make room")
    }
}
