//! Lists the dead letters by what went wrong, and says what a replay of them would do.
//!
//! ```sh
//! evalfleet up --detach
//! cargo run -p evalfleet --example dead_letters -- error='No space'
//! ```

use evalfleet::api::Api;
use evalfleet::dead::{Action, Changes, Filter, Office, Order, Which};
use evalfleet_service::settings::Settings;
use std::collections::BTreeMap;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let settings = Settings::load(None)?;
    let terms: Vec<String> = std::env::args().skip(1).collect();
    let filter = Filter::parse(&terms)?;

    // The history is asked: the queue is not touched.
    let page = Api::new(&settings.api)?.dead_letters(&filter, None, 0, 1000).await?;
    let mut causes: BTreeMap<&str, usize> = BTreeMap::new();
    for letter in &page.dead_letters {
        *causes.entry(&letter.error).or_default() += 1;
    }
    println!("{} dead letters", page.total);
    for (error, count) in causes {
        println!("{count:6}  {error}");
    }

    // With `dry: false` the same order replays them, ten a second, with twice the usual memory.
    let changes = Changes { memory: Some("512M".parse()?), ..Changes::default() };
    let order = Order {
        which: Which::Fitting(Box::new(filter)),
        action: Action::Replay { changes, again: false },
        dry: true,
        rate: Some(10.0),
        max: Some(100),
    };
    let office = Office::open(&settings).await?;
    office
        .carry_out(&order, |outcome| match (&outcome.refused, outcome.job) {
            (Some(why), _) => println!("{}: {why}", outcome.card.id),
            (None, Some(job)) => println!("{} would be {job}", outcome.card.id),
            (None, None) => {}
        })
        .await?;
    office.close().await;
    Ok(())
}
