//! The object `unsent` at work: subflows of this network namespace hold little beyond what is under way.
use std::os::fd::OwnedFd;

use aya::programs::sock_ops::SockOpsLink;
use mptcp_common::fields::Field;

use super::attach::Object;
use super::{Error, Kernel};

const OBJECT: &str = "unsent";

/// Without these it would let longer paths go without anything, or not know what to give back.
pub(super) const NEEDED: [Field; 12] = [
    Field::Rtt,
    Field::PacingRate,
    Field::Unsent,
    Field::CongestionName,
    Field::IsMptcp,
    Field::UlpData,
    Field::Connection,
    Field::Subflows,
    Field::SubflowNode,
    Field::SubflowSocket,
    Field::BackupByUs,
    Field::BackupByPeer,
];

/// The attached programs; dropping it detaches, and gives all subflows back what they had.
pub struct Unsent {
    object: Object,
    release: OwnedFd,
    /// What does not work here, in a sentence.
    absent: Option<String>,
    link: Option<SockOpsLink>,
}

impl Unsent {
    /// Loads the object for the network namespace of this thread, attaches it, and begins with the subflows that are
    /// there.
    ///
    /// # Errors
    /// When the daemon was built without the object, or the kernel lacks what it needs; see [`Error`].
    pub fn attach(kernel: &Kernel) -> Result<Self, Error> {
        let offsets = kernel.types()?.table_with(&NEEDED)?;
        let mut object = Object::load(OBJECT, &offsets, &[])?;
        let types = kernel.for_aya()?;
        // What cannot be taken back is not begun.
        let release = object.over_sockets(types, "release")?;
        let adopt = object.over_sockets(types, "adopt")?;
        let link = object.attach_to_root("bound")?;
        let absent = object
            .run(&adopt)
            .err()
            .map(|error| format!("older subflows keep what they have: {:#}", anyhow::Error::from(error)));
        Ok(Self { object, release, absent, link: Some(link) })
    }

    /// What does not work on this kernel, in a sentence: the rest does.
    pub fn absent(&self) -> Option<&str> {
        self.absent.as_deref()
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        // Detached first, or it would bound them again.
        drop(self.link.take());
        if let Err(error) = self.object.run(&self.release) {
            tracing::warn!("subflows stay bounded: {:#}", anyhow::Error::from(error));
        }
    }
}
