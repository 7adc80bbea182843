//! Brings what the machine lacks, step by step; a step that is done costs a look at the file system.
pub mod apt;
pub mod cargo_deb;
pub mod emulator;
pub mod kernels;
pub mod mptcpd;
pub mod network_manager;
pub mod programs;
pub mod prometheus;
pub mod selftests;
pub mod sources;

mod bpf_linker;
mod packages;
mod rust_src;
mod unpacked;

pub use bpf_linker::path as bpf_linker;

use anyhow::{Context, Result, bail};

/// One thing that a command needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The standard library's source, from which `core` is built for the BPF target
    RustSrc,
    /// The linker that turns LLVM bitcode into an eBPF object
    BpfLinker,
    /// Commands that tests and demonstration call
    Packages,
    /// The daemon that the benchmarks compare with
    Mptcpd,
    /// The server that scrapes the metrics in a test
    Prometheus,
    /// What manages interfaces beside the daemon in a test
    NetworkManager,
    /// The servers that Debian's clients reach in tests
    Programs,
    /// What boots other kernels
    Emulator,
    /// The kernel's own MPTCP tests
    Selftests,
    /// Commands that these call
    SelftestPackages,
    /// What makes the Debian package
    CargoDeb,
    /// Commands that try the Debian package out
    DistPackages,
}

/// What building needs.
pub const BUILD: &[Step] = &[Step::RustSrc, Step::BpfLinker];
/// What tests need.
pub const TEST: &[Step] =
    &[Step::RustSrc, Step::BpfLinker, Step::Packages, Step::Prometheus, Step::Programs, Step::NetworkManager];
/// What the demonstration needs.
pub const DEMO: &[Step] = &[Step::RustSrc, Step::BpfLinker, Step::Packages];
/// What benchmarks need.
pub const BENCH: &[Step] = &[Step::RustSrc, Step::BpfLinker, Step::Packages, Step::Mptcpd];
/// What other kernels need, beside themselves.
pub const VM: &[Step] = &[Step::Emulator];
/// What the kernel's own tests need.
pub const CONFORMANCE: &[Step] =
    &[Step::RustSrc, Step::BpfLinker, Step::Packages, Step::Selftests, Step::SelftestPackages];
/// What making the package needs.
pub const DIST: &[Step] = &[Step::RustSrc, Step::BpfLinker, Step::CargoDeb, Step::DistPackages];
/// Everything but what the package, other kernels and the kernel's own tests need, which only those bring who ask for them.
const ALL: &[Step] = &[
    Step::RustSrc,
    Step::BpfLinker,
    Step::Packages,
    Step::Mptcpd,
    Step::Prometheus,
    Step::Programs,
    Step::NetworkManager,
];

/// Does every step, reports each, and fails at the end when one of them failed.
pub fn all() -> Result<()> {
    let mut failed = 0;
    for &step in ALL {
        if step.is_done()? {
            println!("{}: ok", step.name());
        } else if let Err(error) = step.bring() {
            println!("{}: {error:#}", step.name());
            failed += 1;
        }
    }
    if failed > 0 {
        bail!("{failed} of {} steps of the set-up failed, see above", ALL.len());
    }
    Ok(())
}

/// Does those of the steps that are missing, silently when none is.
pub fn ensure(steps: &[Step]) -> Result<()> {
    for step in steps {
        if !step.is_done()? {
            step.bring().with_context(|| format!("setting up {}", step.name()))?;
        }
    }
    Ok(())
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::RustSrc => "rust-src",
            Self::BpfLinker => "bpf-linker",
            Self::Packages => "packages",
            Self::Mptcpd => "mptcpd",
            Self::Prometheus => "prometheus",
            Self::NetworkManager => "network-manager",
            Self::Programs => "programs",
            Self::Emulator => "emulator",
            Self::Selftests => "selftests",
            Self::SelftestPackages => "packages of the selftests",
            Self::CargoDeb => "cargo-deb",
            Self::DistPackages => "packages for the package",
        }
    }

    fn is_done(self) -> Result<bool> {
        match self {
            Self::RustSrc => rust_src::is_done(),
            Self::BpfLinker => bpf_linker::is_done(),
            Self::Packages => Ok(packages::is_done(packages::TEST)),
            Self::Mptcpd => mptcpd::is_done(),
            Self::Prometheus => prometheus::is_done(),
            Self::NetworkManager => network_manager::is_done(),
            Self::Programs => programs::is_done(),
            Self::Emulator => emulator::is_done(),
            Self::Selftests => selftests::is_done(),
            Self::SelftestPackages => Ok(packages::is_done(packages::SELFTESTS)),
            Self::CargoDeb => cargo_deb::is_done(),
            Self::DistPackages => Ok(packages::is_done(packages::DIST)),
        }
    }

    fn bring(self) -> Result<()> {
        match self {
            Self::RustSrc => rust_src::bring(),
            Self::BpfLinker => bpf_linker::bring(),
            Self::Packages => packages::bring(packages::TEST),
            Self::Mptcpd => mptcpd::bring(),
            Self::Prometheus => prometheus::bring(),
            Self::NetworkManager => network_manager::bring(),
            Self::Programs => programs::bring(),
            Self::Emulator => emulator::bring(),
            Self::Selftests => selftests::bring(),
            Self::SelftestPackages => packages::bring(packages::SELFTESTS),
            Self::CargoDeb => cargo_deb::bring(),
            Self::DistPackages => packages::bring(packages::DIST),
        }
    }
}
