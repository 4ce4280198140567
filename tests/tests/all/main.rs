//! Everything that needs the real kernel or the real agent, in one binary.

mod filter;
mod lifecycle;
mod refusals;
mod rules;
mod story;
