#!/bin/sh
# Puts the adapter into a copy of the real Gemini REPL, builds it, and has the REPL's own ToolRegistry call a tool of
# ours: against.sh DIR, where DIR is a checkout of it. A fleet must be up (`evalfleet up --detach`).
set -eu
repl="$(cd "${1:?usage: against.sh DIR}" && pwd)"
here="$(cd "$(dirname "$0")" && pwd)"
ours="$(cd "$here/../../.." && pwd)"
copy="$(mktemp -d)"
trap 'rm -rf "$copy"' EXIT
cp -a "$repl/Cargo.toml" "$repl/src" "$copy"
cp "$here/tools/evalfleet.rs" "$copy/src/tools/evalfleet.rs"
cp "$ours/Cargo.lock" "$copy/Cargo.lock"
cat >> "$copy/Cargo.toml" <<EOF

[dependencies.evalfleet]
path = "$ours/producer"
[dependencies.evalfleet-proto]
path = "$ours/proto"
[dependencies.evalfleet-service]
path = "$ours/service"
EOF
sed -i 's/^pub mod ed_tools;$/&\npub mod evalfleet;/' "$copy/src/tools/mod.rs"
cat >> "$copy/src/tools/mod.rs" <<'EOF'

#[cfg(test)]
mod in_a_clean_vm {
    #[tokio::test]
    async fn the_registry_calls_what_runs_elsewhere() {
        let mut registry = super::ToolRegistry::new();
        for tool in super::evalfleet::tools().await.expect("a fleet is up") {
            registry.register_tool(tool).expect("no name twice");
        }
        println!("{} tools of the REPL's registry run in clean VMs", registry.get_tool_definitions().len());
        let params = serde_json::json!({"text": "one two three"});
        let counted = registry.execute_tool("word_count", params).await.expect("it is run");
        println!("word_count: {counted}");
        assert_eq!(counted["words"], 3);
        let written = serde_json::json!({"path": "a.txt", "content": "here"});
        println!("write_file: {}", registry.execute_tool("write_file", written).await.expect("it is run"));
        // Each call has a machine of its own, and none of them is this one.
        let read = registry.execute_tool("read_file", serde_json::json!({"path": "a.txt"})).await;
        println!("read_file: {}", read.expect_err("the file is gone with its machine"));
        assert!(!std::path::Path::new("a.txt").exists());
        let wrong = registry.execute_tool("word_count", serde_json::json!({})).await;
        println!("word_count without a text: {}", wrong.expect_err("it does not fit"));
    }
}
EOF
cd "$copy"
CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$ours/target/gemini-repl}" cargo test --bin gemini-repl in_a_clean_vm -- --nocapture
