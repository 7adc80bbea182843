//! How much subflows hold beyond what is under way, as the configuration wants it (`buffers`).
use crate::bpf::Kernel;
use crate::bpf::unsent::Unsent;
use crate::config::Buffers;
use crate::source::Source;
use crate::view::status::Feature;

/// The bound on the subflows of this network namespace, while the configuration asks for it. Dropping it takes it back.
#[derive(Default)]
pub struct Queues(Option<Source<Unsent>>);

impl Queues {
    /// Does from now on what the configuration says. A kernel that cannot is asked once.
    pub fn set(&mut self, buffers: Buffers, kernel: &Kernel) {
        match buffers {
            Buffers::Keep => self.0 = None,
            Buffers::Fit if self.0.is_none() => {
                let source = self.0.insert(Source::new("unsent"));
                source.begin(Unsent::attach(kernel), |unsent| unsent.absent().map(str::to_owned));
            }
            Buffers::Fit => {}
        }
    }

    /// Whether it is at work; none where nobody asked for it.
    pub fn feature(&self) -> Option<Feature> {
        self.0.as_ref().map(Source::feature)
    }
}
