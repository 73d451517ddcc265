//! Connecting: names, addresses and the one limit over all.
//!
//! Addresses are dialled in the resolver's order with the families taking turns: the next attempt
//! begins 250 ms after the last, or at once when one fails, and an older one goes on beside it. The first
//! to succeed is the connection; the others are closed without having sent a byte. So a name whose IPv6
//! address is dead costs a quarter of a second and not the whole time limit, and the error of a name that
//! no address of answers keeps [each attempt](crate::Error::attempts) with its own cause. With a
//! prescribed local port attempts run one after another. A connection that by chance came back to the
//! socket's own port is no connection; it is dialled again, twice at most.
//!
//! The limit covers everything, and its error says which step it struck: the look-up, or the attempts.
