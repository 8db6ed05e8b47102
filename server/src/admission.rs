//! How many connections there may be, in all and from one address, and who is turned away with an answer.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::telemetry::{Carrier, Limit, Metrics, OpenConnection};

/// The limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In all, TCP and QUIC together. An idle one takes some 20 KiB on TCP and 60 on QUIC.
    pub connections_max: usize,
    /// From one [`Source`]: behind a proxy everybody has the proxy's. None: two fifths of what there may be, in all and over TCP.
    pub connections_per_address_max: Option<usize>,
    /// Over TCP, where each takes a descriptor.
    pub tcp_connections_max: usize,
    /// Beyond these limits, so many TCP connections at a time are told that there is no room; more are closed at once.
    pub turned_away_max: usize,
    /// QUIC handshakes that may be under way before clients have to prove their address: beyond that one that is forged costs nothing.
    pub handshakes_unproved_max: usize,
    /// QUIC handshakes that may be under way, of whoever has proved his address: beyond that they are refused. Each takes some 50 KiB,
    /// until it is given up.
    pub handshakes_max: usize,
    /// The same from one [`Source`], which is to leave some to others.
    pub handshakes_per_address_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 50_000,
            connections_per_address_max: None,
            tcp_connections_max: usize::MAX,
            turned_away_max: 64,
            handshakes_unproved_max: 100,
            handshakes_max: 4096,
            handshakes_per_address_max: 2048,
        }
    }
}

impl Limits {
    /// Of what there may be, what one source may have: in all, and over TCP.
    pub fn of_one(&self) -> [usize; 2] {
        let totals = [self.connections_max, self.connections_max.min(self.tcp_connections_max)];
        totals.map(|total| self.connections_per_address_max.unwrap_or((total.saturating_mul(2) / 5).max(1)).min(total))
    }

    /// The same, but with no more TCP connections than a process has descriptors for that may have `descriptors_max` and has
    /// opened `open` of them.
    pub fn within_descriptors(self, descriptors_max: usize, open: usize) -> Self {
        let kept = self.turned_away_max + DESCRIPTORS_KEPT;
        let left = descriptors_max.saturating_sub(open);
        // Few as they may be, some are for connections.
        let for_connections = left.saturating_sub(kept).max(left / 2);
        Self {
            tcp_connections_max: self.tcp_connections_max.min(for_connections),
            turned_away_max: self.turned_away_max.min(left / 4),
            ..self
        }
    }
}

/// Whom connections are counted for: an IPv4 address, or the 64 bits of an IPv6 address that one site has at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source(IpAddr);

/// Counts the connections.
#[derive(Debug)]
pub struct Admission {
    limits: Limits,
    open: Mutex<Open>,
    metrics: Arc<Metrics>,
    /// They are of whoever asks for metrics, and no clients of the hub.
    of_metrics: bool,
}

#[derive(Debug, Default)]
struct Open {
    all: Count,
    turned_away: usize,
    by_source: HashMap<Source, Count>,
    handshakes: usize,
    handshakes_by_source: HashMap<Source, usize>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    total: usize,
    tcp: usize,
}

impl Count {
    fn one_more(&mut self, tcp: bool) {
        self.total += 1;
        self.tcp += usize::from(tcp);
    }

    fn one_less(&mut self, tcp: bool) {
        self.total -= 1;
        self.tcp -= usize::from(tcp);
    }
}

/// A connection that was let in, or is turned away with an answer, for as long as it lives.
#[derive(Debug)]
pub struct Admitted {
    admission: Arc<Admission>,
    place: Place,
    _open: Option<OpenConnection>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    In { source: Source, tcp: bool },
    TurnedAway,
}

/// What becomes of a connection.
#[derive(Debug)]
pub enum Admittance {
    /// It is let in.
    In(Admitted),
    /// It is one too many, for this reason, and may be told so.
    TurnedAway(Admitted, Limit),
    /// It is one too many, and so are those that are told so.
    Closed,
}

/// A QUIC handshake that is under way, until it is dropped.
#[derive(Debug)]
pub struct UnderWay {
    admission: Arc<Admission>,
    source: Source,
}

/// What becomes of a QUIC handshake.
#[derive(Debug)]
pub enum Handshake {
    /// It goes on.
    Begins(UnderWay),
    /// The client is to prove first that its address is its own.
    Unproved,
    /// It is one too many.
    TooMany,
}

impl Admission {
    /// Nobody is in yet.
    pub fn new(limits: Limits, metrics: Arc<Metrics>) -> Self {
        Self { limits, open: Mutex::default(), metrics, of_metrics: false }
    }

    /// The same for the connections of whoever asks for metrics: they aren't counted among the hub's own, and the limit is another.
    pub fn of_metrics(self) -> Self {
        Self { of_metrics: true, ..self }
    }

    /// Lets a connection in, unless it is one too many.
    pub fn admit(self: &Arc<Self>, address: IpAddr, carrier: Carrier) -> Admittance {
        let (source, tcp) = (Source::from(address), carrier != Carrier::Quic);
        let mut open = self.lock();
        let Limits { connections_max, tcp_connections_max, turned_away_max, .. } = self.limits;
        let [of_one_max, tcp_of_one_max] = self.limits.of_one();
        let from_there = open.by_source.get(&source).copied().unwrap_or_default();
        let reached = if open.all.total >= connections_max {
            if self.of_metrics { Limit::MetricsConnections } else { Limit::Connections }
        } else if tcp && open.all.tcp >= tcp_connections_max {
            Limit::Descriptors
        } else if from_there.total >= of_one_max || tcp && from_there.tcp >= tcp_of_one_max {
            Limit::ConnectionsPerAddress
        } else {
            open.all.one_more(tcp);
            open.by_source.entry(source).or_default().one_more(tcp);
            return Admittance::In(self.admitted(Place::In { source, tcp }, carrier));
        };
        self.metrics.reached(reached);
        tracing::debug!(%address, total = open.all.total, from_there = from_there.total, limit = reached.name(), "one connection too many");
        if !tcp || open.turned_away >= turned_away_max {
            if tcp {
                self.metrics.reached(Limit::TurnedAway);
            }
            return Admittance::Closed;
        }
        open.turned_away += 1;
        Admittance::TurnedAway(self.admitted(Place::TurnedAway, carrier), reached)
    }

    /// Lets a QUIC handshake begin, unless it is one too many. `proved`: that the address is the client's own. [RFC 9000 §8.1]
    pub fn handshake(self: &Arc<Self>, address: IpAddr, proved: bool) -> Handshake {
        let source = Source::from(address);
        let mut open = self.lock();
        let Limits { handshakes_unproved_max, handshakes_max, handshakes_per_address_max, .. } = self.limits;
        if !proved && open.handshakes >= handshakes_unproved_max.min(handshakes_max) {
            self.metrics.reached(Limit::Handshakes);
            return Handshake::Unproved;
        }
        let from_there = open.handshakes_by_source.get(&source).copied().unwrap_or(0);
        if open.handshakes >= handshakes_max || from_there >= handshakes_per_address_max {
            self.metrics.reached(Limit::HandshakesMax);
            tracing::debug!(%address, total = open.handshakes, from_there, "one handshake too many");
            return Handshake::TooMany;
        }
        open.handshakes += 1;
        *open.handshakes_by_source.entry(source).or_default() += 1;
        Handshake::Begins(UnderWay { admission: self.clone(), source })
    }

    /// How many QUIC handshakes are under way.
    pub fn handshakes(&self) -> usize {
        self.lock().handshakes
    }

    fn admitted(self: &Arc<Self>, place: Place, carrier: Carrier) -> Admitted {
        let open = (!self.of_metrics).then(|| self.metrics.connection(carrier));
        Admitted { admission: self.clone(), place, _open: open }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
            v4 => v4,
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = self.admission.lock();
        let Place::In { source, tcp } = self.place else {
            open.turned_away -= 1;
            return;
        };
        open.all.one_less(tcp);
        if let Some(from_there) = open.by_source.get_mut(&source) {
            from_there.one_less(tcp);
            if from_there.total == 0 {
                open.by_source.remove(&source);
            }
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut open = self.admission.lock();
        open.handshakes -= 1;
        one_less(&mut open.handshakes_by_source, self.source);
    }
}

fn one_less(counts: &mut HashMap<Source, usize>, source: Source) {
    if let Some(count) = counts.get_mut(&source) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&source);
        }
    }
}

/// Descriptors that are kept for everything but connections of subscribers and publishers: the log, keys that are fetched, the operator's
/// socket, whoever asks for metrics.
const DESCRIPTORS_KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(limits: Limits) -> Arc<Admission> {
        Arc::new(Admission::new(limits, Arc::default()))
    }

    fn is_in(admittance: &Admittance) -> bool {
        matches!(admittance, Admittance::In(_))
    }

    #[test]
    fn who_leaves_makes_room() {
        let limits = Limits { connections_max: 3, connections_per_address_max: Some(2), ..Limits::default() };
        let admission = admission(limits);
        let [a, b] = [[127, 0, 0, 1], [127, 0, 0, 2]].map(IpAddr::from);
        let first = admission.admit(a, Carrier::Tcp);
        let second = admission.admit(a, Carrier::Quic);
        assert!(is_in(&first) && is_in(&second));
        let too_many = admission.admit(a, Carrier::Tcp);
        assert!(matches!(too_many, Admittance::TurnedAway(_, Limit::ConnectionsPerAddress)), "two from one address");
        let third = admission.admit(b, Carrier::Tls);
        assert!(is_in(&third));
        let too_many = [admission.admit(b, Carrier::Tls), too_many];
        assert!(matches!(too_many[0], Admittance::TurnedAway(_, Limit::Connections)), "three in all");
        assert!(matches!(admission.admit(b, Carrier::Quic), Admittance::Closed), "nothing is told over QUIC");
        drop(first);
        assert!(is_in(&admission.admit(b, Carrier::Tcp)), "those who are turned away take no place");
        drop((second, third, too_many));
        let open = admission.lock();
        assert_eq!((open.all.total, open.all.tcp, open.turned_away, open.by_source.len()), (0, 0, 0, 0));
    }

    #[test]
    fn one_address_has_a_share_of_what_there_may_be() {
        let of_one = |connections_max, connections_per_address_max, tcp_connections_max| {
            Limits { connections_max, connections_per_address_max, tcp_connections_max, ..Limits::default() }.of_one()
        };
        assert_eq!(Limits::default().of_one(), [20_000, 20_000]);
        assert_eq!(of_one(1_000, None, usize::MAX), [400, 400]);
        assert_eq!(of_one(50_000, None, 113), [20_000, 45]);
        assert_eq!(of_one(50_000, None, 2), [20_000, 1]);
        assert_eq!(of_one(50_000, Some(30_000), 113), [30_000, 113]);
        assert_eq!(of_one(1_000, Some(30_000), 113), [1_000, 113]);

        let admission = admission(Limits { tcp_connections_max: 10, ..Limits::default() });
        let mut taken = vec![];
        for host in 1..=3 {
            let address = IpAddr::from([192, 0, 2, host]);
            let of_one: Vec<_> = (0..6).map(|_| admission.admit(address, Carrier::Tls)).collect();
            let count = of_one.iter().filter(|it| is_in(it)).count();
            assert_eq!(count, [4, 4, 2][usize::from(host) - 1]);
            let why = if host < 3 { Limit::ConnectionsPerAddress } else { Limit::Descriptors };
            assert!(matches!(of_one[count], Admittance::TurnedAway(_, limit) if limit == why));
            taken.push((of_one, admission.admit(address, Carrier::Quic)));
        }
        assert!(taken.iter().all(|(_, quic)| is_in(quic)), "QUIC takes no descriptor");
        drop(taken);
        assert_eq!(admission.lock().by_source.len(), 0);
    }

    #[test]
    fn not_everybody_can_be_told() {
        let limits = Limits { tcp_connections_max: 1, turned_away_max: 2, ..Limits::default() };
        let admission = admission(limits);
        let address = IpAddr::from([127, 0, 0, 1]);
        let all: Vec<_> = (0..4).map(|_| admission.admit(address, Carrier::Tcp)).collect();
        assert!(is_in(&all[0]) && matches!(all[3], Admittance::Closed));
        assert!(all[1..3].iter().all(|it| matches!(it, Admittance::TurnedAway(_, Limit::Descriptors))));
        assert!(is_in(&admission.admit(address, Carrier::Quic)), "QUIC takes no descriptor");
        let reached = |limit| admission.metrics.times_reached(limit);
        assert_eq!((reached(Limit::Descriptors), reached(Limit::TurnedAway)), (3, 1));
    }

    #[test]
    fn handshakes_are_bounded_and_one_address_leaves_some_to_others() {
        let limits = Limits {
            handshakes_unproved_max: 2,
            handshakes_max: 5,
            handshakes_per_address_max: 3,
            ..Limits::default()
        };
        let admission = admission(limits);
        let [a, b] = [IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2])];
        let mut under_way = vec![];
        let mut begin = |address, proved| match admission.handshake(address, proved) {
            Handshake::Begins(it) => {
                under_way.push(it);
                "begins"
            }
            Handshake::Unproved => "unproved",
            Handshake::TooMany => "too many",
        };
        assert_eq!([(); 3].map(|()| begin(a, false)), ["begins", "begins", "unproved"]);
        assert_eq!([(); 2].map(|()| begin(a, true)), ["begins", "too many"]);
        assert_eq!([(); 3].map(|()| begin(b, true)), ["begins", "begins", "too many"]);
        assert_eq!(begin(b, false), "unproved");
        let reached = |limit| admission.metrics.times_reached(limit);
        assert_eq!((reached(Limit::Handshakes), reached(Limit::HandshakesMax)), (2, 2));
        under_way.truncate(1);
        assert!(matches!(admission.handshake(b, false), Handshake::Begins(_)));
        drop(under_way);
        assert_eq!((admission.handshakes(), admission.lock().handshakes_by_source.len()), (0, 0));
    }

    #[test]
    fn a_site_is_one_source() {
        let source = |text: &str| Source::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff::"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
    }

    #[test]
    fn descriptors_are_kept_for_the_rest() {
        let limits = Limits::default();
        let within = |max, open| {
            let within = limits.within_descriptors(max, open);
            (within.tcp_connections_max, within.turned_away_max)
        };
        assert_eq!(within(20_000, 30), (19_842, 64));
        assert_eq!(within(256, 30), (113, 56));
        assert_eq!(within(30, 30), (0, 0));
        assert_eq!(within(usize::MAX, 0).1, 64);
    }
}
