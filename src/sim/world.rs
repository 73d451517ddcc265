//! A life: the ends, the wire between them, the time, and one step after another.

use std::time::{Duration, Instant};

use super::model::{Check, rule};
use super::net::Net;
use super::peer::Peer;
use super::plan::{Command, Life, Plan, Step, Who};
use super::side::{Reader, Side, Writer};
use super::tls;
use crate::info::Phase;
use crate::machine::Fault;

#[derive(Debug)]
pub(super) struct World {
    pub(super) net: Net,
    near: Side,
    far: Far,
    stuck: bool,
    require_close_notify: bool,
}

/// The other end.
#[derive(Debug)]
enum Far {
    Machine(Box<Side>),
    Scripted(Box<Peer>),
}

impl World {
    pub(super) fn new(plan: &Plan) -> Self {
        tls::begin(plan.chance);
        let net = Net::new();
        let secure = plan.life == Life::Secure;
        let far = match plan.life {
            Life::Pair => Far::Machine(Box::new(Side::new(1, plan, false, &net))),
            Life::Plain | Life::Secure | Life::Upgrade => {
                Far::Scripted(Box::new(Peer::new(secure, plan.server)))
            }
        };
        World {
            near: Side::new(0, plan, secure, &net),
            far,
            net,
            stuck: plan.stuck,
            require_close_notify: plan.server.require_close_notify,
        }
    }

    pub(super) fn run(&mut self, plan: &Plan) -> Check {
        self.each(Side::start)?;
        for &step in &plan.steps {
            let at = self.net.now.saturating_duration_since(self.net.begun);
            self.net.trace.step(at, step);
            self.happen()?;
            self.step(step)?;
            self.see_ends()?;
        }
        self.finish()
    }

    fn step(&mut self, step: Step) -> Check {
        let (side, net) = self.side(step.who());
        match step {
            Step::Read(_) => side.read(net),
            Step::Receive { most, late, .. } => side.receive(most, late, net),
            Step::LeaveReading(_) => side.leave_reading(net),
            Step::Write(_) => side.write(net),
            Step::Send { most, late, .. } => side.send(most, late, net),
            Step::LeaveWriting(_) => side.leave_writing(net),
            Step::Transmit { most, .. } => side.transmit(most, net),
            Step::Attend { most, .. } => side.attend(most, net),
            Step::Watch(_) => side.watch(net),
            Step::Command(_, command) => side.command(command, net),
            Step::Stray(_, stray) => side.stray(stray, net),
            Step::Look => self.look(),
            Step::Deliver { from, most } => {
                self.deliver(from, most);
                Ok(())
            }
            Step::Window { from, size } => {
                net.wire.set_window(from, size);
                Ok(())
            }
            Step::Corrupt { from, at, bit } => {
                if side.secure && net.wire.corrupt(from, at, bit) {
                    (net.harmed, net.mangled) = (true, true);
                }
                Ok(())
            }
            Step::Cut { from, at } => {
                net.wire.cut(from, at);
                (net.harmed, net.cut) = (true, true);
                Ok(())
            }
            Step::Wait(time) => self.wait_until(self.net.now + time),
            Step::Oversleep(time) => self.oversleep(time),
            Step::Settle => self.settle(),
            Step::PeerWrite(_)
            | Step::PeerRead(_)
            | Step::PeerEnd
            | Step::PeerHalfEnd { .. }
            | Step::PeerReset
            | Step::PeerNewKeys
            | Step::Inject(_) => self.peer_step(step),
        }
    }

    fn side(&mut self, who: Who) -> (&mut Side, &mut Net) {
        match &mut self.far {
            Far::Machine(far) if who == 1 => (far, &mut self.net),
            Far::Machine(_) | Far::Scripted(_) => (&mut self.near, &mut self.net),
        }
    }

    fn peer_step(&mut self, step: Step) -> Check {
        let World { net, near, far, .. } = self;
        let Far::Scripted(peer) = far else { return Ok(()) };
        // What it says in plaintext is not awaited any more.
        let late = near.secure && !peer.is_secure();
        match step {
            Step::PeerWrite(bytes) => peer.write(bytes, net),
            Step::PeerEnd => peer.end(net),
            Step::PeerHalfEnd { fin } => peer.half_end(fin, net),
            Step::PeerReset => peer.reset(net),
            Step::PeerNewKeys => peer.change_keys(net),
            Step::Inject(bytes) => peer.inject(bytes, net),
            Step::PeerRead(most) => return peer.read(most, near.plaintext, net),
            _ => return Ok(()),
        }
        net.harmed |= late;
        net.mangled |= late;
        Ok(())
    }

    /// Who upgrades looks at the wire.
    fn look(&mut self) -> Check {
        let World { net, near, far, .. } = self;
        let before = near.secure;
        near.look(net)?;
        if let (Far::Scripted(peer), true) = (far, near.secure && !before) {
            // The peer is still talking, and what it says is no TLS.
            let talks = !peer.has_said_all() || net.wire.flying(1) > 0 || net.wire.is_finished(1);
            net.harmed |= talks;
            net.mangled |= talks;
        }
        Ok(())
    }

    fn deliver(&mut self, from: Who, most: usize) -> bool {
        let moved = self.net.wire.deliver(from, most);
        if moved {
            // Whoever is registered hears of it.
            match &mut self.far {
                Far::Machine(far) if from == 0 => far.edge |= far.is_wired(),
                Far::Machine(_) | Far::Scripted(_) if from == 1 => {
                    self.near.edge |= self.near.is_wired();
                }
                Far::Machine(_) | Far::Scripted(_) => {}
            }
        }
        self.net.harmed |= self.net.wire.is_reset(0) || self.net.wire.is_reset(1);
        moved
    }

    // ------------------------------------------------------------- time

    /// What happens by itself now does.
    fn happen(&mut self) -> Check {
        while let Some((who, happening)) = self.net.take_due() {
            match (&mut self.far, who) {
                (Far::Machine(far), 1) => far.happen(happening, &mut self.net)?,
                _ => self.near.happen(happening, &mut self.net)?,
            }
        }
        Ok(())
    }

    /// When something is due next: in the world, or in a machine.
    fn next(&self) -> Option<Instant> {
        let deadline = |side: &Side| side.machine.next_timer().map(|(at, _)| at);
        let far = match &self.far {
            Far::Machine(far) => deadline(far),
            Far::Scripted(_) => None,
        };
        [self.net.next(), deadline(&self.near), far].into_iter().flatten().min()
    }

    fn wait_until(&mut self, until: Instant) -> Check {
        for _ in 0..EVENTS_MOST {
            self.happen()?;
            let now = self.net.now;
            self.each(|side, net| match side.machine.next_timer() {
                Some((at, _)) if at <= now => side.keep_time(net),
                Some(_) | None => Ok(()),
            })?;
            match self.next() {
                Some(at) if at <= until => self.net.now = self.net.now.max(at),
                Some(_) | None => {
                    self.net.now = until;
                    return Ok(());
                }
            }
        }
        Err("time passes, however much is due")
    }

    /// Time passes while nobody is there to keep the deadlines.
    fn oversleep(&mut self, time: Duration) -> Check {
        self.net.now += time;
        self.happen()?;
        self.wait_until(self.net.now)
    }

    // ------------------------------------------------------------- rest

    /// All do what they can until nothing more is to be done.
    fn settle(&mut self) -> Check {
        for _ in 0..ROUNDS_MOST {
            let before = self.net.trace.len();
            self.happen()?;
            let mut moved = false;
            if !self.stuck {
                moved |= self.deliver(0, usize::MAX);
                moved |= self.deliver(1, usize::MAX);
            }
            self.each(work)?;
            self.look()?;
            if let (Far::Scripted(peer), false) = (&mut self.far, self.stuck) {
                peer.push(&mut self.net);
                peer.read(usize::MAX, self.near.plaintext, &mut self.net)?;
            }
            if !moved && self.net.trace.len() == before {
                return self.each(see_waiters);
            }
        }
        Err("all comes to rest when nothing new happens")
    }

    fn each(&mut self, mut act: impl FnMut(&mut Side, &mut Net) -> Check) -> Check {
        act(&mut self.near, &mut self.net)?;
        match &mut self.far {
            Far::Machine(far) => act(far, &mut self.net),
            Far::Scripted(_) => Ok(()),
        }
    }

    fn all(&self, mut is: impl FnMut(&Side) -> bool) -> bool {
        let far = match &self.far {
            Far::Machine(far) => is(far),
            Far::Scripted(_) => true,
        };
        is(&self.near) && far
    }

    // ------------------------------------------------------------- the end

    /// Whoever reads the end has read everything.
    fn see_ends(&mut self) -> Check {
        let World { net, near, far, require_close_notify, .. } = self;
        match far {
            Far::Machine(far) => {
                see_plain_end(near, far.accepted, net)?;
                see_plain_end(far, near.accepted, net)
            }
            Far::Scripted(peer) if !near.secure => see_plain_end(near, peer.sent, net),
            Far::Scripted(peer) => {
                if !std::mem::take(&mut near.unproved_end) || near.cancelled {
                    return Ok(());
                }
                let proved = peer.is_secure() && peer.ended;
                rule(
                    proved || !*require_close_notify && net.wire.is_over(0),
                    "an end over TLS is one that the peer said",
                )?;
                rule(
                    near.read == peer.sent || !*require_close_notify && net.harmed,
                    "who reads the end over TLS has read all",
                )
            }
        }
    }

    fn finish(&mut self) -> Check {
        if self.stuck {
            self.net.wire.set_window(0, 0);
        } else {
            self.net.wire.set_window(0, usize::MAX);
            self.net.wire.set_window(1, usize::MAX);
            self.open_up()?;
            self.end_well()?;
        }
        self.close()
    }

    /// Lets what is being made come to its end.
    fn open_up(&mut self) -> Check {
        for _ in 0..EVENTS_MOST {
            self.settle()?;
            let decided =
                |side: &Side| side.machine.opened().is_some() && !side.machine.is_upgrade_pending();
            if self.all(decided) {
                break;
            }
            // Where nothing limits it, and nothing answers, it may take for ever.
            let Some(at) = self.next() else { break };
            self.wait_until(at)?;
        }
        self.see_ends()
    }

    /// The peer ends, and all is read, and all that was written arrives.
    fn end_well(&mut self) -> Check {
        self.each(|side, net| {
            if side.who == 1 || matches!(side.writer, Writer::Waits { .. }) {
                side.leave_writing(net)?;
            }
            Ok(())
        })?;
        self.settle()?;
        match &mut self.far {
            Far::Machine(far) => {
                far.leave_writing(&mut self.net)?;
                far.command(Command::FinishWriting, &mut self.net)?;
            }
            Far::Scripted(peer) => peer.end(&mut self.net),
        }
        loop {
            let before = self.net.trace.len();
            self.each(|side, net| {
                if matches!(side.reader, Reader::Nobody) && !side.read_over {
                    side.read(net)?;
                }
                if side.read_over && side.machine.phase() == Phase::HalfClosed {
                    side.leave_writing(net)?;
                    side.command(Command::FinishWriting, net)?;
                }
                Ok(())
            })?;
            self.settle()?;
            self.see_ends()?;
            let open = |side: &Side| side.machine.opened() == Some(Ok(()));
            if self.all(|side| side.read_over || !open(side)) {
                break;
            }
            if self.far_is_not_there() {
                // Then it says nothing either.
                return Ok(());
            }
            rule(self.net.trace.len() > before, "who reads comes to an end when the peer has")?;
        }
        self.each(|side, net| {
            side.leave_writing(net)?;
            match side.machine.phase() {
                Phase::HalfClosed => side.command(Command::FinishWriting, net),
                _ => Ok(()),
            }
        })?;
        self.settle()?;
        self.see_well()
    }

    /// Whether there are two machines of which one never got to the wire.
    fn far_is_not_there(&self) -> bool {
        let Far::Machine(far) = &self.far else { return false };
        ![&self.near, far].iter().all(|side| side.machine.opened() == Some(Ok(())))
    }

    /// Where nobody did any harm, all is well.
    fn see_well(&mut self) -> Check {
        if self.net.harmed || self.far_is_not_there() {
            return Ok(());
        }
        self.each(|side, _| {
            let outcome = side.machine.outcome();
            let spoiled = side.left
                || side.cancelled
                || side.machine.opened() != Some(Ok(()))
                || outcome == Some(Err(Fault::UnreadPlaintext));
            rule(spoiled || side.saw_end, "where nobody does harm the end is read")?;
            rule(
                spoiled || outcome == Some(Ok(())),
                "where nobody does harm a connection ends well",
            )
        })
    }

    /// The program closes, and that is the end, whatever happened before.
    fn close(&mut self) -> Check {
        let begun = self.net.now;
        self.each(|side, net| side.command(Command::Close, net))?;
        for _ in 0..EVENTS_MOST {
            self.settle()?;
            if self.all(Side::is_done) {
                break;
            }
            let Some(at) = self.next() else { break };
            self.wait_until(at)?;
        }
        let took = self.net.now.saturating_duration_since(begun);
        rule(took <= CLOSE_MOST, "a close takes no longer than it may")?;
        self.each(let_go)?;
        self.settle()?;
        self.each(|side, net| side.command(Command::Close, net))?;
        self.each(|side, _| side.model.see_end(&side.machine))?;
        self.see_ends()?;
        self.see_arrival()
    }

    /// What was accepted has arrived, where the outcome says so and nobody did any harm.
    fn see_arrival(&mut self) -> Check {
        let Far::Scripted(peer) = &self.far else { return Ok(()) };
        let side = &self.near;
        let well = side.machine.outcome() == Some(Ok(())) && side.machine.opened() == Some(Ok(()));
        if !well || self.net.harmed || self.stuck {
            return Ok(());
        }
        rule(peer.got == side.accepted, "what was accepted arrives where the outcome is good")?;
        rule(peer.saw_end && peer.has_seen_goodbye(), "the peer is told of the end")
    }
}

/// What is to be done at one end.
fn work(side: &mut Side, net: &mut Net) -> Check {
    match side.reader {
        Reader::Waits { told: true } => side.read(net)?,
        Reader::Receives(_) | Reader::Ingests(_) | Reader::Takes(_) => {
            side.receive(usize::from(u16::MAX), false, net)?;
        }
        Reader::Nobody | Reader::Waits { told: false } => {}
    }
    match side.writer {
        Writer::Waits { told: true } => side.write(net)?,
        Writer::Sends(_) | Writer::Seals { told: true, .. } => side.send(1000, false, net)?,
        Writer::Nobody | Writer::Waits { told: false } | Writer::Seals { told: false, .. } => {}
    }
    if side.lent.is_none() || !side.is_wired() || net.wire.has_room(side.who) {
        side.transmit(usize::MAX, net)?;
    }
    side.attend(usize::MAX, net)
}

/// Who still waits when all has come to rest waits rightly.
fn see_waiters(side: &mut Side, net: &mut Net) -> Check {
    if matches!(side.reader, Reader::Waits { told: false }) {
        side.read(net)?;
    }
    if matches!(side.writer, Writer::Waits { told: false }) {
        side.write(net)?;
    }
    if matches!(side.writer, Writer::Seals { told: false, .. }) {
        let full = side.lent.is_some() || !side.machine.can_seal();
        rule(full, "who waits for room is told when there is some")?;
    }
    Ok(())
}

/// Reads what is left, and gives everything back.
fn let_go(side: &mut Side, net: &mut Net) -> Check {
    side.leave_writing(net)?;
    if side.lent.is_some() {
        side.transmit(0, net)?;
    }
    for _ in 0..ROUNDS_MOST {
        if let Reader::Nobody | Reader::Waits { .. } = side.reader {
            if side.read_over {
                break;
            }
            side.read(net)?;
            rule(
                !matches!(side.reader, Reader::Waits { .. }) || side.attendant.is_some(),
                "no read waits after the end",
            )?;
        }
        side.receive(usize::from(u16::MAX), false, net)?;
        if !matches!(side.reader, Reader::Nobody) {
            side.leave_reading(net)?;
            break;
        }
        if side.attendant.is_some() {
            side.attend(usize::MAX, net)?;
        }
    }
    match side.attendant {
        Some(_) => side.attend(usize::MAX, net),
        None => Ok(()),
    }
}

fn see_plain_end(side: &mut Side, written: u64, net: &Net) -> Check {
    if !std::mem::take(&mut side.unproved_end) || side.cancelled || net.cut {
        return Ok(());
    }
    rule(net.wire.is_over(side.who), "an end is the peer's")?;
    rule(side.read == written, "who reads the end has read all")
}

/// More happens in no life.
const EVENTS_MOST: usize = 1_000;
const ROUNDS_MOST: usize = 10_000;
/// The longest close timeout of a plan.
const CLOSE_MOST: Duration = Duration::from_secs(5);
