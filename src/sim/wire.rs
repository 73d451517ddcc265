//! Two streams of bytes, one each way, with what a network and two kernels do to them.
//!
//! What was sent flies until it is delivered, a part at a time; what was delivered waits until it is
//! received. A stream takes no more than its window. An end may come at any byte, and a reset at any time:
//! it drops what flies, and what was delivered can still be received.

use std::collections::VecDeque;

use super::plan::EndId;
use crate::machine::Fault;

#[derive(Debug)]
pub(super) struct SimWire {
    streams: [OneWay; 2],
    /// What each end sees of a reset.
    resets: [Option<Reset>; 2],
}

/// From one end to the other.
#[derive(Debug)]
struct OneWay {
    in_flight: VecDeque<u8>,
    arrived: VecDeque<u8>,
    window: usize,
    end: StreamEnd,
    /// The wire lost what followed.
    cut: bool,
    /// The receiver has let go: what comes is dropped.
    dropped: bool,
    /// And is answered by a reset.
    answered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamEnd {
    Pending,
    InFlight,
    Arrived,
}

#[derive(Clone, Copy, Debug)]
struct Reset {
    fault: Fault,
    reported: bool,
}

/// What came of a receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SimRecv {
    Bytes(usize),
    WouldBlock,
    Eof,
    Failed(Fault),
}

/// What came of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SimSend {
    Bytes(usize),
    WouldBlock,
    Failed(Fault),
}

impl SimWire {
    pub(super) fn new() -> Self {
        let stream = || OneWay {
            in_flight: VecDeque::new(),
            arrived: VecDeque::new(),
            window: WINDOW,
            end: StreamEnd::Pending,
            cut: false,
            dropped: false,
            answered: false,
        };
        SimWire { streams: [stream(), stream()], resets: [None, None] }
    }

    pub(super) fn send(&mut self, who: EndId, bytes: &[u8]) -> SimSend {
        if let Some(reset) = &mut self.resets[who] {
            reset.reported = true;
            return SimSend::Failed(reset.fault);
        }
        let stream = &mut self.streams[who];
        let room = match stream.cut {
            // What is lost takes no room.
            true => usize::MAX,
            false => stream.window.saturating_sub(stream.in_flight.len() + stream.arrived.len()),
        };
        let sent = room.min(bytes.len());
        if sent == 0 {
            return SimSend::WouldBlock;
        }
        if !stream.cut {
            stream.in_flight.extend(&bytes[..sent]);
        }
        SimSend::Bytes(sent)
    }

    /// Whether there is room to send.
    pub(super) fn can_send(&self, who: EndId) -> bool {
        let stream = &self.streams[who];
        self.resets[who].is_some() || stream.in_flight.len() + stream.arrived.len() < stream.window
    }

    pub(super) fn receive(&mut self, who: EndId, buf: &mut [u8]) -> SimRecv {
        let stream = &mut self.streams[1 - who];
        let taken = stream.arrived.len().min(buf.len());
        if taken > 0 {
            for (place, byte) in buf.iter_mut().zip(stream.arrived.drain(..taken)) {
                *place = byte;
            }
            return SimRecv::Bytes(taken);
        }
        match &mut self.resets[who] {
            // The system tells it once.
            Some(reset) if !reset.reported => {
                reset.reported = true;
                SimRecv::Failed(reset.fault)
            }
            Some(_) => SimRecv::Eof,
            None if stream.end == StreamEnd::Arrived => SimRecv::Eof,
            None => SimRecv::WouldBlock,
        }
    }

    /// What a receive would give, but for a reset that has not been told, which is told now.
    pub(super) fn peek(&mut self, who: EndId) -> SimRecv {
        match self.streams[1 - who].arrived.len() {
            0 => self.receive(who, &mut []),
            waiting => SimRecv::Bytes(waiting),
        }
    }

    /// A reset that has not been told, which is told now.
    pub(super) fn failure(&mut self, who: EndId) -> Option<Fault> {
        let reset = self.resets[who].as_mut().filter(|reset| !reset.reported)?;
        reset.reported = true;
        Some(reset.fault)
    }

    /// Moves so many bytes on, and the end behind them; says whether anything moved.
    pub(super) fn deliver(&mut self, from: EndId, max: usize) -> bool {
        let stream = &mut self.streams[from];
        let moved = stream.in_flight.len().min(max);
        stream.arrived.extend(stream.in_flight.drain(..moved));
        if stream.dropped {
            stream.arrived.clear();
            if stream.answered && moved > 0 {
                self.reset(1 - from);
                return true;
            }
        }
        let stream = &mut self.streams[from];
        let ends = stream.end == StreamEnd::InFlight && stream.in_flight.is_empty();
        if ends {
            stream.end = StreamEnd::Arrived;
        }
        moved > 0 || ends
    }

    pub(super) fn finish(&mut self, from: EndId) {
        if self.streams[from].end == StreamEnd::Pending {
            self.streams[from].end = StreamEnd::InFlight;
        }
    }

    /// The end `by` resets the connection, or is gone.
    pub(super) fn reset(&mut self, by: EndId) {
        let stream = &mut self.streams[by];
        stream.in_flight.clear();
        stream.cut = true;
        let fault = match stream.end {
            StreamEnd::Arrived => Fault::ResetAfterEnd(32),
            StreamEnd::Pending | StreamEnd::InFlight => Fault::Reset(Some(104)),
        };
        let back = &mut self.streams[1 - by];
        back.in_flight.clear();
        back.cut = true;
        self.resets[1 - by].get_or_insert(Reset { fault, reported: false });
    }

    /// The end `by` receives no more, and what still comes is dropped quietly.
    pub(super) fn linger(&mut self, by: EndId) {
        let stream = &mut self.streams[1 - by];
        stream.dropped = true;
        stream.arrived.clear();
    }

    /// The end `by` closes: what it has not received, or what still comes, is answered by a reset. Says
    /// whether that is so already.
    pub(super) fn close(&mut self, by: EndId) -> bool {
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

    pub(super) fn set_window(&mut self, from: EndId, size: usize) {
        self.streams[from].window = size;
    }

    /// Changes a bit of what flies; says whether it did.
    pub(super) fn corrupt(&mut self, from: EndId, at: usize, bit: u8) -> bool {
        let in_flight = &mut self.streams[from].in_flight;
        let Some(place) = at.checked_rem(in_flight.len()) else { return false };
        in_flight[place] ^= 1 << bit;
        true
    }

    /// Ends a stream behind so many of the bytes that fly.
    pub(super) fn cut(&mut self, from: EndId, at: usize) {
        let stream = &mut self.streams[from];
        stream.in_flight.truncate(at);
        stream.cut = true;
        self.finish(from);
    }

    /// Whether FIN was sent.
    pub(super) fn is_finished(&self, from: EndId) -> bool {
        self.streams[from].end != StreamEnd::Pending
    }

    /// Whether FIN has come, and all before it was received.
    pub(super) fn is_eof(&self, to: EndId) -> bool {
        let stream = &self.streams[1 - to];
        stream.end == StreamEnd::Arrived && stream.arrived.is_empty()
    }

    pub(super) fn is_reset(&self, who: EndId) -> bool {
        self.resets[who].is_some()
    }

    /// How much is on its way.
    pub(super) fn in_flight(&self, from: EndId) -> usize {
        self.streams[from].in_flight.len()
    }
}

/// As wide as one is at first.
const WINDOW: usize = 20_000;

/// What is sent: told from anything else by its place and its `offset`.
pub(super) fn pattern(offset: u8, place: u64) -> u8 {
    let mixed = (place ^ (place >> 8)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56;
    u8::try_from(mixed).expect("eight bits are left") ^ offset
}

pub(super) fn fill(offset: u8, from: u64, buf: &mut [u8]) {
    for (place, byte) in (from..).zip(buf) {
        *byte = pattern(offset, place);
    }
}

/// Whether these bytes are those of the pattern.
pub(super) fn fits(offset: u8, from: u64, bytes: &[u8]) -> bool {
    (from..).zip(bytes).all(|(place, &byte)| byte == pattern(offset, place))
}
