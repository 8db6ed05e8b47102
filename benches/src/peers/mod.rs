//! Who else takes part: others' servers, and the floors under all of them.

mod axum_sse;
mod better_sse;
mod h2_socket;
mod hyper;
mod identity;
mod nchan;
mod post;
mod quinn;
mod quinn_proto;
mod send_loop;
mod udp_loop;

use anyhow::Result;
use clap::ValueEnum;
use fanwire_bench::{
    contest::{Contestant, Role, Started},
    load::{Access, Style},
    scenario::Scenario,
    server::Server,
    way::Way,
};
use send_loop::Through;

/// A peer or a floor. Except for nchan and better-sse, each is this program in a process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// The floor: a loop of send() over sockets, HTTP/1.1 in the clear, nothing else
    SendLoop,
    /// The same on as many threads as there are cores
    SendLoopThreads,
    /// The floor under TLS: the same loop, through rustls
    SendLoopTls,
    /// The floor under HTTP/2: the same in its frames
    SendLoopH2,
    /// The floor under QUIC: a loop of sendto() of datagrams, each of which is acknowledged
    UdpLoop,
    /// The floor under WebTransport: quinn-proto in a loop on one thread, a stream for each session
    QuinnProto,
    /// The same, with a datagram for each event
    QuinnProtoDatagram,
    /// nginx with nchan, as Debian has it
    Nchan,
    /// axum's Sse on tokio's broadcast channel, as its documentation has it
    Axum,
    /// The same with events that are encoded once, and all that wait written together
    AxumBatched,
    /// The same with an id for each event, as long as a hub's
    AxumBatchedIds,
    /// npm better-sse, on node's own server
    BetterSse,
    /// WebTransport on plain quinn, by web-transport-quinn: a stream for each session, all that wait written together
    Quinn,
    /// The same, with a datagram for each event
    QuinnDatagram,
    /// The floor under publishing: hyper that answers the same POST; it has no feed
    #[value(hide = true)]
    Hyper,
}

impl Kind {
    /// Those that this machine has.
    pub(crate) fn installed() -> Vec<Self> {
        let is_installed = |kind: &Self| match kind {
            Self::Nchan => nchan::is_installed(),
            Self::BetterSse => better_sse::is_installed(),
            _ => true,
        };
        Self::value_variants().iter().copied().filter(is_installed).collect()
    }

    /// Whether it can do what a scenario asks for: one topic, as fast as may be.
    pub(crate) fn fits(self, scenario: &Scenario) -> bool {
        let (batches, replays) = match self {
            Self::Axum | Self::AxumBatched | Self::AxumBatchedIds | Self::BetterSse => (true, false),
            Self::Quinn | Self::QuinnProto => (true, true),
            Self::Nchan => (false, true),
            Self::SendLoop
            | Self::SendLoopThreads
            | Self::SendLoopTls
            | Self::SendLoopH2
            | Self::UdpLoop
            | Self::QuinnDatagram
            | Self::QuinnProtoDatagram => (false, false),
            Self::Hyper => return false,
        };
        scenario.topics == 1
            && scenario.storm.is_none()
            && !scenario.replay_latest
            && scenario.links.is_none()
            && (scenario.batch == 1 || batches)
            && (scenario.connect_times.is_none() || replays)
    }

    /// Starts it, for what isn't a contest: its process, and the URL that is posted to.
    pub(crate) fn started(self) -> Result<(Server, String)> {
        self.process().map(|(server, _, feed)| (server, feed))
    }

    /// Its process, where it listens for HTTP, and its feed.
    fn process(self) -> Result<(Server, String, String)> {
        let (server, words) = if self == Self::BetterSse {
            better_sse::process()?
        } else {
            Server::start(&std::env::current_exe()?, &["peer", &self.name()], &["http://", "feed="])?
        };
        Ok((server, words[0].clone(), words[1].trim_start_matches("feed=").to_owned()))
    }

    /// Is it, until the process is ended.
    pub(crate) fn serve(self) -> Result<()> {
        match self {
            Self::SendLoop => send_loop::serve(1),
            Self::SendLoopThreads => send_loop::serve(std::thread::available_parallelism()?.into()),
            Self::SendLoopTls => send_loop::serve_tls(Through::H1),
            Self::SendLoopH2 => send_loop::serve_tls(Through::H2),
            Self::UdpLoop => udp_loop::serve(),
            Self::QuinnProto => quinn_proto::serve(quinn::Form::Stream),
            Self::QuinnProtoDatagram => quinn_proto::serve(quinn::Form::Datagrams),
            Self::Nchan | Self::BetterSse => anyhow::bail!("it is no part of this program"),
            Self::Axum => axum_sse::serve(axum_sse::Form::Plain),
            Self::AxumBatched => axum_sse::serve(axum_sse::Form::Batched),
            Self::AxumBatchedIds => axum_sse::serve(axum_sse::Form::BatchedIds),
            Self::Quinn => quinn::serve(quinn::Form::Stream),
            Self::QuinnDatagram => quinn::serve(quinn::Form::Datagrams),
            Self::Hyper => hyper::serve(),
        }
    }
}

impl Contestant for Kind {
    fn name(&self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn way(&self) -> Way {
        match self {
            Self::UdpLoop => Way::Udp,
            Self::Quinn | Self::QuinnProto => Way::WebTransport,
            Self::QuinnDatagram | Self::QuinnProtoDatagram => Way::Datagram,
            Self::SendLoopTls => Way::SseH1Tls,
            Self::SendLoopH2 => Way::SseH2,
            _ => Way::SseH1,
        }
    }

    fn role(&self) -> Role {
        match self {
            Self::SendLoop
            | Self::SendLoopThreads
            | Self::SendLoopTls
            | Self::SendLoopH2
            | Self::UdpLoop
            | Self::QuinnProto
            | Self::QuinnProtoDatagram
            | Self::Hyper => Role::Floor,
            Self::Nchan
            | Self::Axum
            | Self::AxumBatched
            | Self::AxumBatchedIds
            | Self::BetterSse
            | Self::Quinn
            | Self::QuinnDatagram => Role::Peer,
        }
    }

    /// nchan's workers tell each other of their subscribers in their own time: what is published right after a subscriber came may miss it.
    fn is_lossless(&self) -> bool {
        *self != Self::Nchan
    }

    fn start(&self, _: &Scenario) -> Result<Started> {
        if *self == Self::Nchan {
            return nchan::start();
        }
        let (server, base, feed) = self.process()?;
        Ok(Started { server: Some(server), access: OURS, feed, publish: format!("{base}/pub"), style: Style::Raw })
    }
}

/// A process of our own, with whatever certificate.
const OURS: Access = Access { token: None, insecure: true };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_less_than_a_server_has_to_is_a_floor() {
        let floors = Kind::value_variants().iter().filter(|kind| kind.role() == Role::Floor).map(Contestant::name);
        let said = [
            "send-loop",
            "send-loop-threads",
            "send-loop-tls",
            "send-loop-h2",
            "udp-loop",
            "quinn-proto",
            "quinn-proto-datagram",
            "hyper",
        ];
        assert_eq!(floors.collect::<Vec<_>>(), said);
    }
}
