//! `completions` and `man`: the command about itself.

use super::args::Cli;
use super::failure::Failure;
use clap::CommandFactory as _;
use evalfleet_proto::status::Exit;
use std::io::Write as _;
use std::path::Path;

pub(super) fn completions(shell: clap_complete::Shell) -> Result<Exit, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "evalfleet", &mut text);
    print(&text)
}

pub(super) fn man(dir: Option<&Path>) -> Result<Exit, Failure> {
    match dir {
        None => {
            let mut text = Vec::new();
            let rendered = clap_mangen::Man::new(Cli::command()).render(&mut text);
            rendered.map_err(|error| Failure::new(Exit::Defect, error))?;
            print(&text)
        }
        Some(dir) => {
            let written =
                std::fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(Cli::command(), dir));
            written.map_err(|error| Failure::usage(format!("{}: {error}", dir.display())))?;
            Ok(Exit::Passed)
        }
    }
}

fn print(text: &[u8]) -> Result<Exit, Failure> {
    match std::io::stdout().write_all(text) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Defect, error))
        }
        _ => Ok(Exit::Passed),
    }
}
