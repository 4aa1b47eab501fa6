//! The tools that the images share on the host's Python: their unit tests, and the cases that their own specifications state.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use evalfleet_images::tool::ToolSpec;
use evalfleet_images::{Recipe, tree};
use serde_json::Value;

fn source(name: &str) -> PathBuf {
    Recipe::source_folder().join(name)
}

/// Runs a tool's entry with the folder of tools in the source instead of that in the image.
fn call(tool: &ToolSpec, args: &Value, workspace: &Path) -> Output {
    let (program, rest) = tool.entry.split_first().unwrap();
    let tools = source("tools");
    let rest = rest.iter().map(|word| word.replace("/opt/evalfleet/tools", tools.to_str().unwrap()));
    let mut command = Command::new(program);
    command.args(rest).env("EVALFLEET_WORKSPACE", workspace).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(args.to_string().as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn every_case_of_every_tool_holds_in_a_fresh_workspace() {
    let tools = ToolSpec::load_all(&source("tools")).unwrap();
    let names: Vec<_> = tools.iter().map(|tool| tool.name.as_str()).collect();
    let expected = [
        "analyze_rust_code",
        "ed_editor",
        "edit_file",
        "explain_architecture",
        "find_function",
        "find_struct",
        "get_current_capabilities",
        "list_files",
        "project_map",
        "read_file",
        "run_command",
        "search_code",
        "word_count",
        "write_file",
    ];
    assert_eq!(names, expected);
    for tool in &tools {
        assert!(!tool.cases.is_empty(), "{} has no cases", tool.name);
        for case in &tool.cases {
            let workspace = tempfile::tempdir().unwrap();
            tree::copy(&source("workspace"), workspace.path()).unwrap();
            let output = call(tool, &case.args, workspace.path());
            let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
            let checked = case.expect.check(output.status.success(), &answer);
            assert_eq!(checked, Ok(()), "{}: {}", tool.name, case.name);
        }
    }
}

#[test]
fn the_unit_tests_in_python_pass() {
    let output = Command::new("python3")
        .args(["-B", "-m", "unittest", "discover", "--start-directory", "tests"])
        .current_dir(Recipe::source_folder())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
