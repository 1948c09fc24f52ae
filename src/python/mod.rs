//! The one way into Python: an environment made from a pinned lock, and calls that carry JSON in and JSON out.
//!
//! [`ensure`] finds or makes the environment, [`Interpreter::start`] boots Python inside this process and loads the
//! `coremill` package embedded in the binary, [`Interpreter::call`] asks it one thing. Nothing else in this crate
//! knows that Python exists.

#[cfg(feature = "python")]
mod boot;
#[cfg(feature = "python")]
mod capture;
mod cluster;
#[cfg(not(feature = "python"))]
mod disabled;
mod doctor;
#[cfg(feature = "python")]
mod enabled;
mod env;
mod error;
mod host;
mod install;
mod lock;
mod machine;
#[cfg(feature = "python")]
mod package;
mod pip;
mod plan;

pub use cluster::{Cluster, ClusterError, End, Event, Job};
#[cfg(not(feature = "python"))]
pub use disabled::Interpreter;
pub use doctor::{Ability, Doctor, EnvState, doctor};
#[cfg(feature = "python")]
pub use enabled::Interpreter;
pub use env::{Environment, Extra, Origin, Settings, ensure, ensure_with, ready};
pub use error::{EnvError, PythonError};
pub use machine::loaded_libpython;
