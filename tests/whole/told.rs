//! What of the fleet only a person can mend: a stuck queue, a full disk, a template that fails. Each is found, told by the
//! webhook, recorded, and over once it is mended. Prints the time that it took.

use super::alerts::Receiver;
use super::healing::{healing_machine, healings};
use super::pile::Worker;
use evalfleet_images::templates::Templates;
use evalfleet_tests::machine::{Machine, programs, wait_until};
use evalfleet_tests::part::{Part, Start};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Instant;

pub(crate) const ALONE: &[(&str, fn())] =
    &[("told::a_stuck_queue_a_full_disk_and_a_bad_template_are_told_of", all_are_told_of)];

/// The API in a mount namespace of its own, where images have a small disk, which is full as long as a file is there.
const ON_A_SMALL_DISK: &str = r#"images=$1 full=$2; shift 2
mount -t tmpfs -o size=8m tmpfs "$images"
{ while sleep 0.2 && kill -0 $$ 2>/dev/null; do
    if [ ! -e "$full" ]; then rm -f "$images/filler"
    elif [ ! -e "$images/filler" ]; then head -c 16M /dev/zero > "$images/filler" 2>/dev/null || :
    fi
done; } &
exec "$@""#;

const JOBS: usize = 5;

fn all_are_told_of() {
    let receiver = Receiver::new();
    receiver.open.store(true, Ordering::SeqCst);
    let dir = tempfile::tempdir_in(programs().parent().expect("target/")).expect("a folder");
    let place = |name: &str| dir.path().join(name).display().to_string();
    let (images, templates, full) = (place("images"), place("templates"), place("full"));
    for folder in [&images, &templates] {
        std::fs::create_dir_all(folder).expect("made");
    }
    // An API that `up` does not start is told what `up` would tell it.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
    let token = place("token");
    std::fs::write(&token, "known-to-this-trial-and-nobody-else").expect("written");
    std::fs::set_permissions(&token, PermissionsExt::from_mode(0o600)).expect("it is ours");
    let machine = healing_machine(
        &[
            ("EVALFLEET_INSIGHT__ALERTS__WEBHOOK", &receiver.url),
            ("EVALFLEET_INSIGHT__HEALING__RULES__BAD_TEMPLATE", "act"),
            ("EVALFLEET_IMAGES__DIR", &images),
            ("EVALFLEET_QEMU__SNAPSHOT_DIR", &templates),
            ("EVALFLEET_API__LISTEN", &port.to_string()),
            ("EVALFLEET_API__URL", &format!("http://{port}")),
            ("EVALFLEET_API__TOKEN_FILE", &token),
        ],
        "broker,gateway,recorder",
    );
    let mut api = api(&machine, &images, &full);
    wait_until("the API answers", || {
        let log = || std::fs::read_to_string(machine.state().join("logs/api.log")).unwrap_or_default();
        assert!(api.up_for().is_some(), "it ended: {}", log());
        machine.evalfleet(&["healing", "list"]).code == 0
    });

    let begun = Instant::now();
    std::fs::write(&full, "").expect("written");
    let disk = goes("a full disk", &machine, &receiver, &format!("disk={images}"), begun);
    assert_eq!((&disk["detector"], &disk["remedy"]), (&json!("full_disk"), &json!("alert")), "{disk:#}");
    std::fs::remove_file(&full).expect("there is room again");
    ends(&machine, &receiver, &disk);

    let begun = Instant::now();
    let books = Templates::new(&templates);
    // As a worker notes it whose template does not pass its probe.
    books.failed("abc", None, "the clean VM did not answer its probe");
    let template = goes("a bad template", &machine, &receiver, "template=abc", begun);
    assert_eq!(template["remedy"], "rebuild", "{template:#}");
    std::fs::remove_file(Path::new(&templates).join("abc.failed")).expect("as one that is made anew");
    ends(&machine, &receiver, &template);

    let begun = Instant::now();
    let document = json!({"kind": "command", "argv": ["true"], "batch": "stuck"}).to_string() + "\n";
    machine.evalfleet_with(&document.repeat(JOBS), &["submit", "-"]).expect(0);
    let queue = goes("a stuck queue", &machine, &receiver, "queue=eval.jobs.default", begun);
    assert_eq!((&queue["detector"], &queue["remedy"]), (&json!("stuck_queue"), &json!("alert")), "{queue:#}");
    let _worker = Worker::start(&machine, "late", Path::new("/nothing/is/broken"));
    ends(&machine, &receiver, &queue);
}

fn api(machine: &Machine, images: &str, full: &str) -> Part {
    let mut args = ["--user", "--map-root-user", "--mount", "sh", "-euc", ON_A_SMALL_DISK, "sh"]
        .map(str::to_owned)
        .to_vec();
    let program = programs().join("evalfleet-api").display().to_string();
    args.extend([images.to_owned(), full.to_owned(), program]);
    let start = Start { program: "unshare".into(), args, environment: machine.environment().to_vec() };
    Part::start("api", start, machine.state().join("logs/api.log")).expect("unshare (package util-linux)")
}

/// The one healing about `subject`, once it is in this state.
fn of(machine: &Machine, subject: &str, state: &str) -> Value {
    let mut found = Value::Null;
    wait_until(&format!("{subject} is {state}"), || {
        found = healings(machine, &["--subject", subject])["healings"][0].clone();
        found["state"] == state
    });
    found
}

/// What the webhook was told of this healing.
fn told(receiver: &Receiver, id: &Value) -> Vec<String> {
    let heard = receiver.heard().into_iter();
    let about = heard.filter(|(_, notice)| notice["healing"]["id"] == *id);
    about.map(|(_, notice)| notice["event"].as_str().unwrap_or_default().to_owned()).collect()
}

fn goes(what: &str, machine: &Machine, receiver: &Receiver, subject: &str, begun: Instant) -> Value {
    let found = of(machine, subject, "applied");
    wait_until("people are told", || !told(receiver, &found["id"]).is_empty());
    println!("healing: {what} is told of after {:.1} s", begun.elapsed().as_secs_f64());
    found
}

fn ends(machine: &Machine, receiver: &Receiver, healing: &Value) {
    of(machine, healing["subject"].as_str().expect("a subject"), "over");
    wait_until("people are told of the end", || told(receiver, &healing["id"]) == ["applied", "over"]);
}
