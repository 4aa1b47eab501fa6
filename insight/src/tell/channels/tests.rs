use super::*;
use crate::testing::healing;
use crate::watch::testing::alert as alert_of;
use evalfleet_proto::healing::State;
use evalfleet_service::settings::{Layers, Settings};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

fn alert(nth: u32, revision: u32) -> Notice {
    Notice::Alert(Box::new(alert_of(nth, revision)))
}

fn channels(more: &str) -> Channels {
    let text = format!("[insight.alerts]\nlog = false\nsend_tries = 3\n{more}\n");
    let layers = Layers { file: Some(text), ..Layers::default() };
    Channels::new(&Settings::from_layers(&layers).unwrap().insight.alerts).unwrap()
}

/// Someone who answers each request with the next of these statuses, the last for ever.
async fn receiver(answers: &'static [u16]) -> (SocketAddr, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, asked) = (listener.local_addr().unwrap(), Arc::new(AtomicU32::new(0)));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let nth = count.fetch_add(1, Ordering::SeqCst) as usize;
            let _ = stream.read(&mut vec![0; 64 * 1024]).await;
            let status = answers[nth.min(answers.len() - 1)];
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (address, asked)
}

#[tokio::test]
async fn a_webhook_is_tried_as_often_as_it_may_be_and_once_where_it_refuses() {
    for (answers, tries) in [(&[204][..], 1), (&[503, 204], 2), (&[500], 3), (&[400], 1), (&[301], 1)] {
        let (address, asked) = receiver(answers).await;
        let channels = channels(&format!("webhook = \"http://{address}/\""));
        channels.channels[0].deliver(&alert(0, 1), channels.tries).await;
        assert_eq!(asked.load(Ordering::SeqCst), tries, "{answers:?}");
    }
}

#[tokio::test]
async fn a_channel_that_does_not_answer_keeps_no_other_from_telling() {
    let (dir, silent) = (tempfile::tempdir().unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let text = format!("webhook = \"http://{}/\"\nstdout = true", silent.local_addr().unwrap());
    let channels = channels(&text);
    assert_eq!(channels.names(), ["stdout", "webhook"]);
    let outbox = Outbox::open(dir.path(), &channels.names()).unwrap();
    for nth in 0..3 {
        outbox.put(&alert(nth, 1), &channels.names());
        outbox.release(&alert(nth, 1));
    }
    let told = async {
        let waits = |entry: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(entry.unwrap().path()).is_ok_and(|text| text.contains("stdout"))
        };
        while std::fs::read_dir(dir.path()).unwrap().any(waits) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = channels.serve(&outbox) => panic!("couriers do not end"),
        () = told => {}
    }
    assert_eq!(outbox.notices().len(), 3, "the webhook's are kept");
}

/// A mail server that takes no mail of its first guest.
async fn mail_server() -> (SocketAddr, UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, (sender, mails)) = (listener.local_addr().unwrap(), unbounded_channel());
    tokio::spawn(async move {
        let mut nth = 0;
        while let Ok((stream, _)) = listener.accept().await {
            let _ = talk(stream, nth > 0, &sender).await;
            nth += 1;
        }
    });
    (address, mails)
}

async fn talk(stream: TcpStream, takes: bool, mails: &UnboundedSender<String>) -> std::io::Result<()> {
    let (mut stream, mut line) = (BufReader::new(stream), String::new());
    stream.write_all(b"220 here\r\n").await?;
    while stream.read_line(&mut line).await? > 0 {
        let word = line.split([' ', '\r']).next().unwrap_or_default().to_uppercase();
        let answer: &[u8] = match word.as_str() {
            "MAIL" if !takes => b"451 later\r\n",
            "DATA" => b"354 go on\r\n",
            "QUIT" => b"221 bye\r\n",
            _ => b"250 fine\r\n",
        };
        stream.write_all(answer).await?;
        if word == "DATA" {
            let mut mail = String::new();
            while !mail.ends_with("\r\n.\r\n") && stream.read_line(&mut mail).await? > 0 {}
            stream.write_all(b"250 taken\r\n").await?;
            let _ = mails.send(mail);
        }
        line.clear();
    }
    Ok(())
}

#[tokio::test]
async fn people_are_written_to_and_once_more_where_the_server_asks_for_it() {
    let (address, mut mails) = mail_server().await;
    let channels = channels(&format!(
        "email_server = \"smtp://{address}\"\nemail_from = \"Fleet <fleet@a.example>\"\nemail_to = [\"me@b.example\", \"you@b.example\"]"
    ));
    assert_eq!(channels.names(), ["email"]);
    let alert = alert(0, 4);
    channels.channels[0].deliver(&alert, channels.tries).await;
    let mail = mails.recv().await.expect("it is taken");
    for part in ["Subject: [evalfleet] raised: read fails", "me@b.example", "you@b.example", "alerts show"] {
        assert!(mail.contains(part), "{part:?}: {mail}");
    }
    assert!(mails.try_recv().is_err(), "it is taken once");
    let healing = Notice::Healing(Box::new(healing(State::Applied)));
    channels.channels[0].deliver(&healing, channels.tries).await;
    let mail = mails.recv().await.expect("it is taken");
    for part in ["Subject: [evalfleet] applied: ", "worker=3Dw1", "healing undo"] {
        assert!(mail.contains(part), "{part:?}: {mail}");
    }
}
