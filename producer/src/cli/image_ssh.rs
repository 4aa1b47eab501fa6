//! `image ssh`: a person in a throw-away VM of an imported image.

use super::failure::Failure;
use super::{Context, image_import};
use evalfleet_proto::ids::ImageRef;
use evalfleet_proto::status::Exit;

pub(super) async fn ssh(context: &Context, name: &ImageRef, argv: &[String]) -> Result<Exit, Failure> {
    let name = name.to_string();
    let mut arguments = vec!["ssh", name.as_str()];
    if !argv.is_empty() {
        arguments.push("--");
        arguments.extend(argv.iter().map(String::as_str));
    }
    // The VM lives in the worker's program, which leaves the terminal to ssh.
    let mut command = image_import::worker(context, &arguments)?;
    let status = command.status().await.map_err(|error| Failure::new(Exit::Unreachable, error))?;
    match status.code() {
        Some(0) => Ok(Exit::Passed),
        Some(code) if code == Exit::Subject as i32 => Ok(Exit::Subject),
        Some(_) | None => {
            Err(Failure::new(Exit::Infrastructure, "the visit ended early; its reason is above"))
        }
    }
}
