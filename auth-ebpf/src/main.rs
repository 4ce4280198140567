//! The XDP filter.
#![no_std]
#![no_main]
