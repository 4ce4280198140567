//! Everything that needs the real kernel or the real agent, in one binary.

mod filter;
