//! Writes the seeds of the corpus anew: `cargo run --bin seeds` in `tests/fuzz`. Disks are made by
//! mke2fs and debugfs (Debian: package e2fsprogs), as the image builder makes them but smaller.

use evalfleet_fuzz::pack;
use evalfleet_proto::guest::{Awake, Exited, FromGuest};
use evalfleet_proto::wire;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

const UUID: &str = "6b1f1a0e-6c2c-4f3c-9a5e-5c7a7c6e0001";
const FEATURES: &str =
    "none,filetype,extent,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,ext_attr,dir_index";

/// A name, and what debugfs does to an empty disk for it. Not every command takes a path for what it
/// makes, so each is given from within.
fn disks() -> Vec<(&'static str, String)> {
    let template =
        "mkdir upper\nmkdir work\ncd upper\nmkdir directory\ncd directory\nwrite template.txt warm\ncd ..\n";
    let job = "write content.txt file\ncd directory\nsymlink link warm\nmknod gone c 0 0\nmkdir opaque\n\
               ea_set opaque trusted.overlay.opaque y\ncd ..\n";
    let moved = "cd directory\nmknod moved c 0 0\ncd ..\nwrite moved.txt moved\nsif moved mtime @1\n";
    let long = "x".repeat(180);
    let extended =
        format!("ea_set file user.short 1\nea_set file user.long {long}\nea_set file user.more {long}\n");
    let deep = "mkdir d\ncd d\n".repeat(13);
    let many: String = (0..120).map(|number| format!("write empty.txt {number:030}\n")).collect();
    let with = |more: &str| format!("{template}{job}{more}");
    vec![
        ("template", template.to_owned()),
        ("plain", with("")),
        ("kinds", with("mknod pipe p\nmknod char c 1 3\nmknod block b 8 77\n")),
        ("moved", with(moved)),
        ("attributes", with(&extended)),
        ("long-link", with(&format!("symlink long {long}\n"))),
        ("hard-links", with("link file second\nsif file links_count 2\n")),
        ("holes", with("write holes.bin holes\n")),
        ("deep", with(&deep)),
        ("many", with(&format!("mkdir many\ncd many\n{many}"))),
        ("loop", with("mkdir loop\ncd loop\nlink /upper upper\n")),
        ("giant", with("sif file size 0x7fffffffffff\n")),
        ("outside", with("sif file block[5] 0x7fffffff\n")),
        ("attributes-outside", with("sif file file_acl 0x7fffffff\n")),
        ("slash", with("mknod a/b p\n")),
        ("no-upper", "mkdir upper\nsif upper mode 0100644\n".to_owned()),
    ]
}

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, commands) in disks() {
        let packed = pack(&disk(&commands)?);
        println!("disk/{name}: {} bytes", packed.len());
        fs::write(corpus.join("disk").join(name), packed)?;
    }
    for (name, said) in conversations() {
        let mut bytes = vec![37];
        for frame in said {
            let body = wire::encode(&frame);
            bytes.extend((body.len() as u32).to_le_bytes());
            bytes.extend(body);
        }
        println!("frames/{name}: {} bytes", bytes.len());
        fs::write(corpus.join("frames").join(name), bytes)?;
    }
    Ok(())
}

fn disk(commands: &str) -> std::io::Result<Vec<u8>> {
    let folder = std::env::temp_dir().join(format!("evalfleet-seeds-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    for (name, content) in [
        ("template.txt", "warm\n"),
        ("content.txt", "content\n"),
        ("moved.txt", "moved\n"),
        ("empty.txt", ""),
    ] {
        fs::write(folder.join(name), content)?;
    }
    let mut holes = vec![0; 40 << 10];
    (0..10).for_each(|number| holes[number << 12] = b'h');
    fs::write(folder.join("holes.bin"), holes)?;
    let image = folder.join("disk");
    fs::File::create(&image)?.set_len(160 << 10)?;
    let mut format = Command::new("mke2fs");
    format.args(["-q", "-F", "-t", "ext4", "-b", "1024", "-I", "256", "-m", "0", "-N", "160", "-U", UUID]);
    format.args([
        "-O",
        FEATURES,
        "-E",
        &format!("hash_seed={UUID},lazy_itable_init=0,nodiscard,root_owner=0:0"),
    ]);
    done(format.arg(&image), "")?;
    let mut change = Command::new("debugfs");
    done(change.args(["-w", "-f", "-"]).arg(&image).current_dir(&folder), commands)?;
    let disk = fs::read(&image)?;
    fs::remove_dir_all(&folder)?;
    Ok(disk)
}

fn done(command: &mut Command, input: &str) -> std::io::Result<()> {
    command.env("MKE2FS_CONFIG", "/dev/null").env("E2FSPROGS_FAKE_TIME", "1").env("SOURCE_DATE_EPOCH", "1");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(std::io::Error::other(format!("{command:?}: {status}"))) }
}

fn conversations() -> Vec<(&'static str, Vec<FromGuest>)> {
    let output = |stderr, text: &str| FromGuest::Output { stderr, data: text.as_bytes().to_vec() };
    let awake = Awake {
        nonce: "00ff".to_owned(),
        agent: "0.1.0".to_owned(),
        random: vec![7; 32],
        clock_ns: 1_700_000_000_000_000_000,
        errors: vec!["clock".to_owned()],
    };
    let exited = Exited { code: Some(1), left: 2, left_names: vec!["sleep".to_owned()], ..Exited::default() };
    vec![
        ("wake", vec![FromGuest::Hello(awake)]),
        (
            "run",
            vec![FromGuest::Started, output(false, "out"), output(true, "err"), FromGuest::Exited(exited)],
        ),
        ("files", vec![FromGuest::Laid { error: None }, FromGuest::Laid { error: Some("no".to_owned()) }]),
        (
            "failures",
            vec![
                FromGuest::NotStarted { error: "no".to_owned(), errno: 2 },
                FromGuest::Error { error: "why".to_owned() },
            ],
        ),
        ("synced", vec![FromGuest::Synced; 3]),
    ]
}
