//! The daemon: every event into the core, every action out of it, one at a time.
//!
//! ```text
//! routing netlink ─┐
//! mptcp_pm events ─┤
//! signals ─────────┤
//! control socket ──┼─> Event ─> Core ─> Action ─> Executor ─> kernel, state file
//! clock jumps ─────┤             ^                   │
//! NetworkManager ──┤             │                   │
//! eBPF programs ───┤             │                   │
//! echo answers ────┤             │                   │
//! deadlines ───────┘             └────── answer ─────┘
//! ```
//! Scrapes of the metrics are answered here and concern nobody else.
mod answer;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::alarms::Alarms;
use crate::applications::Applications;
use crate::bpf::Kernel;
use crate::clock::{Jumps, processor_time, sleep_until};
use crate::config::{self, Config, Control};
use crate::control::{Call, Server};
use crate::core::Core;
use crate::core::action::Action;
use crate::core::event::Event;
use crate::core::recording;
use crate::coupling::Wanted;
use crate::dbus;
use crate::desktop::Desktop;
use crate::executor::Executor;
use crate::instance::Instance;
use crate::listener::Listener;
use crate::measure::{Due, Measure, Steer};
use crate::metrics::{Endpoint, Scrape};
use crate::netlink::mptcp::Mptcp;
use crate::netlink::route::Routes;
use crate::netlink::watch::{Notice, Watch};
use crate::owners::Owners;
use crate::privileges;
use crate::prober::Prober;
use crate::queues::Queues;
use crate::rivals;
use crate::state::StateFile;

/// How long a stop may take before what is left is left.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// How many changes are taken in before the daemon acts on them: an endless storm must not keep it from that.
const AT_ONCE: usize = 1024;

/// How many actions are carried out before it is heard what is measured: the ring buffer has room for some hundred records,
/// which many short connections fill in a few hundredths of a second.
const IN_A_ROW: usize = 64;

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration; the default file where there is none, if it exists.
    pub config: Option<PathBuf>,
    /// The control socket, in place of the configuration's.
    pub socket: Option<PathBuf>,
    /// The folder of the state file.
    pub runtime_dir: PathBuf,
}

impl Options {
    /// Reads the configuration. Only the default file may be missing.
    fn load(&self) -> anyhow::Result<Config> {
        let mut config = Config::load_or_default(self.config.as_deref())?;
        if let Some(socket) = &self.socket {
            config.control.socket.clone_from(socket);
        }
        Ok(config)
    }
}

/// Runs until a signal ends it.
///
/// # Errors
/// Where it cannot start: the configuration, another daemon, the kernel; or cannot remove what is its own.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let config = options.load()?;
    let instance = Instance::claim()?;
    // Of who has more privileges less is seen: looked for while root has them all.
    if let Some(rival) = rivals::mptcpd() {
        bail!(
            "mptcpd (process {rival}) manages the paths here: stop it first (systemctl disable --now mptcp)"
        );
    }
    privileges::drop_others()?;
    std::fs::create_dir_all(&options.runtime_dir)
        .with_context(|| format!("cannot make the folder {}", options.runtime_dir.display()))?;
    runtime()?.block_on(async {
        tokio::spawn(instance.attend().context("cannot hold the lock of this network namespace")?);
        let mut daemon = Daemon::new(options.clone(), &config).await?;
        let config = config.managed(daemon.default);
        daemon.desktop.follow(&config);
        let desktop = daemon.desktop.first().await;
        daemon.feed(desktop);
        daemon.open_control()?;
        daemon.endpoint.set(config.metrics.as_ref())?;
        tokio::spawn(dbus::serve(daemon.sender.clone(), daemon.measure.feed()));
        // Before the eBPF programs, whose verification takes far longer.
        daemon.act().await;
        daemon.load_programs(&config);
        daemon.live().await
    })
}

/// Removes what a daemon left that did not end well; or leaves it to a successor, and sees that new connections are the
/// kernel's until then.
///
/// # Errors
/// Where one is running, or something of ours cannot be removed.
pub fn cleanup(runtime_dir: PathBuf, keep_paths: bool) -> anyhow::Result<()> {
    privileges::drop_others()?;
    let _instance = Instance::claim()?;
    let options = Options { config: None, socket: None, runtime_dir };
    let end = if keep_paths { End::HandOver } else { End::Clean };
    runtime()?.block_on(async { Daemon::new(options, &Config::default()).await?.stop(end).await })
}

/// The daemon, where it recognises the connections of one before it: no restart may cost a path.
async fn default_manager(mptcp: &mut Mptcp) -> config::Manager {
    match mptcp.tells_endpoints().await {
        Ok(true) => config::Manager::Daemon,
        Ok(false) => config::Manager::Kernel,
        Err(error) => {
            tracing::warn!("the kernel manages paths unless the configuration says otherwise: {error}");
            config::Manager::Kernel
        }
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the event loop")
}

/// Why the daemon comes to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Everything of ours goes.
    Clean,
    /// Everything stays for a successor, so that connections keep their subflows; new ones are the kernel's until then.
    HandOver,
}

struct Daemon {
    options: Options,
    /// What the control socket was made by.
    control: Control,
    /// Who manages where the configuration leaves that open.
    default: config::Manager,
    core: Core,
    executor: Executor,
    watch: Watch,
    listener: Listener,
    /// Where the control server hands its calls over; held so that the other end never closes.
    sender: mpsc::Sender<Call>,
    calls: mpsc::Receiver<Call>,
    endpoint: Endpoint,
    scrapes: mpsc::Receiver<Scrape>,
    signals: Signals,
    jumps: Jumps,
    measure: Measure,
    owners: Owners,
    desktop: Desktop,
    applications: Applications,
    queues: Queues,
    /// The uplinks may be others than those that `measure` knows.
    moved: bool,
    start: Instant,
    ready: bool,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hand_over: Signal,
    reload: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hand_over: signal(SignalKind::user_defined1())?,
            reload: signal(SignalKind::hangup())?,
        })
    }
}

impl Daemon {
    /// Knows nothing yet: its first actions read the kernel.
    async fn new(options: Options, config: &Config) -> anyhow::Result<Self> {
        let signals = Signals::listen().context("cannot listen to signals")?;
        let state = StateFile::in_dir(&options.runtime_dir);
        let owned = state.load()?;
        // Subscribed before anything is dumped: what changes in between is not missed.
        let watch = Watch::open()?;
        let mut mptcp = Mptcp::open().await?;
        let default = default_manager(&mut mptcp).await;
        let executor = Executor {
            mptcp,
            routes: Routes::open().await?,
            state,
            prober: Prober::default(),
            alarms: Alarms::default(),
        };
        let mut core = Core::new(config.clone().managed(default));
        core.handle(Event::Inherited(owned), Duration::ZERO);
        let listener = Listener::listen().await;
        core.handle(Event::Hearing(listener.hears()), Duration::ZERO);
        let (sender, calls) = mpsc::channel(1);
        let (scraper, scrapes) = mpsc::channel(1);
        let jumps = Jumps::watch().context("cannot watch the clock")?;
        Ok(Self {
            control: config.control.clone(),
            options,
            default,
            core,
            executor,
            watch,
            listener,
            sender,
            calls,
            endpoint: Endpoint::new(scraper),
            scrapes,
            signals,
            jumps,
            measure: Measure::new(),
            owners: Owners::new(),
            desktop: Desktop::new(),
            applications: Applications::default(),
            queues: Queues::default(),
            moved: true,
            start: Instant::now(),
            ready: false,
        })
    }

    fn open_control(&self) -> anyhow::Result<()> {
        let server = Server::bind(&self.control)?;
        tokio::spawn(server.serve(self.sender.clone(), self.measure.feed()));
        Ok(())
    }

    fn load_programs(&mut self, config: &Config) {
        let kernel = Kernel::default();
        self.measure.start(&kernel);
        self.owners.start(&kernel);
        self.executor.alarms.follow(self.core.watches(), &kernel);
        self.measure.couple(Wanted::of(config), self.core.connections().services(), &kernel);
        self.queues.set(config.buffers, &kernel);
        self.applications.set(&config.applications, &kernel);
        self.core.handle(Event::Measuring(self.measure.measures()), self.start.elapsed());
    }

    async fn live(mut self) -> anyhow::Result<()> {
        loop {
            self.act().await;
            self.tell_readiness();
            self.steer();
            if let Some(end) = self.wait().await? {
                return self.stop(end).await;
            }
        }
    }

    /// What is measured and watched for the core is what it steers by.
    fn steer(&mut self) {
        self.tell_services(false);
        let steers = self.core.watches();
        self.measure.pace(steers, self.core.is_growing());
        self.executor.alarms.follow(steers, &Kernel::default());
        self.applications.catch_up(&Kernel::default());
    }

    /// Waits for whatever comes first, and hands it to the core.
    async fn wait(&mut self) -> anyhow::Result<Option<End>> {
        let deadline = self.core.next_deadline().map(|at| self.start + at);
        tokio::select! {
            notice = self.watch.next() => self.heard(notice),
            event = self.listener.next(!self.core.manages()) => self.happened(event),
            Some(call) = self.calls.recv() => self.answer(call).await,
            due = self.measure.due() => self.measured(due),
            owned = self.owners.next() => self.feed(owned),
            told = self.desktop.next() => self.feed(told),
            never = self.applications.follow() => match never {},
            alarm = self.executor.alarms.next() => self.alarmed(alarm),
            answer = self.executor.prober.answer() => self.feed(answer),
            // Who has gone does not want to know.
            Some(scrape) = self.scrapes.recv() => drop(scrape.reply.send(self.exposition())),
            () = self.jumps.next() => self.feed(Event::Lost),
            () = sleep_until(deadline) => self.feed(Event::Deadline),
            _ = self.signals.reload.recv() => match self.reload() {
                Ok(()) => {}
                Err(error) => tracing::error!("the configuration stays as it was: {error:#}"),
            },
            _ = self.signals.terminate.recv() => return Ok(Some(End::Clean)),
            _ = self.signals.interrupt.recv() => return Ok(Some(End::Clean)),
            _ = self.signals.hand_over.recv() => return Ok(Some(End::HandOver)),
        }
        Ok(None)
    }

    /// Carries out all that the core wants now; the rest of very much when others have had their turn.
    async fn act(&mut self) {
        self.hear_waiting();
        for number in 1..=AT_ONCE {
            let Some(action) = self.core.next_action(self.start.elapsed()) else {
                self.executor.alarms.left();
                return;
            };
            let reads = matches!(action, Action::Resync | Action::Observe(_));
            let answer = self.executor.perform(action, &mut self.watch).await;
            self.executor.alarms.answered();
            self.feed(answer);
            if reads {
                self.hear_waiting();
            }
            if number % IN_A_ROW == 0 {
                self.tell_places();
                self.measure(Measure::hear_waiting);
            }
        }
    }

    /// Takes in what the kernel has told meanwhile, before the next plan is made: an address and its routes come in
    /// several messages, and so does the echo of what we did.
    fn hear_waiting(&mut self) {
        self.hear_owners();
        for _ in 0..AT_ONCE {
            let Some(change) = self.watch.waiting() else { return };
            self.heard(Notice::Change(change));
        }
    }

    /// Whose connections are is known before anything is decided for them.
    fn hear_owners(&mut self) {
        while let Some(owned) = self.owners.waiting() {
            self.tell_core(owned);
        }
    }

    /// What happens to many connections at once is taken in together.
    fn happened(&mut self, event: Event) {
        let mut next = Some(event);
        for _ in 0..AT_ONCE {
            let Some(event) = next else { return };
            self.hear_owners();
            self.tell_core(event);
            next = self.listener.waiting(!self.core.manages());
        }
    }

    fn feed(&mut self, event: Event) {
        self.moved = true;
        self.tell_core(event);
    }

    fn tell_core(&mut self, event: Event) {
        tell(&mut self.core, event, self.start.elapsed());
    }

    fn measured(&mut self, due: Due) {
        self.tell_places();
        let (begun, is_reading) = (processor_time(), matches!(due, Due::Reading));
        self.measure(|measure, steer| measure.take(due, steer));
        if is_reading {
            self.measure.took(processor_time().saturating_sub(begun));
        }
    }

    /// Has something measured; the core steers by what is read.
    fn measure(&mut self, measure: impl FnOnce(&mut Measure, Steer<'_>)) {
        let now = self.start.elapsed();
        let (core, mut any) = (&mut self.core, false);
        measure(&mut self.measure, &mut |figures| {
            any = true;
            tell(core, Event::Read(figures), now);
        });
        if any {
            self.tell_core(Event::Measured);
        }
    }

    /// Many subflows fall silent at once: they are taken in together.
    fn alarmed(&mut self, alarm: Event) {
        self.tell_core(alarm);
        for _ in 0..AT_ONCE {
            let Some(alarm) = self.executor.alarms.waiting() else { return };
            self.tell_core(alarm);
        }
    }

    /// Congestion controls go by service types.
    fn tell_services(&mut self, at_once: bool) {
        let served = self.core.take_services();
        if at_once || !served.is_empty() {
            self.measure.serve(served, at_once);
        }
    }

    /// Subflows are attributed when they are first seen: to the uplinks as they are by then.
    fn tell_places(&mut self) {
        if std::mem::take(&mut self.moved) {
            self.measure.uplinks(&self.core.report().uplinks);
        }
    }

    fn heard(&mut self, notice: Notice) {
        match notice {
            Notice::Change(change) => {
                tracing::debug!(?change, "kernel");
                self.feed(Event::Changed(change));
            }
            Notice::Lost => {
                tracing::warn!("routing netlink lost messages: reading everything again");
                self.feed(Event::Lost);
            }
        }
    }

    fn reload(&mut self) -> anyhow::Result<()> {
        let config = self.options.load()?.managed(self.default);
        if config.control != self.control {
            bail!("[control] says something else than when the daemon started: restart the daemon for that");
        }
        self.endpoint.set(config.metrics.as_ref())?;
        self.desktop.follow(&config);
        let (kernel, wanted) = (Kernel::default(), Wanted::of(&config));
        self.queues.set(config.buffers, &kernel);
        self.applications.set(&config.applications, &kernel);
        tracing::info!(profile = config.profile.name(), "configuration read");
        self.feed(Event::Configured(config));
        // With the service types that connections have by it.
        self.measure.couple(wanted, self.core.connections().services(), &kernel);
        Ok(())
    }

    /// Everything that can be done has been done when the kernel has been read and no action is due. What failed and
    /// is tried again later does not keep others from starting.
    fn tell_readiness(&mut self) {
        if !self.ready && self.core.report().limits.is_some() {
            self.ready = true;
            tracing::info!("ready");
            // Without a service manager there is nobody to tell.
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        }
    }

    async fn stop(mut self, end: End) -> anyhow::Result<()> {
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        // Before MPTCP may be off again: applications must not notice.
        self.applications = Applications::default();
        if end == End::Clean {
            self.measure.couple(Wanted::default(), std::iter::empty(), &Kernel::default());
        }
        self.feed(match end {
            End::Clean => {
                tracing::info!("stopping: removing what is ours");
                Event::Stop
            }
            End::HandOver => {
                tracing::info!("handing over: everything stays as it is for a successor");
                Event::HandOver
            }
        });
        let cleaned = tokio::time::timeout(STOP_LIMIT, self.clean()).await.is_ok();
        let findings = self.core.report().findings;
        if cleaned && (findings.is_empty() || end == End::HandOver) {
            return Ok(());
        }
        let left: Vec<String> = findings.iter().map(|f| format!("{}: {}", f.object, f.reason)).collect();
        bail!("something of ours is left ({}): `mptcp-pm cleanup` tries again", left.join("; "));
    }

    async fn clean(&mut self) {
        loop {
            self.act().await;
            if self.core.finished() {
                return;
            }
            let deadline = self.core.next_deadline().map(|at| self.start + at);
            tokio::select! {
                notice = self.watch.next() => self.heard(notice),
                () = sleep_until(deadline) => self.feed(Event::Deadline),
            }
        }
    }
}

fn tell(core: &mut Core, event: Event, now: Duration) {
    if tracing::enabled!(tracing::Level::TRACE) {
        recording::lines(&event, now).iter().for_each(|line| tracing::trace!("recorded {line}"));
    }
    core.handle(event, now);
}
