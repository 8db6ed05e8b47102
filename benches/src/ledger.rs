//! What one subscriber has had, event by event: nothing is lost or doubled unseen.

/// The numbers that came, a bit each. In no particular order: streams side by side and datagrams have none.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    seen: Vec<u64>,
    received: u64,
    duplicates: u64,
}

impl Ledger {
    /// Notes a number. A run's numbers are a publisher's count, so the highest of them bounds the memory.
    pub(crate) fn note(&mut self, number: u32) {
        let (word, bit) = (number as usize / 64, 1 << (number % 64));
        if word >= self.seen.len() {
            self.seen.resize(word + 1, 0);
        }
        if self.seen[word] & bit == 0 {
            self.seen[word] |= bit;
            self.received += 1;
        } else {
            self.duplicates += 1;
        }
    }

    /// How many different numbers came.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// How many came again.
    pub(crate) fn duplicates(&self) -> u64 {
        self.duplicates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_counts_once() {
        let mut ledger = Ledger::default();
        [3, 0, 64, 3, 1_000, 64].into_iter().for_each(|number| ledger.note(number));
        assert_eq!((ledger.received(), ledger.duplicates()), (4, 2));
    }
}
