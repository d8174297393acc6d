//! What the documentation tells people to do, done: its commands and its files are taken from its pages.

mod commands;
mod files;
mod machine;
mod quick_start;
mod unit;
