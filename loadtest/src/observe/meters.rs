//! The metrics that are built in, as numbers.

use crate::metrics::{MetricId, Registry};

macro_rules! meters {
    ($($name:ident),* $(,)?) => {
        /// Each by its name.
        #[derive(Debug, Clone, Copy)]
        pub struct Meters {
            $(pub $name: MetricId,)*
        }

        impl Meters {
            #[cfg(test)]
            pub(crate) const NAMES: &[&str] = &[$(stringify!($name)),*];

            #[must_use]
            pub fn of(registry: &Registry) -> Self {
                Self {
                    $($name: registry.builtin(stringify!($name)),)*
                }
            }
        }
    };
}

meters! {
    checks, group_duration, iterations, iteration_duration, dropped_iterations, vus, vus_max,
    data_sent, data_received, http_reqs, http_req_duration, http_req_failed,
    sfu_joins, sfu_join_failed, sfu_join_duration, sfu_join_queued, sfu_join_response,
    sfu_ice_connecting, sfu_dtls_handshaking, sfu_sessions, sfu_session_duration, sfu_disconnects,
    sfu_event_latency, sfu_reconnects, sfu_reconnect_duration, sfu_reconnect_failed,
    rtc_time_to_first_packet, rtc_time_to_first_frame, rtc_tracks_missing,
    rtc_packets_sent, rtc_packets_received, rtc_packet_loss, rtc_residual_loss,
    rtc_packets_reordered, rtc_packets_duplicated, rtc_jitter, rtc_rtt, rtc_e2e_latency,
    rtc_frames_sent, rtc_frames_received, rtc_frames_incomplete, rtc_fps,
    rtc_bitrate_sent, rtc_bitrate_received, rtc_freezes, rtc_freeze_duration, rtc_freeze_ratio,
    rtc_media_gap, rtc_nacks_sent, rtc_nacks_received, rtc_plis_sent, rtc_plis_received,
    rtc_rtx_received, rtc_layer_switch_duration, rtc_layer_mismatch, rtc_mute_latency, rtc_mos,
    rtc_data_latency, rtc_data_loss, rtc_data_msgs_sent, rtc_data_msgs_received, rtc_integrity_errors,
    gen_cpu, gen_loop_lag, gen_socket_drops, gen_memory_per_vu,
}
