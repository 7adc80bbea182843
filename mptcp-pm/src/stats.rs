//! What each path delivers: samples of subflows come in, figures of subflows, connections, uplinks and providers go out.
//!
//! Pure as the core is: no I/O, no clock, no tokio. The eBPF program tells when a subflow begins and ends; in between
//! somebody reads all that live. Where the ring buffer is emptied before each reading, every subflow counts exactly
//! once, with the last figures that were heard of it, whatever got lost.
mod account;
mod clock;
mod coupling;
pub mod ends;
mod group;
mod histogram;
mod known;
mod lookup;
mod places;
mod record;
mod subflow;
#[cfg(test)]
mod tests;
mod windows;

use std::collections::BTreeMap;
use std::net::IpAddr;

use mptcp_common::coupled;
use mptcp_common::path_stats::{Kept, Sample};

use crate::core::uplink::Uplink;
use crate::view::paths::{Losses, Paths, ProviderFigures};
use account::Account;
use clock::Clock;
use group::{Group, Living};
pub use known::Known;
pub use lookup::Lookup;
use places::Places;
pub use record::{Identity, is_backup};
use subflow::{Id, Subflow};

/// The collector.
///
/// Times are nanoseconds of `CLOCK_MONOTONIC`, as in the samples.
#[derive(Debug)]
pub struct Stats {
    clock: Clock,
    places: Places,
    accounts: Vec<Account>,
    /// Boxed, so that the map's spare room is small.
    living: BTreeMap<Id, Box<Subflow>>,
    /// Those that have ended, with the reading in which, or after which, they were last heard of: one may be told of
    /// once more by a reading that had begun before. Forgotten by the next reading that knows nothing of them.
    ended: BTreeMap<Id, u32>,
    /// The number of the last reading that began.
    reading: u32,
    /// Something happened since the last one ended.
    stirred: bool,
    /// The living subflows of each account as the last reading left them; none where one was heard of since.
    counted: Option<Vec<Living>>,
    /// The end of the last one that saw something happen.
    flowed_ns: Option<u64>,
    lost: Losses,
    /// What the subflows of connections with coupled congestion control tell each other, by token.
    coupled: BTreeMap<u32, Vec<coupled::Figures>>,
}

impl Stats {
    /// Begins to collect. What subflows did before they were seen does not count in the windows, where the program is
    /// younger than they are.
    pub fn new(now_ns: u64) -> Self {
        Self {
            clock: Clock::new(now_ns),
            places: Places::default(),
            accounts: Vec::new(),
            living: BTreeMap::new(),
            ended: BTreeMap::new(),
            reading: 0,
            stirred: false,
            counted: None,
            flowed_ns: None,
            lost: Losses::default(),
            coupled: BTreeMap::new(),
        }
    }

    /// What belongs to which uplink from now on: all uplinks, and all addresses with the names of their interfaces
    /// (those of the uplinks' families are known without). A subflow that is known stays where it is.
    pub fn uplinks(&mut self, uplinks: &[Uplink], addresses: &[(String, Option<IpAddr>)]) {
        self.places = Places::new(uplinks, addresses);
    }

    /// What the program had to leave out so far; tells whether that is more than before.
    pub fn lost(&mut self, lost: Losses) -> bool {
        std::mem::replace(&mut self.lost, lost) != lost
    }

    /// What the subflows of connections with coupled congestion control tell each other now, by local tokens.
    pub fn coupled(&mut self, told: Vec<(u32, Vec<coupled::Figures>)>) {
        self.coupled = told.into_iter().collect();
    }

    /// A subflow was established.
    pub fn opened(&mut self, sample: &Sample) {
        self.hear(sample);
    }

    /// A subflow has ended; these are its last figures. It counts also where nothing was known of it.
    pub fn closed(&mut self, sample: &Sample) {
        self.hear(sample);
        let id = Id::of(&sample.kept);
        if let Some(subflow) = self.living.remove(&id) {
            self.accounts[subflow.account as usize].finish();
            self.ended.insert(id, self.reading);
            self.stirred = true;
        }
    }

    /// A reading of all living subflows begins. The ring buffer has been emptied before.
    pub fn begin(&mut self) {
        self.reading = self.reading.wrapping_add(1);
    }

    /// A living subflow, as it was read.
    pub fn read(&mut self, sample: &Sample) {
        self.hear(sample);
    }

    /// The reading has ended. A subflow that was in neither of the last two readings has ended too, and nobody could
    /// tell (in the last one alone: the ring buffer may have the news).
    pub fn end(&mut self, now_ns: u64) {
        let turned = self.clock.advance(now_ns);
        if std::mem::take(&mut self.stirred) {
            self.flowed_ns = Some(self.clock.now_ns());
        }
        let (reading, accounts, ended) = (self.reading, &mut self.accounts, &mut self.ended);
        // In the same go, as many subflows do not fit into the processor's caches.
        let mut living = vec![Living::default(); accounts.len()];
        self.living.retain(|id, subflow| {
            subflow.turn(turned);
            let lives = reading.wrapping_sub(subflow.heard) < 2;
            if lives {
                subflow.count(&mut living);
            } else {
                accounts[subflow.account as usize].finish();
                ended.insert(*id, reading);
            }
            lives
        });
        self.ended.retain(|_, heard| *heard == reading);
        for (account, living) in self.accounts.iter_mut().zip(&living) {
            account.turn(turned, &self.clock, living);
        }
        self.counted = Some(living);
    }

    /// Whether anything got through, began or ended, since the last reading or in those of the last second: then there
    /// is reason for another one. Otherwise nothing changes but ages.
    pub fn is_flowing(&self) -> bool {
        let of_late = |flowed_ns| self.clock.now_ns() - flowed_ns < clock::LENGTHS_NS[0];
        self.stirred || self.flowed_ns.is_some_and(of_late)
    }

    /// What each uplink and each provider delivers, up to the last reading.
    pub fn paths(&self) -> Paths {
        let living = self.counted.clone().unwrap_or_else(|| self.living_by_account());
        let mut accounts: Vec<(&Account, &Living)> = self.accounts.iter().zip(&living).collect();
        accounts.sort_by_key(|(account, _)| (&account.place.name, &account.place.provider));
        let mut providers: BTreeMap<&str, Group> = BTreeMap::new();
        for (account, living) in &accounts {
            let Some(provider) = &account.place.provider else { continue };
            providers.entry(provider).or_default().add(&account.group(&self.clock, living));
        }
        let provider = |(name, group): (&str, Group)| ProviderFigures {
            name: name.to_owned(),
            figures: group.figures(&self.clock, 0),
        };
        Paths {
            uplinks: accounts.iter().map(|(account, living)| account.view(&self.clock, living)).collect(),
            providers: providers.into_iter().map(provider).collect(),
            lost: self.lost,
        }
    }

    /// The figures of connections and of their subflows, up to the last reading.
    pub fn connections(&self) -> Lookup<'_> {
        Lookup::new(&self.clock, &self.accounts, &self.coupled, self.living.values().map(Box::as_ref))
    }

    /// A living subflow, by the cookie of its socket.
    pub fn known(&self, cookie: u64) -> Option<Known<'_>> {
        let (id, subflow) = self.living.range(..=Id::last(cookie)).next_back()?;
        let place = &self.accounts[subflow.account as usize].place;
        id.is_of(cookie).then_some(Known { clock: &self.clock, place, subflow })
    }

    /// Takes in what is told of a subflow, by whomever.
    fn hear(&mut self, sample: &Sample) {
        self.counted = None;
        let id = Id::of(&sample.kept);
        if let Some(heard) = self.ended.get_mut(&id) {
            *heard = self.reading;
            return;
        }
        if let Some(subflow) = self.living.get_mut(&id) {
            subflow.heard = self.reading;
            // What was in the ring buffer may be older than what was read.
            if subflow.last.at_ns < sample.live.at_ns {
                let amounts = |subflow: &Subflow| (subflow.last.acknowledged, subflow.last.received);
                let before = amounts(subflow);
                subflow.go_on(sample, &mut self.accounts[subflow.account as usize]);
                self.stirred |= amounts(subflow) != before;
            }
            return;
        }
        let number = self.account(&sample.kept);
        let subflow = Subflow::new(sample, number as u32, &mut self.accounts[number], self.reading);
        self.living.insert(id, Box::new(subflow));
        self.stirred = true;
    }

    /// The number of the account of a subflow that is new.
    fn account(&mut self, kept: &Kept) -> usize {
        let place = self.places.of(kept);
        let known = self.accounts.iter().position(|account| account.place == place);
        known.unwrap_or_else(|| {
            self.accounts.push(Account::new(place));
            self.accounts.len() - 1
        })
    }

    fn living_by_account(&self) -> Vec<Living> {
        let mut living = vec![Living::default(); self.accounts.len()];
        self.living.values().for_each(|subflow| subflow.count(&mut living));
        living
    }
}
