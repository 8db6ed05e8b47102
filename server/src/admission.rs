//! How many connections there may be, in all and from one address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In all, TCP and QUIC together. An idle one takes some 20 KiB on TCP and 60 on QUIC.
    pub connections_max: usize,
    /// From one IP address: behind a proxy everybody has the proxy's.
    pub connections_per_address_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections_max: 50_000, connections_per_address_max: 20_000 }
    }
}

/// Counts the connections.
#[derive(Debug)]
pub struct Admission {
    limits: Limits,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection that was let in, for as long as it lives.
#[derive(Debug)]
pub struct Admitted {
    admission: Arc<Admission>,
    address: IpAddr,
}

impl Admission {
    /// Nobody is in yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, open: Mutex::default() }
    }

    /// Lets a connection in, unless it is one too many.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Admitted> {
        let mut open = self.lock();
        let Limits { connections_max, connections_per_address_max } = self.limits;
        let from_there = open.by_address.get(&address).copied().unwrap_or(0);
        if open.total >= connections_max || from_there >= connections_per_address_max {
            tracing::debug!(%address, total = open.total, from_there, "one connection too many");
            return None;
        }
        open.total += 1;
        *open.by_address.entry(address).or_default() += 1;
        Some(Admitted { admission: self.clone(), address })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = self.admission.lock();
        open.total -= 1;
        if let Some(count) = open.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_makes_room() {
        let admission = Arc::new(Admission::new(Limits { connections_max: 3, connections_per_address_max: 2 }));
        let [a, b] = [[127, 0, 0, 1], [127, 0, 0, 2]].map(IpAddr::from);
        let first = admission.admit(a).unwrap();
        let _second = admission.admit(a).unwrap();
        assert!(admission.admit(a).is_none(), "two from one address");
        let _third = admission.admit(b).unwrap();
        assert!(admission.admit(b).is_none(), "three in all");
        drop(first);
        assert!(admission.admit(b).is_some());
        assert_eq!(admission.lock().by_address.len(), 2);
    }
}
