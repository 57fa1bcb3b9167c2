//! Data channels: a client's packets to the others of its room, stamped with their true sender.
//!
//! Of a packet only the envelope is read (see `core::data`). Labels are those of LiveKit's clients.

use std::time::Instant;

use bytes::Bytes;
use pipemesh_node_core::data::DataPacket;
use pipemesh_node_core::drops::DropReason;

use super::Shard;
use super::command::Role;
use super::connection::Dtls;
use super::counters::Counters;
use super::session::Parcel;
use crate::session::sctp::{
    ChannelId, ChannelSpec, DataChannels, EndReason, Event, Limits, SendError,
};

const RELIABLE: &str = "_reliable";
const LOSSY: &str = "_lossy";

impl Shard {
    /// Begins the SCTP association, once it is negotiated and the client is verified.
    pub(super) fn start_data(&mut self, index: usize, now: Instant) {
        let connection = &mut self.connections[index];
        let Some(plan) = connection.data_plan else {
            return;
        };
        if connection.data.is_some() || connection.opener.is_none() {
            return;
        }
        let mut data = DataChannels::new(plan, Limits::default());
        // On a client's own connection the client opens the channels.
        if connection.role == Role::Subscriber {
            for spec in [ChannelSpec::reliable(RELIABLE), ChannelSpec::lossy(LOSSY)] {
                if let Err(error) = data.open(spec, now) {
                    tracing::warn!(%error, "cannot open a data channel");
                }
            }
        }
        connection.data = Some(Box::new(data));
        self.schedule(index, now);
    }

    /// A datagram of SCTP.
    pub(super) fn handle_data(&mut self, index: usize, datagram: Bytes, now: Instant) {
        let connection = &mut self.connections[index];
        let Some(data) = &mut connection.data else {
            return self.drops.count(DropReason::NoKeys);
        };
        // The client repeats it, more slowly.
        if !connection.ingress.admit(datagram.len(), false, now) {
            return self.drops.count(DropReason::Limit);
        }
        data.handle_dtls_data(datagram, now);
        self.handle_data_events(index, now);
    }

    pub(super) fn handle_data_timeout(&mut self, index: usize, now: Instant) {
        if let Some(data) = &mut self.connections[index].data {
            data.handle_timeout(now);
            self.handle_data_events(index, now);
        }
    }

    fn handle_data_events(&mut self, index: usize, now: Instant) {
        self.mark_data(index);
        self.count_data(index);
        while let Some(event) = self.connections[index]
            .data
            .as_mut()
            .and_then(|d| d.poll_event())
        {
            match event {
                Event::Opened { channel, spec } => self.handle_opened(index, channel, &spec.label),
                Event::Message {
                    channel, payload, ..
                } => {
                    self.handle_message(index, channel, &payload, now);
                }
                Event::Closed { channel } => self.handle_closed(index, channel),
                Event::Overrun { .. } => {
                    let participant = &self.sessions[self.connections[index].session].participant;
                    tracing::warn!(%participant, "takes data more slowly than it is sent; some is lost");
                }
                Event::Ended(reason) => {
                    let participant = &self.sessions[self.connections[index].session].participant;
                    if reason != EndReason::Closed {
                        tracing::warn!(%participant, ?reason, "the SCTP association ended");
                    }
                    self.count_caught(reason == EndReason::Panicked);
                }
            }
        }
    }

    /// What the association has thrown away.
    fn count_data(&mut self, index: usize) {
        let Some(data) = &mut self.connections[index].data else {
            return;
        };
        let counted = data.take_counters();
        let packets = counted.packets_refused as usize;
        self.drops.add(DropReason::Malformed, packets);
        for (reason, messages) in [
            (DropReason::Malformed, counted.messages_ignored),
            (DropReason::Limit, counted.messages_too_long),
        ] {
            self.data_drops.add(reason, messages as usize);
        }
    }

    fn handle_opened(&mut self, index: usize, channel: ChannelId, label: &str) {
        let connection = &mut self.connections[index];
        let session = &mut self.sessions[connection.session];
        match label {
            RELIABLE => connection.reliable = Some(channel),
            LOSSY => connection.lossy = Some(channel),
            // Channels of the client's own that we have no use for.
            _ => {}
        }
        if session.downlink() == Some(index) {
            session.reliable = connection.reliable;
            session.lossy = connection.lossy;
        }
    }

    fn handle_closed(&mut self, index: usize, channel: ChannelId) {
        let connection = &mut self.connections[index];
        for known in [&mut connection.reliable, &mut connection.lossy] {
            if *known == Some(channel) {
                *known = None;
            }
        }
        let session = &mut self.sessions[connection.session];
        if session.downlink() == Some(index) {
            session.reliable = connection.reliable;
            session.lossy = connection.lossy;
        }
    }

    /// A client's data packet, for the others.
    fn handle_message(&mut self, index: usize, channel: ChannelId, message: &[u8], now: Instant) {
        let connection = &self.connections[index];
        let reliable = match Some(channel) {
            known if known == connection.reliable => true,
            known if known == connection.lossy => false,
            _ => return self.data_drops.count(DropReason::UnknownSource),
        };
        let from = connection.session;
        let sender = &self.sessions[from];
        let packet = match DataPacket::parse(message) {
            Ok(packet) if sender.rights.send => packet,
            Ok(_) => return self.data_drops.count(DropReason::Forbidden),
            Err(_) => return self.data_drops.count(DropReason::Malformed),
        };
        Counters::add(&self.counters.data_packets, 1);
        let mut stamped = Vec::new();
        packet.stamp(sender.stamp(), reliable, &mut stamped);
        let parcel = Parcel {
            bytes: stamped.into(),
            reliable,
        };
        self.spread_parcel(from, &parcel, now);
    }

    pub(super) fn send_parcel(&mut self, session: usize, parcel: &Parcel, now: Instant) {
        let receiver = &self.sessions[session];
        let channel = if parcel.reliable {
            receiver.reliable
        } else {
            receiver.lossy
        };
        let (Some(index), Some(channel)) = (receiver.downlink(), channel) else {
            return self.data_drops.count(DropReason::NotOpen);
        };
        let Some(data) = &mut self.connections[index].data else {
            return self.data_drops.count(DropReason::NotOpen);
        };
        if let Err(error) = data.send(channel, parcel.bytes.clone(), true, now) {
            self.data_drops.count(match error {
                SendError::Closed => DropReason::Gone,
                SendError::TooLarge => DropReason::Limit,
                SendError::Full if parcel.reliable => DropReason::Overrun,
                SendError::Full => DropReason::QueueFull,
            });
        }
        self.mark_data(index);
    }

    /// The connection may have SCTP packets to send: at the end of the turn, so that one SACK stands for
    /// a batch.
    fn mark_data(&mut self, index: usize) {
        if !self.data_dirty.contains(&index) {
            self.data_dirty.push(index);
        }
    }

    pub(super) fn send_data(&mut self, now: Instant) {
        let mut dirty = std::mem::take(&mut self.data_dirty);
        for index in dirty.drain(..) {
            let Some(connection) = self.connections.get_mut(index) else {
                continue;
            };
            self.serving = Some(connection.session);
            let (Some(data), Dtls::Ready(dtls)) = (&mut connection.data, &mut connection.dtls)
            else {
                continue;
            };
            while let Some(packet) = data.poll_transmit(now) {
                if dtls.write(&packet, now).is_err() {
                    // Not connected any more: the association goes with the connection.
                    self.drops.count(DropReason::Gone);
                }
            }
            self.flush_dtls(index);
            self.schedule(index, now);
        }
        self.data_dirty = dirty;
    }

    /// Ends the association of a connection that is about to go.
    pub(super) fn close_data(&mut self, index: usize, now: Instant) {
        let connection = &mut self.connections[index];
        if let (Some(data), Dtls::Ready(dtls)) = (&mut connection.data, &mut connection.dtls) {
            data.close(now);
            while let Some(packet) = data.poll_transmit(now) {
                if dtls.write(&packet, now).is_err() {
                    self.drops.count(DropReason::Gone);
                }
            }
        }
        connection.data = None;
    }
}
