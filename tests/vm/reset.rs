//! A clean VM is clean, and is itself.

use super::Test;

pub(crate) const ALL: &[(&str, Test)] = &[
    ("reset::what_a_job_leaves_is_gone", |yard| {
        let leave = "test ! -e /left && touch /left /dev/shm/left && echo changed > /etc/hostname";
        for _ in 0..2 {
            let mut active = yard.claim();
            yard.sh(&mut active, leave).expect(0);
            yard.end(active);
        }
    }),
    ("reset::two_clones_differ_and_know_the_time", |yard| {
        let ask = "cat /proc/sys/kernel/random/uuid; head -c 16 /dev/urandom | od -An -tx1; date +%s";
        let answers = [(); 2].map(|()| {
            let mut active = yard.claim();
            let answer = yard.sh(&mut active, ask).expect(0).text().to_owned();
            let now = evalfleet_proto::Timestamp::now().as_second();
            yard.end(active);
            let lines: Vec<String> = answer.lines().map(ToOwned::to_owned).collect();
            let clock: i64 = lines[2].parse().expect("seconds");
            assert!((now - clock).abs() <= 5, "its clock says {clock}, ours {now}");
            lines
        });
        assert_ne!(answers[0][..2], answers[1][..2], "two clones drew the same");
    }),
];
