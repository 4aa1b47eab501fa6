//! Builds the base image for real, as often as it takes to know that the same packages give the same image.
//!
//! Images go to `EVALFLEET_IMAGES`, or to `target/test-images`, and stay there for other tests to use.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use evalfleet_images::manifest::Part;
use evalfleet_images::progress::{Event, Step};
use evalfleet_images::{BuildOptions, Built, Image, ImageRef, Recipe, Store, Work, build, initramfs};

fn images() -> PathBuf {
    let default = || Recipe::source_folder().parent().unwrap().join("target/test-images");
    std::env::var_os("EVALFLEET_IMAGES").map_or_else(default, PathBuf::from)
}

/// A program that an initramfs takes for static, without any code.
fn stand_in_agent(folder: &Path, version: u8) -> PathBuf {
    let mut program = vec![0; 64];
    program[..6].copy_from_slice(b"\x7fELF\x02\x01");
    program.push(version);
    let path = folder.join(format!("agent-{version}"));
    fs::write(&path, program).unwrap();
    path
}

fn run_build(name: &str, agent: &Path, images: &Path, force: bool) -> Built {
    let recipe = Recipe::load(&Recipe::source_folder().join(name)).unwrap();
    let options = BuildOptions { images: images.to_owned(), agent: agent.to_owned(), force };
    let (begun, mut percents) = (Instant::now(), Vec::new());
    let built = build(&recipe, &options, &mut |step, event| match event {
        Event::Line(line) => println!("  {line}"),
        Event::Percent(percent) => percents.push(percent),
        Event::Started | Event::Skipped | Event::Finished(_) => println!("{}: {event:?}", step.name()),
    })
    .unwrap_or_else(|error| panic!("{error}"));
    println!("{:?} in {:?}: {}", built.work, begun.elapsed(), built.image.manifest.digest);
    assert!(percents.is_sorted());
    assert_eq!(built.work == Work::Everything, percents.len() > 5, "{percents:?}");
    built
}

fn succeeds(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

fn check_root(image: &Image) {
    let root = image.path(Part::Root);
    succeeds("fsck.erofs", &[root.to_str().unwrap()]);
    let path = "--path=/opt/evalfleet/tools/word_count/main.py";
    assert!(succeeds("dump.erofs", &[path, root.to_str().unwrap()]).contains("regular file"));
    let begun = Instant::now();
    let index = image.index().unwrap();
    println!("index: {} objects in {:?}", index.len(), begun.elapsed());
    for path in
        ["/", "/etc/hostname", "/opt/evalfleet/tools/word_count", "/workspace/README.md", "/proc", "/tmp"]
    {
        assert!(index.contains(path), "{path}");
    }
    let own = ["/proc/", "/sys/", "/dev/", "/run/", "/tmp/"];
    assert!(!index.entries().iter().any(|entry| own.iter().any(|folder| entry.path.starts_with(folder))));
    let tool = index.get("/opt/evalfleet/tools/word_count/main.py").unwrap();
    let source = Recipe::source_folder().join("tools/word_count/main.py");
    assert_eq!(tool.sha256, Some(evalfleet_images::digest::Digest::of(&fs::read(source).unwrap())));
    // A stale or missing one would be written by the first call, and pass for something that the job did.
    let compiled = "/opt/evalfleet/tools/lib/__pycache__/toolkit.cpython-313.pyc";
    assert!(index.contains(compiled), "{compiled}");
    assert_eq!(index.get("/bin").unwrap().target.as_deref(), Some("usr/bin"));
}

fn check_boot_files(image: &Image) {
    assert!(fs::read(image.path(Part::Vmlinux)).unwrap().starts_with(b"\x7fELF"));
    let entries = initramfs::read(&fs::read(image.path(Part::Initrd)).unwrap()).unwrap();
    let modules: Vec<_> = initramfs::modules(&entries).into_iter().map(|module| module.name).collect();
    assert_eq!(modules, image.manifest.kernel.modules);
    println!("modules: {modules:?}");
    let position = |name: &str| modules.iter().position(|module| module == name).expect(name);
    assert!(
        position("failover") < position("net_failover") && position("net_failover") < position("virtio_net")
    );
    assert!(position("libcrc32c") < position("erofs"));
    assert!(entries.iter().any(|entry| entry.path == "init" && entry.mode & 0o111 != 0));
    let listed = entries.iter().find(|entry| entry.path == "modules/order").unwrap();
    let listed = String::from_utf8(listed.content.clone()).unwrap();
    assert_eq!(listed.lines().count(), modules.len());
    assert!(listed.lines().all(|name| entries.iter().any(|entry| entry.path == format!("modules/{name}"))));
}

#[test]
fn the_base_image_builds_and_builds_again_to_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (stand_in_agent(folder.path(), 1), stand_in_agent(folder.path(), 2));
    let images = images();

    let first = run_build("base", &one, &images, true).image;
    first.verify().unwrap();
    assert_eq!(first.manifest.debian.suite, "trixie");
    assert!(first.manifest.debian.packages.iter().any(|package| package.name == "python3-minimal"));
    let beside = fs::read_to_string(first.folder.join("packages.txt")).unwrap();
    assert_eq!(beside, first.manifest.packages_text());
    assert!(beside.lines().any(|line| line.starts_with("libc6 2.")), "{beside}");
    assert_eq!(first.manifest.tools.len(), first.tools().unwrap().len());
    assert!(first.manifest.scenario("default").is_some());
    check_root(&first);
    check_boot_files(&first);
    for (part, file) in &first.manifest.files {
        println!("{part:?}: {} bytes", file.size);
    }

    let unchanged = run_build("base", &one, &images, false);
    assert_eq!((unchanged.work, &unchanged.image.manifest), (Work::Nothing, &first.manifest));

    let relinked = run_build("base", &two, &images, false);
    assert_eq!(relinked.work, Work::Initramfs);
    relinked.image.verify().unwrap();
    check_boot_files(&relinked.image);
    assert_ne!(relinked.image.manifest.digest, first.manifest.digest);

    let second = run_build("base", &one, &images, true).image;
    for part in Part::ALL {
        assert_eq!(second.manifest.files[&part], first.manifest.files[&part], "{part:?} differs");
    }
    assert_eq!(second.manifest.digest, first.manifest.digest);
    let current = Store::new(&images).resolve(&ImageRef { name: "base".to_owned(), digest: None }).unwrap();
    assert_eq!(current.manifest, second.manifest);
}

/// Builds `name` twice with everything anew; nothing may differ.
fn builds_twice_to_the_same(name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (agent, images) = (stand_in_agent(folder.path(), 1), images());
    let [first, second] = [(); 2].map(|()| run_build(name, &agent, &images, true).image.manifest);
    assert_eq!(first.packages_text(), second.packages_text(), "Debian published packages in between");
    for part in Part::ALL {
        assert_eq!(second.files[&part], first.files[&part], "{part:?} differs");
    }
    assert_eq!(second.digest, first.digest);
    assert!(["default", "repository", "cold"].iter().all(|scenario| first.scenario(scenario).is_some()));
}

#[test]
#[ignore = "minutes: part of the long tests"]
fn the_eval_image_builds_twice_to_the_same() {
    builds_twice_to_the_same("eval");
}

#[test]
#[ignore = "minutes: part of the long tests"]
fn the_rust_image_builds_twice_to_the_same() {
    builds_twice_to_the_same("rust");
}

#[test]
fn a_dynamic_agent_and_a_second_build_at_once_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe::load(&Recipe::source_folder().join("base")).unwrap();
    let agent = std::env::current_exe().unwrap();
    let options = BuildOptions { images: folder.path().to_owned(), agent, force: false };
    let mut nested = None;
    let error = build(&recipe, &options, &mut |step, event| {
        if (step, event) == (Step::Inputs, Event::Started) {
            nested = Some(build(&recipe, &options, &mut |_, _| ()).unwrap_err().to_string());
        }
    });
    let error = error.unwrap_err().to_string();
    assert!(error.contains("crt-static"), "{error}");
    assert!(nested.unwrap().contains("another build of the image `base` is running"));
    let left = fs::read_dir(folder.path().join("base"))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".build-"));
    assert_eq!(left.count(), 0);
}
