//! Egress: the tables and their sources, the rules, and an independent model of both.

mod boundaries;
mod listeners;
mod model;
mod random;
mod rules;
mod table;
