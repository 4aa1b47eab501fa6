//! Why a command ends early, with the exit code that says so.

use crate::{api, change, client, machine, mcp, registry, replay, suite, toolbox};
use evalfleet_proto::status::Exit;
use std::fmt;

/// Why a command ends early.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    message: String,
}

impl Failure {
    /// A failure with `exit`.
    pub fn new(exit: Exit, why: impl fmt::Display) -> Self {
        Self { exit, message: why.to_string() }
    }

    /// The command was used wrongly, or its configuration is wrong.
    pub fn usage(why: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, why)
    }

    /// The request itself is at fault.
    pub fn harness(why: impl fmt::Display) -> Self {
        Self::new(Exit::Harness, why)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        Self::new(error.exit(), error)
    }
}

impl From<registry::Error> for Failure {
    fn from(error: registry::Error) -> Self {
        Self::harness(error)
    }
}

impl From<api::Error> for Failure {
    fn from(error: api::Error) -> Self {
        Self::new(error.exit(), error)
    }
}

impl From<suite::run::Error> for Failure {
    fn from(error: suite::run::Error) -> Self {
        let exit = match &error {
            suite::run::Error::Registry(_) => Exit::Harness,
            suite::run::Error::Journal(_) => Exit::Usage,
        };
        Self::new(exit, error)
    }
}

impl From<replay::Error> for Failure {
    fn from(error: replay::Error) -> Self {
        Self::new(error.exit(), error)
    }
}

impl From<machine::Error> for Failure {
    fn from(error: machine::Error) -> Self {
        Self::new(Exit::Unreachable, error)
    }
}

impl From<change::Error> for Failure {
    fn from(error: change::Error) -> Self {
        Self::new(error.exit(), error)
    }
}

impl From<toolbox::Error> for Failure {
    fn from(error: toolbox::Error) -> Self {
        Self::new(error.exit(), error)
    }
}

impl From<mcp::Error> for Failure {
    fn from(error: mcp::Error) -> Self {
        let exit = match error {
            mcp::Error::Registry(_) => Exit::Harness,
            mcp::Error::Protocol(_) => Exit::Usage,
        };
        Self::new(exit, error)
    }
}
