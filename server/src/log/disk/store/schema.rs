//! The tables of the file.

use redb::{ReadableTable, TableDefinition};

use super::Failure;

/// Events, bytes, floor of a class.
pub(in crate::log::disk) type Stat = (u64, u64, u64);

pub(in crate::log::disk) const META: TableDefinition<'static, &'static str, u64> = TableDefinition::new("meta");
/// By number: a record.
pub(in crate::log::disk) const EVENTS: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("events");
pub(in crate::log::disk) const TOPICS: TableDefinition<'static, (&'static str, u64), ()> =
    TableDefinition::new("topics");
/// By publisher's id and number. The number [`EVICTED_USE`] marks that an earlier use was evicted.
pub(in crate::log::disk) const IDS: TableDefinition<'static, (&'static str, u64), ()> = TableDefinition::new("ids");
/// By class and number: what the event costs.
pub(in crate::log::disk) const CLASSES: TableDefinition<'static, (u32, u64), u64> = TableDefinition::new("classes");
pub(in crate::log::disk) const STATS: TableDefinition<'static, u32, Stat> = TableDefinition::new("stats");
/// What each class was, as [`classes`] writes it: whether the configuration has changed, and for who opens the log without one.
pub(in crate::log::disk) const NAMES: TableDefinition<'static, u32, &'static str> = TableDefinition::new("class_names");

/// By an idempotency key's digest: its event's digest, number and time.
pub(in crate::log::disk) const KEYS: TableDefinition<'static, &'static [u8; 16], StoredKey> =
    TableDefinition::new("idempotency_keys");
/// By an event's number: its idempotency key's digest, and its time.
pub(in crate::log::disk) const KEY_ORDER: TableDefinition<'static, u64, (&'static [u8; 16], u64)> =
    TableDefinition::new("idempotency_key_order");
pub(in crate::log::disk) type StoredKey = (&'static [u8; 16], u64, u64);

pub(in crate::log::disk) fn get(
    table: &impl ReadableTable<&'static str, u64>,
    key: &str,
) -> Result<Option<u64>, Failure> {
    Ok(table.get(key)?.map(|value| value.value()))
}

pub(super) fn class_range(class: usize) -> std::ops::RangeInclusive<(u32, u64)> {
    (class as u32, 0)..=(class as u32, u64::MAX)
}

/// A number of [`META`] that only a backup has which no hub has opened: when it was made, in milliseconds since the Unix epoch.
pub(in crate::log::disk) const BACKUP_AT: &str = "backup_at";
/// No event has this number.
pub(in crate::log::disk) const EVICTED_USE: u64 = 0;
