//! The figures of a turn, and their aims.

use std::fmt;

/// One of the numbers that a turn returns.
#[derive(Clone, Copy)]
pub struct Figure {
    pub name: &'static str,
    pub unit: &'static str,
    pub better: Better,
    pub aim: Option<Aim>,
}

impl Figure {
    /// Makes a figure for which more is better.
    pub const fn yield_of(name: &'static str, unit: &'static str) -> Self {
        Self { name, unit, better: Better::More, aim: None }
    }

    /// Makes a figure for which less is better.
    pub const fn cost(name: &'static str, unit: &'static str) -> Self {
        Self { name, unit, better: Better::Less, aim: None }
    }

    pub const fn aim(self, aim: Aim) -> Self {
        Self { aim: Some(aim), ..self }
    }
}

/// The direction in which a figure is better.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Better {
    More,
    Less,
}

/// An aim of `sockeye`, which applies to the median.
#[derive(Clone, Copy)]
pub enum Aim {
    /// The figure divided by the reference's.
    RatioAtLeast(f64),
    RatioAtMost(f64),
    /// The figure itself.
    AtMost(f64),
    /// The figure less the reference's.
    BeyondReference(f64),
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RatioAtLeast(bound) => write!(f, "ratio ≥ {bound:.2}"),
            Self::RatioAtMost(bound) => write!(f, "ratio ≤ {bound:.2}"),
            Self::AtMost(bound) => write!(f, "≤ {bound}"),
            Self::BeyondReference(bound) => write!(f, "≤ {bound} more"),
        }
    }
}
