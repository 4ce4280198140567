//! What the kernel filter and the agent share: the packet parser, the limiter, the source table, the
//! decision, and the layout of every map.
//!
//! The same source is compiled into the BPF program, the agent and the host tests. It has no clock, no
//! allocation and no feature flags: time and memory are arguments.

#![no_std]

#[cfg(test)]
extern crate std;

pub mod cells;
pub mod event;
pub mod facts;
pub mod filter;
pub mod flood;
pub mod flow;
pub mod gcra;
pub mod layout;
pub mod lookup;
pub mod packet;
pub mod reset;
pub mod rules;
pub mod sequence;
pub mod source;
pub mod table;
pub mod verdict;
pub mod word;
