//! What a participant changes while it is there: its tracks, and what others see of it; and how long it
//! took until others knew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use pipemesh_loadtest_client::stats::{Stats, Track};
use pipemesh_loadtest_client::{Description, Media};

use super::Room;
use crate::observe::doings::{News, Sight};
use crate::observe::second::{About, Kind, Path, millis};

impl Room {
    fn who(&self) -> (&str, &str) {
        (&self.participant.room, &self.participant.identity)
    }

    pub(crate) async fn publish(
        &self,
        name: &str,
        media: Media,
        within: Duration,
    ) -> Result<String, String> {
        let at = Instant::now();
        self.shared.doings().publish(self.who(), name, at);
        let published = self.participant.publish(name, media, within).await;
        published.map_err(|_| format!("the track '{name}' was not published within {within:?}"))
    }

    pub(crate) fn unpublish(&self, name: &str) {
        self.participant.unpublish(name);
    }

    pub(crate) fn mute(&self, name: &str, muted: bool) {
        let at = Instant::now();
        self.shared.doings().mute(self.who(), name, muted, at);
        self.participant.mute(name, muted);
    }

    pub(crate) fn set_layers(&self, name: &str, rids: Vec<String>) {
        self.participant.set_layers(name, rids);
    }

    pub(crate) fn request_key_frame(&self, sid: &str) {
        self.participant.request_key_frame(sid);
    }

    /// Changes what others see of it, and waits until the server has agreed.
    pub(crate) async fn describe(
        &self,
        description: Description,
        within: Duration,
    ) -> Result<(), String> {
        let number = self.requests.get() + 1;
        self.requests.set(number);
        self.participant.describe(number, description.clone());
        let answered = move |stats: &Stats| {
            // A server that answers nothing changes what it says of the participant.
            stats.answers.contains_key(&number) || is_so(stats, &description)
        };
        let waited = self.participant.until("described", within, answered).await;
        let stats = waited.map_err(|_| format!("the server did not agree within {within:?}"))?;
        match stats.answers.get(&number) {
            Some(Some(refusal)) => Err(format!("the server refused: {refusal}")),
            Some(None) | None => Ok(()),
        }
    }

    /// Measures how old the news are that came since the last look.
    pub(super) fn notice(&self, stats: &Stats) {
        let (now, room) = (Instant::now(), &self.participant.room);
        let mut attention = self.attention.borrow_mut();
        let sids: BTreeSet<&str> = stats.remote.iter().map(|it| it.sid.as_str()).collect();
        attention.retain(|sid| sids.contains(sid));
        // A stream that goes on may have had others of its name before it.
        let mut tracks: BTreeMap<&str, &Track> = BTreeMap::new();
        for track in &stats.tracks {
            tracks.insert(&track.sid, track);
        }
        let mut noticed = Vec::new();
        let doings = self.shared.doings();
        for remote in &stats.remote {
            let track = tracks.get(remote.sid.as_str()).filter(|it| !it.ended);
            let sight = Sight {
                sid: &remote.sid,
                name: &remote.name,
                announced: remote.announced,
                muted: remote.muted,
                changed: remote.changed,
                last_packet: track.and_then(|it| it.last_packet),
            };
            let publisher = (room.as_str(), remote.identity.as_str());
            let news = attention.notice(&doings, publisher, &sight, now);
            let about = About {
                kind: match remote.is_video {
                    true => Kind::Video,
                    false => Kind::Audio,
                },
                path: Path::between(&remote.place, &stats.place),
                ..About::default()
            };
            noticed.extend(news.into_iter().map(|(news, age)| (news, about, age)));
        }
        drop(doings);
        for (news, about, age) in noticed {
            self.tell_news(news, about, age);
        }
    }

    fn tell_news(&self, news: News, about: About, age: Duration) {
        let meters = &self.shared.meters;
        let tags = self.set(about, None);
        match news.name() {
            None => self.add(meters.rtc_mute_latency, tags, millis(age), 1.0),
            Some(name) => {
                let registry = &self.shared.registry;
                let mut tags = (*registry.tags(tags)).clone();
                tags.insert("event".to_owned(), name.to_owned());
                let tags = registry.tag_set(&tags);
                self.add(meters.sfu_event_latency, tags, millis(age), 1.0);
            }
        }
    }
}

/// What was to be changed is as it should be.
fn is_so(stats: &Stats, wanted: &Description) -> bool {
    let same = |wanted: &str, is: &str| wanted.is_empty() || wanted == is;
    let attributes = &stats.me.attributes;
    same(&wanted.name, &stats.me.name)
        && same(&wanted.metadata, &stats.me.metadata)
        && wanted
            .attributes
            .iter()
            .all(|(name, value)| attributes.get(name).map_or("", String::as_str) == value.as_str())
}
