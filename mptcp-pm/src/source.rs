//! An eBPF object that the daemon listens to where the kernel takes it: loaded or not, and why not.
use crate::bpf::Error;
use crate::view::status::Feature;

/// An object by its name.
pub struct Source<T> {
    name: &'static str,
    loaded: Option<T>,
    /// Why it is not at work, or not all of it.
    absent: Option<String>,
}

impl<T> Source<T> {
    /// Not loaded yet.
    pub fn new(name: &'static str) -> Self {
        Self { name, loaded: None, absent: Some("not loaded yet".to_owned()) }
    }

    /// Takes it over as it was loaded, with what it says that it lacks. What does not work is logged.
    pub fn begin(&mut self, attached: Result<T, Error>, lacks: impl FnOnce(&T) -> Option<String>) {
        match attached {
            Ok(loaded) => {
                self.absent = lacks(&loaded);
                self.loaded = Some(loaded);
            }
            Err(error) => self.absent = Some(reason(error)),
        }
        if let Some(reason) = &self.absent {
            tracing::warn!("eBPF object {} is not wholly at work: {reason}", self.name);
        }
    }

    /// Does without it from now on.
    pub fn give_up(&mut self, error: Error) {
        let reason = reason(error);
        tracing::error!("eBPF object {} is given up: {reason}", self.name);
        (self.loaded, self.absent) = (None, Some(reason));
    }

    /// The object, where it is at work.
    pub const fn get(&self) -> Option<&T> {
        self.loaded.as_ref()
    }

    /// The same, to be changed.
    pub const fn get_mut(&mut self) -> Option<&mut T> {
        self.loaded.as_mut()
    }

    /// Whether it is at work.
    pub fn feature(&self) -> Feature {
        Feature { name: self.name.to_owned(), absent: self.absent.clone() }
    }
}

/// The sentences of a list as one; none where there is none.
pub fn joined(sentences: &[String]) -> Option<String> {
    (!sentences.is_empty()).then(|| sentences.join("; "))
}

fn reason(error: Error) -> String {
    format!("{:#}", anyhow::Error::from(error))
}
