//! Images: what ran in each, and how that went. Pure.

use super::groups::{self, Item, Paged};
use super::list::Cursor;
use super::rates::Standing;
use super::time;
use crate::projection::{At, Symbol, World};
use evalfleet_proto::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// An image that evaluations ran in.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Image {
    /// Its digest, as `sha256:…`.
    pub digest: String,
    /// By whose doing evaluations in it ended, and their rates: attributed, and raw.
    pub standing: Standing,
    /// How many ended how: `passed`, `failed`, `timed_out`, …
    pub statuses: BTreeMap<String, u64>,
    /// When the first evaluation in it finished.
    #[schema(value_type = String, format = DateTime)]
    pub first: Timestamp,
    /// When the last one did.
    #[schema(value_type = String, format = DateTime)]
    pub last: Timestamp,
}

/// A page of images.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Images {
    /// Those that were last used first.
    pub images: Vec<Image>,
    /// Where it stands.
    #[serde(flatten)]
    pub paged: Paged,
}

/// A page of the images of a moment.
pub fn images(world: &World, at: At, limit: usize, after: Option<Cursor>) -> Images {
    world.summary(at, |summary| {
        let all = summary.images.iter();
        let all = all.map(|(symbol, group)| Item { what: *symbol, number: symbol.number(), group });
        let taken = groups::take(all.collect(), at, limit, after);
        let image = |item: &Item<'_, Symbol>| Image {
            digest: world.symbols().text(item.what).to_owned(),
            standing: (&item.group.counts).into(),
            statuses: groups::statuses(world, item.group),
            first: time(item.group.first()),
            last: time(item.group.last()),
        };
        Images { images: taken.items.iter().map(image).collect(), paged: Paged::of(&taken, at) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Job, history};

    #[test]
    fn images_come_with_what_ran_in_them_the_last_used_first() {
        let world = history(&[
            Job { id: "a", image: "sha256:1", ..Job::default() },
            Job { id: "b", image: "sha256:2", cause: Some("budget"), ..Job::default() },
            Job { id: "c", image: "sha256:1", cause: Some("infrastructure"), ..Job::default() },
            Job { id: "d", ..Job::default() },
        ]);
        let at = world.at(None).unwrap();
        let first = images(&world, at, 1, None);
        assert_eq!((first.images[0].digest.as_str(), first.paged.count), ("sha256:1", 2));
        assert_eq!((first.images[0].standing.rate.tries, first.images[0].standing.raw.tries), (1, 2));
        let next = Cursor::parse(&first.paged.next.unwrap());
        let second = images(&world, at, 1, next);
        assert_eq!((second.images[0].digest.as_str(), second.paged.next), ("sha256:2", None));
        let then = world.at(Some(evalfleet_datomic::Point::T(2))).unwrap();
        assert_eq!(images(&world, then, 9, None).images[0].digest, "sha256:2");
    }
}
