//! Specs as tables of mistakes, and runs that are killed at every point.

mod cache;
mod dispatch;
mod fake;
mod hostile;
mod run;
mod search;
mod spec;
