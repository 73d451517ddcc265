//! Two streams of bytes, one each way, with what a network and two kernels do to them.
//!
//! What was sent flies until it is delivered, a part at a time; what was delivered waits until it is
//! received. A stream takes no more than its window. An end may come at any byte, and a reset at any time:
//! it drops what flies, and what was delivered can still be received.

use std::collections::VecDeque;

use super::plan::Who;
use crate::machine::Fault;

#[derive(Debug)]
pub(super) struct Wire {
    streams: [Stream; 2],
    /// What each end sees of a reset.
    resets: [Option<Reset>; 2],
}

/// From one end to the other.
#[derive(Debug)]
struct Stream {
    flying: VecDeque<u8>,
    arrived: VecDeque<u8>,
    window: usize,
    end: End,
    /// The wire lost what followed.
    cut: bool,
    /// The receiver has let go: what comes is dropped.
    dropped: bool,
    /// And is answered by a reset.
    answered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    ToCome,
    Flying,
    Arrived,
}

#[derive(Clone, Copy, Debug)]
struct Reset {
    fault: Fault,
    told: bool,
}

/// What came of a receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    Bytes(usize),
    Nothing,
    End,
    Failed(Fault),
}

/// What came of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Went {
    Bytes(usize),
    Full,
    Failed(Fault),
}

impl Wire {
    pub(super) fn new() -> Self {
        let stream = || Stream {
            flying: VecDeque::new(),
            arrived: VecDeque::new(),
            window: WINDOW,
            end: End::ToCome,
            cut: false,
            dropped: false,
            answered: false,
        };
        Wire { streams: [stream(), stream()], resets: [None, None] }
    }

    pub(super) fn send(&mut self, who: Who, bytes: &[u8]) -> Went {
        if let Some(reset) = &mut self.resets[who] {
            reset.told = true;
            return Went::Failed(reset.fault);
        }
        let stream = &mut self.streams[who];
        let room = match stream.cut {
            // What is lost takes no room.
            true => usize::MAX,
            false => stream.window.saturating_sub(stream.flying.len() + stream.arrived.len()),
        };
        let sent = room.min(bytes.len());
        if sent == 0 {
            return Went::Full;
        }
        if !stream.cut {
            stream.flying.extend(&bytes[..sent]);
        }
        Went::Bytes(sent)
    }

    /// Whether there is room to send.
    pub(super) fn has_room(&self, who: Who) -> bool {
        let stream = &self.streams[who];
        self.resets[who].is_some() || stream.flying.len() + stream.arrived.len() < stream.window
    }

    pub(super) fn receive(&mut self, who: Who, buf: &mut [u8]) -> Came {
        let stream = &mut self.streams[1 - who];
        let taken = stream.arrived.len().min(buf.len());
        if taken > 0 {
            for (place, byte) in buf.iter_mut().zip(stream.arrived.drain(..taken)) {
                *place = byte;
            }
            return Came::Bytes(taken);
        }
        match &mut self.resets[who] {
            // The system tells it once.
            Some(reset) if !reset.told => {
                reset.told = true;
                Came::Failed(reset.fault)
            }
            Some(_) => Came::End,
            None if stream.end == End::Arrived => Came::End,
            None => Came::Nothing,
        }
    }

    /// What a receive would give, but for a reset that has not been told, which is told now.
    pub(super) fn peek(&mut self, who: Who) -> Came {
        match self.streams[1 - who].arrived.len() {
            0 => self.receive(who, &mut []),
            waiting => Came::Bytes(waiting),
        }
    }

    /// A reset that has not been told, which is told now.
    pub(super) fn failure(&mut self, who: Who) -> Option<Fault> {
        let reset = self.resets[who].as_mut().filter(|reset| !reset.told)?;
        reset.told = true;
        Some(reset.fault)
    }

    /// Moves so many bytes on, and the end behind them; says whether anything moved.
    pub(super) fn deliver(&mut self, from: Who, most: usize) -> bool {
        let stream = &mut self.streams[from];
        let moved = stream.flying.len().min(most);
        stream.arrived.extend(stream.flying.drain(..moved));
        if stream.dropped {
            stream.arrived.clear();
            if stream.answered && moved > 0 {
                self.reset(1 - from);
                return true;
            }
        }
        let stream = &mut self.streams[from];
        let ends = stream.end == End::Flying && stream.flying.is_empty();
        if ends {
            stream.end = End::Arrived;
        }
        moved > 0 || ends
    }

    pub(super) fn finish(&mut self, from: Who) {
        if self.streams[from].end == End::ToCome {
            self.streams[from].end = End::Flying;
        }
    }

    /// The end `by` resets the connection, or is gone.
    pub(super) fn reset(&mut self, by: Who) {
        let stream = &mut self.streams[by];
        stream.flying.clear();
        stream.cut = true;
        let fault = match stream.end {
            End::Arrived => Fault::ResetAfterEnd(32),
            End::ToCome | End::Flying => Fault::Reset(Some(104)),
        };
        let back = &mut self.streams[1 - by];
        back.flying.clear();
        back.cut = true;
        self.resets[1 - by].get_or_insert(Reset { fault, told: false });
    }

    /// The end `by` receives no more, and what still comes is dropped quietly.
    pub(super) fn linger(&mut self, by: Who) {
        let stream = &mut self.streams[1 - by];
        stream.dropped = true;
        stream.arrived.clear();
    }

    /// The end `by` closes: what it has not received, or what still comes, is answered by a reset. Says
    /// whether that is so already.
    pub(super) fn close(&mut self, by: Who) -> bool {
        let stream = &mut self.streams[1 - by];
        let unread = !stream.arrived.is_empty() && self.resets[by].is_none();
        stream.dropped = true;
        stream.answered = true;
        stream.arrived.clear();
        self.finish(by);
        if unread {
            self.reset(by);
        }
        unread
    }

    pub(super) fn set_window(&mut self, from: Who, size: usize) {
        self.streams[from].window = size;
    }

    /// Changes a bit of what flies; says whether it did.
    pub(super) fn corrupt(&mut self, from: Who, at: usize, bit: u8) -> bool {
        let flying = &mut self.streams[from].flying;
        let Some(place) = at.checked_rem(flying.len()) else { return false };
        flying[place] ^= 1 << bit;
        true
    }

    /// Ends a stream behind so many of the bytes that fly.
    pub(super) fn cut(&mut self, from: Who, at: usize) {
        let stream = &mut self.streams[from];
        stream.flying.truncate(at);
        stream.cut = true;
        self.finish(from);
    }

    /// Whether FIN was sent.
    pub(super) fn is_finished(&self, from: Who) -> bool {
        self.streams[from].end != End::ToCome
    }

    /// Whether FIN has come, and all before it was received.
    pub(super) fn is_over(&self, to: Who) -> bool {
        let stream = &self.streams[1 - to];
        stream.end == End::Arrived && stream.arrived.is_empty()
    }

    pub(super) fn is_reset(&self, who: Who) -> bool {
        self.resets[who].is_some()
    }

    /// How much is on its way.
    pub(super) fn flying(&self, from: Who) -> usize {
        self.streams[from].flying.len()
    }
}

/// As wide as one is at first.
const WINDOW: usize = 20_000;

/// What is sent: told from anything else by its place and its `salt`.
pub(super) fn pattern(salt: u8, place: u64) -> u8 {
    let mixed = (place ^ (place >> 8)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56;
    u8::try_from(mixed).expect("eight bits are left") ^ salt
}

pub(super) fn fill(salt: u8, from: u64, buf: &mut [u8]) {
    for (place, byte) in (from..).zip(buf) {
        *byte = pattern(salt, place);
    }
}

/// Whether these bytes are those of the pattern.
pub(super) fn fits(salt: u8, from: u64, bytes: &[u8]) -> bool {
    (from..).zip(bytes).all(|(place, &byte)| byte == pattern(salt, place))
}
