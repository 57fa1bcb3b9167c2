//! Simulcast (RFC 8853): the encodings of a section, named by rids (RFC 8851).

use super::text::Writer;

/// Encodings of one track. Browsers send at most three.
const MAX_ENCODINGS: usize = 4;

/// rids of a section that are looked at.
const MAX_RIDS: usize = 32;

/// What fits the one-byte form of the header extension.
const MAX_RID_BYTES: usize = 16;

/// What a client offers to send.
#[derive(Debug, Default)]
pub(super) struct SimulcastLines<'a> {
    /// `a=rid:<rid> send [<restrictions>]`
    rids: Vec<Encoding<'a>>,
    /// The list behind `send` in `a=simulcast`.
    streams: Option<&'a str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Encoding<'a> {
    rid: &'a str,
    restrictions: &'a str,
}

/// The encodings that are accepted of a section, in the order of the offer.
#[derive(Debug, Default)]
pub(super) struct Simulcast<'a> {
    encodings: Vec<Encoding<'a>>,
    /// Payload types that were chosen.
    chosen: Vec<u8>,
    listed: bool,
}

impl<'a> SimulcastLines<'a> {
    pub(super) fn rid(&mut self, value: &'a str) {
        let mut words = value.splitn(3, ' ');
        let (Some(rid), Some("send")) = (words.next(), words.next()) else {
            return;
        };
        let form = rid.len() <= MAX_RID_BYTES
            && rid
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        let is_new = self.rids.len() < MAX_RIDS && !self.rids.iter().any(|known| known.rid == rid);
        if form && is_new && !rid.is_empty() {
            self.rids.push(Encoding {
                rid,
                restrictions: words.next().unwrap_or("").trim(),
            });
        }
    }

    pub(super) fn simulcast(&mut self, value: &'a str) {
        let mut words = value.split_ascii_whitespace();
        while let (Some(direction), Some(streams)) = (words.next(), words.next()) {
            if direction == "send" {
                self.streams = Some(streams);
            }
        }
    }

    /// Encodings that may be sent with one of the chosen payload types. Of alternatives the first
    /// counts; `~`, which says that an encoding begins paused, is passed over. A rid outside
    /// `a=simulcast` is one only if it is alone.
    pub(super) fn accept(&self, chosen: &[u8]) -> Simulcast<'a> {
        let usable = |encoding: &Encoding<'a>| {
            encoding
                .payload_types()
                .is_none_or(|list| numbers(list, chosen).next().is_some())
        };
        let mut encodings: Vec<Encoding<'a>> = Vec::new();
        match (self.streams, self.rids.as_slice()) {
            (Some(streams), rids) => {
                let names = streams
                    .split(';')
                    .take(MAX_RIDS)
                    .filter_map(|stream| stream.split(',').next());
                for name in names.map(|name| name.trim_start_matches('~')) {
                    let found = rids
                        .iter()
                        .find(|encoding| encoding.rid == name)
                        .filter(|encoding| usable(encoding));
                    encodings.extend(found.filter(|found| !encodings.contains(found)));
                }
                encodings.truncate(MAX_ENCODINGS);
            }
            (None, [only]) => encodings.extend(usable(only).then_some(*only)),
            (None, _) => {}
        }
        Simulcast {
            encodings,
            chosen: chosen.to_vec(),
            listed: self.streams.is_some(),
        }
    }
}

impl<'a> Encoding<'a> {
    fn payload_types(&self) -> Option<&'a str> {
        self.restrictions
            .split(';')
            .find_map(|restriction| restriction.strip_prefix("pt="))
    }
}

fn numbers<'a>(list: &'a str, chosen: &'a [u8]) -> impl Iterator<Item = u8> + 'a {
    list.split(',')
        .filter_map(|number| number.parse().ok())
        .filter(|number| chosen.contains(number))
}

impl Simulcast<'_> {
    pub(super) fn rids(&self) -> impl Iterator<Item = &str> {
        self.encodings.iter().map(|encoding| encoding.rid)
    }

    /// Restrictions may be tightened in an answer, not dropped (RFC 8851 section 6.3).
    pub(super) fn write(&self, out: &mut Writer) {
        for encoding in &self.encodings {
            let restrictions = encoding
                .restrictions
                .split(';')
                .filter(|restriction| !restriction.is_empty());
            let kept: Vec<String> = restrictions
                .map(|restriction| match restriction.strip_prefix("pt=") {
                    Some(list) => {
                        let numbers: Vec<String> = numbers(list, &self.chosen)
                            .map(|number| number.to_string())
                            .collect();
                        format!("pt={}", numbers.join(","))
                    }
                    None => restriction.to_owned(),
                })
                .collect();
            let space = if kept.is_empty() { "" } else { " " };
            out.line(format_args!(
                "a=rid:{} recv{space}{}",
                encoding.rid,
                kept.join(";")
            ));
        }
        if self.listed && !self.encodings.is_empty() {
            let rids: Vec<&str> = self.rids().collect();
            out.line(format_args!("a=simulcast:recv {}", rids.join(";")));
        }
    }
}

/// Sorts rids from the lowest encoding up: as announced, else as the names say (`q`, `h`, `f` or
/// numbers), else as offered. The order of an offer alone says nothing; native clients list `h;q`.
pub(super) fn lowest_first(mut rids: Vec<String>, announced: &[String]) -> Vec<String> {
    let place = |order: &[&str], rid: &str| order.iter().position(|known| *known == rid);
    let announced: Vec<&str> = announced.iter().map(String::as_str).collect();
    for order in [announced.as_slice(), &["q", "h", "f"]] {
        if rids.iter().all(|rid| place(order, rid).is_some()) {
            rids.sort_by_key(|rid| place(order, rid));
            return rids;
        }
    }
    if rids.iter().all(|rid| rid.parse::<u32>().is_ok()) {
        rids.sort_by_key(|rid| rid.parse::<u32>().ok());
    }
    rids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(lines: &[&str], chosen: &[u8]) -> String {
        let mut offered = SimulcastLines::default();
        for line in lines {
            match line.split_once(':') {
                Some(("rid", value)) => offered.rid(value),
                Some(("simulcast", value)) => offered.simulcast(value),
                _ => unreachable!(),
            }
        }
        let mut out = Writer::with_capacity(0);
        offered.accept(chosen).write(&mut out);
        out.finish().replace("\r\n", "|")
    }

    #[test]
    fn encodings_are_accepted() {
        fn check(lines: &[&str], expected: &str) {
            assert_eq!(answer(lines, &[96, 97]), expected, "{lines:?}");
        }
        let three = "a=rid:q recv|a=rid:h recv|a=rid:f recv|a=simulcast:recv q;h;f|";
        check(
            &[
                "rid:q send",
                "rid:h send",
                "rid:f send",
                "simulcast:send q;h;f",
            ],
            three,
        );
        check(
            &[
                "simulcast:send q;h;f",
                "rid:q send",
                "rid:h send",
                "rid:f send",
            ],
            three,
        );
        check(
            &["rid:h send", "rid:q send", "simulcast:send ~h;q"],
            "a=rid:h recv|a=rid:q recv|a=simulcast:recv h;q|",
        );
        check(
            &["rid:a send", "rid:b send", "simulcast:recv x send a,b;b"],
            "a=rid:a recv|a=rid:b recv|a=simulcast:recv a;b|",
        );
        check(&["rid:q send"], "a=rid:q recv|");
        check(&["rid:q send", "rid:h send"], "");
        check(&["rid:q recv", "simulcast:send q"], "");
        check(
            &["rid:q send", "simulcast:send q;unknown;q"],
            "a=rid:q recv|a=simulcast:recv q|",
        );
        check(
            &[
                "rid: send",
                "rid:12345678901234567 send",
                "rid:ä send",
                "simulcast:send ;12345678901234567;ä",
            ],
            "",
        );
    }

    #[test]
    fn restrictions_are_repeated_for_what_was_chosen() {
        let lines = [
            "rid:a send pt=96,98;max-width=640",
            "rid:b send pt=98",
            "rid:c send max-fps=30",
            "simulcast:send a;b;c",
        ];
        let expected =
            "a=rid:a recv pt=96;max-width=640|a=rid:c recv max-fps=30|a=simulcast:recv a;c|";
        assert_eq!(answer(&lines, &[96, 97]), expected);
    }

    #[test]
    fn encodings_are_bounded() {
        let rids: Vec<String> = (0..40).map(|n| format!("rid:{n} send")).collect();
        let streams: Vec<String> = (0..40).map(|n| n.to_string()).collect();
        let simulcast = format!("simulcast:send {}", streams.join(";"));
        let mut lines: Vec<&str> = rids.iter().map(String::as_str).collect();
        lines.push(&simulcast);
        assert!(answer(&lines, &[96]).ends_with("a=simulcast:recv 0;1;2;3|"));
    }

    #[test]
    fn rids_are_sorted_from_the_lowest_up() {
        fn check(rids: &str, announced: &str, expected: &str) {
            let words = |text: &str| {
                text.split_ascii_whitespace()
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            };
            assert_eq!(
                lowest_first(words(rids), &words(announced)).join(" "),
                expected,
                "{rids} {announced}"
            );
        }
        check("h q", "", "q h");
        check("f h q", "", "q h f");
        check("h q f", "f h q", "f h q");
        check("hi mid lo", "lo mid hi", "lo mid hi");
        check("hi lo", "lo", "hi lo");
        check("10 9", "", "9 10");
        check("b a", "", "b a");
    }
}
