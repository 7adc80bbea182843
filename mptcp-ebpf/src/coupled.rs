//! The object `coupled`: `lia`, `olia` and `balia`, congestion controls that know of each other on the subflows of a
//! connection.
//!
//! The programs are members of `tcp_congestion_ops` (include/net/tcp.h). Slow start, recovery and undo are the kernel's
//! Reno, and so is all of it for a socket that is alone. Each subflow keeps its own state in its socket, and tells the
//! others its figures at a place in a map that no other writes to, so that nothing has to be locked. It does so, and
//! finds out from theirs what its window grows by, eight times in each round trip, in which no window changes by much: an
//! acknowledgement in between costs little more than an addition. When one ends, it removes what all have told; those
//! that go on tell it again, and the last leaves nothing.
#![no_std]
#![no_main]

use core::ffi::c_void;

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    bindings::BPF_NOEXIST,
    macros::map,
    maps::{Array, HashMap},
};
use mptcp_common::{
    MAX_SUBFLOWS,
    coupled::{self, Connection, Figures, Paths, Place, balia, bound::Known, lia, olia, reno, reno::Window},
    fields::{ABSENT, COUNT, Field},
};
use mptcp_ebpf::kernel::{Element, Offsets, Structure, argument, count};

/// Set by the loader: where this kernel has what the programs read and write.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = [ABSENT; COUNT];

/// The places that are taken, from a subflow's first acknowledgement to its end.
#[map]
static PLACES: HashMap<Place, u32> = HashMap::with_max_entries(32 << 10, BPF_F_NO_PREALLOC);

/// What the subflows of each connection tell each other.
#[map]
static CONNECTIONS: HashMap<Connection, Paths> = HashMap::with_max_entries(16 << 10, BPF_F_NO_PREALLOC);

/// How many windows have been put right that could not be ([`Known`]).
#[map]
static MENDED: Array<u64> = Array::with_max_entries(1, 0);

/// The license that some of the helpers ask for.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";

/// A TCP socket with one of these congestion controls.
struct Sender(Structure);

/// What a socket keeps for itself, and at which byte of `icsk_ca_priv`.
mod own {
    /// `u64`: the address of its connection.
    pub const CONNECTION: usize = 0;
    /// `u32`: the token of its connection.
    pub const TOKEN: usize = 8;
    /// `u32`: its place among the subflows, from 1; 0 for none yet.
    pub const PLACE: usize = 12;
    /// `i64`: what its window has grown by, less than a packet.
    pub const CREDIT: usize = 16;
    /// `u64`: what had been acknowledged at the latest loss, bytes.
    pub const AT_LOSS: usize = 24;
    /// `u64`: what had been acknowledged between that and the one before, bytes.
    pub const BETWEEN_LOSSES: usize = 32;
    /// `i64`: what its window grows by for each packet; [`ALONE`](super::ALONE) when no other subflow is there.
    pub const INCREASE: usize = 40;
    /// `u32`: how many packets may be acknowledged before it looks at the others again.
    pub const UNSEEN: usize = 48;
    /// `u32`: what a loss takes of its window with BALIA, as [`balia::loss`](super::balia::loss) has it.
    pub const LOSS: usize = 52;
    /// `u32`: its window when it was last seen; 0 before that.
    pub const LATEST: usize = 56;
    /// `u32`: its window before the latest loss.
    pub const BEFORE_LOSS: usize = 60;
}

/// The place of a subflow that found none: all are taken.
const NO_PLACE: u32 = u32::MAX;

/// `TCP_INFINITE_SSTHRESH` (include/net/tcp.h): nothing has been lost yet.
const UNLIMITED: u32 = 0x7fff_ffff;

/// What the window of a subflow grows by that is alone: as Reno has it.
const ALONE: i64 = i64::MIN;

/// How often in a round trip a subflow looks at the others.
const LOOKS: u32 = 8;

impl Sender {
    #[inline(always)]
    fn of(ctx: *mut c_void) -> Option<Self> {
        Structure::argument(ctx, 0, &OFFSETS).map(Self)
    }

    #[inline(always)]
    fn own<T: Copy + Default>(&self, at: usize) -> T {
        self.0.read_behind(Field::CongestionPrivate, at)
    }

    #[inline(always)]
    fn set_own<T: Copy>(&self, at: usize, value: T) {
        self.0.write_behind(Field::CongestionPrivate, at, value);
    }

    /// Its window, put right in the socket too when it cannot be.
    #[inline(always)]
    fn window(&self) -> Window {
        let mut window = Window {
            size: self.0.read(Field::Window),
            counted: self.0.read(Field::WindowCounted),
            threshold: self.0.read(Field::Threshold),
            clamp: self.0.read(Field::WindowClamp),
        };
        let known = self.known(window.size);
        if !known.allows(window.size) {
            count(&MENDED, 0);
            window.size = known.mended();
            window.threshold = window.size;
            self.0.write_behind(Field::Threshold, 0, window.threshold);
            self.set_window(&window);
        }
        window
    }

    #[inline(always)]
    fn set_window(&self, window: &Window) {
        self.0.write_behind(Field::Window, 0, window.size);
        self.0.write_behind(Field::WindowCounted, 0, window.counted);
        self.set_own(own::LATEST, window.size);
    }

    /// What is known of a window that is found.
    #[inline(always)]
    fn known(&self, found: u32) -> Known {
        let latest = self.own(own::LATEST);
        // As long as nothing was lost, no answer has become the window.
        if latest == 0 || self.0.read::<u32>(Field::WindowBefore) == 0 {
            return Known { latest: found, before_loss: self.0.read(Field::WindowBefore) };
        }
        Known { latest, before_loss: self.own(own::BEFORE_LOSS) }
    }

    #[inline(always)]
    fn is_limited(&self, window: &Window) -> bool {
        reno::is_limited(self.0.flag(Field::IsWindowLimited), window, self.0.read(Field::MostInFlight))
    }

    /// The state begins anew: the socket may have had another congestion control, or be the copy of a listening one.
    #[inline(always)]
    fn begin(&self) {
        self.set_own(own::PLACE, 0u32);
        self.set_own(own::CREDIT, 0i64);
        self.set_own(own::AT_LOSS, self.0.read::<u64>(Field::BytesAcked));
        self.set_own(own::BETWEEN_LOSSES, 0u64);
        self.set_own(own::INCREASE, ALONE);
        self.set_own(own::UNSEEN, 0u32);
        self.set_own(own::LOSS, balia::LOSS_ALONE);
        self.set_own(own::LATEST, self.0.read::<u32>(Field::Window));
        self.set_own(own::BEFORE_LOSS, self.0.read::<u32>(Field::WindowBefore));
    }

    /// Where its figures are to be, if it is one of the subflows that are coupled.
    #[inline(always)]
    fn place(&self) -> Option<Place> {
        match self.own(own::PLACE) {
            0 => self.join(),
            NO_PLACE => None,
            _ => Some(self.taken()),
        }
    }

    #[inline(always)]
    fn taken(&self) -> Place {
        let of = Connection { address: self.own(own::CONNECTION), token: self.own(own::TOKEN), padding: 0 };
        Place { of, index: u64::from(self.own::<u32>(own::PLACE)) - 1 }
    }

    /// Takes the first free place among the subflows of its connection; two cannot take the same.
    #[inline(always)]
    fn join(&self) -> Option<Place> {
        let subflow = self.0.subflow()?;
        let of =
            Connection { address: subflow.member(Field::Connection), token: subflow.token()?, padding: 0 };
        for index in 0..MAX_SUBFLOWS as u64 {
            let place = Place { of, index };
            if PLACES.insert(place, 0, u64::from(BPF_NOEXIST)).is_ok() {
                self.set_own(own::CONNECTION, of.address);
                self.set_own(own::TOKEN, of.token);
                self.set_own(own::PLACE, index as u32 + 1);
                return Some(place);
            }
        }
        self.set_own(own::PLACE, NO_PLACE);
        None
    }

    #[inline(always)]
    fn leave(&self) {
        let place = self.own::<u32>(own::PLACE);
        if place != 0 && place != NO_PLACE {
            let place = self.taken();
            // Nobody else removes the place; of what was told, another may have removed all.
            let _ = CONNECTIONS.remove(place.of);
            let _ = PLACES.remove(place);
        }
        self.set_own(own::PLACE, 0u32);
    }

    /// Its figures with a window.
    #[inline(always)]
    fn figures(&self, window: u32) -> Figures {
        let since_loss = self.0.read::<u64>(Field::BytesAcked).wrapping_sub(self.own(own::AT_LOSS));
        let between_losses = self.own::<u64>(own::BETWEEN_LOSSES);
        let bytes = if since_loss > between_losses { since_loss } else { between_losses };
        Figures::new(self.own(own::TOKEN), window, self.0.read(Field::Rtt), bytes)
    }

    /// Lets the other subflows know of its window; what all have told, and this one. `None` when it is alone.
    #[inline(always)]
    fn tell(&self, window: u32) -> Option<(&'static Paths, Figures)> {
        let place = self.place()?;
        let figures = self.figures(window);
        let paths = tell(&place, figures)?;
        (coupled::number(paths, &figures) > 1).then_some((paths, figures))
    }

    /// A loss: what is counted from one to the next begins anew, if there was anything in between.
    #[inline(always)]
    fn lost(&self) {
        let acked = self.0.read::<u64>(Field::BytesAcked);
        let since_loss = acked.wrapping_sub(self.own(own::AT_LOSS));
        if since_loss != 0 {
            self.set_own(own::BETWEEN_LOSSES, since_loss);
            self.set_own(own::AT_LOSS, acked);
        }
        self.set_own(own::CREDIT, 0i64);
    }

    /// The threshold after a loss, put right when none of its windows can have led to it; notes what the window was.
    #[inline(always)]
    fn threshold(&self, window: &Window) -> u32 {
        let known = self.known(window.size).after_loss_of(self.0.read(Field::WindowBefore));
        self.set_own(own::LATEST, known.latest);
        self.set_own(own::BEFORE_LOSS, known.before_loss);
        if window.threshold == UNLIMITED || known.allows(window.threshold) {
            return window.threshold;
        }
        count(&MENDED, 0);
        let mended = balia::after_loss(known.greatest(), self.own(own::LOSS));
        self.0.write_behind(Field::Threshold, 0, mended);
        mended
    }

    /// What the window grows by for each of these packets, from what all have told of late.
    #[inline(always)]
    fn increase(
        &self,
        window: u32,
        acked: u32,
        of: impl FnOnce(&Paths, &Figures) -> i64,
        loss: impl FnOnce(&Paths, &Figures) -> u32,
    ) -> i64 {
        let unseen = self.own::<u32>(own::UNSEEN);
        if acked < unseen {
            self.set_own(own::UNSEEN, unseen - acked);
            return self.own(own::INCREASE);
        }
        let told = self.tell(window);
        let increase = told.as_ref().map_or(ALONE, |(paths, figures)| of(paths, figures));
        self.set_own(own::INCREASE, increase);
        let loss = told.as_ref().map_or(balia::LOSS_ALONE, |(paths, figures)| loss(paths, figures));
        self.set_own(own::LOSS, loss);
        self.set_own(own::UNSEEN, window / LOOKS);
        increase
    }
}

/// Lets the others know; what all have told.
#[inline(always)]
fn tell(place: &Place, figures: Figures) -> Option<&'static Paths> {
    let told = match Element::of(&CONNECTIONS, &place.of) {
        Some(told) => told,
        None => {
            // The stack has no room for a copy.
            let nothing: &Paths = &NOTHING;
            // Another may have done so in between.
            let _ = CONNECTIONS.insert(place.of, nothing, u64::from(BPF_NOEXIST));
            Element::of(&CONNECTIONS, &place.of)?
        }
    };
    told.store(place.index as usize, figures);
    Some(told.look_at())
}

/// Nobody has told anything.
static NOTHING: Paths = [Figures { rate: 0, quality: 0, window: 0, token: 0, one: 0 }; MAX_SUBFLOWS];

/// Something was acknowledged and nothing is lost: the window grows.
#[inline(always)]
fn avoid(
    ctx: *mut c_void,
    increase: impl FnOnce(&Paths, &Figures) -> i64,
    loss: impl FnOnce(&Paths, &Figures) -> u32,
) {
    let Some(sender) = Sender::of(ctx) else { return };
    let mut window = sender.window();
    sender.set_own(own::LATEST, window.size);
    let acked = reno::believed(argument(ctx, 2) as u32, &window, sender.0.read(Field::MostInFlight));
    let increase = sender.increase(window.size, acked, increase, loss);
    if !sender.is_limited(&window) {
        return;
    }
    let left = if window.is_in_slow_start() { window.slow_start(acked) } else { acked };
    if left != 0 {
        match increase {
            ALONE => window.additive_increase(window.size, left),
            _ => {
                let (size, credit) = coupled::apply(window.size, sender.own(own::CREDIT), increase, left);
                window.size = if size < window.clamp { size } else { window.clamp };
                sender.set_own(own::CREDIT, credit);
            }
        }
    }
    sender.set_window(&window);
}

/// What a loss takes with the algorithms that decrease as Reno does.
#[inline(always)]
fn of_reno(_: &Paths, _: &Figures) -> u32 {
    balia::LOSS_ALONE
}

/// `tcp_congestion_ops.init`: a socket begins to use it.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/begin")]
pub extern "C" fn begin(ctx: *mut c_void) -> u32 {
    if let Some(sender) = Sender::of(ctx) {
        sender.begin();
    }
    0
}

/// `tcp_congestion_ops.release`: a socket ends, or uses another from now on.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/end")]
pub extern "C" fn end(ctx: *mut c_void) -> u32 {
    if let Some(sender) = Sender::of(ctx) {
        sender.leave();
    }
    0
}

/// `tcp_congestion_ops.undo_cwnd`: the window after a loss that was none.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/undo")]
pub extern "C" fn undo(ctx: *mut c_void) -> u32 {
    Sender::of(ctx).map_or(coupled::MIN_WINDOW, |sender| {
        reno::undone(sender.0.read(Field::Window), sender.0.read(Field::WindowBefore))
    })
}

/// `tcp_congestion_ops.ssthresh` of LIA and OLIA, which decrease as Reno does.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/halve")]
pub extern "C" fn halve(ctx: *mut c_void) -> u32 {
    Sender::of(ctx).map_or(coupled::MIN_WINDOW, |sender| reno::after_loss(sender.0.read(Field::Window)))
}

/// `tcp_congestion_ops.ssthresh` of BALIA.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/balia_reduce")]
pub extern "C" fn balia_reduce(ctx: *mut c_void) -> u32 {
    Sender::of(ctx).map_or(coupled::MIN_WINDOW, |sender| {
        balia::after_loss(sender.0.read(Field::Window), sender.own(own::LOSS))
    })
}

/// `TCP_CA_CWR` (include/uapi/linux/tcp.h): in this state and those after it the window has been decreased.
const TCP_CA_CWR: u8 = 2;

/// `tcp_congestion_ops.set_state`: something was lost, and the threshold is set; or it is over, and the window is.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/state")]
pub extern "C" fn state(ctx: *mut c_void) -> u32 {
    let Some(sender) = Sender::of(ctx) else { return 0 };
    let window = sender.window();
    if argument(ctx, 1) as u8 >= TCP_CA_CWR {
        sender.lost();
        sender.tell(sender.threshold(&window));
        // With the new window the growth is another.
        sender.set_own(own::UNSEEN, 0u32);
    }
    0
}

/// `tcp_congestion_ops.cong_avoid` of LIA.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/lia_avoid")]
pub extern "C" fn lia_avoid(ctx: *mut c_void) -> u32 {
    avoid(ctx, lia::increase, of_reno);
    0
}

/// `tcp_congestion_ops.cong_avoid` of OLIA.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/olia_avoid")]
pub extern "C" fn olia_avoid(ctx: *mut c_void) -> u32 {
    avoid(ctx, olia::increase, of_reno);
    0
}

/// `tcp_congestion_ops.cong_avoid` of BALIA.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/balia_avoid")]
pub extern "C" fn balia_avoid(ctx: *mut c_void) -> u32 {
    avoid(ctx, balia::increase, balia::loss);
    0
}
