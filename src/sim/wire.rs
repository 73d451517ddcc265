//! The simulated wire: two byte streams, one in each direction, with the effects of a network and two kernels.
//!
//! Sent bytes are in flight until the wire delivers them, in parts. Delivered bytes wait until they are received. A
//! stream holds at most its window. EOF may come after any byte, and a reset at any time: it drops the bytes in flight,
//! but delivered bytes can still be received.

use std::collections::VecDeque;

use super::scenario::EndId;
use crate::machine::Fault;

#[derive(Debug)]
pub(super) struct SimWire {
    streams: [OneWay; 2],
    /// The reset that each end sees, if any.
    resets: [Option<Reset>; 2],
}

/// The stream from one end to the other.
#[derive(Debug)]
struct OneWay {
    in_flight: VecDeque<u8>,
    arrived: VecDeque<u8>,
    window: usize,
    end: StreamEnd,
    /// Whether the wire drops all further bytes.
    cut: bool,
    /// Whether the receiver has released the wire, so that arriving bytes are dropped.
    dropped: bool,
    /// Whether the receiver's kernel also answers arriving bytes with a reset.
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

/// The result of a receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SimRecv {
    Bytes(usize),
    WouldBlock,
    Eof,
    Failed(Fault),
}

/// The result of a send.
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
        assert!(stream.end == StreamEnd::Pending || stream.cut, "nothing follows FIN");
        let room = match stream.cut {
            // Dropped bytes take no room.
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

    /// Returns whether a send would not block.
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
            // The kernel reports a reset once.
            Some(reset) if !reset.reported => {
                reset.reported = true;
                SimRecv::Failed(reset.fault)
            }
            Some(_) => SimRecv::Eof,
            None if stream.end == StreamEnd::Arrived => SimRecv::Eof,
            None => SimRecv::WouldBlock,
        }
    }

    /// Returns the result of a receive without receiving data. An unreported reset is reported now.
    pub(super) fn peek(&mut self, who: EndId) -> SimRecv {
        match self.streams[1 - who].arrived.len() {
            0 => self.receive(who, &mut []),
            waiting => SimRecv::Bytes(waiting),
        }
    }

    /// Returns the first byte that a receive would return.
    pub(super) fn first_unread(&self, who: EndId) -> u8 {
        self.streams[1 - who].arrived[0]
    }

    /// Reports a reset that was not reported before.
    pub(super) fn failure(&mut self, who: EndId) -> Option<Fault> {
        let reset = self.resets[who].as_mut().filter(|reset| !reset.reported)?;
        reset.reported = true;
        Some(reset.fault)
    }

    /// Delivers up to `max` bytes, and FIN if it is next. Returns whether anything was delivered.
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

    /// Resets the connection, from the end `by`.
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

    /// Stops receiving at the end `by`: arriving bytes are dropped without a reset.
    pub(super) fn linger(&mut self, by: EndId) {
        let stream = &mut self.streams[1 - by];
        stream.dropped = true;
        stream.arrived.clear();
    }

    /// Closes the descriptor at the end `by`: unread and arriving bytes cause a reset. Returns whether there were
    /// unread bytes.
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

    /// Flips a bit of the bytes in flight. Returns whether there were any.
    pub(super) fn corrupt(&mut self, from: EndId, at: usize, bit: u8) -> bool {
        let in_flight = &mut self.streams[from].in_flight;
        let Some(place) = at.checked_rem(in_flight.len()) else { return false };
        in_flight[place] ^= 1 << bit;
        true
    }

    /// Ends a stream after the first `at` bytes in flight.
    pub(super) fn cut(&mut self, from: EndId, at: usize) {
        let stream = &mut self.streams[from];
        stream.in_flight.truncate(at);
        stream.cut = true;
        self.finish(from);
    }

    /// Returns whether FIN was sent.
    pub(super) fn is_finished(&self, from: EndId) -> bool {
        self.streams[from].end != StreamEnd::Pending
    }

    /// Returns whether FIN has arrived, and all bytes before it were received.
    pub(super) fn is_eof(&self, to: EndId) -> bool {
        let stream = &self.streams[1 - to];
        stream.end == StreamEnd::Arrived && stream.arrived.is_empty()
    }

    pub(super) fn is_reset(&self, who: EndId) -> bool {
        self.resets[who].is_some()
    }

    /// Returns whether no byte is on its way, or unread.
    pub(super) fn is_drained(&self, to: EndId) -> bool {
        let stream = &self.streams[1 - to];
        stream.in_flight.is_empty() && stream.arrived.is_empty()
    }

    /// Returns the number of bytes in flight.
    pub(super) fn in_flight(&self, from: EndId) -> usize {
        self.streams[from].in_flight.len()
    }
}

/// The initial window, in bytes.
const WINDOW: usize = 20_000;

/// Returns the byte that is sent at a position, which differs by `offset` for each kind of data.
pub(super) fn pattern(offset: u8, place: u64) -> u8 {
    let mixed = (place ^ (place >> 8)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56;
    u8::try_from(mixed).expect("eight bits are left") ^ offset
}

pub(super) fn fill(offset: u8, from: u64, buf: &mut [u8]) {
    for (place, byte) in (from..).zip(buf) {
        *byte = pattern(offset, place);
    }
}

/// Returns whether the bytes match the pattern.
pub(super) fn fits(offset: u8, from: u64, bytes: &[u8]) -> bool {
    (from..).zip(bytes).all(|(place, &byte)| byte == pattern(offset, place))
}
