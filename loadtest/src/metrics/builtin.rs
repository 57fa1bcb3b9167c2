//! The metrics that exist without a script defining them: name, kind, unit, meaning, and the
//! section of the summary they stand in.
//!
//! Each stands here once; the registry and the table of the documentation are made from this list.

use std::fmt;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::{Contains, Kind};

/// Which part of the summary a metric stands in, in the order in which the parts are printed.
/// The generator is last: what it needed itself is read after what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Section {
    /// What scripts define.
    Custom,
    Sfu,
    Webrtc,
    Http,
    Execution,
    Network,
    Generator,
}

impl Section {
    pub const ALL: [Self; 7] = [
        Self::Custom,
        Self::Sfu,
        Self::Webrtc,
        Self::Http,
        Self::Execution,
        Self::Network,
        Self::Generator,
    ];

    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Custom => "CUSTOM",
            Self::Sfu => "SFU",
            Self::Webrtc => "WEBRTC",
            Self::Http => "HTTP",
            Self::Execution => "EXECUTION",
            Self::Network => "NETWORK",
            Self::Generator => "GENERATOR",
        }
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Builtin {
    pub name: &'static str,
    pub kind: Kind,
    pub contains: Contains,
    pub section: Section,
    pub meaning: &'static str,
}

const fn counter(section: Section, name: &'static str, meaning: &'static str) -> Builtin {
    Builtin {
        name,
        kind: Kind::Counter,
        contains: Contains::Default,
        section,
        meaning,
    }
}

const fn rate(section: Section, name: &'static str, meaning: &'static str) -> Builtin {
    Builtin {
        name,
        kind: Kind::Rate,
        contains: Contains::Default,
        section,
        meaning,
    }
}

const fn gauge(section: Section, name: &'static str, meaning: &'static str) -> Builtin {
    Builtin {
        name,
        kind: Kind::Gauge,
        contains: Contains::Default,
        section,
        meaning,
    }
}

const fn trend(section: Section, name: &'static str, meaning: &'static str) -> Builtin {
    Builtin {
        name,
        kind: Kind::Trend,
        contains: Contains::Default,
        section,
        meaning,
    }
}

/// A trend of milliseconds.
const fn time(section: Section, name: &'static str, meaning: &'static str) -> Builtin {
    Builtin {
        name,
        kind: Kind::Trend,
        contains: Contains::Time,
        section,
        meaning,
    }
}

const fn containing(contains: Contains, builtin: Builtin) -> Builtin {
    Builtin {
        contains,
        ..builtin
    }
}

use Section::{Execution, Generator, Http, Network, Sfu, Webrtc};

pub const ALL: &[Builtin] = &[
    counter(Sfu, "sfu_joins", "joins that were attempted"),
    rate(
        Sfu,
        "sfu_join_failed",
        "share of joins that failed; tag `error_code`",
    ),
    time(
        Sfu,
        "sfu_join_duration",
        "from the scheduled start of a join until media can flow: signaling joined, ICE and DTLS done",
    ),
    time(
        Sfu,
        "sfu_join_queued",
        "the part of a join that the generator itself made it wait: no free VU, no free handshake slot",
    ),
    time(
        Sfu,
        "sfu_join_response",
        "from the request to join until its answer",
    ),
    time(
        Sfu,
        "sfu_ice_connecting",
        "from the first check until a pair of candidates is selected",
    ),
    time(Sfu, "sfu_dtls_handshaking", "the DTLS handshake"),
    counter(Sfu, "sfu_sessions", "sessions that were established"),
    time(Sfu, "sfu_session_duration", "how long sessions lasted"),
    counter(
        Sfu,
        "sfu_disconnects",
        "connections that were lost; tag `reason`: `signal`, `media`, or what the server said, such as `migration`",
    ),
    counter(
        Sfu,
        "sfu_reconnects",
        "losses that somebody tried to come back from; tag `type`: `resume`, `rejoin`, `migrate`",
    ),
    time(
        Sfu,
        "sfu_reconnect_duration",
        "from the loss of a connection until media flows again; tag `type`",
    ),
    rate(
        Sfu,
        "sfu_reconnect_failed",
        "share of these that somebody did not come back from; tag `type`",
    ),
    time(
        Sfu,
        "sfu_event_latency",
        "from publish(), mute() and unmute() until others in this process are told; tag `event`",
    ),
    time(
        Webrtc,
        "rtc_time_to_first_packet",
        "from subscribing until the first RTP packet",
    ),
    time(
        Webrtc,
        "rtc_time_to_first_frame",
        "from subscribing until the first complete frame, beginning with a key frame",
    ),
    rate(
        Webrtc,
        "rtc_tracks_missing",
        "share of expected tracks that never delivered anything",
    ),
    counter(Webrtc, "rtc_packets_sent", "RTP packets sent"),
    counter(Webrtc, "rtc_packets_received", "RTP packets received"),
    rate(
        Webrtc,
        "rtc_packet_loss",
        "share of expected packets that did not arrive at first",
    ),
    rate(
        Webrtc,
        "rtc_residual_loss",
        "share of expected packets that did not arrive after retransmission either",
    ),
    counter(
        Webrtc,
        "rtc_packets_reordered",
        "packets that arrived after a later one",
    ),
    counter(
        Webrtc,
        "rtc_packets_duplicated",
        "packets that arrived again without being asked for",
    ),
    time(Webrtc, "rtc_jitter", "interarrival jitter"),
    time(Webrtc, "rtc_rtt", "round trip, by RTCP or STUN"),
    time(
        Webrtc,
        "rtc_e2e_latency",
        "one way from the capture of a frame to its arrival",
    ),
    counter(Webrtc, "rtc_frames_sent", "frames sent"),
    counter(Webrtc, "rtc_frames_received", "complete frames received"),
    counter(
        Webrtc,
        "rtc_frames_incomplete",
        "frames given up because packets were missing",
    ),
    trend(Webrtc, "rtc_fps", "frames of a track in a second"),
    trend(
        Webrtc,
        "rtc_bitrate_sent",
        "bits that a track sent in a second; 0 is a sample too",
    ),
    trend(
        Webrtc,
        "rtc_bitrate_received",
        "bits that a track received in a second; 0 is a sample too",
    ),
    counter(
        Webrtc,
        "rtc_freezes",
        "freezes: a gap between frames of more than three average ones, or of the average and 150 ms",
    ),
    time(Webrtc, "rtc_freeze_duration", "how long freezes lasted"),
    rate(
        Webrtc,
        "rtc_freeze_ratio",
        "share of the time watched that was frozen",
    ),
    time(
        Webrtc,
        "rtc_media_gap",
        "gaps of more than 500 ms on a track that should flow; tag `cause`: `node_down`, `migrate`, `layer`, `unknown`",
    ),
    counter(Webrtc, "rtc_nacks_sent", "NACKs sent"),
    counter(Webrtc, "rtc_nacks_received", "NACKs received"),
    counter(Webrtc, "rtc_plis_sent", "picture loss indications sent"),
    counter(
        Webrtc,
        "rtc_plis_received",
        "picture loss indications received",
    ),
    counter(Webrtc, "rtc_rtx_received", "retransmitted packets received"),
    time(
        Webrtc,
        "rtc_layer_switch_duration",
        "from asking for a layer until its first frame",
    ),
    rate(
        Webrtc,
        "rtc_layer_mismatch",
        "share of the time on another layer than the one asked for",
    ),
    time(
        Webrtc,
        "rtc_mute_latency",
        "from mute() until the last packet at a receiver in this process",
    ),
    trend(
        Webrtc,
        "rtc_mos",
        "how speech sounds, from 1 to 4.5: an estimate (E-model) of latency, jitter and loss",
    ),
    time(
        Webrtc,
        "rtc_data_latency",
        "data messages from their sender to a receiver",
    ),
    rate(
        Webrtc,
        "rtc_data_loss",
        "share of data messages that did not come, between the first and the newest of a sender that did",
    ),
    counter(Webrtc, "rtc_data_msgs_sent", "data messages sent"),
    counter(Webrtc, "rtc_data_msgs_received", "data messages received"),
    counter(
        Webrtc,
        "rtc_integrity_errors",
        "payload of another room, track or sender, broken, or from the past; has to be 0",
    ),
    time(
        Http,
        "http_req_duration",
        "a request, from sending it until its answer is there",
    ),
    rate(Http, "http_req_failed", "share of requests that failed"),
    counter(Http, "http_reqs", "requests made"),
    rate(Execution, "checks", "share of checks that held"),
    counter(
        Execution,
        "dropped_iterations",
        "iterations that had no free VU when they were due",
    ),
    time(Execution, "group_duration", "how long groups took"),
    time(
        Execution,
        "iteration_duration",
        "how long complete iterations took",
    ),
    counter(Execution, "iterations", "complete iterations"),
    gauge(Execution, "vus", "VUs that are active"),
    gauge(Execution, "vus_max", "VUs that are ready"),
    containing(
        Contains::Data,
        counter(Network, "data_received", "bytes received"),
    ),
    containing(Contains::Data, counter(Network, "data_sent", "bytes sent")),
    gauge(
        Generator,
        "gen_cpu",
        "CPU the generator uses, in percent of the machine",
    ),
    time(
        Generator,
        "gen_loop_lag",
        "how late the generator's loops wake up",
    ),
    counter(
        Generator,
        "gen_socket_drops",
        "packets that the generator's sockets dropped because nobody read them",
    ),
    containing(
        Contains::Data,
        gauge(
            Generator,
            "gen_memory_per_vu",
            "resident memory of the generator, divided by its VUs",
        ),
    ),
];

/// All of them as a table in Markdown.
#[must_use]
pub fn table() -> String {
    let mut table = String::from(
        "| Metric | Kind | Unit | Section | Meaning |\n| --- | --- | --- | --- | --- |\n",
    );
    for builtin in ALL {
        let unit = match (builtin.contains, builtin.kind) {
            (Contains::Time, _) => "ms",
            (Contains::Data, _) => "bytes",
            (Contains::Default, Kind::Rate) => "share",
            (Contains::Default, _) if builtin.name.contains("bitrate") => "bit/s",
            (Contains::Default, _) if builtin.name == "gen_cpu" => "%",
            (Contains::Default, _) => "",
        };
        let Builtin {
            name,
            kind,
            section,
            meaning,
            ..
        } = builtin;
        writeln!(
            table,
            "| `{name}` | {kind} | {unit} | {section} | {meaning} |"
        )
        .expect("a String takes everything");
    }
    table
}

#[cfg(test)]
mod tests {
    //! That the list is sound.

    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_name_is_valid_and_stands_once() {
        let names: BTreeSet<&str> = ALL.iter().map(|builtin| builtin.name).collect();
        assert_eq!(names.len(), ALL.len());
        for builtin in ALL {
            assert!(
                super::super::registry::is_valid_name(builtin.name),
                "{}",
                builtin.name
            );
            let prefix = match builtin.section {
                Section::Sfu => "sfu_",
                Section::Webrtc => "rtc_",
                Section::Generator => "gen_",
                Section::Http => "http_",
                Section::Custom | Section::Execution | Section::Network => "",
            };
            assert!(builtin.name.starts_with(prefix), "{}", builtin.name);
        }
    }

    #[test]
    fn the_table_has_a_row_for_each() {
        let table = table();
        assert_eq!(table.lines().count(), ALL.len() + 2);
        assert!(table.contains("| `sfu_joins` | counter |  | SFU | joins that were attempted |\n"));
        assert!(table.contains("| `gen_memory_per_vu` | gauge | bytes | GENERATOR |"));
    }
}
