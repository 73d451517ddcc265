//! Who may be dialled: the tables and what they were made from, the rules, and a second reading of both.

mod boundaries;
mod listeners;
mod model;
mod random;
mod rules;
mod table;
