//! When participants of this process did what others are told of: how long the news took is the difference
//! of two readings of one clock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A participant's tracks: names are given anew, and old ones forgotten.
const MAX_TRACKS: usize = 64;

#[derive(Debug, Clone, Copy, Default)]
struct Track {
    published: Option<Instant>,
    muted: Option<(bool, Instant)>,
}

/// By room and identity, then by the name of the track.
#[derive(Debug, Default)]
pub struct Doings(BTreeMap<(String, String), BTreeMap<String, Track>>);

impl Doings {
    fn track(&mut self, (room, identity): (&str, &str), name: &str) -> &mut Track {
        let who = (room.to_owned(), identity.to_owned());
        let tracks = self.0.entry(who).or_default();
        if !tracks.contains_key(name) && tracks.len() == MAX_TRACKS {
            tracks.pop_first();
        }
        tracks.entry(name.to_owned()).or_default()
    }

    pub(super) fn publish(&mut self, who: (&str, &str), name: &str, at: Instant) {
        *self.track(who, name) = Track {
            published: Some(at),
            muted: None,
        };
    }

    pub(super) fn mute(&mut self, who: (&str, &str), name: &str, muted: bool, at: Instant) {
        self.track(who, name).muted = Some((muted, at));
    }

    /// Who has left does nothing any more.
    pub(super) fn forget(&mut self, (room, identity): (&str, &str)) {
        self.0.remove(&(room.to_owned(), identity.to_owned()));
    }

    fn of(&self, (room, identity): (&str, &str), name: &str) -> Track {
        let who = (room.to_owned(), identity.to_owned());
        let tracks = self.0.get(&who);
        tracks
            .and_then(|it| it.get(name))
            .copied()
            .unwrap_or_default()
    }
}

/// What somebody has noticed of a track.
#[derive(Debug, Clone, Copy, Default)]
struct Noticed {
    announced: Option<Instant>,
    changed: Option<Instant>,
    /// The end of its media, after it was muted then.
    silent: Option<Instant>,
}

/// A track as its receiver sees it just now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sight<'a> {
    pub(super) sid: &'a str,
    pub(super) name: &'a str,
    pub(super) announced: Option<Instant>,
    pub(super) muted: bool,
    pub(super) changed: Option<Instant>,
    /// None if nothing was received.
    pub(super) last_packet: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    Published,
    Muted,
    Unmuted,
    /// Nothing comes any more.
    Silent,
}

impl News {
    /// As a tag says it; none for what is a metric of its own.
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            Self::Published => Some("published"),
            Self::Muted => Some("muted"),
            Self::Unmuted => Some("unmuted"),
            Self::Silent => None,
        }
    }
}

/// What came so late after the mute is not on its way any more.
const SETTLED: Duration = Duration::from_millis(500);

/// What one participant has noticed of others, by their tracks.
#[derive(Debug, Default)]
pub(super) struct Attention(BTreeMap<String, Noticed>);

impl Attention {
    /// What is new about a track, and how long after it was done.
    pub(super) fn notice(
        &mut self,
        doings: &Doings,
        publisher: (&str, &str),
        sight: &Sight<'_>,
        now: Instant,
    ) -> Vec<(News, Duration)> {
        let done = doings.of(publisher, sight.name);
        let noticed = self.0.entry(sight.sid.to_owned()).or_default();
        let mut news = Vec::new();
        let announced = std::mem::replace(&mut noticed.announced, sight.announced);
        if let (Some(at), Some(published)) = (sight.announced, done.published)
            && announced != sight.announced
        {
            news.extend(
                at.checked_duration_since(published)
                    .map(|it| (News::Published, it)),
            );
        }
        let Some((muted, since)) = done.muted else {
            return news;
        };
        let changed = std::mem::replace(&mut noticed.changed, sight.changed);
        if let Some(at) = sight.changed
            && changed != sight.changed
            && muted == sight.muted
        {
            let what = if muted { News::Muted } else { News::Unmuted };
            news.extend(at.checked_duration_since(since).map(|it| (what, it)));
        }
        let is_told = sight.changed.is_some_and(|at| at >= since);
        if muted
            && sight.muted
            && is_told
            && noticed.silent != Some(since)
            && let Some(last) = sight.last_packet
        {
            let settled = last.max(sight.changed.unwrap_or(last)) + SETTLED;
            if settled <= now {
                noticed.silent = Some(since);
                news.push((News::Silent, last.saturating_duration_since(since)));
            }
        }
        news
    }

    /// Only of tracks that are there.
    pub(super) fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.0.retain(|sid, _| is_there(sid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: (&str, &str) = ("room", "ann");

    #[test]
    fn news_are_told_once_with_their_age() {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let ms = Duration::from_millis;
        let mut doings = Doings::default();
        doings.publish(ANN, "camera", at(0));
        let mut sight = Sight {
            sid: "TR_1",
            name: "camera",
            announced: Some(at(30)),
            muted: false,
            changed: None,
            last_packet: None,
        };
        let mut attention = Attention::default();
        let mut notice = |doings: &Doings, sight: &Sight<'_>, now: u64| {
            attention.notice(doings, ANN, sight, at(now))
        };
        let published = vec![(News::Published, ms(30))];
        assert_eq!(notice(&doings, &sight, 1_000), published);
        assert_eq!(notice(&doings, &sight, 2_000), []);
        // Somebody else's track of that name.
        let mut others = Attention::default();
        assert_eq!(others.notice(&doings, ("room", "ben"), &sight, at(5)), []);

        doings.mute(ANN, "camera", true, at(2_100));
        assert_eq!(notice(&doings, &sight, 2_200), []);
        sight.muted = true;
        sight.changed = Some(at(2_140));
        sight.last_packet = Some(at(2_120));
        assert_eq!(notice(&doings, &sight, 2_300), [(News::Muted, ms(40))]);
        assert_eq!(notice(&doings, &sight, 3_300), [(News::Silent, ms(20))]);
        assert_eq!(notice(&doings, &sight, 4_300), []);
        doings.mute(ANN, "camera", false, at(5_000));
        sight.muted = false;
        sight.changed = Some(at(5_010));
        assert_eq!(notice(&doings, &sight, 5_300), [(News::Unmuted, ms(10))]);

        // Muted by the server, or by who is elsewhere: nobody knows when.
        doings.forget(ANN);
        sight.muted = true;
        sight.changed = Some(at(6_000));
        assert_eq!(notice(&doings, &sight, 7_000), []);
    }

    #[test]
    fn media_that_still_comes_is_not_silent() {
        let start = Instant::now();
        let mut doings = Doings::default();
        doings.mute(ANN, "camera", true, start);
        let late = start + Duration::from_secs(2);
        let sight = Sight {
            sid: "TR_1",
            name: "camera",
            announced: None,
            muted: true,
            changed: Some(start),
            last_packet: Some(late),
        };
        let mut attention = Attention::default();
        let mut silent = |now: Instant| {
            let news = attention.notice(&doings, ANN, &sight, now);
            news.into_iter().find(|(news, _)| *news == News::Silent)
        };
        assert_eq!(silent(late + Duration::from_millis(100)), None);
        let told = silent(late + Duration::from_secs(1));
        assert_eq!(told, Some((News::Silent, Duration::from_secs(2))));
    }
}
