//! Applications that ask for TCP get MPTCP, as the configuration wants it: loaded when there is something to convert,
//! loaded anew when that changes.
use crate::bpf::mptcpify::Mptcpify;
use crate::bpf::{Error, Kernel};
use crate::config::ApplicationRule;
use crate::core::world::Sysctl;
use crate::sysctl;
use crate::view::status::Feature;

/// What serves where the kernel lets no program decide.
const REMEDY: &str = "use `mptcp-pm exec -- COMMAND` to start programs with MPTCP";

/// While MPTCP is off, a socket that asks for it is an error that applications would see.
const OFF: &str = "net.mptcp.enabled is 0 until an uplink is used";

/// The conversion of this network namespace's sockets. Dropping it ends it; sockets stay what they are.
#[derive(Default)]
pub struct Applications {
    /// The rules that say something about MPTCP; none where no one says yes.
    wanted: Vec<ApplicationRule>,
    loaded: Option<Mptcpify>,
    /// Why what is wanted does not work.
    absent: Option<String>,
}

impl Applications {
    /// Does from now on what these rules say. What does not work is logged once, and told by [`Self::feature`]. Needs a
    /// tokio runtime around it.
    pub fn set(&mut self, rules: &[ApplicationRule], kernel: &Kernel) {
        let mut wanted: Vec<_> = rules.iter().filter(|rule| rule.mptcp.is_some()).cloned().collect();
        if !wanted.iter().any(|rule| rule.mptcp == Some(true)) {
            wanted.clear();
        }
        let is_at_work = self.loaded.is_some() || wanted.is_empty();
        if is_at_work && are_same(&wanted, &self.wanted) {
            return;
        }
        self.wanted = wanted;
        if self.wanted.is_empty() {
            (self.loaded, self.absent) = (None, None);
            return;
        }
        self.load(kernel);
    }

    /// Does what was put off while MPTCP was off: the daemon switches it on with the first uplink.
    pub fn catch_up(&mut self, kernel: &Kernel) {
        if self.absent.as_deref() == Some(OFF) && is_on() {
            self.load(kernel);
        }
    }

    /// The former one goes when the new one is there, so that no socket falls between them.
    fn load(&mut self, kernel: &Kernel) {
        if !is_on() {
            (self.loaded, self.absent) = (None, Some(OFF.to_owned()));
            return;
        }
        match Mptcpify::attach(kernel, &self.wanted) {
            Ok(loaded) => (self.loaded, self.absent) = (Some(loaded), None),
            Err(error) => self.give_up(error),
        }
    }

    /// Takes in the cgroups that begin, for ever. Cancelling it loses nothing.
    pub async fn follow(&mut self) -> std::convert::Infallible {
        loop {
            let Some(loaded) = &mut self.loaded else { return std::future::pending().await };
            if let Err(error) = loaded.follow().await {
                self.give_up(error);
            }
        }
    }

    /// Whether it works; nothing where nobody asked for it.
    pub fn feature(&self) -> Option<Feature> {
        let wanted = !self.wanted.is_empty();
        wanted.then(|| Feature { name: "mptcpify".to_owned(), absent: self.absent.clone() })
    }

    fn give_up(&mut self, error: Error) {
        let reason = format!("{:#}; {REMEDY}", anyhow::Error::from(error));
        if self.absent.as_ref() != Some(&reason) {
            tracing::warn!("eBPF object mptcpify is not at work, applications keep TCP: {reason}");
        }
        (self.loaded, self.absent) = (None, Some(reason));
    }
}

/// Whether sockets may speak MPTCP in this network namespace.
fn is_on() -> bool {
    sysctl::read(&Sysctl::Enabled).is_ok_and(|value| value.as_deref() == Some("1"))
}

/// Whether the rules say the same; where they stand in the file does not matter.
fn are_same(one: &[ApplicationRule], other: &[ApplicationRule]) -> bool {
    let says = |rule: &ApplicationRule| (rule.matching.clone(), rule.mptcp);
    one.iter().map(says).eq(other.iter().map(says))
}
