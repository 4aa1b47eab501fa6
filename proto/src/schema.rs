//! JSON Schemas of the documents that people and programs exchange, generated from the types.

use schemars::{Schema, schema_for};

/// The documents and their schemas, by file name.
pub fn all() -> Vec<(&'static str, Schema)> {
    vec![
        ("alert.schema.json", schema_for!(crate::alert::Alert)),
        ("healing.schema.json", schema_for!(crate::healing::Healing)),
        ("submission.schema.json", schema_for!(crate::submission::Submission)),
        ("evaluation.schema.json", schema_for!(crate::evaluation::Evaluation)),
        ("function-call.schema.json", schema_for!(crate::job::FunctionCall)),
        ("function-response.schema.json", schema_for!(crate::job::FunctionResponse)),
    ]
}
