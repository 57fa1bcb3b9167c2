//! What a client's packets are: which encoding of which track an SSRC carries, or repairs.
//!
//! Browsers name the encoding (mid, rid, repaired rid) only until the first receiver report reaches
//! them, so what was learned here cannot be learned again: it is state of the session that a hand-over
//! has to carry. Nothing is learned from a packet that has not proved authentic.

use pipemesh_node_core::codec::Codec;
use pipemesh_node_core::router::{Media, Source, TrackKey};
use pipemesh_node_core::rtp::Header;
use pipemesh_proto::ids::TrackId;

use crate::session::plan::{Extensions, ReceiveSection};

/// What one SSRC carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stream {
    /// Index of the section.
    section: usize,
    encoding: u8,
    is_repair: bool,
}

/// A packet's place among the client's tracks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placed<'a> {
    pub(crate) section: &'a Section,
    pub(crate) source: Source,
    /// A retransmission of this payload type's packets, or the media itself.
    pub(crate) codec: Codec,
    /// For a retransmission: the SSRC and payload type it had, to restore.
    pub(crate) repairs: Option<(u32, u8)>,
    /// What is lost of it is sent again under the number it had.
    pub(crate) in_place: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unplaced {
    UnknownSource,
    UnknownPayloadType,
}

/// A track the client publishes in one m-section.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) track: TrackId,
    pub(crate) key: TrackKey,
    pub(crate) plan: ReceiveSection,
    encodings: Vec<KnownEncoding>,
}

/// The SSRCs of one encoding, as far as known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct KnownEncoding {
    pub(crate) ssrc: Option<u32>,
    pub(crate) repair_ssrc: Option<u32>,
}

/// The receiving side of one connection.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    sections: Vec<Section>,
    /// Ascending. Each encoding has a place for one SSRC and one of its retransmissions, which bounds it.
    streams: Vec<(u32, Stream)>,
    transport_sequence: Option<u8>,
    absolute_send_time: Option<u8>,
}

/// An SSRC took the place of another, or came to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) section: usize,
    pub(crate) source: Source,
    /// The encoding went on under a new SSRC; its numbers begin anew.
    pub(crate) restarted: bool,
}

impl Placed<'_> {
    /// The packet as the router takes it; for a retransmission, restored.
    #[inline]
    pub(crate) fn media<'a>(&self, header: Header, packet: &'a [u8]) -> Media<'a> {
        let extensions = &self.section.plan.extensions;
        let level = extensions
            .audio_level
            .and_then(|id| header.extension(packet, id));
        Media {
            codec: self.codec,
            header,
            packet,
            audio_level: level
                .and_then(|level| level.first())
                .map(|byte| byte & 0x7F),
            dependency: extensions
                .dependency_descriptor
                .and_then(|id| header.extension(packet, id)),
            repaired: self.repairs.is_some(),
            in_place: self.in_place,
        }
    }
}

impl Inbound {
    /// Applies what was negotiated. `key` names the router's track; sections whose track has none are
    /// left out. SSRCs of sections that stay are kept. Answers what SDP itself said of SSRCs.
    pub(crate) fn apply(
        &mut self,
        plan: &[ReceiveSection],
        key: impl Fn(&TrackId) -> Option<TrackKey>,
    ) -> Vec<Bound> {
        let former = std::mem::take(&mut self.sections);
        for section in plan {
            let Some(key) = key(&section.track) else {
                continue;
            };
            let known = former.iter().find(|other| other.key == key);
            let known = known.map_or(&[][..], |known| &known.encodings);
            let mut encodings = vec![KnownEncoding::default(); section.encodings.len()];
            for (encoding, known) in encodings.iter_mut().zip(known) {
                *encoding = *known;
            }
            self.sections.push(Section {
                track: section.track.clone(),
                key,
                plan: section.clone(),
                encodings,
            });
        }
        self.keep_streams(&former);
        let bound = self.bind_announced();
        self.transport_sequence = plan
            .iter()
            .find_map(|section| section.extensions.transport_sequence);
        let is_told = |section: &&ReceiveSection| section.feedback.estimated_maximum_bitrate;
        let mut told = plan.iter().filter(is_told);
        self.absolute_send_time = told.find_map(|section| section.extensions.absolute_send_time);
        bound
    }

    /// SSRCs that were bound to `former` sections go on in those that stay.
    fn keep_streams(&mut self, former: &[Section]) {
        let sections = &self.sections;
        let moved = |stream: Stream| {
            let key = former.get(stream.section)?.key;
            let section = sections.iter().position(|section| section.key == key)?;
            let stays = usize::from(stream.encoding) < sections[section].encodings.len();
            stays.then_some(Stream { section, ..stream })
        };
        let streams = std::mem::take(&mut self.streams).into_iter();
        let kept = streams.filter_map(|(ssrc, stream)| Some((ssrc, moved(stream)?)));
        self.streams = kept.collect();
    }

    /// Binds the SSRCs that SDP states.
    fn bind_announced(&mut self) -> Vec<Bound> {
        let mut announced = Vec::new();
        for (index, section) in self.sections.iter().enumerate() {
            for (encoding, planned) in section.plan.encodings.iter().enumerate() {
                let stream = |is_repair| Stream {
                    section: index,
                    encoding: encoding as u8,
                    is_repair,
                };
                announced.extend(planned.ssrc.map(|ssrc| (ssrc, stream(false))));
                announced.extend(planned.repair_ssrc.map(|ssrc| (ssrc, stream(true))));
            }
        }
        let announced = announced.into_iter();
        announced
            .filter_map(|(ssrc, stream)| self.bind(ssrc, stream))
            .collect()
    }

    /// SSRCs that the client may send under, as negotiated.
    pub(crate) fn max_streams(&self) -> usize {
        let encodings = self.sections.iter().map(|section| section.encodings.len());
        encodings.sum::<usize>() * 2
    }

    pub(crate) fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The id of the transport-wide sequence number, the same in all sections of a bundle.
    pub(crate) fn transport_sequence(&self) -> Option<u8> {
        self.transport_sequence
    }

    /// The id of the time of sending, if that is what an estimate for the client is made from.
    pub(crate) fn absolute_send_time(&self) -> Option<u8> {
        self.absolute_send_time
    }

    /// What a packet's SSRC is known to carry, else what the packet itself says of it.
    pub(crate) fn identify(&self, header: &Header, packet: &[u8]) -> Option<Stream> {
        self.stream(header.ssrc)
            .or_else(|| self.read_names(header, packet))
    }

    pub(crate) fn is_bound(&self, ssrc: u32) -> bool {
        self.place_of(ssrc).is_ok()
    }

    fn stream(&self, ssrc: u32) -> Option<Stream> {
        Some(self.streams.get(self.place_of(ssrc).ok()?)?.1)
    }

    /// Where an SSRC is among those that are bound, or would be.
    fn place_of(&self, ssrc: u32) -> Result<usize, usize> {
        self.streams
            .binary_search_by_key(&ssrc, |(known, _)| *known)
    }

    /// Remembers what an SSRC carries; the packet that said so has proved authentic. It takes the place
    /// of the one that carried it before. `None`: it was known.
    pub(crate) fn bind(&mut self, ssrc: u32, stream: Stream) -> Option<Bound> {
        if self.is_bound(ssrc) {
            return None;
        }
        let section = self.sections.get_mut(stream.section)?;
        let track = section.key;
        let encoding = section.encodings.get_mut(usize::from(stream.encoding))?;
        let place = if stream.is_repair {
            &mut encoding.repair_ssrc
        } else {
            &mut encoding.ssrc
        };
        let former = place.replace(ssrc);
        if let Some(Ok(place)) = former.map(|former| self.place_of(former)) {
            self.streams.remove(place);
        }
        let (Ok(place) | Err(place)) = self.place_of(ssrc);
        self.streams.insert(place, (ssrc, stream));
        Some(Bound {
            section: stream.section,
            source: Source {
                track,
                encoding: stream.encoding,
            },
            restarted: former.is_some() && !stream.is_repair,
        })
    }

    /// Where a packet of `stream` belongs.
    pub(crate) fn place(&self, stream: Stream, payload_type: u8) -> Result<Placed<'_>, Unplaced> {
        let section = self
            .sections
            .get(stream.section)
            .ok_or(Unplaced::UnknownSource)?;
        let codecs = &section.plan.codecs;
        let source = Source {
            track: section.key,
            encoding: stream.encoding,
        };
        if stream.is_repair {
            let codec = codecs
                .iter()
                .find(|known| known.repair == Some(payload_type));
            let codec = codec.ok_or(Unplaced::UnknownPayloadType)?;
            let encoding = section.encodings.get(usize::from(stream.encoding));
            let ssrc = encoding
                .and_then(|known| known.ssrc)
                .ok_or(Unplaced::UnknownSource)?;
            return Ok(Placed {
                section,
                source,
                codec: codec.codec,
                repairs: Some((ssrc, codec.number)),
                in_place: false,
            });
        }
        let codec = codecs.iter().find(|known| known.number == payload_type);
        let codec = codec.ok_or(Unplaced::UnknownPayloadType)?;
        Ok(Placed {
            section,
            source,
            codec: codec.codec,
            repairs: None,
            in_place: codec.repair.is_none(),
        })
    }

    /// The section and encoding an SSRC of media carries.
    pub(crate) fn media_source(&self, ssrc: u32) -> Option<(&Section, Source)> {
        let stream = self.stream(ssrc)?;
        let section = self
            .sections
            .get(stream.section)
            .filter(|_| !stream.is_repair)?;
        Some((
            section,
            Source {
                track: section.key,
                encoding: stream.encoding,
            },
        ))
    }

    /// Every encoding whose SSRC is known.
    pub(crate) fn media_sources(&self) -> impl Iterator<Item = (u32, Source)> + '_ {
        self.sections.iter().flat_map(|section| {
            section
                .encodings
                .iter()
                .enumerate()
                .filter_map(|(encoding, known)| {
                    Some((
                        known.ssrc?,
                        Source {
                            track: section.key,
                            encoding: encoding as u8,
                        },
                    ))
                })
        })
    }

    /// The SSRCs of what an estimate for the client speaks of.
    pub(crate) fn estimated_ssrcs(&self) -> impl Iterator<Item = u32> + Clone + '_ {
        let sections = self.sections.iter();
        let estimated = sections.filter(|it| it.plan.feedback.estimated_maximum_bitrate);
        estimated.flat_map(|section| section.encodings.iter().filter_map(|known| known.ssrc))
    }

    /// The SSRC of an encoding, with its section.
    pub(crate) fn ssrc_of(&self, source: Source) -> Option<(u32, &Section)> {
        let section = self
            .sections
            .iter()
            .find(|section| section.key == source.track)?;
        Some((
            section.encodings.get(usize::from(source.encoding))?.ssrc?,
            section,
        ))
    }

    /// Reads mid, rid and repaired rid (RFC 8843 section 9.2, RFC 8852); where they are missing the
    /// payload type decides if it leaves no choice.
    fn read_names(&self, header: &Header, packet: &[u8]) -> Option<Stream> {
        let text = |id: fn(&Extensions) -> Option<u8>, section: &Section| {
            let value = header.extension(packet, id(&section.plan.extensions)?)?;
            std::str::from_utf8(value).ok()
        };
        let named = self
            .sections
            .iter()
            .position(|section| text(|e| e.mid, section) == Some(section.plan.mid.as_str()));
        let index = named.or_else(|| self.only_section_with(header.payload_type))?;
        let section = &self.sections[index];
        let with_rid = |rid: &str| {
            let planned = &section.plan.encodings;
            planned
                .iter()
                .position(|encoding| encoding.rid.as_deref() == Some(rid))
        };
        let codecs = &section.plan.codecs;
        let (encoding, is_repair) = if let Some(rid) = text(|e| e.repaired_rid, section) {
            (with_rid(rid)?, true)
        } else if let Some(rid) = text(|e| e.rid, section) {
            (
                with_rid(rid)?,
                codecs
                    .iter()
                    .any(|known| known.repair == Some(header.payload_type)),
            )
        } else if section.plan.encodings.len() == 1 {
            (
                0,
                codecs
                    .iter()
                    .any(|known| known.repair == Some(header.payload_type)),
            )
        } else {
            return None;
        };
        Some(Stream {
            section: index,
            encoding: encoding as u8,
            is_repair,
        })
    }

    fn only_section_with(&self, payload_type: u8) -> Option<usize> {
        let mut fitting = self.sections.iter().enumerate().filter(|(_, section)| {
            let mut codecs = section.plan.codecs.iter();
            codecs.any(|known| known.number == payload_type || known.repair == Some(payload_type))
        });
        let (index, _) = fitting.next()?;
        fitting.next().is_none().then_some(index)
    }
}

impl Section {
    pub(crate) fn encodings(&self) -> &[KnownEncoding] {
        &self.encodings
    }
}

/// Undoes a retransmission (RFC 4588 section 4) in place and answers where the packet begins; `None`:
/// it is padding, sent to probe for bandwidth.
pub(crate) fn restore(
    packet: &mut [u8],
    header: &Header,
    ssrc: u32,
    payload_type: u8,
) -> Option<usize> {
    const ORIGINAL_SEQUENCE_LEN: usize = 2;
    let payload = header.payload(packet)?;
    let original: [u8; ORIGINAL_SEQUENCE_LEN] = payload.first_chunk().copied()?;
    // The header moves up over the two bytes.
    packet.copy_within(..header.header_len(), ORIGINAL_SEQUENCE_LEN);
    let restored = packet.get_mut(ORIGINAL_SEQUENCE_LEN..)?;
    restored[1] = restored[1] & 0x80 | payload_type;
    restored[2..4].copy_from_slice(&original);
    restored[8..12].copy_from_slice(&ssrc.to_be_bytes());
    Some(ORIGINAL_SEQUENCE_LEN)
}

#[cfg(test)]
mod tests;
