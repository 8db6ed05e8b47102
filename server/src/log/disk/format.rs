//! The format of a store, and how one of an older format becomes one of the newest.

use redb::{Database, TableError, TableHandle as _, WriteTransaction};

use super::{
    panics::hold,
    store::{Failure, KEY_ORDER, KEYS, META, OpenError, get},
};

/// The newest format that this hub reads and writes.
///
/// 1. The first.
/// 2. Records have checksums; those of format 1 are still read, and stay until they are evicted. There are idempotency keys.
pub(super) const FORMAT: u64 = STEPS.len() as u64 + 1;

/// From each format to the next, in one transaction, which a crash undoes as a whole.
const STEPS: [Step; 1] = [add_idempotency_keys];

type Step = fn(&WriteTransaction) -> Result<(), Failure>;

/// Brings a store of an older format up to date, one step after the other. A new one, which has no format yet, stays as it is.
pub(super) fn migrate(database: &Database) -> Result<(), OpenError> {
    while step(database)? {}
    Ok(())
}

/// True if there was something to do.
fn step(database: &Database) -> Result<bool, OpenError> {
    let fail = |error: redb::TransactionError| OpenError::from(redb::Error::from(error));
    let transaction = database.begin_write().map_err(fail)?;
    let found = format_of(&transaction)?;
    let step = match found {
        None if transaction.list_tables().map_err(redb::Error::from)?.any(|table| table.name() != META.name()) => {
            return Err(OpenError::NoLog);
        }
        None => None,
        Some(found) if found > FORMAT => return Err(OpenError::NewerFormat { found }),
        Some(0) => return Err(OpenError::Damaged("its format is 0".into())),
        Some(found) => STEPS.get(found as usize - 1).map(|step| (found, step)),
    };
    let Some((found, step)) = step else {
        transaction.abort().map_err(|error| OpenError::from(redb::Error::from(error)))?;
        return Ok(false);
    };
    tracing::info!(from = found, to = found + 1, "bringing the log's format up to date");
    step(&transaction)?;
    set_format(&transaction, found + 1)?;
    transaction.commit().map_err(|error| OpenError::from(redb::Error::from(error)))?;
    Ok(true)
}

fn format_of(transaction: &WriteTransaction) -> Result<Option<u64>, OpenError> {
    let meta = hold(transaction, META).map_err(|error| match error {
        TableError::TableTypeMismatch { .. } => OpenError::NoLog,
        error => OpenError::from(redb::Error::from(error)),
    })?;
    Ok(get(&*meta, "format")?)
}

fn set_format(transaction: &WriteTransaction, format: u64) -> Result<(), Failure> {
    hold(transaction, META)?.insert("format", format)?;
    Ok(())
}

fn add_idempotency_keys(transaction: &WriteTransaction) -> Result<(), Failure> {
    // Opening a table makes it.
    transaction.open_table(KEYS)?;
    transaction.open_table(KEY_ORDER)?;
    Ok(())
}
