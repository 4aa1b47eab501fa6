use super::*;

fn with_file(text: &str) -> Result<Settings, Error> {
    Settings::from_layers(&Layers { file: Some(text.to_owned()), ..Layers::default() })
}

#[test]
fn the_embedded_default_is_complete() {
    let settings = Settings::from_layers(&Layers::default()).unwrap();
    assert_eq!(settings.broker.retry_tiers().len(), 3);
    assert!(settings.datomic_config().is_none());
}

#[test]
fn the_users_own_table_is_accepted_as_written() {
    let settings = with_file(
        r#"
        [qemu]
        memory = "2048M"
        cpus = 2
        disk_size = "20G"
        network = "user,hostfwd=tcp::2222-:22"
        snapshot_dir = "/opt/gemini-repl/snapshots"

        [qemu.images]
        base = "ubuntu-22.04-minimal.qcow2"
        evaluation = "gemini-eval-env.qcow2"
        "#,
    )
    .unwrap();
    assert_eq!(settings.qemu.memory, ByteSize::mib(2048));
    assert_eq!(settings.templates_dir(), Path::new("/opt/gemini-repl/snapshots"));
    assert_eq!(settings.qemu.images["evaluation"], Path::new("gemini-eval-env.qcow2"));
}

#[test]
fn a_key_that_does_not_exist_is_named() {
    let error = with_file("[qemu]\nmemroy = \"1G\"\n").unwrap_err().to_string();
    assert!(error.contains("memroy"), "{error}");
    let error = with_file("[quemu]\nmemory = \"1G\"\n").unwrap_err().to_string();
    assert!(error.contains("quemu"), "{error}");
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let error =
        with_file("[qemu]\nmemory = \"1M\"\ncpus = 0\n[broker]\nattempts_max = 0\n").unwrap_err().to_string();
    for key in ["qemu.memory", "qemu.cpus", "broker.attempts_max"] {
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_machine() {
    let layers = Layers {
        endpoints: Some(
            "[broker]\nurls = [\"amqp://machine\"]\n[api]\nurl = \"http://machine\"\n".to_owned(),
        ),
        file: Some("[broker]\nurls = [\"amqp://file\"]\n[qemu]\ncpus = 3\n".to_owned()),
        environment: vec![
            ("EVALFLEET_QEMU__CPUS".to_owned(), "4".to_owned()),
            ("EVALFLEET_BROKER__RETRY_TIERS".to_owned(), "1s,2s".to_owned()),
            ("EVALFLEET_CONFIG".to_owned(), "not a setting".to_owned()),
        ],
    };
    let settings = Settings::from_layers(&layers).unwrap();
    assert_eq!(settings.broker.urls, ["amqp://file"]);
    assert_eq!(settings.api.url, "http://machine");
    assert_eq!(settings.qemu.cpus, 4);
    assert_eq!(settings.broker.retry_tiers(), [Duration::from_secs(1), Duration::from_secs(2)]);
}

#[test]
fn an_alerts_channel_that_could_not_work_is_named() {
    let error = with_file(
        "[insight.alerts]\nwebhook = \"a.example/x\"\nsend_tries = 0\nemail_server = \"a.example\"\nreruns_max = 101\n",
    );
    let error = error.unwrap_err().to_string();
    for part in ["webhook is", "send_tries", "email_server is", "go together", "reruns_max"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let settings = with_file(
        "[insight.alerts]\nwebhook = \"http://127.0.0.1:9/x\"\nwatch = false\nemail_server = \"smtps://a.example\"\nemail_from = \"a@a.example\"\nemail_to = [\"b@a.example\"]\n",
    );
    let alerts = settings.unwrap().insight.alerts;
    assert!(!alerts.watch && alerts.log && !alerts.stdout && alerts.mail_server().is_some());
}
